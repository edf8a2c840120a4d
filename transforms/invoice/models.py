"""Which provider, model and kind of tokens the words of an invoice mean."""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from schemas.invoice import LENGTHS
from transforms.price.book import Book, Key

_ITEM: Final = re.compile(
    r"(?:[\w -]+ \| )?(?P<model>[^\s,|]+)(?: (?P<modality>text|audio|image))?, (?P<kind>[a-z -]*(?:input|output))(?:,.*)?", re.I
)
"""An item of OpenAI's costs: ``gpt-4o-2024-08-06, cached input``, ``priority | gpt-5, output, long context``."""

_TOKENS: Final = re.compile(r"(?:(?P<count>[\d.]+)\s*)?(?P<scale>k|m|thousand|thousands|million|millions)?\s*tokens?", re.I)
_SCALES: Final = {"k": 1000, "thousand": 1000, "m": 10**6, "million": 10**6}

_FOR: Final = {
    "cache_write_5m": re.compile(r"(?<![\d.])5[ _-]?m(?:in(?:ute)?s?)?(?![a-z])"),
    "cache_write_1h": re.compile(r"(?<![\d.])1[ _-]?h(?:(?:ou)?rs?)?(?![a-z])"),
}

_SERVICES: Final = (
    (("aws", "amazon"), (("bedrock", "bedrock"),)),
    (
        ("microsoft", "azure"),
        (("openai", "azure"), ("foundry", "azure"), ("cognitive services", "azure"), ("ai services", "azure")),
    ),
    (("google",), (("vertex", "vertex"), ("gemini", "gemini"), ("generative language", "gemini"))),
)
"""Clouds sell much else: which of their services are models, and how our calls name their provider."""


class Item(NamedTuple):
    """What a text says is charged; empty where it does not say."""

    model: str
    kind: str


class Models:
    """Names of models as the price book knows them, so that an invoice and a log mean the same by different spellings."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._providers = frozenset(entry.provider for entry in book.entries)
        self._known: dict[tuple[str, str, int], str | None] = {}

    def known(self, provider: str, name: str, second: int) -> str | None:
        """The book's name of a model at that time (UTC seconds); None if it has none."""
        key = (provider, name, second // 86_400)
        if key not in self._known:
            row = self._book.plan(Key(provider, name)).row(second * 1_000_000, 0)
            self._known[key] = self._book.entries[row].model if row >= 0 else None
        return self._known[key]

    def named(self, provider: str, name: str, second: int) -> str:
        """The book's name of a model, else the name as it is."""
        return self.known(provider, name, second) or name

    def writes(self, provider: str, name: str, second: int) -> tuple[int, int] | None:
        """List prices of a cache write of five minutes and of one hour at that time, in one unit; None if one is not known."""
        row = self._book.plan(Key(provider, name)).row(second * 1_000_000, 0)
        rates = self._book.entries[row].rates if row >= 0 else {}
        short, long = (rates.get(f"input_{kind}") for kind in LENGTHS)
        return None if short is None or long is None else (short, long)

    def provider(self, names: tuple[str, ...], service: str, ai: bool) -> str:
        """How our calls name who sells this service; empty if it is not one of models.

        ``names``: of provider, publisher and the like; ``ai``: the invoice says that it is.
        """
        said = [name.lower() for name in names if name]
        for sellers, services in _SERVICES:
            if any(seller in name for seller in sellers for name in said[:1]):
                return next((ours for word, ours in services if word in service.lower()), "")
        for name in said:
            for spelling in (_slug(name), *re.findall(r"\w+", name)[:1]):
                if spelling in self._providers:
                    return str(spelling)
        return _slug(said[0]) if ai and said else ""


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def item(text: str) -> Item:
    """What an item of the form ``model, kind`` charges."""
    found = _ITEM.fullmatch(text.strip())
    return Item(found["model"], kind_of(f"{found['modality'] or ''} {found['kind']}")) if found else Item("", "")


def kind_of(text: str) -> str:
    """The kind of tokens that words such as "Cached Input Tokens" or "Inp" name; empty if none, or several."""
    words = set(re.findall(r"[a-z]+", text.lower().replace("cachedinp", "cached inp")))
    into = bool(words & {"input", "inp", "prompt", "inputs"})
    out = bool(words & {"output", "outp", "opt", "out", "completion", "outputs", "reasoning"})
    if words & {"cache", "cached", "cachd"} and not out:
        return _write(text.lower()) if words & {"write", "writes", "creation"} else "cached_input"
    if into == out:
        return ""
    if words & {"audio", "image", "aud", "img"}:
        return "other"
    return "input" if into else "output"


def _write(text: str) -> str:
    """The kind of a cache write by for how long its words say that it is."""
    said = [kind for kind, pattern in _FOR.items() if pattern.search(text)]
    return said[0] if len(said) == 1 else "cache_write"


@functools.lru_cache(maxsize=1000)
def tokens_per(unit: str) -> int:
    """How many tokens a unit such as "Tokens", "1K tokens" or "1000 Tokens" is; 0: it is not one of tokens."""
    found = _TOKENS.fullmatch(unit.strip().replace(",", ""))
    if not found:
        return 0
    count = float(found["count"] or 1)
    return int(count * _SCALES.get((found["scale"] or "").lower().rstrip("s"), 1)) if count == int(count) else 0
