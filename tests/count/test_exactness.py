"""How many real prompts are counted to the token, against what the vendors reported. Prints the table (-s)."""

from __future__ import annotations

import copy
import os
import statistics
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.call import Content
from tests.count.reader import Real, read
from transforms.count import families
from transforms.count.counting import Counter
from transforms.count.families import family
from transforms.count.tokenizers import PACKAGED, available, tokenizer

HARMONY = "o200k_harmony"


class Pair(NamedTuple):
    """What was counted, what the vendor reported, what the cookbook's formula and litellm give (None where they have nothing),
    the repository, and how far the count may be off."""

    counted: int
    reported: int
    cookbook: int | None
    litellm: int | None
    repository: str
    error: int | None = 0

    @property
    def half(self) -> int:
        return zlib.crc32(self.repository.encode()) % 2

    @property
    def off(self) -> float:
        return abs(self.counted - self.reported) / self.reported


Table = dict[tuple[str, str], list[Pair]]


def cookbook(content: Content, model: str) -> int:
    """OpenAI's published formula: three tokens a message, its role, its text, its name and one, and three at the end."""
    count = tokenizer(family(model).tokenizer).count
    texts = sum(count(part.text) for message in content.prompt for part in message.parts)
    names = sum(1 + count(message.name) for message in content.prompt if message.name)
    return texts + names + sum(3 + count(message.role) for message in content.prompt) + 3


def litellm_count(request: dict[str, Any]) -> int | None:
    """What litellm counts; None where it raises."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is fetched
    import litellm

    try:
        return int(litellm.token_counter(model=request["model"], messages=request["messages"], tools=request.get("tools")))
    except Exception:  # it downloads pictures, and does not know every shape of a request
        return None


def category(content: Content) -> str:
    kinds = {part.kind for message in content.prompt for part in message.parts}
    if "media" in kinds:
        media = [part.media for message in content.prompt for part in message.parts if part.media is not None]
        if any(one.kind != "image" for one in media):
            return "files and sound"
        return "images" if all(one.width and not one.guessed for one in media) else "images not in the log"
    if not content.complete:
        return "partly at the vendor"
    if content.tools_json:
        return "tools and schema" if content.schema_json else "tools"
    if content.schema_json:
        return "schema"
    return "tool history" if kinds & {"call", "result"} else "plain text"


@pytest.fixture(scope="module")
def tables(shared: Path) -> tuple[Table, Table, Table, Table]:
    """(counted, reported) of input and output by API and category, of estimated input by family, and of models counted with open
    tokenizers: by maker and what is counted."""
    counter = Counter()
    inputs: Table = defaultdict(list)
    outputs: Table = defaultdict(list)
    estimates: Table = defaultdict(list)
    opened: Table = defaultdict(list)
    again: list[Real] = []  # what is estimated where its tokenizer is absent
    for real in read(shared):
        call = real.call
        if "gemini" in call.model.lower():
            again.append(copy.deepcopy(real))
        assert call.content is not None
        content, kind = call.content, category(call.content)
        chat = call.api == "openai.chat" and call.provider in ("openai", "azure")
        others = (cookbook(call.content, call.model), litellm_count(real.request)) if chat else (None, None)
        counter.count(call)
        if call.counted_with in PACKAGED or call.counted_with == HARMONY:
            _add_open(opened, real, kind)
        if call.provider in ("openai", "azure") and call.count_quality in ("exact_tokenizer", "partial"):
            if call.counted_input is not None and real.vendor_input is not None:
                pair = Pair(call.counted_input, real.vendor_input, *others, real.repository)
                inputs[call.api, kind].append(pair)
                inputs[call.api, "all"].append(pair)
            if call.counted_output is not None and real.vendor_output is not None:
                said = "tool calls" if call.answer_call_tokens else "text"
                if not content.complete:
                    said += ", partly seen"
                elif real.reasoning or content.reasoned:
                    said += ", reasoned"
                visible = real.vendor_output - real.reasoning
                outputs[call.api, said].append(Pair(call.counted_output, visible, None, None, real.repository))
        elif call.count_quality == "estimate" and "gemini" not in call.model.lower():
            _add_estimate(estimates, real, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "available", lambda name: name not in PACKAGED)
        family.cache_clear()
        for real in again:
            assert real.call.content is not None
            kind = category(real.call.content)
            counter.count(real.call)
            if real.call.count_quality == "estimate":
                _add_estimate(estimates, real, kind)
    family.cache_clear()
    return inputs, outputs, estimates, opened


def _add_estimate(estimates: Table, real: Real, kind: str) -> None:
    call = real.call
    if not real.vendor_input:
        return
    makers = ("claude", "gemini", "llama", "deepseek", "qwen", "grok", "mistral")
    name = next((maker for maker in makers if maker in call.model.lower()), "other")
    assert call.counted_input is not None
    pair = Pair(call.counted_input, real.vendor_input, None, None, real.repository, call.counted_input_error)
    for group in ("all", kind):
        estimates[name, group].append(pair)
    if call.counted_output is not None and real.vendor_output and not real.reasoning:
        said = "answer: calls" if call.answer_call_tokens else "answer: text"
        error = call.counted_output_error
        estimates[name, said].append(Pair(call.counted_output, real.vendor_output, None, None, real.repository, error))


def _add_open(opened: Table, real: Real, kind: str) -> None:
    call = real.call
    maker = "gpt-oss" if call.counted_with == HARMONY else PACKAGED[call.counted_with].split("-")[0]
    maker = "llama guard" if "guard" in call.model.lower() and maker == "llama" else maker
    if "gemini" in call.model.lower():
        maker = "vertex" if call.provider in ("vertex", "vercel-gateway") else "gemini"
    sure = call.count_quality == "exact_tokenizer"
    if call.counted_input is not None and real.vendor_input:
        pair = Pair(call.counted_input, real.vendor_input, None, None, real.repository, call.counted_input_error)
        if sure or kind in ("tools", "schema"):
            told = {"plain text": "exact prompt", "schema": "exact, with schema"}.get(kind, "exact, with tools")
            opened[maker, told if sure else f"{kind}, estimate"].append(pair)
    if sure and call.counted_output is not None and real.vendor_output and not real.reasoning and call.counted_output_error == 0:
        told = "exact call" if call.answer_call_tokens else "exact answer"
        opened[maker, told].append(Pair(call.counted_output, real.vendor_output, None, None, real.repository))


def exact(pairs: list[Pair]) -> float:
    return sum(pair.counted == pair.reported for pair in pairs) / len(pairs)


def show(title: str, table: Table) -> None:
    """Beside all calls, those of every second repository: a rule that holds for one half only is none."""
    print(f"\n{title:<44} {'n':>5} {'exact':>7} {'half':>7} {'half':>7} {'cookbook':>8} {'litellm':>8} {'median':>7} {'p95':>6}  abs. error in tokens")
    for (api, kind), pairs in sorted(table.items()):
        errors = sorted(abs(pair.counted - pair.reported) for pair in pairs)
        p95 = errors[min(len(errors) - 1, len(errors) * 95 // 100)]
        halves = [[pair for pair in pairs if pair.half == half] for half in (0, 1)]
        shares = "".join(f" {exact(half):>7.1%}" if half else f" {'':>7}" for half in halves)
        others = ""
        for theirs in (
            [pair.cookbook == pair.reported for pair in pairs],
            [pair.litellm == pair.reported for pair in pairs],
        ):
            others += f" {sum(theirs) / len(theirs):>8.1%}" if pairs[0].cookbook is not None else f" {'':>8}"
        print(f"{api:<20} {kind:<23} {len(pairs):>5} {exact(pairs):>7.1%}{shares}{others} {statistics.median(errors):>7} {p95:>6}")


def test_input(tables: tuple[Table, Table, Table, Table]) -> None:
    inputs, *_ = tables
    show("input", inputs)
    floors = {
        ("openai.chat", "all"): (2000, 0.965),
        ("openai.chat", "plain text"): (700, 0.99),
        ("openai.chat", "tools"): (800, 0.96),
        ("openai.chat", "tool history"): (15, 0.95),
        ("openai.chat", "schema"): (120, 0.98),
        ("openai.chat", "tools and schema"): (50, 0.98),
        ("openai.chat", "images"): (50, 0.95),
        ("openai.embeddings", "plain text"): (60, 0.97),
        ("openai.completions", "plain text"): (40, 0.98),
        ("openai.responses", "plain text"): (280, 0.97),
        ("openai.responses", "schema"): (50, 0.96),
        ("openai.responses", "tools"): (250, 0.87),
    }
    pictures = inputs["openai.chat", "images"] + inputs["openai.chat", "images not in the log"]
    assert exact(pictures) >= 0.90
    for key, (least, floor) in floors.items():
        assert len(inputs[key]) >= least, key
        assert exact(inputs[key]) >= floor, key
    assert all(abs(pair.counted - pair.reported) <= 1 for pair in inputs["openai.embeddings", "plain text"])


def test_output(tables: tuple[Table, Table, Table, Table]) -> None:
    _, outputs, *_ = tables
    show("output without its reasoning", outputs)
    floors = {
        ("openai.chat", "text"): (1300, 0.98),
        ("openai.chat", "tool calls"): (500, 0.99),
        ("openai.completions", "text"): (40, 0.97),
        ("openai.responses", "text"): (350, 0.98),
        ("openai.responses", "tool calls"): (110, 0.94),
    }
    for key, (least, floor) in floors.items():
        assert len(outputs[key]) >= least, key
        assert exact(outputs[key]) >= floor, key


@pytest.mark.skipif(
    not os.environ.get("CI") and not all(map(available, PACKAGED)), reason="the extra tokenizers is not installed"
)
def test_open_tokenizers(tables: tuple[Table, Table, Table, Table]) -> None:
    """Texts of open models, to the token. Framing was read off the templates and one half of the repositories; most makers'
    calls are nearly all of one half, and the table shows how many of each."""
    *_, opened = tables
    show("open models", opened)
    for (maker, kind), pairs in sorted(opened.items()):
        halves = [[pair for pair in pairs if pair.half == half] for half in (0, 1)]
        print(f"{maker:<20} {kind:<23} " + "".join(f" {len(half):>5}: in band {within(half):>7.1%}" for half in halves if half))
    floors = {
        ("llama guard", "exact prompt"): (500, 0.99),
        ("llama guard", "exact answer"): (500, 0.99),
        ("llama", "exact prompt"): (90, 0.95),
        ("llama", "exact answer"): (90, 0.95),
        ("llama", "exact, with schema"): (8, 0.99),
        ("qwen", "exact prompt"): (80, 0.86),
        ("qwen", "exact, with schema"): (7, 0.99),
        ("deepseek", "exact prompt"): (30, 0.85),
        ("mistral", "exact prompt"): (45, 0.83),
        ("mistral", "exact answer"): (60, 0.85),
        ("mistral", "exact, with tools"): (125, 0.90),
        ("mistral", "exact call"): (80, 0.90),
        ("gemini", "exact prompt"): (150, 0.96),
        ("gemini", "exact, with schema"): (40, 0.99),
        ("vertex", "exact prompt"): (40, 0.89),
        ("gpt-oss", "exact prompt"): (75, 0.99),
    }
    for key, (least, floor) in floors.items():
        assert len(opened[key]) >= least, key
        assert exact(opened[key]) >= floor, key
    for maker in ("llama", "qwen", "deepseek", "gpt-oss"):
        assert statistics.median(pair.off for pair in opened[maker, "tools, estimate"]) <= 0.08, maker
        assert within(opened[maker, "tools, estimate"]) >= 0.90, maker


def banded(pairs: list[Pair]) -> list[Pair]:
    """Those with a stated band: an answer that was thought about has none."""
    return [pair for pair in pairs if pair.error is not None]


def within(pairs: list[Pair]) -> float:
    """Share of the reported counts that the stated bands hold."""
    return sum(abs(pair.counted - pair.reported) <= (pair.error or 0) for pair in banded(pairs)) / max(1, len(banded(pairs)))


def width(pairs: list[Pair]) -> float:
    """Median half-width of the bands, as a share of the count."""
    return statistics.median([(pair.error or 0) / max(1, pair.counted) for pair in banded(pairs)] or [0.0])


def test_estimates(tables: tuple[Table, Table, Table, Table]) -> None:
    """Of models whose tokenizer is not public: how far estimates are off, and whether the stated bands hold nine of ten."""
    _, _, estimates, _ = tables
    head = "".join(f"   {name:>8}: median    p90  in band   width" for name in ("all", "half", "half"))
    print(f"\n{'estimates':<34} {'n':>5}{head}")
    for (name, kind), pairs in sorted(estimates.items()):
        line = f"{name:<10} {kind:<23} {len(pairs):>5}"
        for half in (None, 0, 1):
            some = sorted((pair for pair in pairs if half is None or pair.half == half), key=lambda pair: pair.off)
            if some:
                p90 = some[min(len(some) - 1, len(some) * 9 // 10)].off
                held = f"{within(some):>8.1%} {width(some):>7.1%}" if banded(some) else " " * 16
                line += f"   {len(some):>8}: {statistics.median(pair.off for pair in some):>6.1%} {p90:>6.1%} {held}"
            else:
                line += " " * 43
        print(line)
    halves = {
        (name, kind, half): [pair for pair in pairs if pair.half == half]
        for (name, kind), pairs in estimates.items()
        for half in (0, 1)
    }
    for half in (0, 1):
        for name, least in (("claude", 350), ("gemini", 250)):
            every = halves[name, "all", half]
            assert len(every) > least, name
            assert statistics.median(pair.off for pair in every) <= 0.02, name
            assert within(every) >= 0.90, name
            assert width(every) <= 0.10, name
            assert statistics.median(pair.off for pair in halves[name, "tools", half]) <= 0.02, name
            assert statistics.median(pair.off for pair in halves[name, "answer: text", half]) <= 0.04, name
            assert statistics.median(pair.off for pair in halves[name, "answer: calls", half]) <= 0.04, name
    for name, table in (("llama", "llama3"), ("deepseek", "deepseek"), ("qwen", "qwen")):
        if not available(table):
            assert statistics.median(pair.off for pair in estimates[name, "plain text"]) <= 0.10, name
