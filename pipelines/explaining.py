"""``llm-finops explain``: the sum behind the cost of one call, as a bill would show it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from pipelines.errors import CheckFailed, SettingsError
from pipelines.show import Column, Format, Kind, Table, dollars, show
from pipelines.terms import instant, timeline
from sinks.clickhouse import Store
from transforms.price import CallExplanation, Payer, explain_call, load_book
from transforms.price.entries import iso
from transforms.price.fields import EVER, FOREVER
from transforms.price.rates import UNITS
from transforms.price.rates import dollars as exact
from transforms.terms import Terms, which

_TEXTS: Final = ("provider", "model", "service_tier", "region_scope", "speed", "status", "usage_source", "deployment_type")
_FLAGS: Final = ("batch", "spillover", "gateway_cache_hit")
_NUMBERS: Final = ("http_status", *UNITS[:-1], "counted_input_error", "counted_output_error", "reported_cost")
_READ: Final = (*_TEXTS, "reported_cost_by", *Payer._fields, *_FLAGS, *_NUMBERS)
_VENDOR: Final = ("vendor_input", "vendor_output", "vendor_total")
_PRICED: Final = ("cost", "price_status", "rate_id", "book_version", "price_run", "cost_source")
_STORED: Final = ("service_tier_requested", "model_requested", "time_quality", "usage_quality", "flags", *_VENDOR, *_PRICED)
_IDS: Final = ("provider_call_id", "request_id", "span_id")
_MOST: Final = 20


class Stored(NamedTuple):
    """What the store says a call costs: ``cost`` in dollars, None where unpriced; ``price_run`` is above 1 after ``reprice``."""

    cost: Decimal | None
    status: str
    rate_id: str
    book_version: str
    price_run: int
    source: str = ""


class Explained(NamedTuple):
    """A call with its fields, why it costs what it costs, and what the store has; None for a call that is made up."""

    call: dict[str, Any]
    found: CallExplanation
    stored: Stored | None


def find(store: Store, which_one: str) -> dict[str, Any]:
    """The one call of this key or id, with the fields that pricing reads.

    Raises:
        CheckFailed: there is none.
        SettingsError: there are several; they are listed.
    """
    key = which_one.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", which_one) else ""
    where = " OR ".join(f"{name} = {{id:String}}" for name in _IDS) + (f" OR call_key = unhex('{key}')" if key else "")
    columns = ", ".join((*_READ, *_STORED, *_IDS))
    rows = store.named_rows(
        f"SELECT lower(hex(call_key)) AS hex_key, toUnixTimestamp64Micro(event_time) AS event_time, {columns}"
        f" FROM {store.table('calls')} FINAL WHERE {where} ORDER BY event_time LIMIT {_MOST}",
        {"id": which_one},
    )
    if not rows:
        raise CheckFailed(f"{which_one}: no call has this key, provider_call_id, request_id or span_id")
    if len(rows) > 1:
        columns_ = [Column("call_key"), Column("event_time"), Column("model"), Column("cost", Kind.MONEY)]
        said = [[row["hex_key"], instant(row["event_time"]), row["model"], row["cost"]] for row in rows]
        show(Table(columns_, said, f"Calls of {which_one}"), Format.TABLE, sys.stderr)
        raise SettingsError(f"{which_one}: {len(rows)} calls have this id; name one by its call_key")
    return rows[0]


def explain_stored(store: Store, which_one: str, own: Sequence[Path], contracts: Sequence[Path] = ()) -> Explained:
    """Explain a call by the terms that hold for its time: those of the store, else own prices and contracts of the settings."""
    row = find(store, which_one)
    known = timeline(store) or (Terms(tuple(own), contracts=tuple(contracts)),)
    terms = known[int(which(known, np.array([row["event_time"]], np.int64))[0])]
    stored = Stored(row["cost"], row["price_status"], row["rate_id"], row["book_version"], row["price_run"], row["cost_source"])
    call = {name: row[name] for name in (*_READ, "event_time")}
    call |= {name: bool(call[name]) for name in _FLAGS}
    return Explained({**row, **call}, explain_call(load_book(terms.books, terms.contracts), call), stored)


def explain_made_up(own: Sequence[Path], call: dict[str, Any], contracts: Sequence[Path] = ()) -> Explained:
    """Explain a call that nobody made."""
    texts = dict.fromkeys((*_TEXTS, "reported_cost_by", *Payer._fields), "")
    known = {name: value for name, value in call.items() if value is not None}
    whole = {**texts, **dict.fromkeys(_FLAGS, False), "status": "ok", "usage_source": "vendor", **known}
    return Explained(whole, explain_call(load_book(own, contracts), whole), None)


def verdict(one: Explained) -> str:
    """Whether the store has the same, in words."""
    if one.stored is None:
        return ""
    cost = None if one.found.cost is None else dollars(one.found.cost)
    if one.stored.source == "billed":
        by = f"billed by {one.stored.rate_id}, applied as run {one.stored.price_run}"
        return f"{_money(one.stored.cost)}, {by}; by prices {_money(cost)}"
    same = (one.stored.cost, one.stored.status) == (cost, one.found.status)
    versions = one.stored.book_version, one.found.book_version
    if versions[0] != versions[1]:
        how = "the same" if same else f"{_money(one.stored.cost)} ({one.stored.status})"
        anew = f" by reprice, run {one.stored.price_run}," if one.stored.price_run > 1 else ""
        return f"{how}, priced{anew} with another book: {versions[0]}, now {versions[1]}"
    return "equal" if same else f"different: {_money(one.stored.cost)} ({one.stored.status}), though priced with the same book"


def _money(amount: Decimal | None) -> str:
    return "no cost" if amount is None else f"${amount.normalize():f}"


def facts(one: Explained) -> dict[str, Any]:
    """Everything but the lines, in the order in which it is shown."""
    call, found, entry = one.call, one.found, one.found.entry
    known: dict[str, Any] = {
        "call_key": call.get("hex_key"),
        "event_time": iso(call["event_time"]),
        "time_is_of": _TIMES.get(call.get("time_quality", ""), ""),
        "provider": call["provider"],
        "model": call["model"],
        "read_as": f"{found.alias} of {entry.model}" if entry and found.alias else found.alias,
        "tier_asked": call.get("service_tier_requested"),
        "tier_served": found.tier or "standard",
        "price_status": found.status,
        "price_reason": found.reason,
        "why": found.why,
        "cost": None if found.cost is None else exact(found.cost),
        "stated_cost": _stated(call),
        "usage": _usage(call),
        "flags": ", ".join(call.get("flags") or ()),
        "account": call.get("account"),
        "contract": entry.contract if entry else "",
        "rate_id": entry.rate_id if entry else "",
        "holds": _span(entry.valid_from, entry.valid_to) if entry else "",
        "scope": entry.scope if entry else "",
        "band": f"prompts above {entry.above:,} tokens" if entry and entry.above else "",
        "window": entry.window.name if entry and entry.window else "",
        "source": entry.source if entry else "",
        "recorded": entry.recorded if entry else "",
        "book_version": found.book_version,
        "stored": verdict(one),
    }
    return {name: value for name, value in known.items() if value not in ("", None) or name == "cost"}


_TIMES: Final = {
    "transport": "when it was sent or read: the log says no time",
    "implausible": "when it was sent or read: the log's time cannot be",
}


def _stated(call: Mapping[str, Any]) -> str:
    """What the record itself said of its cost, and by whom."""
    cost = call.get("reported_cost")
    if cost is None:
        return ""
    return f"{_money(cost if isinstance(cost, Decimal) else dollars(cost))} by {call['reported_cost_by'] or 'the record'}"


def _usage(call: Mapping[str, Any]) -> str:
    """What the vendor reported, where its figures contradict each other or are not whole."""
    if call.get("usage_quality", "ok") in ("", "ok"):
        return ""
    said = [f"{name.removeprefix('vendor_')} {call[name]:,}" for name in _VENDOR if call.get(name) is not None]
    return f"{call['usage_quality']}; the vendor reported {', '.join(said) or 'no totals'}"


def _span(start: int, end: int) -> str:
    until = "now" if end == FOREVER else iso(end)
    return f"to {until}; since when is not stated" if start == EVER else f"from {iso(start)} to {until}"


def print_explained(one: Explained, fmt: str) -> None:
    """The lines, then what they come from; JSON is one object with its lines, CSV the lines."""
    lines = [
        {**line._asdict(), "amount": None if line.amount is None else exact(line.amount)}
        for line in one.found.lines
    ]
    if fmt == Format.JSON:
        sys.stdout.write(orjson.dumps({**facts(one), "lines": lines}, option=orjson.OPT_APPEND_NEWLINE).decode())
        return
    columns = [Column("unit"), Column("quantity", Kind.COUNT), Column("rate"), Column("per", Kind.COUNT), Column("amount")]
    if any(line["list_rate"] for line in lines):
        columns.insert(2, Column("list_rate", title="list"))
    rows = [[line[column.name] for column in columns] for line in lines]
    if fmt == Format.CSV:
        show(Table(columns, rows), fmt)
        return
    said = facts(one)
    show(Table([Column(name) for name in said], [list(said.values())], single=True))
    if rows:
        rows.append(["total", *[None] * (len(columns) - 2), said["cost"]])
        show(Table(columns, rows, "", "rate is dollars per so many units; amount is dollars"))
