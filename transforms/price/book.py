"""The compiled price book: rates as one integer matrix, and the look-up from a call's key to its row."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.price.age import FIRST, earliest
from transforms.price.contracted import Under, compiled, for_payer
from transforms.price.contracts import ANYBODY, Contract, Payer, Written, contracts_of
from transforms.price.entries import ANY_SCOPE, STANDARD, Confirmation, Entry, Folder, NameRule, ProviderBook, Window, read_layer
from transforms.price.fields import EPOCH, EVER, FOREVER, BookError, utc
from transforms.price.names import is_pattern, literal_length, normalise, pattern_regex
from transforms.price.rates import UNITS

NO_PRICE: Final = (
    "unknown_provider",
    "unknown_model",
    "unknown_tier",
    "unknown_scope",
    "before_first_price",
    "after_last_price",
)
"""Why a key has no price: codes of ``schemas.reasons``. Row ``-1 - i`` of a plan stands for code ``i``."""

BUILT_IN: Final = Path(__file__).with_name("book")

_PLANS: Final = 50_000
"""Keys whose look-up is remembered. Names in logs are not bounded, so the memory for them is."""

_LONGEST: Final = 1000
"""Characters of a key above which it is no name of a model and is not remembered."""

_MINUTE: Final = 60_000_000
_DAY: Final = 86_400_000_000


class Key(NamedTuple):
    """What a price depends on besides time and size, as it stands in a call: the tier is the one that served it."""

    provider: str
    model: str
    tier: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Plan:
    """The prices of one key: which row of the rate matrix holds when, in which window and band.

    Segment ``i`` of time ends before ``bounds[i]``. In ``table[segment, window, band]`` bit ``i`` of the window number
    is set while ``windows[i]`` is open, and a prompt is in band ``b`` if it exceeds ``b`` of the ``thresholds``.
    ``only`` is the one row of all times from ``since`` (UTC microseconds) on; None if there are several.
    """

    bounds: npt.NDArray[np.int64]
    thresholds: npt.NDArray[np.int64]
    windows: tuple[Window, ...]
    table: npt.NDArray[np.int32]
    only: int | None
    since: int = EVER

    def row(self, time: int, prompt: int) -> int:
        """The row of one call, by its time (UTC microseconds) and its prompt tokens."""
        segment = bisect_right(self.bounds, time)
        band = bisect_left(self.thresholds, prompt)
        window = sum(w.holds(time) << i for i, w in enumerate(self.windows))
        return int(self.table[segment, window, band])

    def rows(self, times: npt.NDArray[np.int64], prompts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The row of each call, by its time (UTC microseconds) and its prompt tokens."""
        segment = self.bounds.searchsorted(times, side="right")
        band = self.thresholds.searchsorted(prompts, side="left")
        rows: npt.NDArray[np.int32] = self.table[segment, self._window(times) if self.windows else 0, band]
        return rows

    def _window(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        index = np.zeros(len(times), np.int64)
        day, in_day = np.divmod(times, _DAY)
        minute = in_day // _MINUTE
        for number, window in enumerate(self.windows):
            inside = np.zeros(len(times), np.bool_)
            for start, end in window.minutes:
                inside |= (minute >= start) & (minute < end)
            inside &= np.isin((day + 3) % 7 + 1, list(window.weekdays))  # 1970-01-01 was a Thursday
            inside &= ~np.isin(day, list(window.except_days))
            index |= inside.astype(np.int64) << number
        return index


class Book:
    """A compiled price book. Immutable but for the memory of look-ups.

    ``entries`` are sorted by ``rate_id``, those under contracts behind the list prices; ``rates[entry, unit]`` are
    pico-dollars per unit, in the order of ``rates.UNITS``; ``known`` tells where a rate exists; ``free`` which entries cost
    nothing by statement; ``list_rows`` the row of each one's list price, which of a list price is its own. ``corrected`` are
    prices that a later record has replaced: nothing is priced by them. ``looks_at``: fields of ``Payer`` by which contracts
    are told apart.
    """

    def __init__(self, books: dict[str, ProviderBook], contracts: tuple[Contract, ...] = ()) -> None:
        self._books = books
        self.contracts = contracts
        self.looks_at = tuple(
            name for name in Payer._fields if any(name == c.field for contract in contracts for c in contract.conditions)
        )
        self.corrected: tuple[Entry, ...] = tuple(
            sorted((e for book in books.values() for e in book.corrected), key=lambda entry: (entry.rate_id, entry.recorded))
        )
        self._names = {provider: _Names(book.names) for provider, book in books.items()}
        listed = sorted((entry for book in books.values() for entry in book.entries), key=lambda entry: entry.rate_id)
        under = compiled(contracts, listed, self._meant, self._spellings) if contracts else []
        under.sort(key=lambda one: one.entry.rate_id)
        self.entries: tuple[Entry, ...] = (*listed, *(one.entry for one in under))
        self.list_rows = np.array([*range(len(listed)), *(one.list_row for one in under)], np.int64)
        self._under: dict[tuple[str, int], list[tuple[int, int]]] = _by_list_row(under, len(listed))
        self._contracts = {contract.name: contract for contract in contracts}
        self._contracted = frozenset(provider for contract in contracts for provider in contract.providers)
        self.rate_ids = [entry.rate_id for entry in self.entries]
        self._row = {rate_id: row for row, rate_id in enumerate(self.rate_ids)}
        if len(self._row) != len(self.entries):
            twice = next(a for a, b in zip(self.rate_ids, self.rate_ids[1:], strict=False) if a == b)
            raise BookError(f"{twice}: two entries have this rate id; give one another name")
        self.rates = np.zeros((len(self.entries), len(UNITS)), np.int64)
        self.known = np.zeros((len(self.entries), len(UNITS)), np.bool_)
        self.free = np.array([bool(entry.free) for entry in self.entries], np.bool_)
        for row, entry in enumerate(self.entries):
            for unit, rate in entry.rates.items():
                if unit not in UNITS:
                    continue
                self.rates[row, UNITS.index(unit)] = rate
                self.known[row, UNITS.index(unit)] = True
        self.known[:, UNITS.index("requests")] = True  # a request costs nothing of itself unless an entry says so
        self.book_version = _version(self.entries, self.corrected, books, contracts)
        self._by_model: dict[tuple[str, str], list[Entry]] = {}
        for entry in listed:
            self._by_model.setdefault((entry.provider, entry.model), []).append(entry)
        self._plans: dict[tuple[Key, tuple[str, ...]], Plan] = {}
        self._payers: dict[tuple[str, Payer], tuple[str, ...]] = {}

    def plan(self, key: Key, payer: Payer = ANYBODY) -> Plan:
        """The prices of ``key`` under the contracts that are for ``payer``, remembered."""
        held = self._held(key.provider, payer) if key.provider in self._contracted else ()
        plan = self._plans.get((key, held))
        if plan is None and sum(map(len, key)) > _LONGEST:
            return _nothing("unknown_model")
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._make_plan(key)
            if held:
                plan = self._under_contract(plan, [self._contracts[name] for name in held])
            self._plans[key, held] = plan
        return plan

    def _held(self, provider: str, payer: Payer) -> tuple[str, ...]:
        """Names of the contracts that are for calls of a payer, the most special first; remembered."""
        held = self._payers.get((provider, payer))
        if held is None:
            held = tuple(contract.name for contract in for_payer(self.contracts, provider, payer))
            if len(self._payers) >= _PLANS:
                self._payers.clear()
            if sum(map(len, payer)) <= _LONGEST:
                self._payers[provider, payer] = held
        return held

    def _under_contract(self, plan: Plan, held: Sequence[Contract]) -> Plan:
        """The plan with each list price replaced by what it is under the first of the contracts ``held`` that is in force."""
        ends = {time for contract in held for time in (contract.start, contract.end)} - {EVER, FOREVER}
        bounds = sorted({*plan.bounds.tolist(), *ends})
        starts = [EVER, *bounds]
        in_force = [next((c for c in held if c.start <= start < c.end), None) for start in starts]
        rows = [row for row in np.unique(plan.table).tolist() if row >= 0]
        bands = {(c.name, row): found for c in held for row in rows if (found := self._under.get((c.name, row)))}
        thresholds = sorted({*plan.thresholds.tolist(), *(above for found in bands.values() for above, _ in found)} - {0})
        segments = plan.bounds.searchsorted(np.array(starts, np.int64), side="right")
        columns = plan.thresholds.searchsorted(np.array([0, *thresholds], np.int64), side="right")
        table = plan.table[segments][:, :, columns]
        for (i, window, band), row in np.ndenumerate(table):
            contract = in_force[i]
            found = bands.get((contract.name, int(row))) if contract else None
            if found:
                above = (0, *thresholds)[band]
                table[i, window, band] = max((one for one in found if one[0] <= above), default=(0, int(row)))[1]
        return Plan(np.array(bounds, np.int64), np.array(thresholds, np.int64), plan.windows, table, *_settled(bounds, table))

    def _spellings(self, provider: str) -> list[str]:
        return [rule.name for rule in self._books[provider].names if not is_pattern(rule.name)]

    def _meant(self, provider: str, name: str, start: int, end: int) -> frozenset[str]:
        """The models that a name means from ``start`` until ``end``."""
        rules = self._names[provider].matches(normalise(name, self._books[provider].prefixes).spellings)
        cuts = {start, *(time for rule in rules for time in (rule.valid_from, rule.valid_to) if start < time < end)}
        first = ((rule for rule in rules if rule.valid_from <= cut < rule.valid_to) for cut in cuts)
        return frozenset(rule.model for some in first if (rule := next(some, None)))

    def _make_plan(self, key: Key) -> Plan:
        book = self._books.get(key.provider)
        if book is None:
            return _nothing("unknown_provider")
        spellings, named_scope = normalise(key.model, book.prefixes)
        tier = key.tier.strip().lower()
        tier = STANDARD if tier in book.standard_tiers else tier
        scope = key.scope.strip().lower() or named_scope
        scopes = (scope, "", ANY_SCOPE) if scope in book.base_scopes else (scope, ANY_SCOPE)
        rules = self._names[key.provider].matches(spellings)
        if not rules:
            return _nothing("unknown_model")
        models = {rule.model for rule in rules}
        first = FIRST if rules[0].name == "*" else earliest(key.model)  # what takes any name knows none
        cuts = {first} | {time for rule in rules for time in (rule.valid_from, rule.valid_to)}
        for model in models:
            cuts.update(t for e in self._by_model[key.provider, model] for t in (e.valid_from, e.valid_to))
        starts = [EVER, *sorted(cuts - {EVER, FOREVER})]
        segments = [self._segment(key.provider, rules, tier, scopes, start, first) for start in starts]
        return self._tabulate(starts[1:], segments)

    @property
    def providers(self) -> tuple[str, ...]:
        """Those that the book knows, in order of their names."""
        return tuple(sorted(self._books))

    def names(self, provider: str) -> tuple[NameRule, ...]:
        """Every name of a provider's models, in the order of the files."""
        return tuple(self._books[provider].names) if provider in self._books else ()

    def confirmed(self, provider: str) -> tuple[Confirmation, ...]:
        """The confirmations of a provider's prices, in the order of the files."""
        return tuple(self._books[provider].confirmed) if provider in self._books else ()

    def meaning(self, provider: str, model: str, time: int) -> NameRule | None:
        """The name of the book that a name as logged is read as at a time (UTC microseconds)."""
        book = self._books.get(provider)
        if book is None:
            return None
        rules = self._names[provider].matches(normalise(model, book.prefixes).spellings)
        return next((rule for rule in rules if rule.valid_from <= time < rule.valid_to), None)

    def _segment(
        self, provider: str, rules: list[NameRule], tier: str, scopes: tuple[str, ...], start: int, first: int
    ) -> list[Entry] | str:
        """The entries that hold from ``start`` on, or why there are none. Those that state no start begin at ``first``."""
        rule = next((rule for rule in rules if rule.valid_from <= start < rule.valid_to), None)
        if rule is None:
            return "before_first_price" if start < min(r.valid_from for r in rules) else "after_last_price"
        of_tier = [entry for entry in self._by_model[provider, rule.model] if entry.tier == tier]
        free = [entry for entry in self._by_model[provider, rule.model] if entry.free and entry.tier == STANDARD]
        of_tier = of_tier or free  # what costs nothing costs nothing in every tier
        if not of_tier:
            return "unknown_tier"
        of_scope = next((found for s in scopes if (found := [e for e in of_tier if e.scope == s])), [])
        if not of_scope:
            return "unknown_scope"
        begins = [first if entry.valid_from == EVER else entry.valid_from for entry in of_scope]
        active = [entry for entry, begin in zip(of_scope, begins, strict=True) if begin <= start < entry.valid_to]
        if not active:
            return "before_first_price" if start < min(begins) else "after_last_price"
        top = max(entry.layer for entry in active)
        return [entry for entry in active if entry.layer == top]

    def _tabulate(self, bounds: list[int], segments: list[list[Entry] | str]) -> Plan:
        held = [entry for segment in segments if not isinstance(segment, str) for entry in segment]
        thresholds = sorted({entry.above for entry in held if entry.above})
        windows = tuple(dict.fromkeys(entry.window for entry in held if entry.window))
        table = np.empty((len(segments), 2 ** len(windows), len(thresholds) + 1), np.int32)
        for i, segment in enumerate(segments):
            if isinstance(segment, str):
                table[i] = -1 - NO_PRICE.index(segment)
                continue
            for open_windows in range(2 ** len(windows)):
                current = [e for e in segment if e.window and open_windows >> windows.index(e.window) & 1]
                current = current or [e for e in segment if e.window is None]
                for band, above in enumerate((0, *thresholds)):
                    entry = max((e for e in current if e.above <= above), key=lambda e: e.above)
                    table[i, open_windows, band] = self._row[entry.rate_id]
        return Plan(np.array(bounds, np.int64), np.array(thresholds, np.int64), windows, table, *_settled(bounds, table))


class _Names:
    """The names of one provider: plain ones by look-up, then patterns, the most specific first."""

    def __init__(self, rules: Iterable[NameRule]) -> None:
        self._plain: dict[str, list[NameRule]] = {}
        patterns: list[NameRule] = []
        for rule in rules:
            if is_pattern(rule.name):
                patterns.append(rule)
            else:
                self._plain.setdefault(rule.name, []).append(rule)
        self._patterns = [(pattern_regex(rule.name), rule) for rule in patterns]

    def matches(self, spellings: Sequence[str]) -> list[NameRule]:
        """The rules that a name may mean, best first: later layers, early spellings, plain names, long patterns."""
        found: list[tuple[tuple[int, int, int], NameRule]] = []
        for number, spelling in enumerate(spellings):
            plain = self._plain.get(spelling, [])
            matching = [rule for regex, rule in self._patterns if regex.fullmatch(spelling)]
            found += [((-rule.layer, number, -len(spelling) - 1), rule) for rule in plain]
            found += [((-rule.layer, number, -literal_length(rule.name)), rule) for rule in matching]
        found.sort(key=lambda pair: pair[0])
        return [rule for _, rule in found if not any(map(partial(_excepts, rule), spellings))]


def _excepts(rule: NameRule, spelling: str) -> bool:
    return any(pattern_regex(pattern).fullmatch(spelling) for pattern in rule.excepted)


def _by_list_row(under: Iterable[Under], offset: int) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """By contract and row of the list price: from which band on, and in which row, the price under the contract is."""
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for row, one in enumerate(under, offset):
        found.setdefault((one.entry.contract, one.list_row), []).append((one.entry.above, row))
    return found


def _settled(bounds: Sequence[int], table: npt.NDArray[np.int32]) -> tuple[int | None, int]:
    """The row that holds whatever window and band from some time on, and that time; None if it depends on them to the end."""
    row = int(table.flat[-1])
    others = np.flatnonzero((table != row).any(axis=(1, 2)))
    if not len(others):
        return row, EVER
    last = int(others[-1])
    return (None, EVER) if last == len(bounds) else (row, bounds[last])


def _nothing(reason: str) -> Plan:
    row = -1 - NO_PRICE.index(reason)
    empty = np.empty(0, np.int64)
    return Plan(empty, empty, (), np.full((1, 1, 1), row, np.int32), row)


def _version(
    entries: Iterable[Entry], corrected: Iterable[Entry], books: dict[str, ProviderBook], contracts: Iterable[Contract]
) -> str:
    """Latest day a figure was recorded, and a hash over everything that can change a price."""
    digest = hashlib.blake2b(digest_size=4)
    recorded = max((fee.recorded for book in books.values() for fee in book.fees), default="")
    for entry in entries:
        recorded = max(recorded, entry.recorded)
        parts = (entry.rate_id, entry.valid_to, sorted(entry.rates.items()), entry.free, entry.window)
        digest.update(repr(_stable(parts)).encode())
    for entry in corrected:  # that it was corrected is knowledge, too
        digest.update(repr((entry.rate_id, entry.recorded)).encode())
    for provider in sorted(books):
        book = books[provider]
        names = sorted(map(repr, book.names))
        digest.update(repr((provider, names, *map(sorted, (book.prefixes, book.standard_tiers, book.base_scopes)))).encode())
    for contract in contracts:
        digest.update(contract.said.encode())
    return f"{recorded}-{digest.hexdigest()}"


def _stable(value: Any) -> Any:
    """``value`` with sets as sorted lists, so that its text is the same in every process."""
    if isinstance(value, Window):
        return (value.name, value.minutes, sorted(value.weekdays), sorted(value.except_days))
    if isinstance(value, tuple):
        return tuple(map(_stable, value))
    return value


def load_book(
    extra_dirs: Iterable[str | Folder] = (),
    contracts: Iterable[Written] = (),
    *,
    built_in: bool = True,
    known_on: date | None = None,
) -> Book:
    """The book of the package, and over it the ``*.toml`` files of each folder of ``extra_dirs``, in order: list prices.

    An added price replaces, while it holds, the package's prices of the same model, tier and scope, all bands at once;
    an added name goes before the package's. ``contracts`` are compiled over them. ``built_in=False`` takes the folders
    alone. ``known_on`` takes only prices that were recorded until the end of that day: the book as it would have been then.
    Raises ``BookError``, which names file, entry, field and fix.
    """
    books: dict[str, ProviderBook] = {}
    extra = (Path(folder) if isinstance(folder, str) else folder for folder in extra_dirs)
    folders: list[Folder] = [*([BUILT_IN] if built_in else []), *extra]
    for layer, folder in enumerate(folders):
        read_layer(folder, layer, books, known_on)
    return Book(books, contracts_of(contracts))


def book_rows(book: Book) -> list[dict[str, Any]]:
    """The book as rows of the ``prices`` table: one for each entry and unit, and one with leaf ``*`` for a free entry.

    ``usd_per_million`` is the price of a million units as an exact decimal, for fees too; ``valid_from`` and
    ``valid_to`` are UTC times, 1970 and None where open; ``band_max`` is None in the last band.
    """
    return list(_rows(book))


def _rows(book: Book) -> Iterator[dict[str, Any]]:
    bands: dict[tuple[object, ...], list[int]] = {}
    for entry in book.entries:
        bands.setdefault(_band_key(entry), []).append(entry.above)
    for entry in book.entries:
        higher = [above for above in bands[_band_key(entry)] if above > entry.above]
        window = f" ({entry.window.name} hours)" if entry.window else ""
        for unit, rate in entry.rates.items() or [("*", 0)]:
            yield {
                "book_version": book.book_version,
                "rate_id": entry.rate_id,
                "provider": entry.provider,
                "model": entry.model,
                "tier": entry.tier,
                "scope": entry.scope,
                "band_min": entry.above,
                "band_max": min(higher) if higher else None,
                "leaf": unit,
                "usd_per_million": Decimal(rate).scaleb(-6),
                "valid_from": EPOCH if entry.valid_from == EVER else utc(entry.valid_from),
                "valid_to": None if entry.valid_to == FOREVER else utc(entry.valid_to),
                "source": (entry.free or entry.source) + window,
                "recorded": entry.recorded,
            }


def _band_key(entry: Entry) -> tuple[object, ...]:
    window = entry.window.name if entry.window else ""
    return (entry.contract, entry.layer, entry.provider, entry.model, entry.tier, entry.scope, window, entry.valid_from)
