"""What is not text in, text out: images, speech, transcription, reranking, moderation, voice sessions.

They are carried with the usage they report. Much of it is billed by something that is no token (pictures, seconds, characters,
searches): such a call is a call all the same, flagged ``other_units``, and what it costs is not known.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import usage as usages
from transforms.decode.bodies.reported import body, identity, last_with
from transforms.decode.exchange import Body, Exchange
from transforms.decode.values import count, mapping, name

_UNITS: Final = ("search_units", "images", "seconds", "duration")


def _usage(call: Call, x: Exchange) -> None:
    """OpenAI's usage, wherever the last chunk has it; its details are spelt both ways."""
    answer = last_with(x, "usage")
    if x.chunks is not None:
        call.stream = True
    identity(call, answer)
    usage = mapping(answer.get("usage"))
    _report(call, usage)
    billed = mapping(mapping(answer.get("meta")).get("billed_units"))
    for place in (usage, billed):
        for unit in _UNITS:
            if count_of(place.get(unit)):
                call.flag("other_units")


def count_of(value: Any) -> bool:
    """Whether something was counted; a fraction of a second is something."""
    return type(value) in (int, float) and value > 0


def _report(call: Call, usage: dict[str, Any]) -> None:
    given = dict(usage)
    taken, made = given.pop("input_token_details", None), given.pop("output_token_details", None)
    if type(taken) is dict:
        given["input_tokens_details"] = _fresh_media(taken)
    if type(made) is dict:
        given["output_tokens_details"] = made
    if given:
        usages.openai(call, given)


def _fresh_media(details: dict[str, Any]) -> dict[str, Any]:
    """Audio and images that were not cached: sessions say how much of what is cached is which."""
    cached = mapping(details.get("cached_tokens_details"))
    fresh = dict(details)
    for kind in ("audio_tokens", "image_tokens"):
        whole, stored = count(details.get(kind), kind), count(cached.get(kind), f"cached {kind}")
        if whole is not None and stored:
            fresh[kind] = max(whole - stored, 0)
    return fresh


def _moderation(call: Call, x: Exchange) -> None:
    identity(call, x.answer)


_STATUSES: Final = {"completed": "ok", "cancelled": "cancelled", "incomplete": "incomplete", "failed": "error"}


def _realtime(call: Call, x: Exchange) -> None:
    """The answer to one turn of a session, as the event ``response.done`` brings it."""
    answer = x.answer
    if x.chunks is not None:
        call.stream = True
        answer = mapping(last_with(x, "response").get("response"))
    call.provider_call_id = name(answer.get("id"))
    call.model = name(answer.get("model"))
    status = name(answer.get("status"))
    call.status = _STATUSES.get(status, "ok")
    reason = mapping(answer.get("status_details"))
    call.stop_reason = name(reason.get("reason")) or status
    if call.status == "error":
        call.error_type = name(mapping(reason.get("error")).get("type")) or "error"
    _report(call, mapping(answer.get("usage")))


BODIES: Final[tuple[Body, ...]] = (
    body("openai.images", "image", "OpenAI images", _usage),
    body("openai.audio", "audio", "OpenAI speech and transcription", _usage),
    body("openai.realtime", "audio", "OpenAI realtime: the event `response.done` of a session", _realtime),
    body("openai.moderation", "moderation", "OpenAI moderation", _moderation),
    body("rerank", "rerank", "Rerankers", _usage),
)
