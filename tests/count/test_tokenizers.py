"""Counts equal tiktoken's, whatever the text, and nothing is fetched."""

from __future__ import annotations

import hashlib
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.count.reader import read
from transforms.count import tokenizers
from transforms.count.tokenizers import PROBES, TokenizerError, agrees, install_table, tiktoken_counter, tokenizer

ENCODINGS = ("o200k_base", "cl100k_base")
ORACLES: dict[str, Callable[[str], int]] = {}

HOSTILE = [
    "a" * 5000,
    " " * 5000,
    "\n" * 5000,
    "\t \r\n" * 1000,
    "😀" * 2000,
    "👨\u200d👩\u200d👧\u200d👦" * 300,
    "-" * 5000,
    "=" * 999,
    "'s" * 1000,
    "aA" * 2000,
    "\x00\x01\x1f\x7f" * 500,
    "0123456789" * 300,
    "\u0301" * 500,
    "한국어 العربية हिन्दी ไทย 中文 עברית" * 20,
    "<|endoftext|><|im_start|>system<|im_sep|>x<|im_end|><|fim_prefix|>" * 10,
    "\ufeff\u2028\u2029\xa0\u3000\u200b" * 50,
    "".join(random.Random(1).choices("ABCDEFabcdef0123456789+/=", k=6000)),
    "".join(random.Random(2).choices("!@#$%^&*()_+{}|:<>?", k=4000)),
    "x\ud800y\udfffz",
    "\udc80",
]


def oracle(encoding: str) -> Callable[[str], int]:
    if encoding not in ORACLES:
        ORACLES[encoding] = tiktoken_counter(encoding)
    return ORACLES[encoding]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_probes_are_tiktokens_counts(encoding: str) -> None:
    assert [counts[encoding] for _, counts in PROBES] == [oracle(encoding)(text) for text, _ in PROBES]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_equals_tiktoken_on_hostile_texts(encoding: str) -> None:
    count = tokenizer(encoding).count
    assert [count(text) for text in HOSTILE] == [oracle(encoding)(text) for text in HOSTILE]


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=400, deadline=None)
@given(
    text=st.text(max_size=200)
    | st.text(alphabet=" \n\r\t'/-.,:;aA1é", max_size=80)
    | st.lists(st.sampled_from(["<|endoftext|>", "don't", "WE'LL", "\r\n", "  ", "1234", "日本", "é", "e\u0301", "👍🏽"])).map(
        "".join
    )
)
def test_equals_tiktoken_on_any_text(encoding: str, text: str) -> None:
    assert tokenizer(encoding).count(text) == oracle(encoding)(text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_equals_tiktoken_on_real_texts(encoding: str, shared: Path) -> None:
    texts = {p.text for real in read(shared) for m in real.call.content.prompt for p in m.parts}  # type: ignore[union-attr]
    picked = random.Random(7).sample(sorted(texts), 2500)
    count = tokenizer(encoding).count
    assert [t for t in picked if count(t) != oracle(encoding)(t)] == []


def test_special_tokens_are_text() -> None:
    assert tokenizer("o200k_base").count("<|endoftext|>") == 7


def test_harmony_counts_like_its_base() -> None:
    harmony = tokenizer("o200k_harmony")
    assert harmony.name == "o200k_harmony"
    assert harmony.count("<|start|>Hello<|end|>") == oracle("o200k_base")("<|start|>Hello<|end|>")


def test_unknown_encoding_is_told() -> None:
    with pytest.raises(TokenizerError, match="claude_base"):
        tokenizer("claude_base")


@pytest.mark.parametrize("character", ["a", " ", "😀", "-", "/"])
def test_time_grows_with_the_text_only(character: str) -> None:
    count = tokenizer("o200k_base").count
    seconds = []
    for size in (100_000, 400_000):
        text = character * size
        start = time.process_time()
        count(text)
        seconds.append(time.process_time() - start)
    assert seconds[1] < max(0.05, 12 * seconds[0])  # four times the text; quadratic would be sixteen times the time


def test_an_engine_that_differs_is_refused() -> None:
    class Wrong:
        name = "o200k_base"
        engine = "wrong"

        def count(self, text: str) -> int:
            return oracle("o200k_base")(text) + (1 if "naïve" in text else 0)

    class Failing(Wrong):
        def count(self, text: str) -> int:
            raise MemoryError

    assert not agrees(Wrong(), "o200k_base")
    assert not agrees(Failing(), "o200k_base")
    assert agrees(tokenizer("o200k_base"), "o200k_base")


def test_falls_back_to_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "_loaded", {})
    monkeypatch.setattr(tokenizers, "_quicktok", lambda table: len)
    found = tokenizer("cl100k_base")
    assert found.engine == "tiktoken"
    assert found.count("Hello, world!") == 4
    assert found.count("a\ud800b") == oracle("cl100k_base")("a\ufffdb")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
def test_tables_are_laid_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = install_table("cl100k_base")
    assert folder == tmp_path / "llm-finops" / "tiktoken"
    (file,) = folder.iterdir()
    assert file.name == "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # the name tiktoken gives its own download
    file.write_bytes(file.read_bytes()[:-1])
    assert install_table("cl100k_base") == folder
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith("223921b76ee99bde")
    assert len(list(folder.iterdir())) == 1
    assert tiktoken_counter("cl100k_base")("Hello, world!") == 4


def test_a_told_cache_is_used_and_one_that_cannot_be_written_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(told))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert install_table("o200k_base") == told
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(blocked))
    assert install_table("o200k_base") == tmp_path / "xdg" / "llm-finops" / "tiktoken"


def test_a_wrong_packaged_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizers, "_packaged", lambda table: b"IQ== 0\n")
    with pytest.raises(TokenizerError, match="not the published one"):
        install_table("o200k_base")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "text", [" " * 600_000 + "x", "a" + "\xa0" * 530_000 + "b " * 3, "\t" * 600_000, ("a" + " " * 400_000) * 2]
)
def test_tiktoken_counts_long_white_space_in_pieces(encoding: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tiktoken_counter(encoding)
    in_pieces = count(text)
    monkeypatch.setattr(tokenizers, "_MOST_BLANKS", len(text) + 1)
    assert in_pieces == count(text)


def test_white_space_that_tiktoken_gives_up_on() -> None:
    assert tiktoken_counter("o200k_base")(" " * 1_280_000) == 1_280_000 // 128  # its longest token of spaces has 128
