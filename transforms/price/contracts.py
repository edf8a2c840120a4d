"""Contracts as written: TOML files of discounts, negotiated prices and credits, read and checked.

A contract is with one or more providers, for all that is called there or for some accounts, projects or tenants, from a
date until another. ``docs/contracts.md`` describes the format; ``contracted`` compiles it into rates.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple

from transforms.own.rules import Condition
from transforms.price.entries import STANDARD, Files
from transforms.price.fields import EVER, FOREVER, BookError, check_fields, interval, name_of, string, strings, tables, texts
from transforms.price.rates import FIELDS, PICO_PER_DOLLAR, pico_rate

Written = Path | Files
"""Contracts: a file or a folder of files, or what was in them when they were read."""


class Payer(NamedTuple):
    """Who pays for a call, as it stands there: what a contract may be limited to."""

    account: str = ""
    project: str = ""
    tenant: str = ""


ANYBODY: Final = Payer()


@dataclass(frozen=True)
class Discount:
    """``percent`` off the list price of what all of the others mean; one that is empty means everything.

    ``models`` and ``tiers`` and ``scopes`` are names or patterns, ``units`` are those of ``rates.UNITS``.
    """

    percent: Decimal
    models: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    except_models: tuple[str, ...] = ()
    place: str = ""

    @property
    def conditions(self) -> int:
        """How many things it states of what it means."""
        return sum(map(bool, (self.models, self.tiers, self.scopes, self.units)))


@dataclass(frozen=True)
class OwnPrice:
    """Negotiated rates (pico-dollars per unit) of a model in one tier, scope and band, as an entry of the book has them."""

    model: str
    tier: str
    scope: str
    above: int
    rates: Mapping[str, int]
    place: str


@dataclass(frozen=True)
class Credit:
    """``amount`` pico-dollars that pay for calls of a contract from ``start`` until ``end`` (UTC microseconds, whole days)."""

    name: str
    amount: int
    start: int
    end: int


@dataclass(frozen=True)
class Contract:
    """One contract. Times are UTC microseconds, ``end`` exclusive.

    ``conditions``: which calls of its providers it is for, by the fields of ``Payer``; none: all. ``said`` is all that stands in
    it as one text.
    """

    name: str
    providers: tuple[str, ...]
    conditions: tuple[Condition, ...]
    start: int
    end: int
    discounts: tuple[Discount, ...]
    prices: tuple[OwnPrice, ...]
    credits: tuple[Credit, ...]
    place: str
    said: str

    @property
    def file(self) -> str:
        """The file that it stands in."""
        return self.place.partition(",")[0]

    def is_for(self, payer: Payer) -> bool:
        """Whether calls of this payer are its own."""
        return all(condition.holds(getattr(payer, condition.field)) for condition in self.conditions)


_DAY: Final = 86_400_000_000
_NAME: Final = re.compile(r"[A-Za-z0-9][\w .:/-]{0,99}", re.ASCII)
_MAX_TEXT: Final = 512
_MAX_STARS: Final = 8
_PLACES: Final = 12
_MAX_AMOUNT: Final = 10**12
_WHO: Final = {"accounts": "account", "projects": "project", "tenants": "tenant"}
_CONTRACT_FIELDS: Final = frozenset(
    {"name", "providers", *_WHO, "from", "to", "discount", "except_models", "discounts", "price", "credit"}
)
_DISCOUNT_FIELDS: Final = frozenset({"models", "tiers", "scopes", "fields", "percent"})
_PRICE_FIELDS: Final = frozenset({"model", "tier", "scope", "above", *FIELDS})
_CREDIT_FIELDS: Final = frozenset({"name", "amount", "from", "to"})


def read_files(paths: Iterable[Path]) -> Files:
    """Name and text of each file of contracts; of a folder its ``*.toml``. Raises ``BookError``."""
    found = []
    for path in paths:
        some = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not some:
            raise BookError(f"{path}: no contracts: a file, or a folder of *.toml files, is expected")
        for one in some:
            try:
                found.append((one.name, one.read_text(encoding="utf-8")))
            except OSError as error:
                raise BookError(f"{one}: {error.strerror}; name files of contracts in price.contracts") from None
            except UnicodeDecodeError as error:
                raise BookError(f"{one}: cannot be read as TOML: {error}") from None
    return tuple(found)


def contracts_of(written: Iterable[Written]) -> tuple[Contract, ...]:
    """The contracts that stand in files, by name. Raises ``BookError``, which names file, contract, field and fix."""
    contracts: dict[str, Contract] = {}
    for some in written:
        for file, text in read_files([some]) if isinstance(some, Path) else some:
            for contract in _in_file(file, text):
                twin = contracts.setdefault(contract.name, contract)
                if twin is not contract:
                    raise BookError(f"{contract.place}: another one, in {twin.file}, has this name; give one of them another")
    return tuple(contracts[name] for name in sorted(contracts))


def nearest(name: str, known: Iterable[str], count: int = 1) -> str:
    """What may have been meant, as the end of an error."""
    near = get_close_matches(name, sorted(known), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _in_file(file: str, text: str) -> list[Contract]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BookError(f"{file}: cannot be read as TOML: {error}") from None
    for name in data:
        if name != "contract":
            raise BookError(f'{file}: unknown table "{name}": write [[contract]], and what belongs to it below')
    if not isinstance(data.get("contract"), list):
        why = "is written with two brackets: [[contract]]" if data else "is missing: write [[contract]] and its fields below"
        raise BookError(f"{file}: contract: {why}")
    return [_contract(table, number, file) for number, table in enumerate(tables(data, "contract", file), 1)]


def _contract(table: dict[str, Any], number: int, file: str) -> Contract:
    place = f"{file}, contract {table.get('name', f'number {number}')!r}"
    check_fields(table, _CONTRACT_FIELDS, place)
    name = string(table, "name", place)
    if not _NAME.fullmatch(name):
        raise BookError(f'{place}: field "name": begins with a letter or digit, then up to 99 of these, spaces and . : / _ -')
    providers = strings(table, "providers", place)
    if not providers:
        raise BookError(f'{place}: field "providers" is missing: name at least one, such as ["openai"]')
    start, end = interval(table, place)
    prices = tuple(_price(price, f"{place}, price {n}") for n, price in enumerate(tables(table, "price", place), 1))
    contract = Contract(
        name,
        tuple(dict.fromkeys(providers)),
        tuple(Condition(field, _patterns(table, given, place)) for given, field in _WHO.items() if given in table),
        start,
        end,
        _discounts(table, place),
        prices,
        _credits(table, place, start, end),
        place,
        json.dumps(table, sort_keys=True, default=str),
    )
    if not (contract.discounts or contract.prices or contract.credits):
        raise BookError(f'{place}: changes nothing: state a "discount", [[contract.price]] or [[contract.credit]]')
    return contract


def _discounts(table: dict[str, Any], place: str) -> tuple[Discount, ...]:
    found = []
    if "discount" in table:
        excepted = _lower(table, "except_models", place) if "except_models" in table else ()
        found.append(Discount(_percent(table, "discount", place), except_models=excepted, place=f"{place}, discount"))
    elif "except_models" in table:
        raise BookError(f'{place}: field "except_models": excepts from "discount", which is missing; state it, such as "10"')
    for number, one in enumerate(tables(table, "discounts", place), 1):
        at = f"{place}, discounts {number}"
        check_fields(one, _DISCOUNT_FIELDS, at)
        named = (_lower(one, name, at) if name in one else () for name in ("models", "tiers", "scopes", "fields"))
        models, tiers, scopes, fields = named
        for field in fields:
            if field not in FIELDS:
                raise BookError(f'{at}: field "fields": {field!r} is none of {", ".join(FIELDS)}{nearest(field, FIELDS)}')
        discount = Discount(_percent(one, "percent", at), models, tiers, scopes, tuple(FIELDS[f] for f in fields), place=at)
        if not discount.conditions:
            raise BookError(f'{at}: state what it is for: models, tiers, scopes or fields; for everything there is "discount"')
        found.append(discount)
    return tuple(found)


def _price(table: dict[str, Any], place: str) -> OwnPrice:
    place += f" ({table['model']!r})" if "model" in table else ""
    check_fields(table, _PRICE_FIELDS, place)
    rates = {}
    for name, unit in FIELDS.items():
        value = table.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise BookError(f'{place}: field "{name}": write {value!r} as a string, so that it stays an exact decimal')
        try:
            rates[unit] = pico_rate(value, unit)
        except ValueError as error:
            raise BookError(f'{place}: field "{name}": {error}') from None
    if not rates:
        raise BookError(f"{place}: states no price: write at least one of {', '.join(FIELDS)}")
    above = table.get("above", 0)
    if type(above) is not int or above < 0:
        raise BookError(f'{place}: field "above": {above!r} is not a number of prompt tokens such as 272_000')
    tier, scope = (_one(table, name, default, place) for name, default in (("tier", STANDARD), ("scope", "")))
    return OwnPrice(name_of(table, "model", place).lower(), tier, scope, above, rates, place)


def _credits(table: dict[str, Any], place: str, start: int, end: int) -> tuple[Credit, ...]:
    found: dict[str, Credit] = {}
    for number, one in enumerate(tables(table, "credit", place), 1):
        at = f"{place}, credit {one.get('name', f'number {number}')!r}"
        check_fields(one, _CREDIT_FIELDS, at)
        name = string(one, "name", at)
        if name in found:
            raise BookError(f"{at}: another credit of this contract has this name; give one of them another")
        begins, ends = interval(one, at)
        begins, ends = (begins if "from" in one else start), (ends if "to" in one else end)
        for field, moment in (("from", begins), ("to", ends)):
            if moment not in (EVER, FOREVER) and moment % _DAY:
                raise BookError(f'{at}: field "{field}": credits are drawn by whole UTC days; state a date such as 2026-07-01')
        if not (begins < end and start < ends and begins < ends):
            raise BookError(f'{at}: fields "from" and "to": the contract holds on no day of the credit; mend one of the two')
        found[name] = Credit(name, _amount(one, at), begins, ends)
    return tuple(found.values())


def _decimal(table: dict[str, Any], name: str, place: str, example: str) -> Decimal:
    value = table.get(name)
    if value is None:
        raise BookError(f'{place}: field "{name}" is missing: write it as a string, such as "{example}"')
    if not isinstance(value, str):
        raise BookError(f'{place}: field "{name}": write {value!r} as a string, so that it stays an exact decimal')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise BookError(f'{place}: field "{name}": "{value}" is not a decimal number such as "{example}"') from None
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_PLACES:
        raise BookError(f'{place}: field "{name}": "{value}" has more than {_PLACES} decimals')
    if not isinstance(exponent, int):
        raise BookError(f'{place}: field "{name}": "{value}" is not a decimal number such as "{example}"')
    return number


def _percent(table: dict[str, Any], name: str, place: str) -> Decimal:
    percent = _decimal(table, name, place, "12.5")
    if not 0 <= percent <= 100:
        raise BookError(f'{place}: field "{name}": "{table[name]}" is not a percentage from 0 to 100 off the list price')
    return percent


def _amount(table: dict[str, Any], place: str) -> int:
    amount = _decimal(table, "amount", place, "50000")
    if not 0 < amount < _MAX_AMOUNT:
        text = table["amount"]
        raise BookError(f'{place}: field "amount": "{text}" is not an amount of dollars above 0 and below {_MAX_AMOUNT:,}')
    return int(amount * PICO_PER_DOLLAR)


def _one(table: dict[str, Any], name: str, default: str, place: str) -> str:
    value = table.get(name, default)
    if not isinstance(value, str):
        raise BookError(f'{place}: field "{name}": {value!r} is not a text; write a [[contract.price]] for each {name}')
    return value.strip().lower()


def _lower(table: dict[str, Any], name: str, place: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip().lower() for text in _patterns(table, name, place)))


def _patterns(table: dict[str, Any], name: str, place: str) -> tuple[str, ...]:
    if table[name] == []:
        raise BookError(f'{place}: field "{name}": is empty and would mean nothing; leave it out to mean everything')
    found = texts({name: table[name]}, name, "", place)
    for text in found:
        if len(text) > _MAX_TEXT or text.count("*") > _MAX_STARS:
            raise BookError(f'{place}: field "{name}": a text may have {_MAX_TEXT} characters and {_MAX_STARS} of *')
    return tuple(found)


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a text can be meant by patterns (``*`` is any text) of both."""
    return any(_meet(a.casefold(), b.casefold()) if a and b else a == b for a in one for b in other)


def _meet(a: str, b: str) -> bool:
    """Whether two patterns have a text in common."""
    reach = {0}  # positions in b at which what is read of a may end
    for char in a:
        reach = _skip_stars(reach, b)
        after = {at for at in reach if at < len(b) and b[at] == "*"}  # b's star takes it
        if char == "*":
            after = set(range(min(reach), len(b) + 1)) if reach else set()
        else:
            after |= {at + 1 for at in reach if at < len(b) and b[at] == char}
        reach = after
    return len(b) in _skip_stars(reach, b)


def _skip_stars(reach: set[int], b: str) -> set[int]:
    found = set(reach)
    for at in sorted(reach):
        while at < len(b) and b[at] == "*":
            at += 1
            found.add(at)
    return found
