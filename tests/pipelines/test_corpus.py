"""The whole job over real calls, against a plain loop over what their vendors reported and publish."""

from __future__ import annotations

import gzip
import json
from collections import Counter as Tally
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from pipelines.job import Counts
from schemas.call import LEAVES
from sinks.clickhouse import Store
from sinks.reconcile import ledger
from tests.pipelines.jobs import go, holds

INPUT = [leaf for leaf in LEAVES if leaf.startswith("input_")]
OUTPUT = [leaf for leaf in LEAVES if leaf.startswith("output_")]

CLAUDE_CACHE = {"read": Decimal("0.1"), "5m": Decimal("1.25"), "1h": Decimal(2)}
"""Anthropic: times the price of input. platform.claude.com, prompt caching."""

PRICES = {
    # Dollars per million tokens from the vendors' price pages: input, cached input, output. Snapshots, whose price has
    # not changed since they came out; that of an alias may.
    "gpt-4o-2024-05-13": ("5", "5", "15"),
    "gpt-4o-2024-08-06": ("2.5", "1.25", "10"),
    "gpt-4o-mini-2024-07-18": ("0.15", "0.075", "0.6"),
    "gpt-4.1-2025-04-14": ("2", "0.5", "8"),
    "gpt-4.1-mini-2025-04-14": ("0.4", "0.1", "1.6"),
    "gpt-4.1-nano-2025-04-14": ("0.1", "0.025", "0.4"),
    "gpt-3.5-turbo-0125": ("0.5", "0.5", "1.5"),
    "gpt-4-0613": ("30", "30", "60"),
    "gpt-5-2025-08-07": ("1.25", "0.125", "10"),
    "gpt-5-mini-2025-08-07": ("0.25", "0.025", "2"),
    "gpt-5-nano-2025-08-07": ("0.05", "0.005", "0.4"),
    "o3-mini-2025-01-31": ("1.1", "0.55", "4.4"),
    "o4-mini-2025-04-16": ("1.1", "0.275", "4.4"),
    "text-embedding-3-small": ("0.02", "0.02", "0"),
    "claude-3-haiku-20240307": ("0.25", "0.03", "1.25"),
    "claude-3-opus-20240229": ("15", "1.5", "75"),
    "claude-3-5-haiku-20241022": ("0.8", "0.08", "4"),
    "claude-haiku-4-5-20251001": ("1", "0.1", "5"),
    "claude-sonnet-4-20250514": ("3", "0.3", "15"),
    "claude-sonnet-4-5-20250929": ("3", "0.3", "15"),
    "claude-sonnet-4-6": ("3", "0.3", "15"),
}


def vendor_input_output(usage: dict[str, Any]) -> tuple[int, int]:
    """Oracle: all input and all output of a vendor's usage object, from the vendors' own documentation."""
    if usage.get("iterations"):
        pairs = [vendor_input_output({k: v for k, v in part.items() if k != "iterations"}) for part in usage["iterations"]]
        return sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        given, made = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        return given, made
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        cache = (usage.get("cache_read_input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
        return (usage.get("input_tokens") or 0) + cache, usage.get("output_tokens") or 0
    return usage.get("input_tokens") or 0, usage.get("output_tokens") or 0


def identity_told(pair: dict[str, Any]) -> tuple[Any, ...]:
    """Oracle: what proves that two records are one call: a vendor's own id (not a redacted one) and second, and usage."""
    answer = pair["response"]
    if isinstance(answer, dict) and isinstance(answer.get("stream"), list):
        answer = next((chunk for chunk in answer["stream"] if isinstance(chunk, dict) and chunk.get("id")), {})
    if not isinstance(answer, dict) or "REDACTED" in str(answer.get("id")) or not (answer.get("id") and answer.get("created")):
        return ()
    return answer["id"], answer["created"], json.dumps(pair["usage"], sort_keys=True)


def line_starts(shared: Path) -> list[int]:
    """Where each line of the corpus begins, in decompressed bytes."""
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        return list(accumulate((len(line) for line in lines), initial=0))


def redelivered(starts: list[int], store: Store) -> set[int]:
    """Numbers of the corpus' lines whose receipts share their call with an earlier line."""
    rows = store.rows(
        f"SELECT arraySort(groupArray(position)) FROM {store.table('receipts')} FINAL WHERE outcome = 'call'"
        " GROUP BY call_key, item HAVING count() > 1"
    )
    return {starts.index(position) for (positions,) in rows for position in positions[1:]}


def answered(pair: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer's object, or every chunk of a stream and what those wrap."""
    answer = pair["response"]
    parts = answer.get("stream") if isinstance(answer, dict) and isinstance(answer.get("stream"), list) else [answer]
    found = [part for part in parts if isinstance(part, dict)]
    return found + [part[key] for part in found for key in ("message", "response") if isinstance(part.get(key), dict)]


def dollars(usage: dict[str, Any], model: str) -> Decimal | None:
    """Oracle: what a call of the standard tier costs by its usage object; ``None`` where more than tokens is billed."""
    given, cached, made = map(Decimal, PRICES[model])
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    shown = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    if usage.get("server_tool_use") or usage.get("iterations") or "cost" in usage:
        return None
    if any(some.get(kind) for some in (details, shown) for kind in ("audio_tokens", "image_tokens", "cache_write_tokens")):
        return None
    if "input_tokens" in usage and model.startswith("claude"):
        read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
        hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
        total = usage["input_tokens"] * given + read * cached + (usage.get("output_tokens") or 0) * made
        short = Decimal("0.3") if model == "claude-3-haiku-20240307" else given * CLAUDE_CACHE["5m"]
        total += (written - hour) * short + hour * given * CLAUDE_CACHE["1h"]
    else:
        all_given, all_made = vendor_input_output(usage)
        read = details.get("cached_tokens") or 0
        total = (all_given - read) * given + read * cached + all_made * made
    return total / 1_000_000


def standard(pair: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    """Whether a call was served at the standard tier, without searches, which are billed apart from tokens."""
    request = pair["request"] if isinstance(pair["request"], dict) else {}
    served = {pair["usage"].get("service_tier")} | {part.get("service_tier") for part in parts}
    if served - {None, "default", "standard"} or request.get("service_tier") not in (None, "auto", "default"):
        return False
    asked = json.dumps([pair["response"], request])
    return "web_search" not in asked and "file_search_call" not in asked


@dataclass(frozen=True)
class Ran:
    """The job's run over the corpus; where its lines start; numbers of lines that repeat a call of an earlier one."""

    store: Store
    counts: Counts
    starts: list[int]
    again: set[int]


@pytest.fixture(scope="module")
def ran(shared: Path, module_store: Store) -> Ran:
    counts = go(module_store.address, shared / "data" / "calls" / "calls.jsonl.gz")
    starts = line_starts(shared)
    return Ran(module_store, counts, starts, redelivered(starts, module_store))


@pytest.fixture(scope="module")
def corpus(shared: Path) -> list[dict[str, Any]]:
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


def test_every_record_is_accounted_for(ran: Ran, corpus: list[dict[str, Any]]) -> None:
    assert ran.counts.records == len(corpus) == 7990
    items = ledger(ran.store)
    assert items["records"] == 7990
    assert items["items"] == ran.counts.calls + ran.counts.dead_letters + ran.counts.ignored >= 7990
    assert items["duplicate"] == len(ran.again) < 10
    holds(ran.store)
    told = [identity_told(pair) for pair in corpus]
    for number in ran.again:  # a few cassettes replay one billed call: same vendor id, same second, same usage
        assert told[number], corpus[number]
        assert told.count(told[number]) > 1


def test_tokens_equal_a_plain_loop(ran: Ran, corpus: list[dict[str, Any]]) -> None:
    apis = ("openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages")
    providers = ("openai", "anthropic", "azure", "groq")
    expected: Tally[tuple[str, str]] = Tally()
    waiting = {
        position
        for (position,) in ran.store.rows(
            f"SELECT position FROM {ran.store.table('dead_letters')} FINAL WHERE reason = 'split_record'"
        )
    }  # parts of calls made in the background, as long as parts are not joined
    assert len(waiting) in (0, 8)
    for number, pair in enumerate(corpus):
        usage = pair["usage"]
        if number in ran.again or ran.starts[number] in waiting:
            continue
        if pair["api"] not in apis or pair["provider"] not in providers or not usage or pair["status"] != 200:
            continue
        if {"prompt_tokens", "input_tokens", "completion_tokens", "output_tokens"} & usage.keys():
            given, made = vendor_input_output(usage)
            details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
            expected[pair["provider"], "input"] += max(given, details.get("cached_tokens") or 0)
            shown = usage.get("completion_tokens_details") or {}  # one edited cassette has more in its details
            inside = (shown.get("reasoning_tokens") or 0) + (shown.get("audio_tokens") or 0)
            expected[pair["provider"], "output"] += max(made, inside)
    rows = ran.store.rows(
        f"SELECT provider, sum({' + '.join(f'ifNull({leaf}, 0)' for leaf in INPUT)}),"
        f" sum({' + '.join(f'ifNull({leaf}, 0)' for leaf in OUTPUT)}) FROM {ran.store.table('calls')} FINAL"
        f" WHERE usage_source = 'vendor' AND api IN {apis} AND provider IN {providers} GROUP BY provider"
    )
    got = {(provider, side): figure for provider, given, made in rows for side, figure in (("input", given), ("output", made))}
    assert got == dict(expected)


def test_dollars_equal_a_plain_loop_call_by_call(ran: Ran, corpus: list[dict[str, Any]]) -> None:
    """Every call of a snapshot whose price is simple, which is most of what the corpus costs."""
    rows = ran.store.rows(
        f"SELECT position, cost FROM (SELECT position, call_key FROM {ran.store.table('receipts')} FINAL WHERE item = 0) r"
        f" JOIN (SELECT call_key, cost FROM {ran.store.table('calls')} FINAL) c USING call_key"
    )
    costs = dict(rows)
    compared: Tally[str] = Tally()
    spent = Decimal(0)
    for number, pair in enumerate(corpus):
        usage, parts = pair["usage"], answered(pair)
        model = next((part["model"] for part in parts if part.get("model") in PRICES), None)
        if model is None or not usage or pair["status"] != 200:
            continue
        cost = dollars(usage, model) if pair["provider"] in ("openai", "anthropic") and standard(pair, parts) else None
        if cost is not None:
            assert costs[ran.starts[number]] == cost, (number, model, usage)
            compared[model] += 1
            spent += cost
    assert set(compared) == set(PRICES)
    assert compared.total() > 2800
    (total,) = ran.store.rows(f"SELECT sum(cost) FROM {ran.store.table('calls')} FINAL WHERE provider IN ('openai', 'anthropic')")
    assert spent > total[0] / 2
