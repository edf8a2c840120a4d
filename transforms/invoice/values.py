"""Cells of invoices: numbers, times and texts, exact or refused."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_LAST: Final = 2**32 // 86_400 * 86_400
_WIDE: Final = Context(prec=120)
LARGEST: Final = Decimal(10) ** 15
"""No charge, quantity or price is larger."""


class CellError(ValueError):
    """A cell cannot be read. ``column`` and ``value`` are its own."""

    def __init__(self, column: str, value: Any, problem: str) -> None:
        super().__init__(problem)
        self.column, self.value, self.problem = column, "" if value is None else str(value), problem


def text(fields: Mapping[str, Any], *columns: str) -> str:
    """The first of these columns that says something; names as FOCUS or OpenAI writes them."""
    for column in columns:
        value = fields.get(_key(column))
        if value is not None and (said := str(value).strip()) and said.upper() != "NULL":
            return said
    return ""


def number(fields: Mapping[str, Any], column: str) -> Decimal | None:
    """A plain decimal number; None where the cell is empty.

    Raises:
        CellError: it is none: a sign of a currency, a separator of thousands, a comma for the point.
    """
    said = text(fields, column)
    if not said:
        return None
    if not _NUMBER.fullmatch(said):
        hint = "; write it without separators of thousands, and with a point" if "," in said else ""
        raise CellError(column, said, f"not a plain number such as -1234.50{hint}")
    value = Decimal(said)
    if abs(value) > LARGEST:
        raise CellError(column, said, "too large for a charge or a quantity")
    return value


def whole(amount: Decimal, column: str) -> int | None:
    """A count of tokens; None where it is no whole number.

    Raises:
        CellError: there are more than an invoice can mean.
    """
    if amount != amount.to_integral_value():
        return None
    if abs(amount) >= 2**63:
        raise CellError(column, f"{amount:f}", "too many tokens")
    return int(amount)


def pico(amount: Decimal) -> int:
    """Dollars as pico-dollars; what is below is rounded half to even."""
    return int(_WIDE.scaleb(amount, 12).to_integral_value(ROUND_HALF_EVEN))


def money(fields: Mapping[str, Any], column: str) -> int | None:
    """An amount in pico-dollars; None where the cell is empty. Raises ``CellError``."""
    amount = number(fields, column)
    return None if amount is None else pico(amount)


def places(amount: Decimal) -> int:
    """Decimals that an amount needs."""
    exponent = amount.normalize(_WIDE).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def product(price: Decimal, quantity: Decimal) -> Decimal:
    """Exact."""
    return _WIDE.multiply(price, quantity)


def same_sign(quantity: Decimal | None, amount: Decimal, column: str) -> None:
    """Refuse less than nothing that costs something: which of both is wrong nobody knows.

    Raises:
        CellError: it is so.
    """
    if quantity is not None and quantity < 0 < amount:
        raise CellError(column, f"{quantity:f}", f"quantity and cost have different signs: {amount:f} was billed for it")


def second(fields: Mapping[str, Any], column: str) -> int | None:
    """A time as UTC seconds: ISO 8601, UTC where it names no zone, or seconds since 1970; None where the cell is empty.

    Raises:
        CellError: it is none of these, or not from 1970 to 2106, where a store's clock ends.
    """
    found = _second(fields, column)
    if found is not None and not 0 <= found < _LAST:
        raise CellError(column, text(fields, column), "not a time from 1970 to 2106")
    return found


def _second(fields: Mapping[str, Any], column: str) -> int | None:
    value = fields.get(_key(column))
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, date):
        return _utc(datetime(value.year, value.month, value.day, tzinfo=UTC))
    said = text(fields, column)
    if not said:
        return None
    if re.fullmatch(r"\d{9,10}(\.0*)?", said, re.ASCII):
        return int(said.partition(".")[0])
    try:
        return _utc(datetime.fromisoformat(said.removesuffix(" UTC")))
    except (ValueError, OverflowError):
        raise CellError(column, said, "not a time such as 2026-03-01T00:00:00Z") from None


def _utc(at: datetime) -> int:
    return int((at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp())


@functools.cache
def _key(column: str) -> str:
    return column.replace("_", "").lower()
