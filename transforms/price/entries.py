"""The price book as written: TOML files of prices, read and checked into entries.

A file names its providers, its source and its models; each model has names and prices. A price holds in one tier, one
set of region scopes, one context band and one stretch of time. ``docs/pricing.md`` describes the format.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Final, NamedTuple

from transforms.price.fields import (
    EVER,
    FOREVER,
    BookError,
    check_fields,
    interval,
    moment,
    name_of,
    string,
    strings,
    table_of,
    tables,
    texts,
    utc,
)
from transforms.price.rates import FEES, FIELDS, IMPLIED, pico_rate, plain

STANDARD: Final = "standard"
ANY_SCOPE: Final = "*"
MAX_WINDOWS: Final = 6

Files = tuple[tuple[str, str], ...]
"""Name and text of each file of a folder, in order of their names."""

Folder = Path | Files
"""A folder of price files: where it is, or what it held when it was read."""

_DAY: Final = 86_400_000_000
_FILE_FIELDS: Final = frozenset(
    {
        "providers",
        "source",
        "recorded",
        "prefixes",
        "standard_tiers",
        "base_scopes",
        "same",
        "windows",
        "model",
        "alias",
        "fee",
        "confirmed",
    }
)
_MODEL_FIELDS: Final = frozenset({"model", "names", "except", "source", "recorded", "prices"})
_FEE_FIELDS: Final = frozenset({"models", "source", "recorded", *FEES})
_ALIAS_FIELDS: Final = frozenset({"name", "model", "from", "to", "recorded"})
_CONFIRMED_FIELDS: Final = frozenset({"model", "from", "tier", "scope", "recorded", "reason"})
_PRICE_FIELDS: Final = frozenset({"from", "to", "tier", "scope", "above", "window", "free", "source", "recorded", *FIELDS})
_WINDOW_FIELDS: Final = frozenset({"hours", "weekdays", "except_dates"})
_SELDOM: Final = ("input_cache_", "input_tool_use", "output_reasoning", "web_searches", "file_searches", "cache_storage")
"""How units begin that most calls do not have: a price of theirs alone leaves an ordinary call at 0."""

_HOURS: Final = re.compile(r"^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$")


@dataclass(frozen=True)
class Window:
    """Times of the week at which other prices hold, in UTC: minutes of the day, ISO weekdays, days excepted."""

    name: str
    minutes: tuple[tuple[int, int], ...]  # [start, end)
    weekdays: frozenset[int]  # 1 = Monday
    except_days: frozenset[int]  # days since 1970

    def holds(self, micros: int) -> bool:
        """Whether the window is open at a time in UTC microseconds."""
        day, in_day = divmod(micros, _DAY)
        minute = in_day // 60_000_000
        return (
            any(start <= minute < end for start, end in self.minutes)
            and (day + 3) % 7 + 1 in self.weekdays  # 1970-01-01 was a Thursday
            and day not in self.except_days
        )


@dataclass(frozen=True)
class Entry:
    """One price: what the units cost for a model, a tier, a region scope, a context band and a stretch of time.

    ``scope`` is "" for the vendor's base and "*" for any without a price of its own. ``above`` is the number of prompt
    tokens that must be exceeded. Times are UTC microseconds, ``valid_to`` exclusive. ``rates`` are
    pico-dollars per unit; a unit without a rate is not in it. ``listed`` are the same prices in dollars per
    ``rates.unit_size``. ``free`` is the reason why everything costs nothing, if it does. ``layer`` is 0 for the book
    that comes with the package and higher for folders added later. ``like`` has the units that are billed like another
    one, since nothing is said of them. Under a ``contract``, ``of`` is the rate id of the list price.
    """

    provider: str
    model: str
    tier: str
    scope: str
    window: Window | None
    above: int
    valid_from: int
    valid_to: int
    rates: Mapping[str, int]
    listed: Mapping[str, str]
    free: str
    source: str
    recorded: str
    layer: int
    place: str
    like: Mapping[str, str] = field(default_factory=dict)
    contract: str = ""
    of: str = ""

    @property
    def rate_id(self) -> str:
        """Name of the entry, unique in its layer: provider/model, then only what differs from the ordinary.

        Under a contract that of the list price, and ``+`` the contract's name.
        """
        if self.contract:
            return f"{self.of}+{self.contract}"
        text = f"{self.provider}/{self.model}"
        if self.tier != STANDARD:
            text += f":{self.tier}"
        if self.scope:
            text += f":{self.scope}"
        if self.above:
            text += f":>{self.above}"
        if self.window:
            text += f":{self.window.name}"
        if self.valid_from != EVER:
            text += f"@{iso(self.valid_from)}"
        return text + (f"#{self.layer}" if self.layer else "")


@dataclass(frozen=True)
class NameRule:
    """A name or pattern that means ``model`` from ``valid_from`` to ``valid_to``, unless it matches an exception.

    ``recorded`` is the day on which an alias was written down; empty for the names of a model, which come with its prices.
    """

    name: str
    model: str
    excepted: tuple[str, ...] = ()
    valid_from: int = EVER
    valid_to: int = FOREVER
    layer: int = 0
    recorded: str = field(default="", repr=False)  # the version of a book goes by the other fields
    place: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Fee:
    """What ``models`` of a file cost beside their prices, where these do not say it themselves: dollars as listed, by unit."""

    models: frozenset[str]
    listed: Mapping[str, str]
    recorded: str
    layer: int


class Confirmation(NamedTuple):
    """Somebody's word that the prices of a model from one date on are right, however far they are from those before.

    It is for what was recorded until its own day, ``recorded``: what is recorded later is asked about again. ``tier`` and
    ``scope`` are None where it is for all of them. ``reason`` says by what it was checked.
    """

    model: str
    valid_from: int
    tier: str | None
    scope: str | None
    recorded: str
    reason: str
    layer: int
    place: str

    def covers(self, entry: Entry) -> bool:
        """Whether it is for this price."""
        return (
            (self.layer, self.model, self.valid_from) == (entry.layer, entry.model, entry.valid_from)
            and self.tier in (None, entry.tier)
            and self.scope in (None, entry.scope)
            and entry.recorded <= self.recorded
        )


@dataclass
class ProviderBook:
    """All that the files of all layers say about one provider.

    ``corrected``: prices that a later record of the same model, tier, scope and date has replaced. ``models``: all that any
    price is stated for, also where it was not known yet.
    """

    entries: list[Entry] = field(default_factory=list)
    corrected: list[Entry] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    names: list[NameRule] = field(default_factory=list)
    fees: list[Fee] = field(default_factory=list)
    confirmed: list[Confirmation] = field(default_factory=list)
    prefixes: set[str] = field(default_factory=set)
    standard_tiers: set[str] = field(default_factory=lambda: {"", STANDARD, "default"})
    base_scopes: set[str] = field(default_factory=lambda: {""})


def iso(micros: int) -> str:
    """A time as ``2025-06-10``, or with the time of day where it is not midnight UTC."""
    return f"{utc(micros):%Y-%m-%d}" if micros % _DAY == 0 else f"{utc(micros):%Y-%m-%dT%H:%M:%SZ}"


def read_folder(folder: Path) -> Files:
    """The ``*.toml`` files of ``folder``. Raises ``BookError``."""
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise BookError(f"{folder}: no price book: a folder of *.toml files is expected")
    files = []
    for path in paths:
        try:
            files.append((path.name, path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise BookError(f"{path.name}: cannot be read as TOML: {error}") from error
    return tuple(files)


def read_layer(folder: Folder, layer: int, books: dict[str, ProviderBook], known_on: date | None = None) -> None:
    """Add every file of ``folder`` to ``books``, or what of it was recorded until ``known_on``. Raises ``BookError``."""
    day = known_on.isoformat() if known_on else "9999"
    for name, text in read_folder(folder) if isinstance(folder, Path) else folder:
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BookError(f"{name}: cannot be read as TOML: {error}") from error
        _read_file(data, name, layer, books)
    for provider, book in books.items():
        stated = [entry for entry in book.entries if entry.layer == layer]
        standing, corrected = _standing(entry for entry in stated if entry.recorded <= day)
        book.models.update(entry.model for entry in stated)
        book.fees = [fee for fee in book.fees if fee.recorded <= day]
        closed = (_with_fees(entry, [fee for fee in book.fees if fee.layer == layer]) for entry in _close(standing))
        book.entries = [*(entry for entry in book.entries if entry.layer != layer), *closed]
        book.corrected += corrected
        book.confirmed = [one for one in book.confirmed if one.layer != layer or one.recorded <= day]
        _check_names(provider, book, layer, day)


def _read_file(data: dict[str, Any], file: str, layer: int, books: dict[str, ProviderBook]) -> None:
    check_fields(data, _FILE_FIELDS, file)
    providers = strings(data, "providers", file)
    if not providers:
        raise BookError(f'{file}: field "providers" is missing: name at least one, such as ["openai"]')
    windows = {name: _window(name, value, file) for name, value in table_of(data, "windows", file).items()}
    if len(windows) > MAX_WINDOWS:
        raise BookError(f'{file}: field "windows": {len(windows)} are too many; at most {MAX_WINDOWS} may be defined')
    same = _same(table_of(data, "same", file), file)
    fees = list(_fees(data, file, layer))
    models = tables(data, "model", file)
    aliases = tables(data, "alias", file)
    confirmed = [_confirmation(one, file, number, layer) for number, one in enumerate(tables(data, "confirmed", file), 1)]
    for provider in providers:
        book = books.setdefault(provider, ProviderBook())
        book.prefixes.update({provider, *strings(data, "prefixes", file)})
        book.standard_tiers.update(strings(data, "standard_tiers", file))
        book.base_scopes.update(strings(data, "base_scopes", file))
        book.fees += fees
        book.confirmed.extend(confirmed)
        for number, model in enumerate(models, 1):
            place = f"{file}, model {model.get('model', f'number {number}')!r}"
            check_fields(model, _MODEL_FIELDS, place)
            name = name_of(model, "model", place)
            excepted = tuple(strings(model, "except", place))
            for spelling in dict.fromkeys((name, *strings(model, "names", place))):
                book.names.append(NameRule(spelling.lower(), name, excepted, layer=layer, place=place))
            book.entries.extend(_prices(model, name, provider, place, data, windows, same, layer))
        for number, alias in enumerate(aliases, 1):
            place = f"{file}, alias {alias.get('name', f'number {number}')!r}"
            check_fields(alias, _ALIAS_FIELDS, place)
            start, end = interval(alias, place)
            recorded = alias.get("recorded", data.get("recorded"))
            day = _day(recorded, place) if recorded is not None else ""
            name, means = name_of(alias, "name", place).lower(), name_of(alias, "model", place)
            book.names.append(NameRule(name, means, (), start, end, layer, day, place))


def _prices(
    model: dict[str, Any],
    name: str,
    provider: str,
    place: str,
    data: dict[str, Any],
    windows: Mapping[str, Window],
    same: Mapping[str, str],
    layer: int,
) -> Iterator[Entry]:
    prices = tables(model, "prices", place)
    if not prices:
        raise BookError(f'{place}: field "prices" is missing or empty: state at least one price, or a "free" one')
    for number, price in enumerate(prices, 1):
        at = f"{place}, price {number}"
        check_fields(price, _PRICE_FIELDS, at)
        start, end = interval(price, at)
        window_name = price.get("window")
        if window_name is not None and window_name not in windows:
            raise BookError(f'{at}: field "window": there is no [windows.{window_name}] in this file; add it')
        above = price.get("above", 0)
        if type(above) is not int or above < 0:
            raise BookError(f'{at}: field "above": {above!r} is not a number of prompt tokens such as 272_000')
        free = price.get("free", "")
        listed, rates, like = _rates(price, same, at)
        if bool(free) == bool(rates):
            raise BookError(f'{at}: state either prices or "free" with the reason, not both and not neither')
        if not free and _costs_nothing(rates):
            raise BookError(
                f'{at}: field "input": input and output are 0, so that every call would cost nothing; state what they cost, '
                'or, if the model is free, { free = "reason" } in place of the prices'
            )
        source = price.get("source", model.get("source", data.get("source")))
        if not isinstance(source, str) or not source:
            raise BookError(f'{at}: field "source" is missing: say where the figure comes from')
        recorded = price.get("recorded", model.get("recorded", data.get("recorded")))
        day = _day(recorded, at)
        for tier, scope in product(texts(price, "tier", STANDARD, at), texts(price, "scope", "", at)):
            yield Entry(
                provider=provider,
                model=name,
                tier=tier,
                scope=scope,
                window=windows[window_name] if window_name is not None else None,
                above=above,
                valid_from=start,
                valid_to=end,
                rates=rates,
                listed=listed,
                free=str(free),
                source=source,
                recorded=day,
                layer=layer,
                place=at,
                like=like,
            )


def _costs_nothing(rates: Mapping[str, int]) -> bool:
    """Whether ordinary calls would cost nothing: a slip, since that a model is free is stated with its reason."""
    if not rates.keys() & {"input_fresh", "output_visible"}:
        return False
    return not any(rate for unit, rate in rates.items() if not unit.startswith(_SELDOM))


def _fees(data: dict[str, Any], file: str, layer: int) -> Iterator[Fee]:
    """The fees of a file, in its order."""
    named = {str(model.get("model")) for model in tables(data, "model", file)}
    for number, fee in enumerate(tables(data, "fee", file), 1):
        at = f"{file}, fee {number}"
        check_fields(fee, _FEE_FIELDS, at)
        listed, _, _ = _rates(fee, {}, at)
        if not listed:
            raise BookError(f"{at}: states no price: write at least one of {', '.join(FEES)}")
        models: set[str] = set()
        for model in strings(fee, "models", at):
            meant = {name for name in named if fnmatchcase(name, model)}
            if not meant:
                raise BookError(f'{at}: field "models": {model!r} matches no model of this file')
            models |= meant
        string(fee, "source", at)
        yield Fee(frozenset(models or named), listed, _day(fee.get("recorded"), at), layer)


def _with_fees(entry: Entry, fees: Iterable[Fee]) -> Entry:
    """A price with the fees that it does not state itself; what is free has none."""
    for fee in fees if not entry.free else ():
        added = {unit: text for unit, text in fee.listed.items() if unit not in entry.listed}
        if entry.model in fee.models and added:
            listed = {**entry.listed, **added}
            entry = replace(entry, listed=listed, rates={unit: pico_rate(text, unit) for unit, text in listed.items()})
    return entry
def _confirmation(table: dict[str, Any], file: str, number: int, layer: int) -> Confirmation:
    place = f"{file}, confirmed {table.get('model', f'number {number}')!r}"
    check_fields(table, _CONFIRMED_FIELDS, place)
    if "from" not in table:
        raise BookError(f'{place}: field "from" is missing: name the date of the price that is confirmed, such as 2025-06-10')
    tier, scope = (name_of(table, name, place).lower() if name in table else None for name in ("tier", "scope"))
    model, reason = name_of(table, "model", place), string(table, "reason", place)
    start = moment(table["from"], "from", place, EVER)
    return Confirmation(model, start, tier, scope, _day(table.get("recorded"), place), reason, layer, place)


def _day(recorded: object, at: str) -> str:
    if type(recorded) is not date:
        raise BookError(f'{at}: field "recorded" is missing or no day: a date without quotes such as 2026-11-24')
    return recorded.isoformat()


def _rates(
    price: dict[str, Any], same: Mapping[str, str], at: str
) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Prices as listed and as pico-dollars, by unit, with those billed like another one filled in, and which these are."""
    listed: dict[str, str] = {}
    like: dict[str, str] = {}
    links = {**IMPLIED, **same}
    for name, unit in FIELDS.items():
        value = price.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise BookError(f'{at}: field "{name}": write {value!r} as a string, so that it stays an exact decimal')
        if value in FIELDS:
            links[name] = value
            continue
        try:
            pico_rate(value, unit)
        except ValueError as error:
            raise BookError(f'{at}: field "{name}": {error}') from None
        listed[unit] = plain(Decimal(value))
    for name, other in links.items():
        if FIELDS[name] not in listed and FIELDS[other] in listed:
            listed[FIELDS[name]] = listed[FIELDS[other]]
            like[FIELDS[name]] = FIELDS[other]
        elif name in price and FIELDS[other] not in listed:
            raise BookError(f'{at}: field "{name}" is billed like "{other}", which has no price; state it')
    return listed, {unit: pico_rate(text, unit) for unit, text in listed.items()}, like


def _same(table: dict[str, Any], file: str) -> dict[str, str]:
    for name, other in table.items():
        if name not in FIELDS or other not in FIELDS:
            raise BookError(f'{file}: field "same": {name} = {other!r}: both must be of {", ".join(FIELDS)}')
    return table


def _window(name: str, value: Any, file: str) -> Window:
    place = f"{file}, windows.{name}"
    if not isinstance(value, dict):
        raise BookError(f"{place}: a table is expected")
    check_fields(value, _WINDOW_FIELDS, place)
    minutes: list[tuple[int, int]] = []
    for text in strings(value, "hours", place):
        match = _HOURS.match(text)
        if not match:
            raise BookError(f'{place}: field "hours": {text!r} is not a stretch of the day such as "01:00-04:00"')
        h1, m1, h2, m2 = map(int, match.groups())
        start, end = h1 * 60 + m1, h2 * 60 + m2
        minutes += [(start, end)] if start < end else [(start, 1440), (0, end)]
    if not minutes:
        raise BookError(f'{place}: field "hours" is missing: state at least one stretch such as "01:00-04:00"')
    weekdays = value.get("weekdays", [1, 2, 3, 4, 5, 6, 7])
    if not isinstance(weekdays, list) or not weekdays or not set(weekdays) <= set(range(1, 8)):
        raise BookError(f'{place}: field "weekdays": {weekdays!r} is not a list of 1 (Monday) to 7 (Sunday)')
    days = [moment(day, "except_dates", place, 0) // _DAY for day in value.get("except_dates", [])]
    return Window(name, tuple(minutes), frozenset(weekdays), frozenset(days))


def _standing(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The prices as last recorded, and those that they correct.

    What was recorded last for a model, tier, scope and start replaces all bands and windows of what was recorded before.
    """
    found = list(entries)
    last: dict[tuple[str, str, str, int], str] = {}
    for entry in found:
        last[_start_of(entry)] = max(entry.recorded, last.get(_start_of(entry), ""))
    standing = [entry for entry in found if entry.recorded == last[_start_of(entry)]]
    return standing, [entry for entry in found if entry.recorded != last[_start_of(entry)]]


def _start_of(entry: Entry) -> tuple[str, str, str, int]:
    return entry.model, entry.tier, entry.scope, entry.valid_from


def _close(entries: Iterable[Entry]) -> list[Entry]:
    """End each price where the next one of its model, tier and scope begins; all bands and windows change together.

    Prices that overlap all the same are an error: nobody could say which one holds.
    """
    groups: dict[tuple[str, str, str], dict[int, list[Entry]]] = {}
    for entry in entries:
        group = groups.setdefault((entry.model, entry.tier, entry.scope), {})
        group.setdefault(entry.valid_from, []).append(entry)
    closed: list[Entry] = []
    for group in groups.values():
        starts = sorted(group)
        for start, following in zip(starts, [*starts[1:], FOREVER], strict=True):
            first, *others = group[start]
            if any(entry.valid_to != first.valid_to for entry in others):
                raise BookError(f'{first.place}: field "to": all bands and windows from one date must end together')
            if following < first.valid_to < FOREVER:
                raise BookError(
                    f'{group[following][0].place}: field "from": overlaps {first.rate_id} ({first.place}) for the same '
                    'model, tier and scope; shorten the "to" of that one or change this "from"'
                )
            seen: dict[tuple[int, str], Entry] = {}
            for entry in group[start]:
                twin = seen.setdefault((entry.above, entry.window.name if entry.window else ""), entry)
                if twin is not entry:
                    raise BookError(
                        f'{entry.place}: field "from": overlaps {twin.rate_id} ({twin.place}) for the same model, '
                        'tier, scope and band; remove one, or give this one another "from", or a later "recorded" if it corrects'
                    )
            _check_bands(first, seen)
            closed += [replace(entry, valid_to=min(first.valid_to, following)) for entry in group[start]]
    return closed


def _check_bands(first: Entry, seen: Iterable[tuple[int, str]]) -> None:
    """A set of prices has a first band outside of any window, and each of its windows has the same bands."""
    bands: dict[str, set[int]] = {"": set()}
    for above, window in seen:
        bands.setdefault(window, set()).add(above)
    if 0 not in bands[""]:
        raise BookError(f'{first.place}: field "above": state the price of the first band (no "above") as well')
    if any(found != bands[""] for found in bands.values()):
        raise BookError(f'{first.place}: field "window": state all bands in the window as well as outside of it')


def _check_names(provider: str, book: ProviderBook, layer: int, day: str) -> None:
    """One name of one layer must not mean two models at the same time, and must mean one that has prices.

    Of aliases with the same name and start the one recorded last stands; a name of which no price is known yet is left out.
    """
    stated = [rule for rule in book.names if rule.layer == layer]
    for rule in stated:
        if rule.model not in book.models:
            raise BookError(
                f"{rule.place}: {provider}, alias {rule.name!r}: model {rule.model!r} has no prices; add it or mend the name"
            )
    priced = {entry.model for entry in book.entries}
    known = [rule for rule in stated if rule.recorded <= day and rule.model in priced]
    last: dict[tuple[str, int], str] = {}
    for rule in known:
        last[rule.name, rule.valid_from] = max(rule.recorded, last.get((rule.name, rule.valid_from), ""))
    rules = [rule for rule in known if not rule.recorded or rule.recorded == last[rule.name, rule.valid_from]]
    book.names = [*(rule for rule in book.names if rule.layer != layer), *rules]
    for earlier, later in pairwise(sorted(rules, key=lambda rule: (rule.name, rule.valid_from, rule.valid_to))):
        if earlier.name == later.name and earlier.model != later.model and later.valid_from < earlier.valid_to:
            raise BookError(
                f"{later.place}: {provider}, name {later.name!r}: means both {earlier.model!r} and {later.model!r} at the same "
                "time; remove one or give both dates"
            )
