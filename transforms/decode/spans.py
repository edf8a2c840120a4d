"""Spans to calls, whatever wrote them down: which are calls, which only sum up calls, which tell a part of one."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from schemas.call import Call
from schemas.part import Part
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.otel import OTHER, ROLL_UP, TOOL, Given, beside, ended, failed, has_usage, read_call
from transforms.decode.otel_content import DETAILS, answered_elsewhere, read_events

SPAN: Final = "span"
CONTENT: Final = "content"
"""Roles of the parts of a call that a span and a log record tell of."""

_MAX_WALK: Final = 64

Outcome = Call | Part | Undecodable | Skipped


class Span(NamedTuple):
    """One span. ``kind`` is that of ``otel.kind_of``, ids are hex, ``events`` names and attributes."""

    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: Any
    end: Any
    failed: bool
    given: Given
    events: list[tuple[str, dict[str, Any]]]


More = Callable[[Call, Span], None]
"""Reads on a call what else its span holds."""


def decode_spans(spans: Sequence[Span | Undecodable], more: More | None = None) -> list[Outcome]:
    """One outcome for each span, in their order. With ``more`` to read, each span tells its whole call."""
    wrappers = _wrappers([each for each in spans if isinstance(each, Span)])
    outcomes: list[Outcome] = []
    for span in spans:
        if isinstance(span, Undecodable):
            outcomes.append(span)
        elif span.kind == ROLL_UP or (span.kind not in (OTHER, TOOL) and (span.trace_id, span.span_id) in wrappers):
            outcomes.append(Skipped("roll_up"))
        elif span.kind in (OTHER, TOOL):
            outcomes.append(Skipped("not_a_model_call"))
        else:
            outcomes += guarded(_model_call, span, more)
    return outcomes


def guarded(decode: Callable[..., Iterable[Outcome]], *given: Any) -> list[Outcome]:
    """What one item of many gives: what is wrong with it, or a defect that it comes upon, costs the others nothing."""
    try:
        return list(decode(*given))
    except (Undecodable, Skipped) as problem:
        return [problem]
    except Exception as defect:
        return [Undecodable("decoder_error", f"{type(defect).__name__}: {defect}")]


def _wrappers(spans: list[Span]) -> set[tuple[str, str]]:
    """Spans of a call that another span below them tells of: those of a framework around those of a client.

    What a tool calls is not what the call around it cost, nor is a call of another operation.
    """
    calls = [span for span in spans if span.kind not in (OTHER, TOOL, ROLL_UP)]
    if len(calls) < 2:
        return set()
    known = {(span.trace_id, span.span_id): span for span in spans}
    found: set[tuple[str, str]] = set()
    for span in calls:
        paid, above = has_usage(span.given.attributes), span
        for _ in range(_MAX_WALK):
            key = (above.trace_id, above.parent_id)
            over = known.get(key) if above.parent_id else None
            if over is None or over is span or over.kind == TOOL:
                break
            if over.kind == span.kind and (paid or not has_usage(over.given.attributes)):
                found.add(key)
            above = over
    return found


def _model_call(span: Span, more: More | None) -> list[Outcome]:
    call = Call()
    call.operation = span.kind
    call.trace_id, call.span_id, call.parent_span_id = span.trace_id, span.span_id, span.parent_id
    given = span.given
    for what, attributes in span.events:
        if what == DETAILS:  # the event of the whole call, written on its span; more often it is a log record
            given = given._replace(attributes=attributes | given.attributes)
    read_call(call, given)
    if call.content is None and span.events:
        try:
            read_events(call, span.events)
        except Undecodable:
            call.flag("content_unreadable")
    call.beside = beside(given)
    if more is not None:
        more(call, span)
    if span.failed and call.status == "ok":
        failed(call, _exception(span))
    ended(call, span.start, span.end)
    answered = answered_elsewhere(given.attributes)
    return [told(call, SPAN, answered) if more is None else whole(call, answered)]


def _exception(span: Span) -> str:
    for what, attributes in span.events:
        kind = attributes.get("exception.type")
        if what == "exception" and type(kind) is str:
            return str(kind)[:256]
    return ""


def told(call: Call, role: str, answered: bool) -> Call | Part:
    """A call as a span or a log record of ``role`` tells it; a part, where the other may tell what it leaves out.

    ``answered``: there is an answer, though not in here.

    Tokens make a call. Without them, the texts of a log record and the span of the same ids belong together: one has what the
    other has not, and either alone is a call for whose usage nobody vouches.
    """
    if call.usage_source == "none" and call.status == "ok":
        lacks = call.content is None or role == CONTENT
        if lacks and call.trace_id and call.span_id:
            key = f"otel:{call.trace_id}:{call.span_id}"
            return Part(key, role, call, rank=1 if role == SPAN else 0)
    return whole(call, answered)


def whole(call: Call, answered: bool) -> Call:
    """A call of which nothing else tells: without tokens and an answer it is incomplete."""
    content = call.content
    if call.usage_source == "none" and call.status == "ok" and not answered and (content is None or not content.output):
        call.status = "incomplete"
        call.flag("no_answer")
    return call


def hex_id(value: Any, size: int) -> str:
    """An id of ``size`` bytes as hex: as OTLP's JSON has it, or in base64, as protobuf's own JSON does; empty for none."""
    if type(value) is not str or not value:
        return ""
    said: str = value
    if len(said) == 2 * size:
        return said.lower()
    if len(said) == (size + 2) // 3 * 4:
        try:
            return binascii.a2b_base64(said).hex()
        except (binascii.Error, ValueError):
            return said
    return said[:64]
