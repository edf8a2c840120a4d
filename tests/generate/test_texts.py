"""Token counts that are added up must be those of the whole text, by the tokenizer the vendor publishes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sources.generate.fleet import APPS, CLOCK, clock_line, prompt
from sources.generate.texts import BREAK, Pool, compose, embedding_pool, join, pool
from sources.generate.words import OTHERS
from tests.generate.oracle import encode

LANGUAGES = ("en", "advice", *OTHERS)


@given(st.sampled_from(LANGUAGES), st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 40)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_counts_of_runs_and_paragraphs_are_those_of_the_text(language: str, parts: list[tuple[float, int]]) -> None:
    words = pool(language)
    texts = [words.run(int(start * words.size), number) for start, number in parts]
    for text in texts:
        assert text.tokens == len(encode(text.text))
        assert text.broken == len(encode(text.text + BREAK))
    whole = join(texts)
    assert whole.text == "\n\n".join(text.text for text in texts)
    assert whole.tokens == len(encode(whole.text))
    assert whole.broken == len(encode(whole.text + BREAK))


@given(st.integers(0, 10**6), st.floats(1, 3000))
@settings(deadline=None, max_examples=60)
def test_embedding_texts_are_counted_with_their_own_table(seed: int, tokens: float) -> None:
    text = compose(embedding_pool(), random.Random(seed), tokens)
    assert text.tokens == len(encode(text.text, "cl100k_base"))


def test_languages_mix_in_one_prompt() -> None:
    rng = random.Random(5)
    texts = [compose(pool(language), rng, 120) for language in LANGUAGES * 3]
    rng.shuffle(texts)
    whole = join(texts)
    assert whole.tokens == len(encode(whole.text))


@pytest.mark.parametrize("tokens", [1, 20, 200, 5000])
def test_a_composed_text_is_about_as_long_as_asked(tokens: int) -> None:
    rng = random.Random(2)
    mean = sum(compose(pool("en"), rng, tokens).tokens for _ in range(200)) / 200
    assert max(tokens, 12) * 0.8 < mean < max(tokens, 20) * 1.2


def test_a_run_may_cross_the_end_of_the_pool() -> None:
    words = Pool(["Alpha has come.", "Beta is here.", "Gamma left."])
    assert words.run(2, 3).text == "Gamma left. Alpha has come. Beta is here."


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_the_time_at_the_head_of_a_prompt_always_costs_the_same(
    year: int, hour: int, minute: int, second: int, milli: int
) -> None:
    line = clock_line(f"20{year:02d}-03-02", f"{hour:02d}:{minute:02d}:{second:02d}.{milli:03d}")
    assert len(line) == len(CLOCK)
    assert len(encode(line)) == len(encode(CLOCK))


def test_prompts_are_as_long_as_they_say() -> None:
    for app in APPS:
        if app.api == "openai.embeddings":
            continue
        first = prompt(app)
        assert first.system.tokens == len(encode(first.system.text))
        grown = prompt(app, "2026.3.1", 8000)
        rate = 1.06 if app.provider == "anthropic" else 1  # Claude has more tokens, some texts a few more or less
        assert 7600 * rate < grown.static - first.static < 8400 * rate
        assert grown.system.text.startswith(first.system.text)
        clocked = prompt(app, "2026.3.2", clocked=True)
        assert clocked.static - first.static == round(rate * (len(encode(CLOCK + "It")) - 1))
