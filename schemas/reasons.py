"""Reason codes: why an item is a dead letter, why one is ignored, why a call has no price. Codes are stable."""

from __future__ import annotations

from typing import Final

DEAD_LETTER_REASONS: Final = {
    "not_json": "The record is not JSON (cut, not UTF-8, NaN or Infinity, nested too deep).",
    "not_an_object": "The record is JSON, but not an object.",
    "record_too_large": "The record is longer than the limit, or holds more items than one may.",
    "broken_archive": "The compressed file ends or breaks in the middle of a record.",
    "object_gone": "The object was deleted from its store before all of it was read.",
    "corrupt_record": "A message of a topic or subscription whose sum is wrong, or that does not decompress.",
    "schema_registry": "A value that a schema registry describes and that could not be decoded; the error says what to set.",
    "offsets_lost": "Messages of a topic that the broker deleted before they were read: a gap, named by its offsets.",
    "split_record": "One part of a log entry that was split because it was too long: parts are not joined yet.",
    "incomplete_record": "A record that was cut into pieces, of which some never came; it lies where the first of them is.",
    "unknown_format": "No format of the registry recognises the record.",
    "unsupported_body": "The record is a call to an API whose body is not read yet, and it reports no plain usage.",
    "bad_value": "A field the call depends on has an impossible value (negative or fractional tokens, a wrong type).",
    "not_a_call": "The record has the shape of a call but neither a request nor a response to bill.",
    "refused_by_store": "The store refuses the call's row for what is in it: a constraint or a view that was added to the table.",
    "decoder_error": "A decoder failed on the record: a defect, please report it with the error.",
}

IGNORED_REASONS: Final = {
    "count_tokens": "A request that only counts tokens; vendors do not bill it.",
    "control": "A request that no model answers (listing models, uploading files …).",
    "blank": "An empty line.",
    "transport_notice": "A transport's message about itself (a control message, a confirmation, an object that was written).",
    "roll_up": "What sums up calls that have records of their own, or stands around them: an agent, a wrapper, a trace, a score.",
    "left_out": "A record that a mapping leaves out, or that may hold several calls and holds none.",
    "plain_log": "A log entry that is no call: a line of text, an audit entry, a request to a server.",
    "no_tokens": "A log line about a request that tells neither tokens nor texts; another log tells of the same calls.",
    "not_a_model_call": "A span, event or metric of telemetry that is no call to a model: a tool, a query, a score.",
    "message_event": "An event that holds one message of a call which its span tells of.",
    "not_ended": "A run that had not ended when it was exported; another record tells of it when it has.",
    "expired": "A call that is older than calls are kept (`retention.calls`): its minute is closed and stays as it is.",
    "forgotten": "A call of a tenant that was forgotten.",
}

UNPRICED_REASONS: Final = {
    "unknown_provider": "The price book knows no such provider.",
    "unknown_model": "The price book has no entry for the provider's model.",
    "before_first_price": "The call is older than the model's first known price.",
    "after_last_price": "The model was withdrawn before the call.",
    "unknown_tier": "The model has no price for the service tier that served the call.",
    "unknown_scope": "The model has no price for the region scope that served the call.",
    "bad_value": "A count or a reported cost is impossible; the reason names it.",
    "no_rate": "A leaf of the usage has no price in the entry; the reason names it.",
    "no_usage": "Nothing was reported and nothing could be counted.",
    "overflow": "The usage is too large to be priced exactly in 64 bits.",
}
