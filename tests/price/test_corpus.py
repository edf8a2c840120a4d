"""Real calls: how many of those that report usage have a price, and which must not."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.price.oracle import Oracle
from transforms.price import Key, load_book
from transforms.price.book import BUILT_IN, NO_PRICE
from transforms.price.fields import utc

NOW = 1_793_000_000_000_000  # 2026-10


def named(body: Any) -> str:
    """The model an answer names, in the first chunk that does."""
    if not isinstance(body, dict):
        return ""
    for chunk in body.get("stream", [body]) or []:
        for part in (chunk, chunk.get("response"), chunk.get("message")) if isinstance(chunk, dict) else ():
            if isinstance(part, dict):
                for field in ("model", "modelVersion"):
                    if isinstance(part.get(field), str) and part[field]:
                        return str(part[field])
    return ""


def model_of(call: dict[str, Any]) -> str:
    url = (call["url"] or "").replace("%3A", ":")
    if call["provider"] == "bedrock" and "/model/" in url:
        return url.split("/model/")[1].rsplit("/", 1)[0]
    request = call["request"]
    asked = request.get("model", "") if isinstance(request, dict) else ""
    in_url = re.search(r"models/([^:/]+)", url)
    return named(call["response"]) or asked or (in_url[1] if in_url else "")


@pytest.fixture(scope="module")
def calls(shared: Path) -> Counter[tuple[str, str]]:
    """How many successful calls with usage there are for each provider and model."""
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        every = map(orjson.loads, lines)
        return Counter((c["provider"], model_of(c)) for c in every if c["usage"] and c["status"] < 400)


def test_the_book_covers_the_corpus(calls: Counter[tuple[str, str]]) -> None:
    book = load_book()
    priced: Counter[bool] = Counter()
    missing: Counter[str] = Counter()
    for (provider, model), count in calls.items():
        row = book.plan(Key(provider, model)).row(NOW, 100)
        priced[row >= 0] += count
        if row < 0:
            missing[f"{provider}/{model} {NO_PRICE[-1 - row]}"] += count
    share = priced[True] / priced.total()
    assert share >= 0.975, missing.most_common(10)


def test_first_party_vendors_are_covered_but_for_strangers(calls: Counter[tuple[str, str]]) -> None:
    book = load_book()
    vendors = ("openai", "azure", "anthropic", "gemini", "vertex", "mistral", "deepseek", "bedrock")
    unknown = {f"{p}/{m}" for p, m in calls if p in vendors and book.plan(Key(p, m)).row(NOW, 100) < 0}
    strangers = ("openai/moonshotai/kimi-k2", "openai/muse-spark", "bedrock/cohere.command-r-v1", "bedrock/arn:aws")
    assert not [name for name in unknown if not name.startswith(strangers)]


def recorded_at(body: Any) -> int | None:
    """When an answer says that it was made, in UTC microseconds; None where it does not."""
    for chunk in (body.get("stream") or [body]) if isinstance(body, dict) else ():
        for part in (chunk, chunk.get("response"), chunk.get("message")) if isinstance(chunk, dict) else ():
            for field in ("created", "created_at", "createTime") if isinstance(part, dict) else ():
                value = part.get(field)
                if isinstance(value, str):
                    try:
                        value = datetime.fromisoformat(value[:19]).replace(tzinfo=UTC).timestamp()
                    except ValueError:
                        continue
                if isinstance(value, int | float) and 1_500_000_000 < value < 2_000_000_000:
                    return int(value) * 1_000_000
    return None


def test_every_call_has_a_price_of_its_own_day_or_a_reason(shared: Path) -> None:
    book, oracle = load_book(), Oracle(BUILT_IN)
    dated: Counter[bool] = Counter()
    table: Counter[tuple[str, str]] = Counter()
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        for call in filter(lambda call: call["usage"] and call["status"] < 400, map(orjson.loads, lines)):
            made = recorded_at(call["response"])
            dated[made is not None] += 1
            at, model = made or NOW, model_of(call)
            row = book.plan(Key(call["provider"], model)).row(at, 100)
            said = oracle.list_prices(call["provider"], model, "", "", utc(at))
            reason = NO_PRICE[-1 - row] if row < 0 else ""
            assert reason == (said if isinstance(said, str) else ""), (call["id"], model, at)
            table[reason or "priced", call["provider"] if reason else ""] += 1
    for (reason, provider), count in sorted(table.items()):
        print(f"{reason:20} {provider:20} {count:6,}")
    print(f"{dated[True]:,} at their own time, {dated[False]:,} that tell none at 2026-10")
    assert dated[True] > 2_500
    assert table["priced", ""] / dated.total() >= 0.97
