"""What bodies share: settings of a request, media, how an answer ended."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, Final

import orjson

from schemas.call import Call, Media, Part
from transforms.decode.values import mapping, text, whole

_SIZES: Final = re.compile(r"bytes=(\d+)|width=(\d+)|height=(\d+)")
_INCOMPLETE: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
_BLOCKED: Final = frozenset({"content_filter", "refusal", "safety", "guardrail_intervened", "content_filtered"})


def params_of(request: dict[str, Any], content: Container[str]) -> bytes:
    """Everything asked but the content, as sorted JSON: two calls that differ in it are two calls."""
    return orjson.dumps({k: v for k, v in request.items() if k not in content}, option=orjson.OPT_SORT_KEYS)


def tool_choice(request: dict[str, Any]) -> str:
    """``auto``, ``none``, ``required``, or the name of the one function that must be called."""
    choice = request.get("tool_choice", request.get("function_call"))
    if isinstance(choice, str):
        return choice[:200]
    chosen = mapping(choice)
    return text(mapping(chosen.get("function")).get("name") or chosen.get("name") or chosen.get("type"), 200)


def finish_model(call: Call, answer: dict[str, Any]) -> None:
    """The model that answered; Azure's deployments and gateways ask for one by another name."""
    call.model = text(answer.get("model")) or call.model or call.model_requested


def stops(call: Call) -> None:
    """Outcome by stop reason, for a call that did not fail."""
    if call.status == "ok":
        reason = call.stop_reason.lower()
        if reason in _INCOMPLETE:
            call.status = "incomplete"
        elif reason in _BLOCKED:
            call.status = "blocked"


def media_part(piece: dict[str, Any]) -> Part:
    """An image, clip or file of any vendor, with what is cheap to know of its size."""
    kind = text(piece.get("type"), 40)
    what = "image" if "image" in kind else "audio" if "audio" in kind else "video" if "video" in kind else "file"
    holder: Any = (
        piece.get("image_url") or piece.get("input_audio") or piece.get("source") or piece.get("file") or piece
    )
    detail = text(mapping(holder).get("detail") or piece.get("detail"), 20)
    if isinstance(holder, dict):
        holder = next(
            (holder[k] for k in ("url", "data", "file_data", "image_url") if isinstance(holder.get(k), str)), ""
        )
    data = holder if isinstance(holder, str) else ""
    size = width = height = 0
    if "[ELIDED" in data[:200]:
        for found in _SIZES.finditer(data[:400]):
            size, width, height = (
                whole(new) or old for new, old in zip(found.groups(), (size, width, height), strict=True)
            )
    elif not data.startswith(("http:", "https:")):
        size = len(data) * 3 // 4
    return Part("media", "", "", Media(what, width, height, size, detail))
