"""What can be priced, and how a price written in dollars becomes an exact integer.

Money is int pico-dollars (10⁻¹² $). A price of $1 per million tokens is 1,000,000 pico-dollars per token, so a price
per million may have six decimals and a fee per thousand nine; more would not be an integer and is refused.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from schemas.call import LEAVES, TOOL_USES

PICO_PER_DOLLAR: Final = 10**12

FIELDS: Final = {
    "input": "input_fresh",
    "cache_read": "input_cache_read",
    "cache_write_5m": "input_cache_write_5m",
    "cache_write_1h": "input_cache_write_1h",
    "cache_write": "input_cache_write_other",
    "tool_use": "input_tool_use",
    "audio_input": "input_audio",
    "image_input": "input_image",
    "output": "output_visible",
    "reasoning": "output_reasoning",
    "audio_output": "output_audio",
    "image_output": "output_image",
    "web_search": "web_searches",
    "file_search": "file_searches",
    "request": "requests",
    "cache_storage": "cache_storage_hours",
}
"""Field of a price in the book → what it prices. Fees of ``PER_THOUSAND`` are per thousand, the others per million tokens."""

FEES: Final = ("web_search", "file_search", "request", "cache_storage")
"""Fields that are not for tokens of a call."""

UNITS: Final = (*LEAVES, *TOOL_USES, "requests")
"""Everything a call is priced by, in the order of a book's rate matrix: the token leaves, then fees. Hours of a stored prefix
(``cache_storage_hours``, of a million tokens) are in the book and of no call.

``requests`` is one for every call: a vendor may charge a fee for the request itself."""

PER_THOUSAND: Final = frozenset({*TOOL_USES, "requests"})

IMPLIED: Final = {"reasoning": "output", "tool_use": "input"}
"""Fields that have another field's price where an entry says nothing: vendors bill reasoning as output, and the prompt
of server-side tools as input."""

MAX_RATE: Final = 10**15
"""Highest rate in pico-dollars per unit ($1,000): anything above is taken for a slip of the decimal point."""


def unit_size(unit: str) -> int:
    """How many units a price in the book is for: 1,000 of a fee, 1,000,000 of a token."""
    return 1000 if unit in PER_THOUSAND else 1_000_000


def pico_rate(text: str, unit: str) -> int:
    """Pico-dollars per unit of a price in dollars per thousand or million units.

    Raises ``ValueError``, saying what is wrong, if ``text`` is no plain decimal number, is negative, is absurdly high
    or has more decimals than whole pico-dollars per unit can hold.
    """
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise ValueError(f'"{text}" is not a decimal number such as "2.50"') from None
    if not price.is_finite() or price < 0:
        raise ValueError(f'"{text}" is not a price: it must be zero or more')
    pico = price * (PICO_PER_DOLLAR // unit_size(unit))
    if pico > MAX_RATE:
        raise ValueError(f'"{text}" is more than $1,000 for one unit; prices are per {unit_size(unit):,} units')
    if pico != pico.to_integral_value():
        places = 6 if unit_size(unit) == 1_000_000 else 9
        raise ValueError(f'"{text}" has more than {places} decimals; round it to what the vendor bills')
    return int(pico)


def dollars(pico: int) -> str:
    """Pico-dollars as dollars, exact and without trailing zeros: 1_250_000 is ``0.00000125``."""
    return plain(Decimal(pico).scaleb(-12))


def plain(value: Decimal) -> str:
    """A decimal without exponent or trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
