"""The company that makes the calls: teams, apps, their models, prompts and tools.

Every figure here is made up but plausible. Shapes of length distributions are in ``lengths``.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from sources.generate import claude
from sources.generate.texts import Text, join, pool
from sources.generate.tokens import counter, system_with_tools


class Model(NamedTuple):
    """A model as it is asked for and as it answers. ``reasons``: it may think before it answers, as gpt-5 does."""

    asked: str
    answered: str
    tokens_per_second: float
    reasons: bool = False


GPT_4O: Final = Model("gpt-4o", "gpt-4o-2024-08-06", 70)
GPT_4O_MINI: Final = Model("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 90)
GPT_41: Final = Model("gpt-4.1", "gpt-4.1-2025-04-14", 75)
GPT_41_MINI: Final = Model("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", 90)
GPT_41_NANO: Final = Model("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14", 130)
GPT_5: Final = Model("gpt-5", "gpt-5-2025-08-07", 60, reasons=True)
GPT_5_MINI: Final = Model("gpt-5-mini", "gpt-5-mini-2025-08-07", 90, reasons=True)
SONNET: Final = Model("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", 65)
HAIKU: Final = Model("claude-haiku-4-5", "claude-haiku-4-5-20251001", 120)
EMBEDDING: Final = Model("text-embedding-3-small", "text-embedding-3-small", 1)


@dataclass(frozen=True, slots=True)
class App:
    """One app of one team and how it uses models.

    ``share`` is its part of all calls; ``calls_per_request`` the calls that one user request makes on average.
    ``workload``: chat | rag | agent | single | embed. ``profile``: business | flat | night. ``via``: http (recorded
    pairs), litellm (a proxy's log) or event (the app's own log). ``streams`` is the share of streamed answers,
    ``usage_in_streams`` the share of those that ask for usage. ``answer`` is the median of answer tokens, ``question``
    that of the user's text, ``context`` that of retrieved or attached text (``embed``: of the number
    of texts in a call).
    """

    team: str
    name: str
    feature: str
    provider: str
    api: str  # openai.chat | openai.responses | openai.embeddings | anthropic.messages
    model: Model
    larger: Model
    workload: str
    profile: str
    share: float
    calls_per_request: float
    via: str = "http"
    streams: float = 0.0
    usage_in_streams: float = 1.0
    system: int = 300
    tools: tuple[str, ...] = ()
    question: float = 30
    context: float = 0
    answer: float = 80
    languages: bool = False
    users: int = 400
    tier: str = ""
    guard: float = 0.0

    @property
    def template(self) -> str:
        """Name of the prompt template."""
        return f"{self.name}/{self.feature}"


APPS: Final = (
    App("support", "helpdesk-chat", "answer", "openai", "openai.chat", GPT_4O_MINI, GPT_4O, "chat", "business",
        0.12, 2.6, streams=0.35, usage_in_streams=0.85, system=1080, languages=True, users=5000, guard=0.3),
    App("support", "ticket-triage", "classify", "openai", "openai.chat", GPT_41_NANO, GPT_41, "single", "business",
        0.17, 1, via="litellm", system=280, question=60, answer=12, languages=True, users=40),
    App("search", "docs-rag", "ask-docs", "azure", "openai.chat", GPT_4O, GPT_4O, "rag", "business", 0.15, 2,
        streams=0.3, usage_in_streams=0.9, system=280, question=30, context=200, users=1500),
    App("search", "indexer", "embed-chunks", "openai", "openai.embeddings", EMBEDDING, EMBEDDING, "embed", "flat",
        0.15, 20, context=3, users=1),
    App("platform", "code-agent", "fix-issue", "anthropic", "anthropic.messages", SONNET, SONNET, "agent", "business",
        0.05, 25, streams=0.15, system=500, users=120,
        tools=("read_file", "search_code", "edit_file", "run_tests", "list_folder", "open_pull_request")),
    App("platform", "ops-agent", "runbook", "openai", "openai.chat", GPT_41, GPT_41, "agent", "flat", 0.03, 25,
        system=300, users=30,
        tools=("query_metrics", "search_logs", "restart_service", "page_person", "get_deployments")),
    App("sales", "crm-copilot", "draft-email", "openai", "openai.responses", GPT_5_MINI, GPT_5, "chat", "business",
        0.04, 2, streams=0.2, system=300, answer=110, languages=True, users=300),
    App("sales", "lead-scoring", "score-leads", "openai", "openai.chat", GPT_5_MINI, GPT_5, "single", "night",
        0.14, 1, system=220, question=90, answer=20, tier="flex", users=1),
    App("legal", "contract-review", "find-risks", "anthropic", "anthropic.messages", SONNET, SONNET, "single",
        "business", 0.01, 1, via="litellm", system=500, question=25, context=900, answer=250, users=25),
    App("finance", "invoice-extract", "extract-fields", "azure", "openai.chat", GPT_4O_MINI, GPT_4O, "single", "night",
        0.05, 1, system=300, question=20, context=200, answer=60, users=1),
    App("mobile", "assistant", "chat", "openai", "openai.chat", GPT_4O_MINI, GPT_4O, "chat", "flat", 0.07, 2,
        streams=0.8, usage_in_streams=0.4, system=180, languages=True, users=20000),
    App("research", "notes", "summarise", "anthropic", "anthropic.messages", HAIKU, SONNET, "chat", "business", 0.02, 2,
        via="event", system=150, context=250, users=60),
)  # fmt: skip

GUARD: Final = App(
    "support", "helpdesk-chat", "guard", "openai", "openai.chat", GPT_41_NANO, GPT_41, "single", "business", 0, 1,
    system=160, answer=3, users=5000,
)  # fmt: skip
"""The judge that helpdesk-chat asks about some questions: a call its users never see."""

RAG_EMBEDDING: Final = App(
    "search", "docs-rag", "embed-query", "azure", "openai.embeddings", EMBEDDING, EMBEDDING, "embed", "business", 0, 1,
    users=1500,
)  # fmt: skip
"""The embedding of the question, which each docs-rag request makes first."""


class Tool(NamedTuple):
    """A function tool. Properties are ``name: (description, type or values)``; all but the last are required."""

    description: str
    properties: dict[str, tuple[str, str | list[str]]]


TOOLS: Final[dict[str, Tool]] = {
    "read_file": Tool("Read a part of a text file of the repository, with line numbers.", {
        "path": ("Path relative to the root of the repository.", "string"),
        "first_line": ("The first line to return, counted from 1.", "integer"),
        "last_line": ("The last line to return; at most 400 after the first.", "integer")}),
    "search_code": Tool("Find the lines of the repository that match a regular expression.", {
        "pattern": ("A regular expression in RE2 syntax.", "string"),
        "folder": ("Search only below this folder.", "string"),
        "language": ("Search only files of this language.", ["python", "typescript", "go", "java", "sql"])}),
    "edit_file": Tool("Replace one exact piece of a file by another; fails unless the old piece occurs exactly once.", {
        "path": ("Path relative to the root of the repository.", "string"),
        "old": ("The piece to replace, with enough lines around it to be unique.", "string"),
        "new": ("What stands there afterwards.", "string")}),
    "run_tests": Tool("Run the tests of one folder and return the failures with their output.", {
        "folder": ("The folder whose tests are run.", "string"),
        "filter": ("Only tests whose name contains this.", "string"),
        "timeout": ("Seconds after which the run is stopped.", "integer")}),
    "list_folder": Tool("List the files and folders of a folder with their sizes.", {
        "path": ("Path relative to the root of the repository.", "string"),
        "depth": ("How many levels to descend.", "integer")}),
    "open_pull_request": Tool("Open a pull request with all changes made so far.", {
        "title": ("One line in the imperative mood.", "string"),
        "body": ("What was changed and why, in Markdown.", "string"),
        "draft": ("Whether it is not yet ready for review.", "boolean")}),
    "query_metrics": Tool("Evaluate a query over the metrics store and return one line for each series.", {
        "query": ("A query in PromQL.", "string"),
        "minutes": ("How far to look back from now.", "integer"),
        "step": ("Distance of the points.", ["10s", "1m", "5m", "1h"])}),
    "search_logs": Tool("Return log lines of a service, newest first.", {
        "service": ("Name of the service as in the catalogue.", "string"),
        "contains": ("Only lines that contain this text.", "string"),
        "level": ("The lowest level to return.", ["debug", "info", "warning", "error"])}),
    "restart_service": Tool("Restart all instances of a service one after another.", {
        "service": ("Name of the service as in the catalogue.", "string"),
        "reason": ("Why, for the audit log.", "string"),
        "zone": ("Only the instances of this zone.", "string")}),
    "page_person": Tool("Call the person on duty for a team. Use it only if customers are affected.", {
        "team": ("Name of the team as in the catalogue.", "string"),
        "summary": ("What is wrong, in one sentence.", "string"),
        "urgency": ("How soon somebody must look.", ["now", "today", "this_week"])}),
    "get_deployments": Tool("List the latest deployments of a service with version, time and author.", {
        "service": ("Name of the service as in the catalogue.", "string"),
        "limit": ("How many to return.", "integer")}),
}  # fmt: skip


class Arguments(NamedTuple):
    """Arguments of a tool call: compact JSON, the same as a value, and the o200k tokens of tool name and JSON.

    ``text_tokens`` are those of the keys and values, each by itself.
    """

    tool: str
    json: str
    value: dict[str, Any]
    name_tokens: int
    json_tokens: int
    text_tokens: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """What every call of a version of an app sends first.

    ``system`` is its system prompt, ``static`` what the vendor counts for system prompt and tools together (without the
    framing of a message). ``tools`` is the tool list as the vendor's JSON, ``clocked`` whether the prompt begins with a
    time stamp that each call must fill in.
    """

    version: str
    system: Text
    static: int
    tools: orjson.Fragment | None
    arguments: tuple[Arguments, ...]
    clocked: bool = False


CLOCK: Final = "Time now: 2026-03-02T00:00:00.000Z.\n\n"
"""The head of a ``clocked`` prompt. Its tokens do not depend on the digits: each group of up to three is one token."""


def clock_line(day: str, seconds: str) -> str:
    """``CLOCK`` for a day ``YYYY-MM-DD`` and a time ``HH:MM:SS.mmm``."""
    return f"Time now: {day}T{seconds}Z.\n\n"


@functools.cache
def prompt(app: App, version: str = "2026.3.0", grown: int = 0, clocked: bool = False) -> Prompt:
    """The prompt of a version of an app, ``grown`` tokens longer than the first, ``clocked``: a time at its head."""
    count = counter("o200k_base")
    system = _paragraphs(f"{app.template}", app.system)
    if grown:
        system = join((system, _paragraphs(f"{app.template} {version}", grown)))
    extra = count(CLOCK) if clocked else 0
    rendered: orjson.Fragment | None = None
    if app.provider == "anthropic":
        static = claude.text(system.text, system.tokens) + claude.scaled(extra)
        if app.tools:
            tools = [_anthropic_tool(name) for name in app.tools]
            static += claude.tools(tools)
            rendered = orjson.Fragment(orjson.dumps(tools))
    else:
        static = system.tokens + extra
        if app.tools:
            tools = [_openai_tool(name) for name in app.tools]
            static = system_with_tools(count, (CLOCK if clocked else "") + system.text, tools)
            rendered = orjson.Fragment(orjson.dumps(tools))
    if clocked:
        system = Text(system.text, system.tokens + extra, system.broken + extra)
    return Prompt(version, system, static, rendered, _arguments(app), clocked)


@functools.cache
def _arguments(app: App) -> tuple[Arguments, ...]:
    """Forty sets of arguments for the app's tools."""
    rng = random.Random(app.name)
    count = counter("o200k_base")
    words = pool("en")
    held = []
    for number in range(40 if app.tools else 0):
        tool = app.tools[number % len(app.tools)]
        value: dict[str, Any] = {}
        for name, (_, kind) in TOOLS[tool].properties.items():
            if isinstance(kind, list):
                value[name] = kind[int(rng.random() * len(kind))]
            elif kind == "integer":
                value[name] = int(rng.random() * 400) + 1
            elif kind == "boolean":
                value[name] = rng.random() < 0.5
            elif name in ("path", "folder"):
                value[name] = f"services/area{number}/handler_{int(rng.random() * 90) + 10}.py"
            else:
                value[name] = words.run(int(rng.random() * words.size), 1).text[:60].strip()
        text = orjson.dumps(value).decode()
        said = [*value, *(one if isinstance(one, str) else orjson.dumps(one).decode() for one in value.values())]
        held.append(Arguments(tool, text, value, count(tool), count(text), sum(map(count, said))))
    return tuple(held)


def _paragraphs(key: str, tokens: int) -> Text:
    """About ``tokens`` tokens of instructions, always the same for ``key``."""
    rng = random.Random(key)
    words = pool("advice")
    parts: list[Text] = []
    while sum(part.tokens for part in parts) < tokens - 40:
        parts.append(words.run(int(rng.random() * words.size), 3 + int(rng.random() * 4)))
    return join(parts or [words.run(int(rng.random() * words.size), 2)])


def _schema(tool: Tool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, (description, kind) in tool.properties.items():
        properties[name] = {"type": kind, "description": description}
        if isinstance(kind, list):
            properties[name] = {"type": "string", "description": description, "enum": kind}
    return {"type": "object", "properties": properties, "required": list(tool.properties)[:-1]}


def _openai_tool(name: str) -> dict[str, Any]:
    tool = TOOLS[name]
    return {"type": "function", "function": {
        "name": name, "description": tool.description, "parameters": _schema(tool)}}  # fmt: skip


def _anthropic_tool(name: str) -> dict[str, Any]:
    tool = TOOLS[name]
    return {"name": name, "description": tool.description, "input_schema": _schema(tool)}
