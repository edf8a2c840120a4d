"""What happens inside a session: turns of a chat, steps of an agent, retries, and the calls users do not see."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, MutableMapping
from typing import Final, NamedTuple

from sources.generate import claude, lengths, tokens, wire
from sources.generate.fleet import APPS, GUARD, RAG_EMBEDDING, App, Arguments, Model, Prompt, clock_line, prompt
from sources.generate.incidents import CLOCKED_VERSION, GROWN_VERSION
from sources.generate.records import iso
from sources.generate.texts import Pool, Text, compose, embedding_pool, join, pool
from sources.generate.wire import ERRORS, Exchange, Json
from sources.generate.words import OTHERS

FIRST_VERSION: Final = "2026.3.0"

_OPENAI_TTL: Final = 600_000_000
_CLAUDE_TTL_5M: Final = 300_000_000
_CLAUDE_TTL_1H: Final = 3_600_000_000
_CACHE_LEAST: Final = 1024
_CACHE_UNIT: Final = 128
_CACHE_MISS: Final = 0.08
"""OpenAI caches prefixes from 1,024 tokens on, in units of 128; a few calls meet a machine that does not hold them."""

_RATE_LIMIT: Final = 0.008
_SERVER_ERROR: Final = 0.003
_REFUSED: Final = 0.002
_TRIES: Final = 3
_TRIES_IN_STORM: Final = 6

_COST_CENTERS: Final = {
    "support": "4100", "search": "4200", "platform": "4300", "sales": "5100", "legal": "6100", "finance": "6200",
    "mobile": "4400", "research": "7100",
}  # fmt: skip
_LANGUAGES: Final = tuple(OTHERS)


class Attempt(NamedTuple):
    """One attempt of a call as it is logged. ``start`` in UTC microseconds; ``number`` is 1 for a first try."""

    call: Exchange
    start: int
    labels: Json
    number: int
    tags: dict[str, str]
    ttft_ms: float | None


class Session:
    """A user's request or conversation, or an agent's run, from its first call to its last."""

    __slots__ = (
        "app", "assistants", "attempt", "embedded", "environment", "key", "language", "last_prompt", "last_time",
        "messages", "pool", "prefix", "question", "tokens", "trace", "turn", "turns", "user",
    )  # fmt: skip

    def __init__(self, app: App, rng: random.Random, languages: float) -> None:
        draw = rng.random
        self.app = app
        self.key = f"{rng.getrandbits(80):020x}"
        self.trace = f"{rng.getrandbits(128):032x}"
        # A few users make most of the calls.
        self.user = f"user-{app.team}-{int(draw() ** 2.5 * app.users):05d}"
        self.environment = "production" if draw() < 0.92 else "staging"
        foreign = app.languages and draw() < languages
        self.language = _LANGUAGES[int(draw() * len(_LANGUAGES))] if foreign else "en"
        self.pool: Pool = pool(self.language)
        self.messages: list[Json] = []
        self.question = self.embedded = Text("", 0, 0)
        self.tokens = 0
        self.assistants = 0
        self.turn = 0
        self.turns = 0
        self.attempt = 0
        self.last_time = 0
        self.last_prompt = 0
        self.prefix: tuple[str, ...] = ()


def advance(
    session: Session,
    now: int,
    active: Mapping[str, float],
    rng: random.Random,
    warm: MutableMapping[tuple[str, ...], int],
) -> tuple[list[Attempt], int | None]:
    """Make the session's next call at ``now``: what is logged, and when the session goes on (``None``: it is over).

    ``active`` holds the incidents of the app (kind → size) at this time, ``warm`` when each shared prefix was last
    used; the function updates it and the session.
    """
    app = session.app
    logged: list[Attempt] = []
    if session.turns == 0:
        session.turns = _turns(app, active, rng)
    if session.attempt == 0:
        if app.workload != "embed":
            _ask(session, rng)
        if app.workload == "rag":
            logged.append(_side_call(session, RAG_EMBEDDING, now, rng))
            now += int(logged[0].call.seconds * 1e6)
        elif app.guard and rng.random() < app.guard:
            logged.append(_side_call(session, GUARD, now, rng))
    session.attempt += 1
    version = _version(app, active)
    model = app.larger if "model_switch" in active else app.model
    call = _exchange(session, version, model, now, rng)
    call.error = _error(app, active, rng)
    labels = _labels(session, app)
    if call.error:
        call.stream = False
        call.seconds = 0.1 + rng.random() * 0.4
        call.retry_after = 1 + int(rng.random() * 20) if call.error == "rate_limit" else 0
    elif app.workload != "embed":
        _cache(session, call, version, now, rng, warm)
        _answer(session, call, version, rng)
    tags = _tags(session, version.version)
    ttft = (0.15 + call.prompt_tokens / 25_000) * 1000 if call.stream else None
    logged.append(Attempt(call, now, labels, session.attempt, tags, ttft))
    return logged, _following(session, call, now, active, rng)


def _turns(app: App, active: Mapping[str, float], rng: random.Random) -> int:
    if app.workload == "agent":
        return int((10 + rng.random() * 31) * active.get("runaway_agent", 1.0))
    if app.workload == "embed":
        return 10 + int(rng.random() * 21)
    turns = 1
    while app.workload == "chat" and turns < 8 and rng.random() < 0.5:
        turns += 1
    return turns


def _ask(session: Session, rng: random.Random) -> None:
    """Add what the user (or a tool) says next."""
    app = session.app
    if app.workload == "agent" and session.turn > 0:
        return  # the tool's answer was added with the call it belongs to
    if session.turn > 0:
        session.trace = f"{rng.getrandbits(128):032x}"
    asked = lengths.question(rng, app.question)
    if app.workload == "rag":
        # The same sentences are embedded first, and counted there with another table.
        words = pool("en")
        start, number = int(rng.random() * words.size), min(1 + int(asked / words.mean_tokens), words.size)
        question = words.run(start, number)
        session.embedded = embedding_pool().run(start, number)
    else:
        question = compose(session.pool, rng, asked)
    session.question = question
    if app.context:
        words = pool("en")
        rest = lengths.context(rng, app.context)
        chunks = [question]
        while rest > 20:
            # A document of the index is cut into pieces of four to fifteen sentences.
            chunk = words.run(int(rng.random() * words.size), 4 + int(rng.random() * 12))
            chunks.append(chunk)
            rest -= chunk.tokens
        question = join(chunks)
    session.messages.append(wire.said(app.api, "user", question.text))
    session.tokens += _message(app, question)


def _version(app: App, active: Mapping[str, float]) -> Prompt:
    if "prompt_growth" in active:
        return _prompt(app.name, app.feature, GROWN_VERSION, int(active["prompt_growth"]), False)
    if "cache_break" in active:
        return _prompt(app.name, app.feature, CLOCKED_VERSION, 0, True)
    return _prompt(app.name, app.feature, FIRST_VERSION, 0, False)


_APPS: Final = {(app.name, app.feature): app for app in (*APPS, GUARD, RAG_EMBEDDING)}


@functools.cache
def _prompt(name: str, feature: str, version: str, grown: int, clocked: bool) -> Prompt:
    # Names are a cheaper key than a whole App, and this is asked for every call.
    return prompt(_APPS[name, feature], version, grown, clocked)


def _exchange(session: Session, version: Prompt, model: Model, now: int, rng: random.Random) -> Exchange:
    """The next call with its prompt, not yet answered."""
    app = session.app
    call = Exchange(app, model, f"{rng.getrandbits(116):029x}", now // 1_000_000, 0.0, version.system.text,
                    session.messages[:], version.tools, user=session.user)  # fmt: skip
    if app.workload == "embed":
        words = embedding_pool()
        number = 1 + int(lengths.context(rng, app.context))
        inputs = [compose(words, rng, 30 + rng.random() * 90) for _ in range(number)]
        call.inputs = [text.text for text in inputs]
        call.prompt_tokens = sum(text.tokens for text in inputs)
        call.seconds = 0.08 + len(inputs) * 0.01 * (1 + rng.random())
        call.user = ""
        return call
    if version.clocked:
        call.system = clock_line(*_clock(now)) + call.system
    call.prompt_tokens = _prompt_tokens(session, version, model)
    call.max_tokens = 4096 if app.workload == "agent" else 64 if app.answer < 30 else 2048
    call.stream = app.streams > 0 and rng.random() < app.streams
    call.usage_in_stream = not call.stream or app.usage_in_streams >= 1 or rng.random() < app.usage_in_streams
    return call


def _clock(now: int) -> tuple[str, str]:
    text = iso(now)
    return text[:10], text[11:23]


def _prompt_tokens(session: Session, version: Prompt, model: Model) -> int:
    """All input as the vendor counts it."""
    if session.app.provider == "anthropic":
        return version.static + session.tokens + claude.OPENING
    turns = tokens.ASSISTANT_TURN_GPT5 * session.assistants if model.reasons else 0
    return tokens.MESSAGE + version.static + session.tokens + turns + _answer_start(model)


def _answer_start(model: Model) -> int:
    return tokens.ANSWER_START_GPT5 if model.reasons else tokens.ANSWER_START


def _message(app: App, said: Text) -> int:
    """Tokens of a message of text in the prompt."""
    if app.provider == "anthropic":
        return claude.MESSAGE + claude.text(said.text, said.tokens)
    return tokens.MESSAGE + said.tokens


def _tool_round(app: App, call: Arguments, result: Text) -> int:
    """Tokens of a tool call and its result in the prompt."""
    if app.provider == "anthropic":
        around = 2 * claude.MESSAGE + claude.CALL + claude.CALL_ARGUMENT * len(call.value) + claude.RESULT
        called = claude.text(call.json, call.name_tokens + call.text_tokens)
        return around + called + claude.text(result.text, result.tokens)
    called = tokens.CALL + call.name_tokens + call.json_tokens
    return called + tokens.RESULT + call.name_tokens + result.tokens


def _cache(
    session: Session,
    call: Exchange,
    version: Prompt,
    now: int,
    rng: random.Random,
    warm: MutableMapping[tuple[str, ...], int],
) -> None:
    """Split the prompt into what the vendor's cache served, stored and left alone."""
    app = session.app
    key = (app.name, version.version, session.environment, call.model.asked)
    last, since = warm.get(key), now - session.last_time
    warm[key] = now
    if session.prefix != key:
        # Another version or model shares nothing with what the session sent before.
        session.prefix, session.last_prompt = key, 0
    if app.provider == "anthropic":
        if not app.tools:
            return
        # Two breakpoints: after tools and system prompt (one hour), and at the end of the history (five minutes).
        static = version.static
        rest = call.prompt_tokens - claude.OPENING - static
        if version.clocked:
            call.write_1h, call.write_5m = static, rest
        elif session.last_prompt and since < _CLAUDE_TTL_5M:
            call.cache_read = session.last_prompt - claude.OPENING
            call.write_5m = call.prompt_tokens - claude.OPENING - call.cache_read
        elif last is not None and now - last < _CLAUDE_TTL_1H:
            call.cache_read, call.write_5m = static, rest
        else:
            call.write_1h, call.write_5m = static, rest
        return
    common = 0
    if not version.clocked:
        if session.last_prompt and since < _OPENAI_TTL:
            common = session.last_prompt - _answer_start(call.model)
        elif last is not None and now - last < _OPENAI_TTL:
            common = tokens.MESSAGE + version.static
    if common >= _CACHE_LEAST and rng.random() >= _CACHE_MISS:
        call.cache_read = min(common, call.prompt_tokens) // _CACHE_UNIT * _CACHE_UNIT


def _answer(session: Session, call: Exchange, version: Prompt, rng: random.Random) -> None:
    """The model's answer; it becomes part of the history."""
    app = session.app
    # A prefix stays cached as it was sent, so a session compares with its last prompt.
    session.last_prompt = call.prompt_tokens
    session.last_time = call.second * 1_000_000
    if app.workload == "agent" and session.turn < session.turns - 1:
        chosen = version.arguments[int(rng.random() * len(version.arguments))]
        call.call = chosen
        call.visible = _called(app, chosen)
        result = compose(session.pool, rng, lengths.question(rng, 35))
        session.messages += wire.tool_round(app.api, call.id[:24], chosen, result.text)
        session.tokens += _tool_round(app, chosen, result)
    else:
        text = compose(session.pool, rng, lengths.answer(rng, app.answer))
        call.answer = text.text
        if app.api == "openai.responses":
            call.reasoning = 64 * int(lengths.question(rng, 3.5))
        call.visible = _written(call, text)
        session.messages.append(wire.said(app.api, "assistant", text.text))
        session.tokens += _message(app, text)
        session.assistants += 1
    speed = call.model.tokens_per_second * (0.7 + 0.6 * rng.random())
    call.seconds = 0.15 + call.prompt_tokens / 25_000 + (call.visible + call.reasoning) / speed
    session.turn += 1


def _called(app: App, call: Arguments) -> int:
    """Tokens of an answer that is a tool call."""
    if app.provider == "anthropic":
        arguments = claude.ANSWER_CALL_ARGUMENT * len(call.value)
        return claude.ANSWER_CALL + claude.text(call.json, call.name_tokens + call.text_tokens) + arguments
    return tokens.ANSWER_CALL + call.name_tokens + call.json_tokens


def _written(call: Exchange, text: Text) -> int:
    """Tokens of an answer of text, without its reasoning."""
    app = call.app
    if app.provider == "anthropic":
        return claude.ANSWER_TEXT + claude.text(text.text, text.tokens)
    if not call.model.reasons:
        return text.tokens + (tokens.ANSWER_CLOSED if app.provider == "azure" or app.tools else 0)
    if app.api == "openai.responses":
        thought = tokens.ANSWER_AFTER_THOUGHT if call.reasoning else 0
        return text.tokens + tokens.ANSWER_GPT5_RESPONSES + thought
    return text.tokens + tokens.ANSWER_GPT5


def _error(app: App, active: Mapping[str, float], rng: random.Random) -> str:
    """How the attempt fails, if it does."""
    if rng.random() < active.get("retry_storm", 0.0):
        return "rate_limit"
    drawn = rng.random()
    if drawn < _RATE_LIMIT:
        return "rate_limit"
    if drawn < _RATE_LIMIT + _SERVER_ERROR:
        return "overloaded" if app.provider == "anthropic" else "server_error"
    if drawn < _RATE_LIMIT + _SERVER_ERROR + _REFUSED:
        return "content_filter" if app.provider == "azure" and app.workload != "embed" else "too_long"
    return ""


def _following(session: Session, call: Exchange, now: int, active: Mapping[str, float], rng: random.Random) -> int | None:
    """When the session makes its next call, or ``None``."""
    ended = now + int(call.seconds * 1e6)
    if call.error:
        storm = "retry_storm" in active
        if ERRORS[call.error] == 400 or session.attempt >= (_TRIES_IN_STORM if storm else _TRIES):
            return None
        wait = 0.2 + 0.8 * rng.random() if storm else call.retry_after + 1 + 3 * rng.random()
        return ended + int(wait * 1e6)
    session.attempt = 0
    workload = session.app.workload
    if workload == "embed":
        session.turn += 1
    if session.turn >= session.turns:
        return None
    if workload == "embed":
        pause = 0.05 + 0.35 * rng.random()
    elif workload == "agent":
        pause = lengths.lognormal(rng, 1.2, 0.8, 60)
    else:
        pause = lengths.lognormal(rng, 25, 0.9, 400)
    return ended + int(pause * 1e6)


def _side_call(session: Session, side: App, now: int, rng: random.Random) -> Attempt:
    """A call that goes with the user's question and that the user never sees: its embedding, or a judge's verdict."""
    call = Exchange(side, side.model, f"{rng.getrandbits(116):029x}", now // 1_000_000, 0.05 + 0.1 * rng.random(),
                    "", [], max_tokens=16)  # fmt: skip
    if side.workload == "embed":
        call.inputs = [session.embedded.text]
        call.prompt_tokens = session.embedded.tokens
    else:
        question = session.question
        version = _prompt(side.name, side.feature, FIRST_VERSION, 0, False)
        call.system = version.system.text
        call.messages = [wire.said(side.api, "user", question.text)]
        call.prompt_tokens = 2 * tokens.MESSAGE + version.static + question.tokens + tokens.ANSWER_START
        call.answer = "allowed"
        call.visible = 1
        call.seconds += 0.2
    return Attempt(call, now, _labels(session, side), 1, _tags(session, FIRST_VERSION), None)


def _labels(session: Session, app: App) -> Json:
    labels = {
        "team": app.team,
        "app": app.name,
        "feature": app.feature,
        "environment": session.environment,
        "user": session.user,
        "trace_id": session.trace,
        "session_id": session.key,
        "template": app.template,
    }
    if app.workload == "agent":
        labels |= {"agent": app.name, "step": f"step-{session.turn + 1}"}
    elif app is GUARD:
        labels |= {"agent": "guard", "step": "judge"}
    return labels


def _tags(session: Session, version: str) -> dict[str, str]:
    return {"version": version, "language": session.language, "cost_center": _COST_CENTERS[session.app.team]}
