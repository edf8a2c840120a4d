"""Texts with known token counts, made fast: runs of pre-counted sentences.

Counting every generated text would cost more than making it. A pool of sentences is counted once; a text is a run of
neighbouring sentences, so its count is a difference of two sums. That is exact because the tables' pre-tokenizer never
spans the joints: a sentence begins with a letter, which takes a preceding space into its own token, and ends with a
full stop, which takes following line breaks into its own token.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from sources.generate.tokens import counter
from sources.generate.words import ADVICE, ENGLISH, OTHERS, Grammar

BREAK: Final = "\n\n"
_POOL_SEED: Final = 20260301


class Text(NamedTuple):
    """A text and its tokens: ``tokens`` in o200k_base, ``broken`` the tokens when a blank line follows it."""

    text: str
    tokens: int
    broken: int


class Pool:
    """Counted sentences of one language, laid end to end, of which any run can be taken."""

    def __init__(self, sentences: Sequence[str], table: str = "o200k_base") -> None:
        count = counter(table)
        self.size = len(sentences)
        # A run may cross the end of the pool, so the sentences are laid down twice.
        twice = [*sentences, *sentences]
        self._text = " ".join(twice)
        self._starts = [0, *accumulate(len(sentence) + 1 for sentence in twice)]
        first = [count(sentence) for sentence in sentences]
        inner = [count(" " + sentence) for sentence in sentences]
        self._first = first * 2
        self._sums = [0, *accumulate(inner * 2)]
        self._break = [count(s + BREAK) - n for s, n in zip(sentences, first, strict=True)] * 2
        self.mean_tokens = self._sums[self.size] / self.size

    def run(self, start: int, sentences: int) -> Text:
        """``sentences`` neighbouring sentences from ``start`` on. ``0 ≤ start < size``, ``1 ≤ sentences ≤ size``."""
        end = start + sentences
        sums, starts = self._sums, self._starts
        tokens = self._first[start] + sums[end] - sums[start + 1]
        return Text(self._text[starts[start] : starts[end] - 1], tokens, tokens + self._break[end - 1])


def sentences(grammar: Grammar, number: int, seed: int = _POOL_SEED) -> list[str]:
    """``number`` different sentences of a grammar (fewer where it has not so many), the same for a seed."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    for _ in range(number * 4):
        words = [part[int(rng.random() * len(part))] for part in grammar[:4]]
        filled = "".join(str(100 + int(rng.random() * 899)) if letter == "#" else letter for letter in grammar.joint.join(words))
        found[filled + grammar.end] = None
        if len(found) == number:
            break
    return list(found)


@functools.cache
def pool(language: str) -> Pool:
    """The pool of a language: ``en``, ``advice`` (system prompts) or a key of ``OTHERS``; o200k counts."""
    if language == "en":
        return Pool(sentences(ENGLISH, 2500))
    if language == "advice":
        return Pool(sentences(ADVICE, 800))
    return Pool(sentences(OTHERS[language], 250))


@functools.cache
def embedding_pool() -> Pool:
    """English with cl100k counts, the table of OpenAI's embedding models."""
    return Pool(sentences(ENGLISH, 2500), "cl100k_base")


def compose(pool_: Pool, rng: random.Random, tokens: float) -> Text:
    """A text of about ``tokens`` tokens (at least one sentence): two runs of sentences in one paragraph each."""
    draw = rng.random
    number = max(1, int(tokens / pool_.mean_tokens + draw()))
    size = pool_.size
    if number == 1:
        return pool_.run(int(draw() * size), 1)
    # Two runs make repeats of long texts as rare as they are among people.
    half = min(number // 2, size)
    one, _, broken = pool_.run(int(draw() * size), half)
    two, tokens_two, broken_two = pool_.run(int(draw() * size), min(number - half, size))
    return Text(one + BREAK + two, broken + tokens_two, broken + broken_two)


def join(parts: Iterable[Text]) -> Text:
    """Paragraphs with a blank line between them."""
    texts, tokens, broken = [], 0, 0
    for text, alone, followed in parts:
        texts.append(text)
        tokens = broken + alone
        broken += followed
    return Text(BREAK.join(texts), tokens, broken)
