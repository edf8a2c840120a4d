"""How many real prompts are counted to the token, against what the vendors reported. Prints the table (-s)."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from schemas.call import Content
from tests.count.reader import read
from transforms.count.counting import Counter

Table = dict[tuple[str, str], list[tuple[int, int]]]


def category(content: Content) -> str:
    kinds = {part.kind for message in content.prompt for part in message.parts}
    if "media" in kinds:
        return "media"
    if content.tools_json:
        return "tools and schema" if content.schema_json else "tools"
    if content.schema_json:
        return "schema"
    return "tool history" if kinds & {"call", "result"} else "plain text"


@pytest.fixture(scope="module")
def tables(shared: Path) -> tuple[Table, Table, Table]:
    """(counted, reported) of input and output by API and category, and of estimated input by family."""
    counter = Counter()
    inputs: Table = defaultdict(list)
    outputs: Table = defaultdict(list)
    estimates: Table = defaultdict(list)
    for real in read(shared):
        call = real.call
        assert call.content is not None
        kind = category(call.content)
        complete = call.content.complete
        counter.count(call)
        if call.provider in ("openai", "azure") and call.count_quality in ("exact_tokenizer", "partial"):
            if call.counted_input is not None and real.vendor_input is not None:
                inputs[call.api, kind].append((call.counted_input, real.vendor_input))
            if call.counted_output is not None and real.vendor_output is not None and not real.reasoning:
                said = "tool calls" if call.answer_call_tokens else "text"
                outputs[call.api, said].append((call.counted_output, real.vendor_output))
        elif call.count_quality == "estimate" and complete and kind == "plain text" and real.vendor_input:
            family = next(
                (f for f in ("claude", "gemini", "llama", "deepseek", "qwen", "grok", "mistral") if f in call.model.lower()),
                "other",
            )
            assert call.counted_input is not None
            estimates["input", family].append((call.counted_input, real.vendor_input))
    return inputs, outputs, estimates


def exact(pairs: list[tuple[int, int]]) -> float:
    return sum(counted == reported for counted, reported in pairs) / len(pairs)


def show(title: str, table: Table) -> None:
    print(f"\n{title:<44} {'n':>5} {'exact':>7} {'median':>7} {'p95':>6}  abs. error in tokens")
    for (api, kind), pairs in sorted(table.items()):
        errors = sorted(abs(counted - reported) for counted, reported in pairs)
        p95 = errors[min(len(errors) - 1, len(errors) * 95 // 100)]
        print(f"{api:<20} {kind:<23} {len(pairs):>5} {exact(pairs):>7.1%} {statistics.median(errors):>7} {p95:>6}")


def test_input(tables: tuple[Table, Table, Table]) -> None:
    inputs, _, _ = tables
    show("input", inputs)
    floors = {
        ("openai.chat", "plain text"): (700, 0.985),
        ("openai.chat", "tools"): (800, 0.72),
        ("openai.chat", "schema"): (120, 0.90),
        ("openai.chat", "tools and schema"): (50, 0.95),
        ("openai.chat", "media"): (40, 0.35),
        ("openai.embeddings", "plain text"): (60, 0.97),
        ("openai.completions", "plain text"): (40, 0.98),
        ("openai.responses", "plain text"): (280, 0.90),
        ("openai.responses", "tools"): (250, 0.45),
    }
    for key, (least, floor) in floors.items():
        assert len(inputs[key]) >= least, key
        assert exact(inputs[key]) >= floor, key
    assert all(abs(counted - reported) <= 1 for counted, reported in inputs["openai.embeddings", "plain text"])


def test_output(tables: tuple[Table, Table, Table]) -> None:
    _, outputs, _ = tables
    show("output without reasoning", outputs)
    assert exact(outputs["openai.chat", "text"]) >= 0.90
    assert exact(outputs["openai.chat", "tool calls"]) >= 0.80
    assert exact(outputs["openai.responses", "text"]) >= 0.75


def test_estimates(tables: tuple[Table, Table, Table]) -> None:
    _, _, estimates = tables
    show("estimated input, plain text", estimates)
    for family in ("claude", "gemini", "llama", "deepseek", "qwen"):
        errors = [abs(counted - reported) / max(20, reported) for counted, reported in estimates["input", family]]
        assert statistics.median(errors) <= 0.10, family
