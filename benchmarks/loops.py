"""What the pipeline is measured against: plain loops that do less."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from transforms.count.tokenizers import tiktoken_counter, tokenizer

_TEXTS = frozenset({"content", "text", "arguments", "input", "instructions", "system", "description", "prompt"})


def texts(value: Any, wanted: bool = False) -> Iterator[str]:
    """Every text that somebody said in a record: strings under the keys of ``_TEXTS``, at any depth."""
    if isinstance(value, str):
        if wanted:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, wanted)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, key in _TEXTS)


def bodies(record: dict[str, Any]) -> list[Any]:
    """The parts of a record that hold texts, whatever logged it."""
    parts = [record.get("request"), record.get("response"), record.get("messages"), record.get("output")]
    return [part for part in parts if part is not None]


def bare_loop(lines: Sequence[bytes]) -> tuple[float, int]:
    """Seconds and tokens of ``orjson.loads`` and ``tiktoken`` on every text of every record, and nothing else."""
    count = tiktoken_counter("o200k_base")
    count("warm")
    start = time.perf_counter()
    total = 0
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            for said in texts(bodies(record)):
                total += count(said)
    return time.perf_counter() - start, total


def check_counters(lines: Iterable[bytes]) -> int:
    """Texts of the records on which the pipeline's counter and tiktoken were found equal.

    Raises:
        AssertionError: they differ on a text.
    """
    ours, theirs = tokenizer("o200k_base"), tiktoken_counter("o200k_base")
    seen: set[str] = set()
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            seen.update(texts(bodies(record)))
    for said in seen:
        assert ours.count(said) == theirs(said), said[:200]
    return len(seen)


def litellm_loop(lines: Sequence[bytes]) -> tuple[float, int]:
    """Seconds and calls of ``litellm.token_counter`` and ``cost_per_token`` on each call's messages and answer."""
    import litellm

    def one(record: dict[str, Any]) -> bool:
        request, response = record.get("request") or {}, record.get("response") or {}
        messages = request.get("messages") or record.get("messages")
        if not messages:
            return False
        model = request.get("model") or record.get("model") or "gpt-4o"
        given = litellm.token_counter(model=model, messages=messages, tools=request.get("tools"))
        made = litellm.token_counter(model=model, text="".join(texts(response)) or " ")
        try:
            litellm.cost_per_token(model=model, prompt_tokens=given, completion_tokens=made)
        except Exception:  # a model that litellm has no price for costs it no time
            return True
        return True

    done = 0
    one({"request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "warm"}]}})
    start = time.perf_counter()
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            done += one(record)
    return time.perf_counter() - start, done
