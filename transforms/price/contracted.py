"""Contracts compiled into rates: what each price of the book becomes under each contract.

Every rate is rounded here, once, half-even to whole pico-dollars per unit; a call is then priced by multiplication alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple

from transforms.price.contracts import Contract, Discount, OwnPrice, Payer, nearest, overlap
from transforms.price.entries import Entry, iso
from transforms.price.fields import EVER, FOREVER, BookError
from transforms.price.names import is_pattern, literal_length, pattern_regex
from transforms.price.rates import FIELDS, PICO_PER_DOLLAR, plain, unit_size

Model = tuple[str, str]
"""Provider and model of the book."""

Meant = Callable[[str, str, int, int], frozenset[str]]
"""Models of the book that a provider's name means from a time until another."""

Spellings = Callable[[str], Iterable[str]]
"""Plain names that the book knows of a provider."""


class Under(NamedTuple):
    """A price under a contract, and the row of the list price that it was made of."""

    entry: Entry
    list_row: int


FIELD_OF: Final = {unit: field for field, unit in FIELDS.items()}


def compiled(contracts: Sequence[Contract], entries: Sequence[Entry], meant: Meant, spellings: Spellings) -> list[Under]:
    """Each entry that costs something, under each contract that is for it: rates, and the time in which both hold.

    Raises ``BookError``: contracts overlap, or one names what the book does not have.
    """
    providers = {entry.provider for entry in entries}
    for contract in contracts:
        for provider in contract.providers:
            if provider not in providers:
                hint = nearest(provider, providers) or "; add its prices in a folder of price.books, or mend the name"
                raise BookError(f'{contract.place}: field "providers": {provider!r} has no prices in the book{hint}')
    _refuse_overlaps(contracts)
    return [under for contract in contracts for under in _Compiler(contract, entries, meant, spellings).entries()]


def for_payer(contracts: Iterable[Contract], provider: str, payer: Payer) -> list[Contract]:
    """The contracts that are for calls of a payer, the most special first: of those that hold, the first one counts."""
    some = [contract for contract in contracts if provider in contract.providers and contract.is_for(payer)]
    return sorted(some, key=lambda contract: -len(contract.conditions))


@lru_cache(maxsize=10_000)
def discounted(rate: int, percent: Decimal) -> int:
    """A rate less a percentage, rounded half-even to a whole pico-dollar."""
    return round(Fraction(rate) * (100 - Fraction(percent)) / 100)


def _refuse_overlaps(contracts: Sequence[Contract]) -> None:
    """Of two contracts for one call, one must be more special: limited by all that limits the other, and by more."""
    for one, other in combinations(contracts, 2):
        both = [provider for provider in one.providers if provider in other.providers]
        if not both or one.end <= other.start or other.end <= one.start:
            continue
        limits = [{condition.field: condition.values for condition in contract.conditions} for contract in (one, other)]
        if limits[0].keys() < limits[1].keys() or limits[1].keys() < limits[0].keys():
            continue
        if all(overlap(limits[0][field], limits[1][field]) for field in limits[0].keys() & limits[1].keys()):
            start, end = max(one.start, other.start), min(one.end, other.end)
            since = "" if start == EVER else f" from {iso(start)}"
            until = "" if end == FOREVER else f" until {iso(end)}"
            raise BookError(
                f"{other.place}: is for the same calls as contract {one.name!r} ({one.file}): provider "
                f"{', '.join(both)}{since}{until}; end one where the other begins, let them name other accounts, projects or "
                "tenants, or let one name what the other does, and more: then it goes before"
            )


class _Compiler:
    """One contract over the entries of the book."""

    def __init__(self, contract: Contract, entries: Sequence[Entry], meant: Meant, spellings: Spellings) -> None:
        self._contract = contract
        self._meant = meant
        self._spellings = spellings
        self._held = [
            (row, entry)
            for row, entry in enumerate(entries)
            if entry.provider in contract.providers
            and not entry.free
            and max(entry.valid_from, contract.start) < min(entry.valid_to, contract.end)
        ]
        self._models: frozenset[Model] = frozenset((entry.provider, entry.model) for _, entry in self._held)
        self._prices = self._own_prices()
        self._discounts = [
            (one, self._named(one.models, one, "models"), self._named(one.except_models, one, "except_models"))
            for one in contract.discounts
        ]
        for discount in contract.discounts:
            self._refuse_unknown(discount)

    def entries(self) -> Iterator[Under]:
        groups: dict[tuple[object, ...], list[tuple[int, Entry]]] = {}
        for row, entry in self._held:
            window = entry.window.name if entry.window else ""
            key = (entry.layer, entry.provider, entry.model, entry.tier, entry.scope, entry.valid_from, window)
            groups.setdefault(key, []).append((row, entry))
        for group in groups.values():
            bands = sorted(group, key=lambda pair: pair[1].above)
            own = self._prices.get(_cell(group[0][1]), [])
            starts = [entry.above for _, entry in bands]
            for above in sorted({*starts, *(price.above for price in own)}):
                row, entry = bands[bisect_right(starts, above) - 1]
                price = next((price for price in reversed(own) if price.above <= above), None)
                yield Under(self._under(entry, above, price), row)

    def _under(self, entry: Entry, above: int, price: OwnPrice | None) -> Entry:
        contract = self._contract
        rates = {unit: self._rate(entry, unit, rate, price) for unit, rate in entry.rates.items()}
        if price and "requests" in price.rates:
            rates["requests"] = price.rates["requests"]
        listed = {unit: plain(Decimal(rate * unit_size(unit)) / PICO_PER_DOLLAR) for unit, rate in rates.items()}
        return replace(
            entry,
            above=above,
            valid_from=max(entry.valid_from, contract.start),
            valid_to=min(entry.valid_to, contract.end),
            rates=rates,
            listed=listed,
            source=f"contract {contract.name}, on {entry.source}",
            place=contract.place,
            contract=contract.name,
            of=replace(entry, above=above).rate_id,
        )

    def _rate(self, entry: Entry, unit: str, rate: int, price: OwnPrice | None) -> int:
        units = [unit]  # and what it is billed like, where nothing is said of itself
        while units[-1] in entry.like and entry.like[units[-1]] not in units:
            units.append(entry.like[units[-1]])
        if price:
            own = next((price.rates[one] for one in units if one in price.rates), None)
            if own is not None:
                return own
        best = self._discount(entry, units)
        return discounted(rate, best.percent) if best else rate

    def _discount(self, entry: Entry, units: Sequence[str]) -> Discount | None:
        """The most special discount that means a unit of an entry: by conditions, nearness of the unit, letters of the model."""
        found: list[tuple[tuple[int, int, int], Discount]] = []
        for discount, models, excepted in self._discounts:
            model = (entry.provider, entry.model)
            if (discount.models and model not in models) or model in excepted:
                continue
            if not (_means(discount.tiers, entry.tier) and _means(discount.scopes, entry.scope)):
                continue
            distance = next((number for number, unit in enumerate(units) if unit in discount.units), 0)
            if discount.units and not any(unit in discount.units for unit in units):
                continue
            found.append(((discount.conditions, -distance, models.get(model, 0)), discount))
        if not found:
            return None
        top = max(rank for rank, _ in found)
        best = [discount for rank, discount in found if rank == top]
        if any(discount.percent != best[0].percent for discount in best):
            raise BookError(
                f"{best[1].place}: is as special as {best[0].place.rpartition(', ')[2]} for {FIELD_OF[units[0]]} of "
                f"{entry.rate_id}, and says another percent; let one of them state more: models, tiers, scopes or fields"
            )
        return best[0]

    def _named(self, names: Sequence[str], discount: Discount, field: str) -> dict[Model, int]:
        """The models that names and patterns mean, each with the letters of the longest one that does."""
        found: dict[Model, int] = {}
        for name in names:
            models = self._matching(name) if is_pattern(name) else self._resolved(name)
            if not models:
                raise BookError(f'{discount.place}: field "{field}": {self._unknown(name)}')
            for model in models:
                found[model] = max(found.get(model, 0), literal_length(name))
        return found

    def _matching(self, pattern: str) -> set[Model]:
        regex = pattern_regex(pattern)
        return {(provider, model) for provider, model in self._models if regex.fullmatch(model.lower())}

    def _resolved(self, name: str) -> set[Model]:
        contract = self._contract
        found = {
            (provider, model)
            for provider in contract.providers
            for model in self._meant(provider, name, contract.start, contract.end)
        }
        return found & self._models

    def _unknown(self, name: str) -> str:
        of = ", ".join(self._contract.providers)
        names = {model.lower() for _, model in self._models}
        names |= {spelling for provider in self._contract.providers for spelling in self._spellings(provider)}
        hint = nearest(name, names, 2) or "; mend it, or add its list price in a folder of price.books"
        what = "matches no model" if is_pattern(name) else "is no model"
        return f"{name!r} {what} that the book of {of} has a price of while the contract holds{hint}"

    def _refuse_unknown(self, discount: Discount) -> None:
        """Tiers, scopes and units that no price has are slips of the pen."""
        for field, patterns in (("tier", discount.tiers), ("scope", discount.scopes)):
            known = {getattr(entry, field) for _, entry in self._held}
            for pattern in patterns:
                if not any(_means([pattern], value) for value in known):
                    some = ", ".join(sorted(map(repr, known)))
                    raise BookError(f'{discount.place}: field "{field}s": {pattern!r} is none of what the book has: {some}')
        for unit in discount.units:
            if not any(unit in entry.rates for _, entry in self._held):
                field = FIELD_OF[unit]
                raise BookError(f'{discount.place}: field "fields": no model here has a list price of {field!r}; remove it')

    def _own_prices(self) -> dict[tuple[str, ...], list[OwnPrice]]:
        """Negotiated prices by provider, model, tier and scope, each list in order of bands."""
        found: dict[tuple[str, ...], dict[int, OwnPrice]] = {}
        for price in self._contract.prices:
            if is_pattern(price.model):
                raise BookError(f'{price.place}: field "model": a price is for one model; write one for each, or a discount')
            models = self._resolved(price.model)
            if not models:
                raise BookError(f'{price.place}: field "model": {self._unknown(price.model)}')
            for provider in sorted({provider for provider, _ in models}):
                several = sorted(model for of, model in models if of == provider)
                if len(several) > 1:
                    raise BookError(
                        f'{price.place}: field "model": {price.model!r} means {" and then ".join(several)} while the contract '
                        "holds; state a price for each"
                    )
                cell = (provider, several[0], price.tier, price.scope)
                self._refuse_unlisted(price, cell)
                twin = found.setdefault(cell, {}).setdefault(price.above, price)
                if twin is not price:
                    raise BookError(f"{price.place}: is for the same model, tier, scope and band as {twin.place}; remove one")
        return {cell: [prices[above] for above in sorted(prices)] for cell, prices in found.items()}

    def _refuse_unlisted(self, price: OwnPrice, cell: tuple[str, ...]) -> None:
        """There is a list price beside every negotiated one, or list cost would be unknown."""
        entries = [entry for _, entry in self._held if _cell(entry) == cell]
        if not entries:
            of_model = {(entry.tier, entry.scope) for _, entry in self._held if _cell(entry)[:2] == cell[:2]}
            has = "; ".join(f"tier {tier!r}" + (f", scope {scope!r}" if scope else "") for tier, scope in sorted(of_model))
            wanted = f"tier {price.tier!r}" + (f" and scope {price.scope!r}" if price.scope else "")
            raise BookError(f"{price.place}: the book has no price of {'/'.join(cell[:2])} in {wanted}, but in {has}")
        for unit in price.rates:
            if unit != "requests" and not any(unit in entry.rates for entry in entries):
                field = FIELD_OF[unit]
                known = ", ".join(FIELD_OF[known] for known in sorted(entries[0].rates))
                raise BookError(
                    f'{price.place}: field "{field}": the book has no list price of it, only of {known}; remove it, or add its '
                    "list price in a folder of price.books"
                )


def _cell(entry: Entry) -> tuple[str, ...]:
    return (entry.provider, entry.model, entry.tier, entry.scope)


def _means(patterns: Sequence[str], value: str) -> bool:
    return not patterns or any(pattern_regex(pattern).fullmatch(value) for pattern in patterns)
