"""The cost of each call of a batch, exact to the pico-dollar.

A rate is looked up once per distinct key of the batch and multiplied with int64 arithmetic. A result that int64 or the
table's ``Decimal(18, 12)`` cannot hold is never rounded or wrapped: the call is unpriced with the reason ``overflow``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.call import LEAVES
from transforms.price.book import NO_PRICE, Book, Key
from transforms.price.contracts import Payer
from transforms.price.rates import UNITS

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STATUSES: Final = ("priced", "estimated", "free", "not_billed", "unpriced")
PRICED, ESTIMATED, FREE, NOT_BILLED, UNPRICED = range(5)
SOURCES: Final = ("", "vendor_reported", "usage", "counted", "stated", "estimated")
NONE, VENDOR_REPORTED, USAGE, COUNTED, STATED, GUESSED = range(6)
REASONS: Final = (
    "",
    *NO_PRICE,
    "no_usage",
    "overflow",
    "bad_value",
    "gateway_cache_hit",
    "not_served",
    "capacity",
    "self_hosted",
    *(f"no_rate:{unit}" for unit in UNITS),
)
"""What ``price_reason`` may say: why a call is unpriced (see ``schemas.reasons``), or why it costs nothing."""

CAPACITY: Final = frozenset({"ptu", "provisioned", "reserved"})
"""Deployment types that are paid by the hour: their tokens cost nothing of themselves, unless the call spilled over."""
SELF_HOSTED: Final = "self_hosted"

MAX_COST: Final = 10**18 - 1
"""Highest cost of a call in pico-dollars: what 18 decimal digits hold, just under $1,000,000."""
MAX_COUNT: Final = 2**53
"""Highest count of a unit that is believed; products are checked in floating point, which is exact up to here."""

_FEW: Final = 6
"""Calls of one key up to which looking up one by one is faster than at once."""

_PROMPT: Final = slice(0, LEAVES.index("output_visible"))
_REPORTED: Final = ("vendor", "gateway")


@dataclass(frozen=True)
class PricedColumns:
    """What each call of a batch costs, aligned with its rows. Money is int64 pico-dollars.

    ``null`` marks unpriced calls: their money is unknown and stands as 0 in the arrays. ``cost`` is exactly the sum of
    the other six. ``cost_other`` holds audio, images, tool-use input, fees, and charges a vendor states only in sum.
    ``price_status``: priced, estimated (from counted text), free, not_billed, unpriced. ``price_reason`` says why
    a call is unpriced or costs nothing. ``cost_source``: vendor_reported, usage, counted (exactly), estimated (counted
    with an error), stated; empty if unpriced. ``list_cost``: at list prices. ``cost_error``: half-width of the band that
    holds nine of ten true costs, 0 where usage was reported; ``error_unknown`` marks calls of which it is not known.
    ``contract``: the one whose rates the call is priced at; empty: list prices.
    """

    cost: Ints
    cost_input: Ints
    cost_cache_read: Ints
    cost_cache_write: Ints
    cost_output: Ints
    cost_reasoning: Ints
    cost_other: Ints
    list_cost: Ints
    cost_error: Ints
    null: Bools
    error_unknown: Bools
    price_status: list[str]
    price_reason: list[str]
    cost_source: list[str]
    contract: list[str]
    rate_id: list[str]
    book_version: str
    price_run: int


@dataclass(frozen=True)
class _Column:
    """A text column as codes into its distinct values; a missing value is the empty text."""

    codes: Ints
    values: list[str]

    def at(self, rows: Ints) -> list[str]:
        return [self.values[code] for code in self.codes[rows].tolist()]

    def is_in(self, *wanted: str) -> Bools:
        return np.array([value in wanted for value in self.values], np.bool_)[self.codes]


def price_batch(calls: pa.RecordBatch, book: Book, price_run: int) -> PricedColumns:
    """Price every call of ``calls``.

    ``calls`` has columns named as the fields of ``schemas.call.Call``; one that is missing counts as its default.
    Texts may be dictionary-encoded; ``event_time`` is int64 or timestamp in microseconds UTC; ``reported_cost`` is
    int64 pico-dollars or a decimal of 12 places. Rules, in this order:

    - an answer from a gateway's own cache, and a failed call without reported usage, cost nothing;
    - what the vendor itself says a call cost stands;
    - calls of reserved capacity and of self-hosted models cost nothing per token;
    - all else is usage times the rate that held when the call began, in the band of its whole prompt; where an entry
      says that a model is free, 0. A used unit without a rate leaves the whole call unpriced. Where a contract of the book
      is for the call, the rate is the one under the contract, and ``list_cost`` the same usage at the list price.
    """
    count = calls.num_rows
    units, absent = _units(calls)
    bad = ((units < 0) | (units > MAX_COUNT)).any(axis=0)
    no_usage = absent[: len(LEAVES)].all(axis=0)
    prompt = np.clip(units[_PROMPT], 0, MAX_COUNT).sum(axis=0)
    rows = _rate_rows(calls, book, _times(calls), prompt)
    entry = np.maximum(rows, 0)

    status = np.full(count, PRICED, np.int64)
    reason = np.zeros(count, np.int64)
    source = np.full(count, USAGE, np.int64)
    open_ = np.ones(count, np.bool_)

    def settle(which: Bools | np.bool, to: int, because: int | Ints, by: int) -> None:
        which = which & open_
        status[which] = to
        reason[which] = because[which] if isinstance(because, np.ndarray) else because
        source[which] = by
        open_[which] = False

    usage_source = _text(calls, "usage_source")
    reported, reported_null = _reported(calls)
    vendor = _text(calls, "reported_cost_by").is_in("vendor") & ~reported_null
    deployment = _text(calls, "deployment_type")
    served = usage_source.is_in(*_REPORTED) & ~no_usage
    outcome = _text(calls, "status")
    refused = outcome.is_in("error") | (outcome.is_in("blocked") & (_numbers(calls, "http_status")[0] >= 400))
    settle(_flag(calls, "gateway_cache_hit"), NOT_BILLED, _code("gateway_cache_hit"), STATED)
    settle(refused & ~served & ~vendor, NOT_BILLED, _code("not_served"), STATED)
    settle(vendor & (reported < 0), UNPRICED, _code("bad_value"), NONE)
    settle(vendor & (reported > MAX_COST), UNPRICED, _code("overflow"), NONE)
    settle(vendor, PRICED, 0, VENDOR_REPORTED)
    settle(deployment.is_in(*CAPACITY) & ~_flag(calls, "spillover"), NOT_BILLED, _code("capacity"), STATED)
    settle(deployment.is_in(SELF_HOSTED), FREE, _code("self_hosted"), STATED)
    if len(book.entries):
        settle((rows >= 0) & book.free[entry], FREE, 0, STATED)
    settle(no_usage, UNPRICED, _code("no_usage"), NONE)
    settle(rows < 0, UNPRICED, -rows.astype(np.int64), NONE)
    settle(bad & (units < 0).any(axis=0), UNPRICED, _code("bad_value"), NONE)
    settle(bad, UNPRICED, _code("overflow"), NONE)

    amounts = np.zeros((len(UNITS), count), np.int64)
    list_amounts: Ints | None = None
    error, error_unknown = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    if open_.any():
        rates = book.rates[entry].T
        unrated = (units > 0) & ~book.known[entry].T
        settle(unrated.any(axis=0), UNPRICED, _code("no_rate:" + UNITS[0]) + np.argmax(unrated, axis=0), NONE)
        settle((units.astype(np.float64) * rates).sum(axis=0) > 2.0 * MAX_COST, UNPRICED, _code("overflow"), NONE)
        amounts[:, open_] = units[:, open_] * rates[:, open_]
        too_much = amounts.sum(axis=0) > MAX_COST
        if book.contracts:
            list_amounts = _at_list_prices(units, book, entry, open_)
            too_much |= list_amounts > MAX_COST
        amounts[:, too_much] = 0
        settle(too_much, UNPRICED, _code("overflow"), NONE)
        counted = open_ & usage_source.is_in("counted")
        status[counted] = ESTIMATED
        source[counted] = COUNTED
        error, error_unknown = _error(calls, counted, units, rates)
        source[counted & (error_unknown | (error > 0))] = GUESSED

    leaf = dict(zip(UNITS, amounts, strict=True))
    stated = np.where(source == VENDOR_REPORTED, reported, 0)
    cost = amounts.sum(axis=0) + stated
    list_cost = cost if list_amounts is None else np.where(open_, list_amounts, 0) + stated
    named = {
        "cost_input": leaf["input_fresh"],
        "cost_cache_read": leaf["input_cache_read"],
        "cost_cache_write": leaf["input_cache_write_5m"] + leaf["input_cache_write_1h"] + leaf["input_cache_write_other"],
        "cost_output": leaf["output_visible"],
        "cost_reasoning": leaf["output_reasoning"],
    }
    by_entry = (rows >= 0) & (open_ | ((status == FREE) & (reason == 0)))
    return PricedColumns(
        cost=cost,
        **named,
        cost_other=cost - sum(named.values()),
        list_cost=list_cost,
        cost_error=error,
        null=status == UNPRICED,
        error_unknown=error_unknown,
        price_status=[STATUSES[i] for i in status.tolist()],
        price_reason=[REASONS[i] for i in reason.tolist()],
        cost_source=[SOURCES[i] for i in source.tolist()],
        contract=_contracts(book, rows, open_) if book.contracts else [""] * count,
        rate_id=[book.rate_ids[i] if i >= 0 else "" for i in np.where(by_entry, rows, -1).tolist()],
        book_version=book.book_version,
        price_run=price_run,
    )


def _error(calls: pa.RecordBatch, counted: Bools, units: Ints, rates: Ints) -> tuple[Ints, Bools]:
    """Error bar of each call that goes by counted tokens, and where it is not known; 0 for the other calls.

    The errors of prompt and answer add up. One that no amount of money of a call can hold counts as unknown.
    """
    error, unknown = np.zeros(calls.num_rows, np.int64), np.zeros(calls.num_rows, np.bool_)
    if not counted.any():
        return error, unknown
    for unit, name in (("input_fresh", "counted_input_error"), ("output_visible", "counted_output_error")):
        number = UNITS.index(unit)
        tokens, missing = _numbers(calls, name)
        unknown |= missing & (units[number] > 0)
        unknown |= (tokens < 0) | (tokens.astype(np.float64) * rates[number] > MAX_COST / 4)
        error += np.where(counted & ~unknown, tokens, 0) * rates[number]
    unknown &= counted
    return np.where(unknown, 0, error), unknown


def _at_list_prices(units: Ints, book: Book, entry: Ints, open_: Bools) -> Ints:
    """What the calls that are ``open_`` cost at list prices; one that is far beyond ``MAX_COST`` is anything above it."""
    rates = book.rates[book.list_rows[entry]].T
    beyond = (units.astype(np.float64) * rates).sum(axis=0) > 2.0 * MAX_COST
    amounts: Ints = np.where(open_ & ~beyond, units, 0) * rates
    return np.where(open_ & beyond, MAX_COST + 1, amounts.sum(axis=0))


def _contracts(book: Book, rows: Ints, by_rate: Bools) -> list[str]:
    """The contract of each call, of those that are priced by a rate."""
    return [book.entries[row].contract if row >= 0 else "" for row in np.where(by_rate, rows, -1).tolist()]


def _code(reason: str) -> int:
    return REASONS.index(reason)


def _rate_rows(calls: pa.RecordBatch, book: Book, times: Ints, prompts: Ints) -> Ints:
    """Row of the rate matrix for each call, or ``-1 - i`` for reason ``NO_PRICE[i]``."""
    providers, models = _text(calls, "provider"), _text(calls, "model")
    tiers, speeds, scopes = _text(calls, "service_tier"), _text(calls, "speed"), _text(calls, "region_scope")
    batches = _flag(calls, "batch")
    payers = {name: _text(calls, name) for name in book.looks_at}
    code, size = batches.astype(np.int64), 2
    for column in (*payers.values(), speeds, tiers, scopes, models, providers):
        if size * len(column.values) > 2**62:
            kept, code = np.unique(code, return_inverse=True)
            size = len(kept)
        code, size = code * len(column.values) + column.codes, size * len(column.values)
    distinct, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    keys = [
        Key(provider, model, "batch" if batch else _tier(speed, tier), scope)
        for provider, model, speed, tier, scope, batch in zip(
            *(column.at(first) for column in (providers, models, speeds, tiers, scopes)),
            batches[first].tolist(),
            strict=True,
        )
    ]
    if payers:
        whose = zip(*(column.at(first) for column in payers.values()), strict=True)
        plans = [book.plan(key, Payer(**dict(zip(payers, who, strict=True)))) for key, who in zip(keys, whose, strict=True)]
    else:
        plans = [book.plan(key) for key in keys]
    rows: Ints = np.array([0 if plan.only is None else plan.only for plan in plans], np.int64)[inverse]
    first_time = int(times.min()) if len(times) else 0
    several = [number for number, plan in enumerate(plans) if plan.only is None or first_time < plan.since]
    if several:
        order = np.argsort(inverse, kind="stable")
        ends = np.cumsum(np.bincount(inverse, minlength=len(distinct)))
        for number in several:
            which = order[ends[number - 1] if number else 0 : ends[number]]
            if len(which) > _FEW:
                rows[which] = plans[number].rows(times[which], prompts[which])
            else:
                rows[which] = [plans[number].row(int(times[i]), int(prompts[i])) for i in which.tolist()]
    return rows


def _tier(speed: str, tier: str) -> str:
    """A vendor prices speed like a tier; the ordinary speed is no tier of its own."""
    return tier if speed.lower() in ("", "standard", "default", "normal") else speed


def key_of(call: Mapping[str, Any]) -> Key:
    """What the price of one call is looked up by, from its fields as in ``schemas.call.Call``."""
    tier = "batch" if call.get("batch") else _tier(call.get("speed") or "", call.get("service_tier") or "")
    return Key(call["provider"], call["model"], tier, call.get("region_scope") or "")


def _column(calls: pa.RecordBatch, name: str) -> pa.Array | None:
    index = calls.schema.get_field_index(name)
    return None if index < 0 else calls.column(index)


def _text(calls: pa.RecordBatch, name: str) -> _Column:
    column = _column(calls, name)
    if column is None:
        return _Column(np.zeros(calls.num_rows, np.int64), [""])
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = ["" if value is None else value for value in column.dictionary.to_pylist()]
    indices = column.indices
    if indices.null_count:
        values.append("")
        indices = pc.fill_null(indices.cast(pa.int64()), len(values) - 1)
    return _Column(indices.to_numpy(zero_copy_only=False).astype(np.int64), values or [""])


def _numbers(calls: pa.RecordBatch, name: str) -> tuple[Ints, Bools]:
    """A number column with 0 for null, and where it is null. A missing column is all null."""
    column = _column(calls, name)
    if column is None or pa.types.is_null(column.type):
        return np.zeros(calls.num_rows, np.int64), np.ones(calls.num_rows, np.bool_)
    if not pa.types.is_int64(column.type):
        column = column.cast(pa.int64())
    validity, data = column.buffers()
    end = column.offset + len(column)
    values = np.frombuffer(data, np.int64, end)[column.offset :]
    if column.null_count == 0:
        return values, np.zeros(len(column), np.bool_)
    null = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[column.offset : end] == 0
    return np.where(null, 0, values), null


def _flag(calls: pa.RecordBatch, name: str) -> Bools:
    column = _column(calls, name)
    if column is None:
        return np.zeros(calls.num_rows, np.bool_)
    flags: Bools = column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return flags


def _times(calls: pa.RecordBatch) -> Ints:
    column = _column(calls, "event_time")
    if column is not None and pa.types.is_timestamp(column.type):
        times: Ints = column.cast(pa.timestamp("us", column.type.tz)).view(pa.int64()).fill_null(0).to_numpy()
        return times
    return _numbers(calls, "event_time")[0]


def _units(calls: pa.RecordBatch) -> tuple[Ints, Bools]:
    """Count of each unit, ``[unit, call]``, 0 where unknown, and where it is unknown."""
    units = np.ones((len(UNITS), calls.num_rows), np.int64)
    absent = np.zeros((len(UNITS), calls.num_rows), np.bool_)
    for number, unit in enumerate(UNITS[:-1]):  # the last unit is the request itself: always one
        units[number], absent[number] = _numbers(calls, unit)
    return units, absent


def _reported(calls: pa.RecordBatch) -> tuple[Ints, Bools]:
    column = _column(calls, "reported_cost")
    if column is None or not pa.types.is_decimal(column.type):
        return _numbers(calls, "reported_cost")
    if column.type.scale != 12 or column.type.bit_width != 128:
        column = column.cast(pa.decimal128(38, 12))
    null = column.is_null().to_numpy(zero_copy_only=False)
    words = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)[column.offset : column.offset + len(column)]
    low, high = words[:, 0], words[:, 1]
    fits = high == low >> 63  # else the value needs more than 64 bits
    return np.where(null, 0, np.where(fits, low, np.where(high < 0, -1, MAX_COST + 1))), null
