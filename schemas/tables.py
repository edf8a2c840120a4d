"""The tables: every column with its ClickHouse type, its Arrow type and its meaning.

This is the one source for the ClickHouse definitions (``ddl``), for the Arrow schemas that the writer sends
(``Table.arrow``) and for ``docs/tables.md``. ``calls`` is the truth; ``minutes``, ``hours``, ``days`` and
``audit_days`` are derived from it and replaced whole, never incremented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pyarrow as pa

from schemas.call import LEAVES

MONEY: Final = pa.decimal128(18, 12)
"""Dollars of one call with 12 decimals: an int64 of pico-dollars, so exact; 18 digits, so below a million dollars."""

_LC = "LowCardinality(String)"
_CALL_MONEY = "Decimal(18, 12)"
_SUM_MONEY = "Decimal(38, 12)"


@dataclass(frozen=True)
class Column:
    """One column. ``arrow`` is None for columns that the server fills by ``default``."""

    name: str
    type: str
    arrow: pa.DataType | None
    doc: str
    default: str = ""

    @property
    def nullable(self) -> bool:
        return self.type.startswith("Nullable")


@dataclass(frozen=True)
class Table:
    """One table: its columns, its engine, and the sentences the documentation gives it.

    ``ages_by``: the time by which its rows expire, whole UTC days of it together; empty: they never do.
    """

    name: str
    doc: str
    written_by: str
    columns: tuple[Column, ...]
    order_by: str
    partition_by: str = ""
    version: str = ""
    ages_by: str = ""
    indexes: tuple[str, ...] = ()

    @cached_property
    def arrow(self) -> pa.Schema:
        """The schema of what the writer sends: every column the server does not fill itself."""
        return pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns if c.arrow is not None])

    def ttl(self, days: int) -> str:
        """When a row expires that is kept for ``days``, counted from the end of its UTC day.

        An hour of grace lies between the moment from which nothing is derived from a day any more (``sinks.retention``)
        and the moment from which the engine may drop its rows.
        """
        return f"toStartOfDay(toDateTime({self.ages_by}, 'UTC')) + toIntervalHour({self.ttl_hours(days)})"

    @staticmethod
    def ttl_hours(days: int) -> int:
        """Hours from the start of a day to when its rows expire."""
        return 24 * (days + 1) + 1

    def ddl(self, database: str) -> str:
        """``CREATE TABLE IF NOT EXISTS`` of this table in ``database``. How long rows are kept is set by ``sinks.retention``."""
        lines = [
            f"  `{c.name}` {c.type}" + (f" DEFAULT {c.default}" if c.default else "") + f" COMMENT '{_quoted(c.doc)}'"
            for c in self.columns
        ]
        lines += [f"  {index}" for index in self.indexes]
        engine = f"ReplacingMergeTree({self.version})" if self.version else "MergeTree"
        return (
            f"CREATE TABLE IF NOT EXISTS `{database}`.`{self.name}` (\n"
            + ",\n".join(lines)
            + f"\n) ENGINE = {engine}"
            + (f"\nPARTITION BY {self.partition_by}" if self.partition_by else "")
            + f"\nORDER BY ({self.order_by})"
            + f"\nCOMMENT '{_quoted(self.doc)}'"
        )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _label(name: str, doc: str) -> Column:
    return Column(name, _LC, pa.string(), doc)


def _text(name: str, doc: str) -> Column:
    return Column(name, "String", pa.string(), doc)


def _count(name: str, doc: str) -> Column:
    return Column(name, "UInt32", pa.uint32(), doc)


def _hash(name: str, doc: str) -> Column:
    return Column(name, "UInt64", pa.uint64(), doc)


def _maybe_int(name: str, doc: str) -> Column:
    return Column(name, "Nullable(Int64)", pa.int64(), doc)


def _maybe_float(name: str, doc: str) -> Column:
    return Column(name, "Nullable(Float64)", pa.float64(), doc)


def _bool(name: str, doc: str) -> Column:
    return Column(name, "Bool", pa.bool_(), doc)


def _recorded(name: str) -> Column:
    # Rows written before there were rules have what their record said in the column itself.
    return Column(f"recorded_{name}", _LC, pa.string(), f"The {name} as the record says, before any rule.", name)


_BAND: Final = "Half-width in tokens of the band that holds nine of ten true values around"
_ERROR: Final = (
    "Half-width in dollars of the band that holds nine of ten true costs around cost:"
    " 0 where usage was reported, NULL where unknown."
)


def _money(name: str, doc: str) -> Column:
    return Column(name, f"Nullable({_CALL_MONEY})", MONEY, doc)


_LEAF_DOCS: Final = dict(
    zip(
        LEAVES,
        (
            "Prompt tokens that no cache served or stored.",
            "Prompt tokens read from the vendor's cache.",
            "Prompt tokens written to a cache that lives five minutes.",
            "Prompt tokens written to a cache that lives one hour.",
            "Prompt tokens written to a cache whose life the vendor does not name.",
            "Prompt tokens added by server-side tools.",
            "Audio prompt tokens, where the vendor splits them out.",
            "Image prompt tokens, where the vendor splits them out.",
            "Output tokens less reasoning, audio and image.",
            "Reasoning (thinking) tokens.",
            "Audio output tokens.",
            "Image output tokens.",
        ),
        strict=True,
    )
)

COSTS: Final = (
    ("cost_input", "Dollars for fresh input."),
    ("cost_cache_read", "Dollars for cache reads."),
    ("cost_cache_write", "Dollars for cache writes of every life."),
    ("cost_output", "Dollars for visible output."),
    ("cost_reasoning", "Dollars for reasoning."),
    ("cost_other", "Dollars for audio, image, tool-use input and fees, and for charges a vendor states only in sum."),
)
"""The parts of ``cost``, which is always exactly their sum."""

ROLES: Final = (
    ("system", "messages", "system and developer messages"),
    ("tools", "count", "tool schemas"),
    ("history", "messages", "earlier user and assistant turns"),
    ("tool_result", "messages", "tool results in the prompt"),
    ("user", "messages", "the last user turn: what was really asked"),
)
"""Prefix of the columns, name of its count, and what it holds: the parts of a prompt by role."""


def _role_columns() -> Iterator[Column]:
    for role, unit, what in ROLES:
        yield _count(f"{role}_{unit}", f"Number of {what}.")
        yield _count(f"{role}_bytes", f"UTF-8 bytes of {what}.")
        yield _count(f"{role}_tokens", f"Counted tokens of {what}.")
        yield _hash(f"{role}_hash", f"Keyed hash of {what}; 0 where there are none.")


DIMENSIONS: Final = (
    _label("tenant", "Whose data this is; nothing is ever merged across tenants."),
    _label("team", "Team that owns the call: of its record, else of a rule, else unallocated."),
    _label("app", "Application that made the call."),
    _label("feature", "Feature of the application."),
    _label("environment", "Environment, such as prod or staging."),
    _label("provider", "Who served the model: openai, azure, anthropic, bedrock …"),
    _label("model", "Model that answered, or the one asked for where the answer names none."),
    _label("service_tier", "Service tier as served; empty means the vendor's standard tier."),
    _label("status", "Outcome: ok, error, blocked, incomplete or cancelled."),
    _label("price_status", "priced, estimated (computed from counted text), free (0 by statement), not_billed or unpriced."),
    Column("price_run", "UInt16", pa.uint16(), "Which pricing of history this is; 1 is the live one."),
    _label("cost_center", "Cost centre that the call is charged to."),
)
"""What minutes, hours and days are grouped by."""

UNALLOCATED: Final = "unallocated"
"""The team of calls that nobody claims: stored, so that no query shows a blank in its place."""

RECORDED: Final = ("team", "app", "feature", "environment", "cost_center")
"""What a record may say of its owner."""

SAID: Final = tuple(f"recorded_{name}" for name in RECORDED)
"""Columns of ``calls`` that hold what the record said, whatever the rules say."""

CLAIMED: Final = (*RECORDED, "owner_rule")
"""Columns of ``calls`` that hold who owns it, by record and rules."""

CALLS: Final = Table(
    name="calls",
    doc="One row per billable call, without text. The truth that every other figure is derived from.",
    written_by="writer",
    columns=(
        Column("minute", "DateTime('UTC')", pa.timestamp("s", "UTC"), "Minute of the event time."),
        DIMENSIONS[0],
        Column(
            "call_key",
            "FixedString(16)",
            pa.binary(16),
            "Hash of what makes the call itself; a redelivery has the same.",
        ),
        Column("event_time", "DateTime64(6, 'UTC')", pa.timestamp("us", "UTC"), "Start of the call."),
        Column("end_time", "Nullable(DateTime64(6, 'UTC'))", pa.timestamp("us", "UTC"), "End of the call, where known."),
        _label(
            "time_quality",
            "exact, second, transport (the record has no time of its own) or implausible (it had, and it was refused).",
        ),
        Column(
            "version",
            "UInt64",
            None,
            "Which of several rows with one key stands: by authority, then price run, then the server's clock.",
            default=(
                "bitOr(bitOr(bitShiftLeft(toUInt64(authority), 56), bitShiftLeft(toUInt64(price_run), 40)),"
                " toUInt64(toUnixTimestamp64Milli(now64(3)) - 1577836800000))"
            ),
        ),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
        Column("authority", "UInt8", pa.uint8(), "Rank of the observer that recorded the call; the highest stands."),
        _text("source", "What the record was read from."),
        Column(
            "segment",
            "FixedString(16)",
            pa.binary(16),
            "Transport identity of the segment: content fingerprint of a file.",
        ),
        Column(
            "position",
            "UInt64",
            pa.uint64(),
            "Position of the record in the segment: offset in the decompressed bytes.",
        ),
        Column("item", "UInt16", pa.uint16(), "Number of the item inside its record."),
        _label("format", "Log format and body that the record was decoded as."),
        Column("content_hash", "FixedString(16)", pa.binary(16), "Keyed hash of everything said and asked."),
        _text("provider_call_id", "The vendor's id of the answer."),
        _text("request_id", "The vendor's or gateway's id of the request."),
        *DIMENSIONS[1:8],
        _label("api", "Wire format of the body."),
        _label("operation", "chat, completion, embedding, rerank, image, audio …"),
        _label("model_requested", "Model as asked for."),
        _label("deployment", "Deployment or inference profile."),
        _label("deployment_type", "Kind of deployment, where a record tells: payg, ptu, self_hosted …"),
        _label("endpoint_host", "Host that was called."),
        _label("region", "Region that served the call."),
        _label("region_scope", "global, datazone, regional, us, eu … as far as the record tells."),
        _label("service_tier_requested", "Service tier as asked for."),
        _label("speed", "Speed as served, where a vendor prices it."),
        _bool("stream", "The answer was streamed."),
        _bool("batch", "The call was an item of a batch."),
        _maybe_int("max_tokens", "Output limit that was asked for."),
        _text("cache_key", "Prompt cache key that was asked for."),
        Column("cache_breakpoints", "UInt16", pa.uint16(), "Cache marks in the prompt."),
        DIMENSIONS[8],
        Column("http_status", "UInt16", pa.uint16(), "HTTP status; 0 where unknown."),
        _label("error_type", "The vendor's error type."),
        _label("stop_reason", "Why the model stopped."),
        _maybe_int("retry_after_ms", "Milliseconds the vendor asked to wait."),
        _bool("spillover", "The call spilled over from provisioned throughput."),
        _bool("gateway_cache_hit", "A gateway answered from its own cache; no vendor was paid."),
        _maybe_float("sampling_rate", "Share of calls that the source records, where it says so."),
        Column("attempt", "UInt16", pa.uint16(), "Attempt number of a retried request; 0 where unknown."),
        _text("end_user", "Pseudonym (keyed hash) of the end user."),
        _label("api_key_alias", "Alias of the API key; never the key."),
        _label("template", "Name of the prompt template."),
        _label("agent", "Agent that made the call."),
        _label("step", "Step of the agent."),
        _text("trace_id", "Trace of the user request."),
        _text("span_id", "Span of the call."),
        _text("parent_span_id", "Parent span."),
        _text("session_id", "Session or conversation."),
        Column(
            "tags",
            "Map(LowCardinality(String), String)",
            pa.map_(pa.string(), pa.string()),
            "Any other tags of the record.",
        ),
        Column(
            "headers",
            "Map(LowCardinality(String), String)",
            pa.map_(pa.string(), pa.string()),
            "HTTP headers that ownership rules name; no others are kept.",
        ),
        _label("project", "The vendor's project: of OpenAI, Google Cloud, watsonx, LiteLLM."),
        _label("account", "The vendor's account: organization, AWS account, Azure subscription or resource."),
        DIMENSIONS[11],
        *(_recorded(name) for name in RECORDED),
        _label("owner_rule", "Ownership rule that claimed the call; empty where none did."),
        _maybe_float("duration_ms", "Duration of the call."),
        _maybe_float("ttft_ms", "Time to the first token."),
        *(_maybe_int(leaf, doc) for leaf, doc in _LEAF_DOCS.items()),
        _maybe_int("vendor_input", "Input figure as the record has it, before it is made disjoint."),
        _maybe_int("vendor_output", "Output figure as the record has it."),
        _maybe_int("vendor_total", "Total as the record has it."),
        _maybe_int("web_searches", "Web searches that the vendor charges for."),
        _maybe_int("file_searches", "Searches of stored files that the vendor charges for."),
        _label("usage_source", "Where the leaves come from: vendor, gateway, counted or none."),
        _label("usage_quality", "ok, inconsistent or partial; empty without usage."),
        Column(
            "flags",
            "Array(LowCardinality(String))",
            pa.list_(pa.string()),
            "Findings about the record; none changes a number.",
        ),
        _maybe_int("counted_input", "Prompt tokens counted from the text."),
        _maybe_int("counted_output", "Output tokens counted from the text."),
        _maybe_int("counted_input_error", f"{_BAND} counted_input; 0 where the count is exact."),
        _maybe_int("counted_output_error", f"{_BAND} counted_output; 0 where the count is exact."),
        _label("counted_with", "Tokenizer."),
        _label("count_quality", "exact_tokenizer, estimate or partial; empty where nothing was counted."),
        *_role_columns(),
        _count("answer_bytes", "UTF-8 bytes of the answer's text."),
        _count("answer_tokens", "Counted tokens of the answer's text."),
        _hash("answer_hash", "Keyed hash of the answer."),
        _count("answer_call_tokens", "Counted tokens of the answer's tool calls."),
        _count("media_parts", "Images, clips and files in the prompt."),
        _money("cost", "What the call cost in dollars; NULL where unpriced, never 0 for unknown."),
        *(_money(name, doc) for name, doc in COSTS),
        Column(
            "list_cost",
            f"Nullable({_CALL_MONEY})",
            MONEY,
            "What it would cost at list prices; as cost where no contract is.",
            default="cost",
        ),
        Column(
            "cost_error",
            f"Nullable({_CALL_MONEY})",
            MONEY,
            _ERROR,
            default="if(cost_source = 'counted', NULL, cost - cost)",
        ),
        _money("reported_cost", "What the vendor or gateway says it cost."),
        _label("reported_cost_by", "Who said so: vendor or gateway."),
        DIMENSIONS[9],
        _label("price_reason", "Why there is no price, or why the price is 0."),
        _label(
            "cost_source",
            "billed, vendor_reported, usage (reported tokens), counted (exactly), estimated (counted with an error) or stated.",
        ),
        _label("contract", "Contract that the price comes from; empty: list price."),
        _label("rate_id", "Entry of the price book."),
        _label("book_version", "Version of the price book."),
        DIMENSIONS[10],
    ),
    order_by="minute, tenant, call_key",
    partition_by="toYYYYMM(minute)",
    version="version",
    ages_by="minute",
)

MONEY_COLUMNS: Final = (
    *("cost", *(name for name, _ in COSTS), "list_cost", "cost_error"),
    *("price_status", "price_reason", "cost_source", "contract", "rate_id", "book_version"),
)
"""Columns of ``calls`` that pricing fills in, besides ``price_run``."""

RECEIPTS: Final = Table(
    name="receipts",
    doc="One row per item read and what became of it: the proof that nothing is lost.",
    written_by="writer",
    columns=(
        Column("segment", "FixedString(16)", pa.binary(16), "Segment the item was read from."),
        Column("position", "UInt64", pa.uint64(), "Position of its record."),
        Column("item", "UInt16", pa.uint16(), "Number of the item inside its record."),
        _hash("record_hash", "Hash of the record's bytes."),
        _label("outcome", "call, dead_letter, ignored, or joined: a part of a call."),
        _label("reason", "Reason code of a dead letter or an ignored item."),
        Column("call_key", "FixedString(16)", pa.binary(16), "Key of the call, also of the joined one; zeros otherwise."),
        Column("minute", "DateTime('UTC')", pa.timestamp("s", "UTC"), "Minute of the call; 1970 otherwise."),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="segment, position, item, record_hash",
    partition_by="toDate(ingested_at)",
    version="ingested_at",
    ages_by="ingested_at",
)

PARTS: Final = Table(
    name="parts",
    doc="One row per record that tells a part of a call. All parts of a key make one row of calls, which is replaced whole.",
    written_by="writer",
    columns=(
        DIMENSIONS[0],
        Column("call_key", "FixedString(16)", pa.binary(16), "Key of the joined call: a hash of what its parts share."),
        _text("source", "What the part was read from."),
        Column("segment", "FixedString(16)", pa.binary(16), "Segment the part was read from."),
        Column("position", "UInt64", pa.uint64(), "Position of its record."),
        Column("item", "UInt16", pa.uint16(), "Number of the item inside its record."),
        _hash("record_hash", "Hash of the record's bytes."),
        _label("role", "Which part it is: request, response, update, observed …"),
        Column("rank", "Int32", pa.int32(), "Where two parts tell of one thing, the higher stands; of equal ones the later."),
        _count("number", "Number of a piece of a record that was cut, from 0."),
        _count("of", "Pieces of that record; 0: the part was not cut."),
        Column("needs", "Array(LowCardinality(String))", pa.list_(pa.string()), "Roles without which the call is not whole."),
        _label("format", "Log format."),
        Column("time", "DateTime64(6, 'UTC')", pa.timestamp("us", "UTC"), "When its transport had it."),
        Column("deadline", "DateTime64(6, 'UTC')", pa.timestamp("us", "UTC"), "Until when the rest of the call is waited for."),
        Column(
            "call",
            "Map(LowCardinality(String), String)",
            pa.map_(pa.string(), pa.string()),
            "What it tells: columns of calls by name; tags, headers and flags each as an entry of their own. No text.",
        ),
        Column("data", "String", pa.binary(), "A piece of a record that was cut, sealed with a key of the hash key."),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="call_key, segment, position, item, record_hash",
    partition_by="toDate(ingested_at)",
    version="ingested_at",
    ages_by="ingested_at",
)

SEGMENTS: Final = Table(
    name="segments",
    doc="One row per range of a segment that a source read to its end, counted by the source itself: the ledger.",
    written_by="writer",
    columns=(
        _text("source", "What was read: a file's path."),
        Column("segment", "FixedString(16)", pa.binary(16), "Transport identity of the segment."),
        Column("start", "UInt64", pa.uint64(), "First position of the range."),
        Column("end", "UInt64", pa.uint64(), "Position after the range."),
        Column("records", "UInt64", pa.uint64(), "Records the source read in the range, refused ones included."),
        Column("bytes", "UInt64", pa.uint64(), "Bytes of the range, decompressed."),
        Column(
            "default_time",
            "DateTime64(6, 'UTC')",
            pa.timestamp("us", "UTC"),
            "Event time given to undated records, fixed at first sight.",
        ),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="source, segment, start",
    version="ingested_at",
)

DEAD_LETTERS: Final = Table(
    name="dead_letters",
    doc="One row per item that could not become a call, with the reason. The payload only if the operator asks for it.",
    written_by="writer",
    columns=(
        _text("source", "What the record was read from."),
        Column("segment", "FixedString(16)", pa.binary(16), "Segment the record was read from."),
        Column("position", "UInt64", pa.uint64(), "Position of the record."),
        Column("item", "UInt16", pa.uint16(), "Number of the item inside its record."),
        _hash("record_hash", "Hash of the record's bytes."),
        _label("reason", "Reason code."),
        _label("format_guess", "Format that the record seems to have."),
        _text("error", "What is wrong, with the value."),
        Column("size", "UInt64", pa.uint64(), "Bytes of the record."),
        Column("payload", "Nullable(String)", pa.string(), "The record, scrubbed of keys, if payloads are kept."),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="segment, position, item, record_hash",
    partition_by="toYYYYMM(ingested_at)",
    version="ingested_at",
    ages_by="ingested_at",
)

MEASURES: Final = (
    *((leaf, f"sum(ifNull({leaf}, 0))", doc) for leaf, doc in _LEAF_DOCS.items()),
    ("counted_calls", "countIf(isNotNull(counted_input))", "Calls whose prompt was counted."),
    ("counted_input", "sum(ifNull(counted_input, 0))", "Prompt tokens counted from text."),
    ("counted_output", "sum(ifNull(counted_output, 0))", "Output tokens counted from text."),
    *((f"{role}_tokens", f"sum({role}_tokens)", f"Counted tokens of {what}.") for role, _, what in ROLES),
    ("answer_tokens", "sum(answer_tokens)", "Counted tokens of answers."),
)
"""Integer sums of minutes, hours and days: column, expression over ``calls``, meaning."""

def _summed(name: str, doc: str) -> tuple[str, str, str]:
    # sum() of a Decimal(18, 12) is a Decimal(38, 12): exact far beyond what an int64 holds.
    return name, f"sum(ifNull({name}, 0))", doc


def _by_source(source: str, doc: str) -> tuple[str, str, str]:
    return f"cost_{source}", f"sumIf(ifNull(cost, 0), cost_source = '{source}')", doc


MONEY_MEASURES: Final = (
    _summed("cost", "Dollars of priced calls; unpriced ones add nothing and are rows of their own."),
    *(_summed(name, doc) for name, doc in COSTS),
    _summed("list_cost", "Dollars of priced calls at list prices."),
    _summed("cost_error", "Error bars of the calls, added up: errors of one kind point the same way, they do not cancel out."),
    _by_source("billed", "Of cost: dollars that an invoice bills."),
    _by_source("vendor_reported", "Of cost: dollars that the vendor itself stated."),
    _by_source("counted", "Of cost: dollars of tokens counted exactly, where no usage was reported."),
    _by_source("estimated", "Of cost: dollars of tokens counted with an error. What is left was computed from reported usage."),
    _summed("reported_cost", "Dollars that vendors or gateways reported."),
)
"""Sums of money of minutes, hours and days: column, expression over ``calls``, meaning."""


_OLD_ROLLUPS: Final = {"list_cost": "cost", "cost_counted": "if(price_status = 'estimated', cost, 0)"}
"""What rows say that were written before there was such a column."""


def _rollup(name: str, time: str, doc: str) -> Table:
    return Table(
        name=name,
        doc=doc,
        written_by="recompute step",
        columns=(
            DIMENSIONS[0],
            Column(time, "DateTime('UTC')", None, f"Start of the {time}, UTC."),
            *DIMENSIONS[1:],
            Column("calls", "Int64", None, "Number of calls."),
            *(Column(measure, "Int64", None, doc) for measure, _, doc in MEASURES),
            *(Column(name, _SUM_MONEY, None, doc, _OLD_ROLLUPS.get(name, "")) for name, _, doc in MONEY_MEASURES),
            Column("duration_ms", "Float64", None, "Sum of known durations; not part of any proof."),
            Column("version", "UInt64", None, "Server's clock at the recompute, microseconds; the latest stands."),
        ),
        order_by=f"tenant, {time}, " + ", ".join(c.name for c in DIMENSIONS[1:]),
        partition_by=f"toYear({time})" if time == "day" else f"toYYYYMM({time})",
        version="version",
        ages_by=time,
    )


MINUTES: Final = _rollup("minutes", "minute", "Sums of calls by minute and dimension, replaced whole by the recompute step.")
HOURS: Final = _rollup("hours", "hour", "Sums of minutes by hour.")
DAYS: Final = _rollup("days", "day", "Sums of hours by UTC day.")

AUDIT_KEYS: Final = (
    DIMENSIONS[0],
    _label("provider", "Who served the model."),
    _label("model", "Model that answered."),
    _label("api", "Wire format of the body."),
    _label("endpoint_host", "Host that was called: a proxy is one."),
    _label("usage_source", "Who reported: vendor or gateway."),
    _label("side", "input: the prompt; output: the answer."),
    _label("category", "Of input media, tools, schema, tool history or plain text; of output tool calls or text."),
    _label("count_quality", "exact_tokenizer, estimate or partial: only the first can be read as exact."),
    _label("counted_with", "Tokenizer."),
)
"""What ``audit_days`` is grouped by, besides the day."""

_DIFFERENCE: Final = "reported less counted tokens"

AUDIT_MEASURES: Final = (
    ("calls", "Calls whose tokens were both reported and counted."),
    ("exact_calls", "Of these, those with no difference."),
    ("over_calls", "Those with more tokens reported than counted."),
    ("under_calls", "Those with fewer."),
    ("reported", "Reported tokens: of input fresh and cached ones, audio and images; of output the visible ones."),
    ("counted", "Counted tokens."),
    ("difference", f"Sum of {_DIFFERENCE}."),
    ("absolute_difference", "Sum of the differences without their sign."),
    ("difference_p5", f"5th percentile over calls of {_DIFFERENCE} (nearest rank)."),
    ("difference_p50", f"Median over calls of {_DIFFERENCE}."),
    ("difference_p95", f"95th percentile over calls of {_DIFFERENCE}."),
    ("ratio_p5", "5th percentile over calls of reported / counted, in thousandths rounded down; 0: nothing was counted."),
    ("ratio_p50", "Median over calls of reported / counted, in thousandths."),
    ("ratio_p95", "95th percentile over calls of reported / counted, in thousandths."),
    ("constant", "The difference, other than 0, that most calls have; of several the smallest without its sign."),
    ("constant_calls", "How many calls have it."),
    ("banded_calls", "Calls whose count has an error bar, be it 0 as of exact ones; a partial count has none."),
    ("unrated_calls", "Calls whose tokens have no price of their own: they add nothing to the dollars."),
)
"""Whole numbers of ``audit_days``."""

AUDIT_MONEY: Final = (
    ("cost", "Dollars of the reported tokens."),
    ("difference_cost", "Dollars of the differences, each at the price of its own call; negative: fewer were reported."),
    ("unexplained_cost", "Of these, dollars of what lies beyond the error bar of the count; of calls without one nothing."),
)
"""Sums of money of ``audit_days``."""

AUDIT_DAYS: Final = Table(
    name="audit_days",
    doc="Reported against counted tokens by day: the drift audit. Whole days, replaced by audit where their calls changed.",
    written_by="audit",
    columns=(
        AUDIT_KEYS[0],
        Column("day", "DateTime('UTC')", None, "Start of the day, UTC."),
        *AUDIT_KEYS[1:],
        *(Column(name, "Int64", None, doc) for name, doc in AUDIT_MEASURES),
        *(Column(name, _SUM_MONEY, None, doc) for name, doc in AUDIT_MONEY),
        Column("version", "UInt64", None, "Server's clock when the day was derived, microseconds; the latest stands."),
    ),
    order_by="tenant, day, " + ", ".join(c.name for c in AUDIT_KEYS[1:]),
    partition_by="toYear(day)",
    version="version",
    ages_by="day",
)

PRICES: Final = Table(
    name="prices",
    doc="The price book and the contracts over it as they were compiled: one row per entry and leaf.",
    written_by="run, and terms announce",
    columns=(
        _label("book_version", "Version of the price book."),
        _label("rate_id", "Entry of the price book."),
        _label("provider", "Provider."),
        _label("model", "Model or pattern."),
        _label("tier", "Service tier."),
        _label("scope", "Region scope."),
        Column("band_min", "UInt64", pa.uint64(), "Prompt tokens above which the entry applies."),
        _maybe_int("band_max", "Prompt tokens up to which it applies; NULL: no limit."),
        _label("leaf", "What is priced."),
        Column("usd_per_million", "Decimal(38, 12)", pa.decimal128(38, 12), "Dollars per million units."),
        Column("valid_from", "DateTime('UTC')", pa.timestamp("s", "UTC"), "First instant the price holds."),
        Column("valid_to", "Nullable(DateTime('UTC'))", pa.timestamp("s", "UTC"), "First instant it no longer holds."),
        _text("source", "Where the figure comes from."),
        _text("recorded", "When it was recorded."),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="book_version, rate_id, leaf",
    version="ingested_at",
)

PRICED_BY: Final = ("providers", "models", "tenants")
"""What a pricing of history may be held to: values of the columns of ``calls`` that are called so in the singular."""

PRICE_RUNS: Final = Table(
    name="price_runs",
    doc="One row per pricing of history; run 1 is the live pipeline.",
    written_by="run and reprice",
    columns=(
        Column("price_run", "UInt16", pa.uint16(), "Number of the run."),
        _label("book_version", "Version of the price book."),
        _bool("active", "Figures of it are shown: it is the live one, or was applied and not undone."),
        Column("since", "DateTime('UTC')", pa.timestamp("s", "UTC"), "First minute of the calls it is for."),
        Column("until", "Nullable(DateTime('UTC'))", pa.timestamp("s", "UTC"), "First minute it is not for; NULL: no end."),
        Column("undoes", "UInt16", pa.uint16(), "The run whose figures it took back; 0: none, it priced by a book."),
        Column("state", _LC, pa.string(), "live, counting, running (or killed: do it again) or done.", default="'live'"),
        Column("kind", _LC, pa.string(), "book: by prices; invoice: by what was billed.", default="'book'"),
        *(
            Column(name, "Array(LowCardinality(String))", pa.list_(pa.string()), f"Only calls of these {name}; empty: of all.")
            for name in PRICED_BY
        ),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="price_run, book_version",
    version="ingested_at",
)

CALL_PRICES: Final = Table(
    name="call_prices",
    doc="What calls cost under each pricing of history that they went through, the live one included. Nothing is overwritten by"
    " another run, so figures of before stay readable and can come back.",
    written_by="reprice",
    columns=(
        Column("minute", "DateTime('UTC')", pa.timestamp("s", "UTC"), "Minute of the event time."),
        DIMENSIONS[0],
        Column("call_key", "FixedString(16)", pa.binary(16), "Key of the call."),
        DIMENSIONS[10],
        Column("figures_of", "UInt16", pa.uint16(), "The run that worked them out: an earlier one where they came back."),
        Column("follows", "UInt16", pa.uint16(), "By which run the call was priced before that one; 0: it was the first."),
        _hash("of_version", "Version of the row of calls that these figures are of."),
        *(column for column in CALLS.columns if column.name in MONEY_COLUMNS),
        Column("written_at", "DateTime64(6, 'UTC')", None, "When the row was written.", default="now64(6)"),
    ),
    order_by="minute, tenant, call_key, price_run",
    partition_by="toYYYYMM(minute)",
    version="written_at",
    ages_by="minute",
)

RUNS: Final = Table(
    name="runs",
    doc="One row per run of the job: what it read and how fast.",
    written_by="run",
    columns=(
        _text("run_id", "Identity of the run."),
        Column("started_at", "DateTime64(3, 'UTC')", pa.timestamp("ms", "UTC"), "Start."),
        Column("ended_at", "Nullable(DateTime64(3, 'UTC'))", pa.timestamp("ms", "UTC"), "End."),
        _label("state", "running, done, interrupted or failed."),
        _text("source", "What was read."),
        Column("records", "UInt64", pa.uint64(), "Records read."),
        Column("calls", "UInt64", pa.uint64(), "Calls written, redeliveries included."),
        Column("dead_letters", "UInt64", pa.uint64(), "Dead letters written."),
        Column("ignored", "UInt64", pa.uint64(), "Items ignored with a reason."),
        Column("bytes", "UInt64", pa.uint64(), "Bytes read, decompressed."),
        _maybe_float("seconds", "Seconds the pipeline worked, start-up excluded."),
        _text("software", "Version of llm-finops."),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="run_id",
    version="ingested_at",
    ages_by="started_at",
)

RETENTION: Final = Table(
    name="retention",
    doc="For how many days the rows of a table are kept, and since when: the record by which closed time stays closed.",
    written_by="run and migrate",
    columns=(
        _label("table", "Table."),
        Column("days", "UInt32", None, "Days that its rows are kept; 0: for good."),
        Column("applied_at", "DateTime64(3, 'UTC')", None, "Since when.", default="now64(3)"),
    ),
    order_by="table, applied_at",
)

MARKS: Final = Table(
    name="marks",
    doc="Marks by which records of forgotten users and tenants are recognised when they are read again; no name is in them.",
    written_by="forget and run",
    columns=(
        _label(
            "kind",
            "user, tenant, call (it named a forgotten user), record (a dead letter); or key (users are hashed with it).",
        ),
        Column("mark", "FixedString(16)", pa.binary(16), "Keyed hash of a user or tenant; call key; hash of a record or key."),
        Column("marked_at", "DateTime64(3, 'UTC')", None, "When.", default="now64(3)"),
    ),
    order_by="kind, mark",
    version="marked_at",
)



def _charged(name: str, doc: str, nullable: bool = True) -> Column:
    return Column(name, f"Nullable({_SUM_MONEY})" if nullable else _SUM_MONEY, pa.decimal128(38, 12), doc)


CHARGES: Final = Table(
    name="charges",
    doc="One row per line of an imported invoice, also of what is no call: storage, commitments, credits, taxes. Which lines are"
    " in force, `invoices` says: see docs/invoices.md. They are of no tenant.",
    written_by="invoice import",
    columns=(
        _count("invoice", "Number of the import."),
        Column("line", "UInt64", pa.uint64(), "Number of the line in it."),
        Column("start", "DateTime('UTC')", pa.timestamp("s", "UTC"), "First second that is charged for."),
        Column("end", "DateTime('UTC')", pa.timestamp("s", "UTC"), "First second that is not."),
        _label("provider", "Who served the model, as calls have it."),
        _label("account", "Billing account: of FOCUS BillingAccountId, of OpenAI the organization."),
        _label("project", "Below the account: sub-account, subscription, project."),
        _label("model", "Model, as the price book names it, else as written; empty: of no model, or nothing says of which."),
        _label("kind", "Kind of tokens: input, cached_input, cache_write (and _5m, _1h), output, other; empty: unknown."),
        _maybe_int("tokens", "How many tokens; NULL: the line says no quantity, or not of tokens."),
        _text("quantity", "The quantity as written, with its unit."),
        _charged("billed", "What was billed, in the currency.", nullable=False),
        _charged("list_cost", "At list prices; NULL: the invoice does not say."),
        _charged("contracted", "At contracted prices, likewise."),
        _charged("effective", "With commitments spread over what they cover, likewise."),
        _label("currency", "Currency of the billing."),
        _label("category", "What it is for: usage, purchase, tax, credit or adjustment."),
        _text("description", "What the line says it is for."),
        Column("places", "UInt8", pa.uint8(), "Decimals that billed was written with."),
        _text("source", "File that it was read from."),
        Column("row", "UInt64", pa.uint64(), "Its line in a text, its number in Parquet and JSON."),
        Column("ingested_at", "DateTime64(3, 'UTC')", None, "When the row was written.", default="now64(3)"),
    ),
    order_by="invoice, line",
    partition_by="toYYYYMM(start)",
    version="ingested_at",
    ages_by="start",
)

INVOICES: Final = Table(
    name="invoices",
    doc="One row per import of an invoice: the days of a provider and account that it is whole for. Of several for one day the"
    " latest is in force.",
    written_by="invoice import and invoice remove",
    columns=(
        _count("invoice", "Number of the import."),
        _label("provider", "Provider."),
        _label("account", "Billing account."),
        Column("since", "DateTime('UTC')", pa.timestamp("s", "UTC"), "First day."),
        Column("until", "DateTime('UTC')", pa.timestamp("s", "UTC"), "First day that it is not for."),
        _label("state", "writing (or killed: import it again), imported or removed."),
        Column("lines", "UInt64", pa.uint64(), "Lines in charges."),
        Column("unreadable", "UInt64", pa.uint64(), "Rows of its files that could not be read."),
        _text("fingerprint", "Hash of the lines, in whatever order they came."),
        _text("source", "Files that it was read from."),
        Column("ingested_at", "DateTime64(3, 'UTC')", pa.timestamp("ms", "UTC"), "When it was imported."),
        Column("written_at", "DateTime64(6, 'UTC')", None, "When the row was written.", default="now64(6)"),
    ),
    order_by="invoice",
    version="written_at",
)

TERMS: Final = Table(
    name="terms",
    doc="Own prices, contracts and ownership rules, whole, and from when on calls go by them. The first hold before, too.",
    written_by="run, and terms announce",
    columns=(
        Column("since", "DateTime64(6, 'UTC')", pa.timestamp("us", "UTC"), "Event time from which they hold; 1970: always."),
        _text("fingerprint", "Hash of the content: the same files have the same one."),
        _text("content", "Files of own prices by folder, of contracts, and of ownership rules, as JSON of names and texts."),
        Column(
            "announced_at",
            "DateTime64(6, 'UTC')",
            None,
            "When they were announced; of several for one event time the last stands.",
            default="now64(6)",
        ),
    ),
    order_by="since",
    version="announced_at",
)

TABLES: Final = (
    CALLS,
    MINUTES,
    HOURS,
    DAYS,
    AUDIT_DAYS,
    RECEIPTS,
    SEGMENTS,
    DEAD_LETTERS,
    PRICES,
    PRICE_RUNS,
    CALL_PRICES,
    RUNS,
    RETENTION,
    MARKS,
    TERMS,
    PARTS,
    CHARGES,
    INVOICES,
)
