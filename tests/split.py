"""A log format of tests whose records tell parts of calls, and what they tell together, by a plain loop.

``{"part": KEY, "role": ROLE, "needs": [ROLES], "rank": N, "call": {FIELD: VALUE}, "prompt": TEXT, "answer": TEXT}`` is a part;
``{"piece": KEY, "number": N, "of": M, "text": TEXT}`` is a piece of a record that was cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from schemas.call import Call, Content, Message
from schemas.call import Part as Said
from schemas.part import Part
from transforms.decode import registry

NEEDS = ["request", "response"]
START = 1_772_445_600_000_000
"""2026-03-02 10:00 UTC."""

ANSWER = "it is warm"


def decode(record: dict[str, Any]) -> Iterator[Part]:
    if "piece" in record:
        yield Part(record["piece"], "piece", data=record["text"].encode(), number=record["number"], of=record["of"])
        return
    call = Call()
    for name, value in record["call"].items():
        setattr(call, name, tuple(value) if name == "flags" else value)
    if record.get("prompt") or record.get("answer"):
        prompt = [Message("user", (Said("text", record["prompt"]),))] if record.get("prompt") else []
        answer = [Message("assistant", (Said("text", record["answer"]),))] if record.get("answer") else []
        call.content = Content(prompt, answer)
    yield Part(record["part"], record["role"], call, tuple(record.get("needs", ())), record.get("rank", 0))


FORMAT = registry.Format("split", "parts of calls, of tests", ("part", "piece"), lambda record: True, decode, 20)
FORMATS = (FORMAT, *registry.FORMATS)


def install() -> None:
    """Have the format known in this process."""
    registry.FORMATS = FORMATS  # type: ignore[misc]


def request(number: int, **call: Any) -> dict[str, Any]:
    """The request of a call: when it began, who asked, what was asked for."""
    said = {"event_time": START + number * 1_000_000, "time_quality": "exact", "provider": "openai", "team": f"team-{number % 3}"}
    said |= {"operation": "chat", "api": "openai.chat", "model_requested": "gpt-4o", "tags": {"asked": str(number)}}
    return {"part": f"call-{number}", "role": "request", "needs": NEEDS, "call": said | call}


def response(number: int, **call: Any) -> dict[str, Any]:
    """The response of a call, two seconds later, which tells the model and the usage."""
    said = {"event_time": START + number * 1_000_000 + 2_000_000, "time_quality": "exact", "provider": "openai"}
    said |= {"model": "gpt-4o-2024-08-06", "input_fresh": 100 + number, "output_visible": number % 7, "usage_source": "vendor"}
    said |= {"usage_quality": "ok", "provider_call_id": f"chatcmpl-{number}", "tags": {"answered": str(number)}}
    return {"part": f"call-{number}", "role": "response", "needs": NEEDS, "rank": 1, "call": said | call}


def pico(number: int) -> int:
    """What the call costs, in pico-dollars: $2.50 a million of input, $10 a million of output."""
    return (100 + number) * 2_500_000 + number % 7 * 10_000_000


def lines(records: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)
