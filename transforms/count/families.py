"""Model name → how its tokens are counted.

Framing constants were inferred from recorded calls with vendor-reported usage (see docs/counting.md); image
constants are published in the vendors' guides. For models without a public table here, tokens are estimated from
o200k_base by one ratio and one offset for each generation, fitted on recorded calls; for Claude and Gemini, how
prompts are written is known, too. Models whose makers publish their tokenizers are counted with these where the
extra ``tokenizers`` is installed, framed as their chat templates say.
"""

from __future__ import annotations

import functools
import math
import re
from enum import Enum
from typing import Any, Final, NamedTuple

from schemas.call import Media
from transforms.count.dialects import DECLARED, JSON, PYTHON, TEXTS, Dialect, no_schema
from transforms.count.templates import MISTRAL, Template
from transforms.count.tokenizers import available


class Tiles(NamedTuple):
    """Images cost ``base`` plus ``tile`` for each 512-pixel tile; low detail costs ``base``."""

    base: int
    tile: int


class Patches(NamedTuple):
    """Images cost ``permille`` / 1000 tokens for each 32-pixel patch; larger ones are shrunk to ``budget`` patches.

    Published multipliers (1.62, 2.46, 1.72) are a little less than what recorded calls were billed.
    """

    permille: int
    budget: int = 1536


class Grid(NamedTuple):
    """Images cost the cells of a grid of their shape, as many as ``budget`` allows."""

    budget: int


class Crops(NamedTuple):
    """Images cost ``each`` for every crop and, of several, for the whole; a crop is as wide as two thirds of the shorter side,
    and at least 256 and at most 768 pixels. Those of at most 384 pixels are one."""

    each: int


class StandIn(NamedTuple):
    """How a tokenizer that is not public differs from the one that stands in for it, found on recorded calls.

    Tokens more, in 1/1000: ``digits`` for each digit beyond one for three, ``schema`` for each token of a response schema.
    """

    digits: int = 0
    schema: int = 0

    def more(self, text: str) -> int:
        """Tokens that ``text`` has beyond those of the stand-in."""
        digits = sum(len(run) - -(-len(run) // 3) for run in _DIGITS.findall(text)) if self.digits else 0
        return (self.digits * digits + 500) // 1000


_DIGITS: Final = re.compile("[0-9]{2,}")


class Hidden(NamedTuple):
    """Tokens of instructions that a vendor adds and nobody sees: with tools, with tools of which one must be called, with a
    response schema, and where the model thinks before it answers."""

    tools: int = 0
    forced: int = 0
    schema: int = 0
    thinking: int = 0


class Band(NamedTuple):
    """Half-width of the band around an estimate that holds nine of ten true counts: ``tokens`` and ``permille`` / 1000 of it."""

    tokens: int
    permille: int

    def around(self, count: int) -> int:
        """Half-width in tokens around ``count``, rounded half up."""
        return self.tokens + (count * self.permille + 500) // 1000


class Turn(Enum):
    """How several calls of one turn are written in a history of the Responses API: in one message, each in one of its own, or
    as one call around them all."""

    JOINED = 1
    APART = 2
    WRAPPED = 3


class Family(NamedTuple):
    """How the prompts of one generation of models are counted.

    ``message``: tokens around each message, its role included; ``reply``: tokens that open the answer;
    ``assistant``: more for each assistant turn of the history. ``permille`` and ``offset`` turn counted tokens into an
    estimate where ``exact`` is false; they are 1000 and 0 elsewhere. ``system``, where it is told: tokens around a system
    message. How far counts may be off: ``band`` of a prompt, ``tools_band`` of one with tools or a response schema,
    ``answer_band`` of an answer, ``call_band`` of one that calls tools.

    ``open``: counted with a published tokenizer and framed as the model's chat template does; ``exact`` holds for texts alone
    then, for hosts render tools each in their way; with ``template``, tools and calls are known, too. ``unasked``: tokens
    around the system message that the template writes where none is sent. ``single``: exact for prompts of one message only.
    """

    name: str
    tokenizer: str
    exact: bool
    message: int = 4
    reply: int = 3
    assistant: int = 0
    preamble: int = 0  # hidden text before the tools, chat API only
    round_trip: int = 0  # more for each turn of tool calls in the history, chat API
    responses_tools: int = -6  # what tools cost more on the Responses API
    responses_trip: int = 1  # more for each turn of tool calls in the history, Responses API
    responses_unstored: int = 0  # more where the one call of a turn has no id there
    responses_turn: Turn = Turn.JOINED
    result_called: bool = False  # a result names its tool as the call does
    tools_apart: bool = False  # the tools are a message of their own even beside a system prompt
    schema_named: bool = True  # the response schema's name is repeated at each assistant turn
    choice_named: bool = True  # the tool that is to be called is named in the prompt
    hidden_reasoning: bool = False  # billed output that no record shows
    text_close: int = 0  # closes an answer of text, beside the token that ends it
    call_close: int = 7  # wraps an answer that is one tool call
    responses_text_close: int = 0  # the same on the Responses API
    responses_call_close: int = 7
    responses_thought: int = 0  # more where an item of reasoning goes before, Responses API
    schema_close: int = 0  # more where the answer is held to a schema, of models that reason
    images: Tiles | Patches | Grid | Crops | None = None
    permille: int = 1000
    offset: int = 0
    system: int | None = None
    call: int = 8  # around a tool call of the history, on estimates
    stand_in: StandIn | None = None
    dialect: Dialect | None = None  # how tools, calls and results are written, where it is known
    hidden: Hidden = Hidden()
    band: Band = Band(0, 0)
    tools_band: Band = Band(0, 0)
    answer_band: Band = Band(0, 0)
    call_band: Band = Band(0, 0)
    open: bool = False
    unasked: int = 0
    single: bool = False
    template: Template | None = None
    schema_unread: bool = False  # a response schema is no part of the prompt, as recorded calls bear out

    @property
    def openai(self) -> bool:
        """Whether tools, calls and results are rendered as OpenAI does it, to the token."""
        return self.exact and not self.open

    def scaled(self, tokens: int) -> int:
        """``tokens`` of the family's stand-in tokenizer as an estimate of its own, rounded half up."""
        return tokens if self.permille == 1000 else (tokens * self.permille + 500) // 1000


_GPT4: Final = Family("gpt-4", "cl100k_base", True, responses_unstored=-3, images=Tiles(85, 170))
_GPT4O: Final = _GPT4._replace(name="gpt-4o", tokenizer="o200k_base")
_REASONING: Final = Family(
    "",
    "o200k_base",
    True,
    reply=2,
    responses_trip=4,
    responses_turn=Turn.APART,
    result_called=True,
    tools_apart=True,
    schema_named=False,
    choice_named=False,
    hidden_reasoning=True,
    call_close=16,
    responses_text_close=3,
    responses_call_close=10,
    responses_thought=2,
    schema_close=3,
)
_O: Final = _REASONING._replace(
    name="o-series", preamble=1, round_trip=3, text_close=12, responses_tools=-3, images=Tiles(75, 150)
)
_GPT5: Final = _REASONING._replace(
    name="gpt-5",
    assistant=2,
    preamble=82,
    round_trip=6,
    responses_tools=0,
    text_close=9,
    images=Tiles(70, 140),
)
_GPT54: Final = _GPT5._replace(
    name="gpt-5.4",
    responses_trip=7,
    responses_turn=Turn.WRAPPED,
    text_close=3,
    call_close=10,
    schema_close=4,
    images=Patches(1000, 2500),
)
_EMBEDDING: Final = Family("embedding", "cl100k_base", True)


def _estimate(name: str, permille: int, offset: int, tools: int = 0) -> Family:
    rough, wide = Band(6, 350), Band(60, 400) if tools else Band(20, 900)
    return Family(
        name,
        "o200k_base",
        False,
        permille=permille,
        offset=offset,
        hidden=Hidden(tools, tools),
        band=rough,
        tools_band=wide,
        answer_band=rough,
        call_band=Band(20, 900),
    )


_CLAUDE: Final = Family(
    "claude-4.5",
    "o200k_apart3",
    False,
    message=3,
    reply=4,
    system=0,
    schema_named=False,
    text_close=3,
    permille=1030,
    stand_in=StandIn(digits=160, schema=360),
    dialect=JSON,
    hidden=Hidden(497, 589, 98, 29),
    band=Band(1, 70),
    tools_band=Band(2, 37),
    answer_band=Band(1, 100),
    call_band=Band(15, 100),
)
"""Claude 4.5 and 4.6. Up to 4.6 all have one tokenizer; what is hidden differs."""
_CLAUDE_4: Final = _CLAUDE._replace(name="claude-4", hidden=Hidden(313, 305, 98, 29))
_CLAUDE_35: Final = _CLAUDE._replace(name="claude-3.5", hidden=Hidden(265, 360, 98, 29))
_CLAUDE_3: Final = _CLAUDE._replace(name="claude-3", hidden=Hidden(533, 358, 98, 29))
_CLAUDE_48: Final = _CLAUDE._replace(
    name="claude-4.8",
    permille=1350,
    reply=2,
    hidden=Hidden(335, 486, 98, 29),
    band=Band(3, 110),
    tools_band=Band(3, 110),
    answer_band=Band(3, 200),
    call_band=Band(4, 200),
)
"""Claude 4.8, and 5: another tokenizer. All recorded calls are of one half of the repositories."""
_CLAUDE_47: Final = _CLAUDE_48._replace(name="claude-4.7", reply=6, hidden=Hidden(680, 770, 98, 29))


_GEMINI: Final = Family(
    "gemini",
    "o200k_apart",
    False,
    message=1,
    reply=0,
    schema_named=False,
    choice_named=False,
    hidden_reasoning=True,
    stand_in=StandIn(),
    dialect=DECLARED,
    images=Grid(1120),
    band=Band(1, 25),
    tools_band=Band(2, 50),
    answer_band=Band(1, 25),
    call_band=Band(4, 50),
)
"""Gemini from 3 on."""
_GEMINI_25: Final = _GEMINI._replace(name="gemini-2.5", dialect=PYTHON, images=Tiles(258, 0))
_GEMINI_2: Final = _GEMINI._replace(
    name="gemini-2.0", message=0, hidden_reasoning=False, dialect=TEXTS, images=Crops(258)
)
_GEMINI_VERTEX: Final = _GEMINI._replace(name="gemini-vertex", message=0, dialect=TEXTS)
_GEMINI_25_VERTEX: Final = _GEMINI_VERTEX._replace(name="gemini-2.5-vertex", images=Tiles(258, 0))


def _google(estimated: Family, tokenizer: str) -> Family:
    """A generation of Gemini with its own table, which is Gemma's: what is written is known to the token where it is texts."""
    unread = estimated.dialect is not None and estimated.dialect.schema is no_schema
    name = f"{estimated.name}-{tokenizer}"
    return estimated._replace(name=name, tokenizer=tokenizer, exact=True, open=True, schema_unread=unread)


def _open(name: str, tokenizer: str, exact: bool, message: int, reply: int, tools: int = 0, **more: Any) -> Family:
    """Every template here writes tools as JSON, and ``tools`` tokens about them (a median of recorded calls). A response schema
    is held to by the sampler, and no part of the prompt."""
    return Family(
        name,
        tokenizer,
        exact,
        message=message,
        reply=reply,
        schema_named=False,
        open=True,
        stand_in=StandIn(schema=-1000),
        hidden=Hidden(tools, tools),
        text_close=more.pop("text_close", 1),
        band=Band(14, 40),
        tools_band=Band(60, 200),
        answer_band=Band(3, 60),
        call_band=Band(20, 600),
        **more,
    )


# <|begin_of_text|> (<|start_header_id|> role <|end_header_id|> \n\n text <|eot_id|>)* and the header of the answer.
_LLAMA_3: Final = _open("llama-3", "llama3", True, 5, 5, 165, schema_unread=True)
# From 3.1 on the system message, which is always there, begins with when knowledge ends and with the date: 20 tokens.
_LLAMA_31: Final = _LLAMA_3._replace(name="llama-3.1", offset=20, unasked=5)
# Without the date:
_LLAMA_32_OLLAMA: Final = _LLAMA_31._replace(name="llama-3.2-ollama", offset=10, hidden=Hidden(85, 85), tools_band=Band(215, 0))
_LLAMA_GUARD: Final = _LLAMA_3._replace(name="llama-guard-3", offset=183, single=True)  # the policy stands in the template
# As Llama 3, with names of markers of its own; no recorded prompt tells what hosts add.
_LLAMA_4: Final = _open("llama-4", "llama4", False, 5, 5, 655)
# (<|im_start|> role \n text <|im_end|> \n)* <|im_start|> assistant \n
_QWEN_3: Final = _open("qwen-3", "qwen", True, 5, 3, 110, hidden_reasoning=True, schema_unread=True)
# <think> \n opens the answer:
_QWEN_3_OLLAMA: Final = _QWEN_3._replace(name="qwen-3-ollama", reply=5, hidden=Hidden(76, 76), tools_band=Band(140, 200))
_QWEN_35: Final = _open("qwen-3.5", "qwen3.5", True, 5, 5, 260, hidden_reasoning=True)
_QWEN: Final = _open("qwen-2", "qwen", False, 5, 3, 110)  # a system message is written where none is sent: which, differs
# <bos> system (<User> text <Assistant> text <eos>)* <User> text <Assistant>
_DEEPSEEK_3: Final = _open("deepseek-v3", "deepseek", True, 1, 2, 128, assistant=1, system=0, text_close=0)
_DEEPSEEK_R1: Final = _DEEPSEEK_3._replace(name="deepseek-r1", hidden_reasoning=True)
# From 3.1 on <think> or </think> stands behind each <Assistant>.
_DEEPSEEK_32: Final = _DEEPSEEK_3._replace(name="deepseek-v3.2", reply=3, assistant=2, hidden_reasoning=True)
_DEEPSEEK_4: Final = _DEEPSEEK_32._replace(name="deepseek-v4", hidden=Hidden(240, 240, 0, 79), band=Band(79, 40))
_DEEPSEEK: Final = _DEEPSEEK_32._replace(name="deepseek", exact=False)  # names that the vendor gives to one model after another
# Harmony: a system message of 60 tokens, then (<|start|> role <|message|> text <|end|>)* <|start|> assistant; answers of the
# history name their channel. Tools are written as OpenAI's other models read them, about 18 tokens around them.
_OSS: Final = Family(
    "gpt-oss",
    "o200k_harmony",
    True,
    assistant=2,
    offset=60,
    call=32,
    schema_named=False,
    open=True,
    hidden=Hidden(18, 18),
    hidden_reasoning=True,
    text_close=4,  # <|channel|> final <|message|>, and the end
    band=Band(4, 40),
    tools_band=Band(30, 100),
    answer_band=Band(3, 60),
    call_band=Band(20, 600),
)
# The system prompt goes into a developer message, below "# Instructions".
_OSS_OLLAMA: Final = _OSS._replace(name="gpt-oss-ollama", system=8)
_OSS_GROQ: Final = _OSS._replace(name="gpt-oss-groq", offset=64)
_OSS_BEDROCK: Final = _OSS._replace(name="gpt-oss-bedrock", offset=58)  # its newer endpoint, whose names have no version
# <s> ([SYSTEM_PROMPT] text [/SYSTEM_PROMPT]) ([INST] text [/INST] text </s>)*
# Tools: [AVAILABLE_TOOLS] list [/AVAILABLE_TOOLS], ([TOOL_CALLS] name [ARGS] json)* </s>, [TOOL_RESULTS] text [/TOOL_RESULTS]
_MISTRAL: Final = _open("ministral", "tekken", True, 2, 1, assistant=-1, call=2, template=MISTRAL)
_MISTRAL_SMALL: Final = _MISTRAL._replace(name="mistral-small", offset=12)  # what the vendor adds to it and to Magistral
_TEKKEN: Final = _MISTRAL._replace(name="tekken", exact=False)
# The same with the SentencePiece table; "\n\n" joins a system prompt to a message. No recorded chat tells what hosts add.
_MISTRAL_3: Final = _open("mistral-v3", "mistral", False, 2, 1, 24, assistant=-1)
_MISTRAL_1: Final = _open("mistral-v1", "mistral", False, 7, 1, 24, assistant=-6, system=2)  # [INST] is text there
# (<s> [INST] text [/INST] text </s>)*, and <<SYS>> \n text \n <</SYS>> \n \n before the first text
_LLAMA_2: Final = _open("llama-2", "llama2", False, 8, 0, 165, assistant=-6, system=13)
# <bos> (<start_of_turn> role \n text <end_of_turn> \n)* <start_of_turn> model \n; a system prompt begins the first text
_GEMMA_2: Final = _open("gemma-2", "gemma2", False, 5, 4, 110, system=1)
_GEMMA_3: Final = _GEMMA_2._replace(name="gemma-3", tokenizer="gemma3")

_GPT3: Final = Family("gpt-3", "r50k_base", True)
"""Before chat: the prompt is its text."""

_OPEN: Final[tuple[tuple[str, str, Family], ...]] = (  # model, provider; the first match wins
    (r"gpt-oss", "ollama|local", _OSS_OLLAMA),
    (r"gpt-oss", "groq", _OSS_GROQ),
    (r"gpt-oss-\d+b$", "bedrock", _OSS_BEDROCK),
    (r"gpt-oss", "", _OSS),
    (r"^text-davinci-(00[23]|edit)|^code-(davinci|cushman)", "", _GPT3._replace(name="gpt-3.5-text", tokenizer="p50k_base")),
    (r"^(text-)?(davinci|curie|babbage|ada)(-001)?$|^(text-similarity|text-search|code-search)-|^gpt-?2$", "", _GPT3),
    (r"deepseek-r1-distill-llama", "", _DEEPSEEK_R1._replace(name="deepseek-r1-llama", tokenizer="llama3", text_close=1)),
    (r"deepseek-r1-distill-qwen", "", _DEEPSEEK_R1._replace(name="deepseek-r1-qwen", tokenizer="qwen", exact=False)),
    (r"deepseek.*r1", "", _DEEPSEEK_R1),
    (r"deepseek.*v4", "", _DEEPSEEK_4),
    (r"deepseek.*v3[.-][12]", "", _DEEPSEEK_32),
    (r"deepseek.*v3", "", _DEEPSEEK_3),
    (r"deepseek-(chat|reasoner)$", "", _DEEPSEEK),
    (r"llama-?guard-?3", "ollama", _LLAMA_GUARD),
    (r"llama-?guard", "", _LLAMA_GUARD._replace(name="llama-guard", exact=False)),
    (r"llama-?4", "", _LLAMA_4),
    (r"llama-?3[-.]2(?!\d?b)", "ollama", _LLAMA_32_OLLAMA),
    (r"llama-?3[-.][1-9](?!\d?b)", "", _LLAMA_31),
    (r"llama-?3(?!\.|\d)", "", _LLAMA_3),
    (r"qwen-?3[-.][56]", "", _QWEN_35),
    (r"qwen-?3", "ollama", _QWEN_3_OLLAMA),
    (r"qwen-?3", "", _QWEN_3),
    (r"qwen-?(1|2|plus|turbo|max)|qwq|qvq", "", _QWEN),
    (r"gemini-(1|2\.0)", "", _google(_GEMINI_2, "gemma2")),
    (r"gemini-2", "^gemini$", _google(_GEMINI_25, "gemma3")),
    (r"gemini", "^gemini$", _google(_GEMINI, "gemma3")),
    (r"gemini-2", "^(vertex|vercel)", _google(_GEMINI_25_VERTEX, "gemma3")),
    (r"gemini", "^(vertex|vercel)", _google(_GEMINI_VERTEX, "gemma3")),
    (r"gemini-2", "", _google(_GEMINI_25, "gemma3")._replace(name="gemini-2.5-elsewhere", exact=False)),  # sent to either
    (r"gemini", "", _google(_GEMINI, "gemma3")._replace(name="gemini-elsewhere", exact=False)),
    (r"gemma-?[34]", "", _GEMMA_3),
    (r"gemma", "", _GEMMA_2),
    (r"llama-?2(?![.\d])|codellama", "", _LLAMA_2),
    (r"mixtral-8x7b|mixtral:?(latest|8x7b|$)|mistral-7b-instruct-v0[:.-]?[12]|mistral-medium-2312", "", _MISTRAL_1),
    (r"mixtral|mamba|mathstral|mistral-(7b|tiny)|mistral:(7b|latest)|codestral[-:](22b|240)", "", _MISTRAL_3),
    (r"mistral-(small|medium)-(23|240)|(mistral|pixtral)-large-24", "", _MISTRAL_3),
    (r"^mistral$", "ollama", _MISTRAL_3),
    (r"(mistral|magistral)-small-latest", "mistral", _MISTRAL_SMALL),
    (r"ministral|mistral-large", "", _MISTRAL),
    (r"mistral-medium-latest", "^mistral$", _MISTRAL),
    (r"mistral-nemo|nemo(-\d|$)|pixtral-12b", "", _TEKKEN._replace(name="tekken-v3", system=1)),
    (r"mistral|codestral|devstral|pixtral|magistral|voxtral", "", _TEKKEN),
)
_ADDING: Final = frozenset({"venice"})
"""Hosts that put instructions of their own before a prompt, 900 to 1,600 tokens of them."""
_COMPILED_OPEN: Final = tuple((re.compile(pattern), re.compile(provider), family) for pattern, provider, family in _OPEN)

_RULES: Final[tuple[tuple[str, Family], ...]] = (  # the first match wins
    (r"text-embedding-(3|ada)|^ada-002", _EMBEDDING),
    (r"gpt-4o(-mini)?-search", _GPT4O._replace(name="gpt-4o-search", message=0, reply=0)),  # texts alone are reported
    (r"gpt-?4o-mini", _GPT4O._replace(name="gpt-4o-mini", images=Tiles(2833, 5667))),
    (r"gpt-4\.1-mini", _GPT4O._replace(name="gpt-4.1-mini", images=Patches(1627))),
    (r"gpt-4\.1-nano", _GPT4O._replace(name="gpt-4.1-nano", images=Patches(2466))),
    (r"gpt-?4o|chatgpt-4o|gpt-4\.[15]|gpt-audio|gpt-realtime|computer-use", _GPT4O),
    (r"o4-mini", _O._replace(name="o4-mini", images=Patches(1723))),
    (r"(^|-)o3-mini", _O._replace(name="o3-mini", round_trip=0, responses_text_close=0, responses_thought=0)),
    (r"(^|-)o\d+(-|$)|codex-mini", _O),
    (r"gpt-5\.[4-9]-mini", _GPT54._replace(name="gpt-5.4-mini", images=Patches(1620))),
    (r"gpt-5\.[4-9]-nano", _GPT54._replace(name="gpt-5.4-nano", images=Patches(1219))),
    (r"gpt-5(\.\d+)?-mini", _GPT5._replace(name="gpt-5-mini", images=Patches(1207))),
    (r"gpt-5(\.\d+)?-nano", _GPT5._replace(name="gpt-5-nano", images=Patches(2460))),
    (r"gpt-5\.[4-9]", _GPT54),
    (r"gpt-[5-9]|codex", _GPT5),
    (r"gpt-3\.?5-turbo-0301", _GPT4._replace(name="gpt-3.5-0301", message=5)),  # the cookbook's own exception
    (r"gpt-4(-0613)?$", _GPT4._replace(name="gpt-4-0613", call_close=8)),
    (r"gpt-3\.?5|gpt-4(-|$)|(?<!text-)(?<!code-)davinci[-:]|babbage-002", _GPT4),
)
_COMPILED: Final = tuple((re.compile(pattern), family) for pattern, family in _RULES)

_ESTIMATES: Final[tuple[tuple[str, str, Family], ...]] = (  # model, provider; the first match wins
    (r"claude-.*4[-.]7", "", _CLAUDE_47),
    (r"claude-.*4[-.][89]|claude-(opus|sonnet|haiku|fable|mythos)-[5-9]", "", _CLAUDE_48),
    (r"claude-3[-.]5", "", _CLAUDE_35),
    (r"claude-3[-.]7", "", _CLAUDE_4),
    (r"claude-(instant|v?[123](\D|$))", "", _CLAUDE_3),
    (r"claude-(opus|sonnet)-4(-[01])?(-\d{6,}.*)?$", "", _CLAUDE_4),
    (r"claude|anthropic", "", _CLAUDE),
    (r"gemini-(1|2\.0)|gemma", "", _GEMINI_2),
    (r"gemini-2", "vertex|vercel", _GEMINI_25_VERTEX),
    (r"gemini-2", "", _GEMINI_25),
    (r"gemini", "vertex|vercel", _GEMINI_VERTEX),
    (r"gemini", "", _GEMINI),
    (r"llama-?guard", "", _estimate("llama-guard", 1010, 186)),
    (r"llama-?[3-9][-.][1-9](?!\d?b)", "", _estimate("llama-3.1", 1010, 25)),
    (r"llama", "", _estimate("llama", 1010, 2)),
    (r"deepseek", "", _estimate("deepseek", 960, -3)),
    (r"qwen|qwq", "", _estimate("qwen", 1050, 1)),
    (r"mistral|mixtral|codestral|devstral|pixtral|magistral|voxtral", "", _estimate("mistral", 1080, -2)),
    (r"grok-4\.[3-9]", "", _estimate("grok-4.3", 970, 185, 20)),
    (r"grok-4.*fast", "azure", _estimate("grok-fast-azure", 970, -4, 165)),
    (r"grok-4.*fast", "", _estimate("grok-fast", 970, 146, 170)),
    (r"grok-code", "", _estimate("grok-code", 970, 194, 150)),
    (r"grok-[12]", "", _estimate("grok-2", 970, -2, 80)),
    (r"grok", "", _estimate("grok", 970, -4, 165)),
    (r"glm", "", _estimate("glm", 960, -2, 118)),
    (r"kimi|moonshot", "", _estimate("kimi", 1000, 0, 15)),
    (r"sonar", "", _estimate("sonar", 1000, 0)._replace(message=0, reply=0)),  # texts alone are reported
)
_UNKNOWN: Final = _estimate("unknown", 1000, 0)
_COMPILED_ESTIMATES: Final = tuple((re.compile(pattern), re.compile(host), family) for pattern, host, family in _ESTIMATES)


@functools.lru_cache(maxsize=4096)
def family(model: str, provider: str = "") -> Family:
    """The family of a model name as answered by ``provider``; an unknown name gives the family ``unknown``.

    An open model whose tokenizer is not installed has a family that estimates.

    Names may carry a vendor prefix (``openai/gpt-4o``), a region (``us.anthropic.claude…``) or a date.
    """
    name = model.lower().rsplit("/", 1)[-1].removeprefix("openai.").removeprefix("ft:")
    for pattern, found in _COMPILED:
        if pattern.search(name):
            return found
    for pattern, host, found in _COMPILED_OPEN:
        if pattern.search(name) and host.search(provider):
            if not available(found.tokenizer):
                break
            if provider not in _ADDING:
                return found
            unseen = Band(1600, 0)
            return found._replace(name=f"{found.name}-{provider}", exact=False, band=unseen, tools_band=unseen)
    for pattern, host, found in _COMPILED_ESTIMATES:
        if host.search(provider) and (pattern.search(name) or pattern.search(provider)):
            return found
    return _UNKNOWN


def media_tokens(kind: Family, media: Media) -> int | None:
    """Tokens of an attachment; None where its size or the model's rule is not known. Sound: four on OpenAI, and ten a second."""
    if media.kind == "audio":
        return 4 + media.milliseconds // 100 if kind.openai and media.milliseconds > 0 else None
    return image_tokens(kind.images, media)


def image_tokens(rule: Tiles | Patches | Grid | Crops | None, media: Media) -> int | None:
    """Tokens of an image by its vendor's published rules; None where its size or the model's rule is not known."""
    if rule is None or media.kind != "image":
        return None
    if isinstance(rule, Tiles) and (media.detail == "low" or not rule.tile):
        return rule.base
    if media.width <= 0 or media.height <= 0:
        return None
    if isinstance(rule, Patches):
        return (_patches(media.width, media.height, rule.budget) * rule.permille + 500) // 1000
    if isinstance(rule, Grid):
        across = math.floor(math.sqrt(rule.budget * media.width / media.height))
        return max(1, across) * max(1, math.floor(math.sqrt(rule.budget * media.height / media.width)))
    if isinstance(rule, Crops):
        if max(media.width, media.height) <= 384:
            return rule.each
        side = min(768, max(256, min(media.width, media.height) * 2 // 3))
        crops = math.ceil(media.width / side) * math.ceil(media.height / side)
        return rule.each * (crops + (crops > 1))
    width, height = float(media.width), float(media.height)
    if (fit := 2048 / max(width, height)) < 1:
        width, height = width * fit, height * fit
    if (fit := 768 / min(width, height)) < 1:
        width, height = width * fit, height * fit
    return rule.base + rule.tile * math.ceil(round(width, 6) / 512) * math.ceil(round(height, 6) / 512)


def least_image(rule: Tiles | Patches | Grid | Crops | None, media: Media) -> int:
    """What an image costs at least that nothing is known of; 0 where there is no least."""
    return rule.base + rule.tile if isinstance(rule, Tiles) and media.kind == "image" else 0


def _patches(width: int, height: int, budget: int) -> int:
    across, down = math.ceil(width / 32), math.ceil(height / 32)
    if across * down <= budget:
        return across * down
    shrink = math.sqrt(budget * 32 * 32 / (width * height))
    across_exact, down_exact = width * shrink / 32, height * shrink / 32
    # Then a little smaller still, until a whole number of patches fits one of the two sides.
    shrink *= min(math.floor(across_exact) / across_exact, math.floor(down_exact) / down_exact)
    return math.ceil(round(width * shrink / 32, 6)) * math.ceil(round(height * shrink / 32, 6))
