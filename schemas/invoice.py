"""What an invoice charges, whatever vendor's file it comes from."""

from __future__ import annotations

from typing import Final, NamedTuple

KINDS: Final = ("input", "cached_input", "cache_write", "cache_write_5m", "cache_write_1h", "output", "other")
"""What tokens are charged as. ``cache_write``: nothing says for how long; ``other``: audio, images, the prompt of server-side
tools."""

LENGTHS: Final = ("cache_write_5m", "cache_write_1h")
"""Kinds of cache writes that say for how long, which is what they are priced by."""


def broad(kind: str) -> str:
    """The kind without for how long a cache is written."""
    return "cache_write" if kind in LENGTHS else kind


CATEGORIES: Final = ("usage", "purchase", "tax", "credit", "adjustment")
"""What a charge is for. ``purchase``: commitments, used or not; ``adjustment``: also corrections of an earlier period."""


class Charge(NamedTuple):
    """One line of an invoice. Times are UTC seconds, ``end`` exclusive. Money is int pico-dollars if ``currency`` is USD, else
    the same fraction of that currency; None: the file does not say.

    ``list_cost`` and ``contracted`` are unit price times quantity where the file has both and they agree, so not rounded to
    cents. ``effective`` has commitments spread over what they cover. ``places``: decimals that ``billed`` was written with.
    """

    file: str
    row: int
    start: int
    end: int
    provider: str  # as our calls name it; empty: another service, no LLM
    account: str
    project: str  # below the account: project, sub-account, subscription
    model: str  # as the book names it, else as written; empty: it is of no model, or nothing says of which
    kind: str  # one of KINDS; empty: nothing says which
    tokens: int | None  # None: it says no quantity, or not of tokens
    quantity: str  # as written, with its unit
    billed: int
    list_cost: int | None
    contracted: int | None
    effective: int | None
    currency: str
    category: str
    description: str
    places: int


class Import(NamedTuple):
    """Lines of an invoice in a store: all of a provider and account over the UTC days from ``since`` to less than ``until``.

    ``fingerprint`` is that of the lines in whatever order; ``state``: writing, imported or removed; ``unreadable`` rows of its
    files are not in it; ``at``: when it was imported (UTC seconds).
    """

    number: int
    provider: str
    account: str
    since: int
    until: int
    fingerprint: str
    lines: int
    unreadable: int
    source: str
    state: str
    at: int


class Finding(NamedTuple):
    """A row that could not be read. ``row`` is its line in a text, its number in Parquet and JSON."""

    file: str
    row: int
    column: str
    value: str
    problem: str
