"""Counts the tokens of a call, says which part of the prompt they are, and leaves hashes where the text was.

A prompt's tokens are split by who put them there. For every counted call

    counted_input = system + tools + history + tool_result + user + framing

where *framing* is what is nobody's text: the markers and role around each message, the opening of the answer, what
joins the tools to the system prompt, and vendors' hidden preambles. It is not stored; it is the rest.

- system: texts of system and developer messages.
- tools: the tool list and the response schema, as the vendor renders them.
- tool_result: what tools answered, wherever it stands.
- user: the last user turn (the last run of user messages, tool results aside), and input that came as token ids.
- history: everything else: earlier user turns, the model's own turns and tool calls.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from schemas.call import Call, Content
from transforms.count import rules
from transforms.count.cache import Entry, Space, utf8
from transforms.count.families import Family, StandIn, family
from transforms.count.messages import HISTORY, RESPONSES, RESULT, SYSTEM, USER, Counted, call_tokens, framed, name_tokens
from transforms.count.prompt import count_prompt, message_of
from transforms.count.tokenizers import tokenizer
from transforms.recent import Budget

_CHAT: Final = frozenset({"", "chat", "count_tokens"})
_FREE: Final = frozenset({"", "auto", "none", "validated"})
_CHOICES: Final = _FREE | {"required", "any"}
_MAX_SPACES: Final = 1024
_DESCRIBED: Final = re.compile(rb'"description":"[^"]')


@dataclass(frozen=True)
class Settings:
    """How calls are counted.

    ``hash_key`` keys every hash of text, together with the tenant: without it nobody can test a guess at a prompt.
    It must be the same in every process and over time, or the same text gets other hashes. ``cache_bytes`` bounds the
    memory for texts seen before.
    """

    hash_key: bytes = b""
    cache_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if len(self.hash_key) > 64:
            raise ValueError(f"hash_key has {len(self.hash_key)} bytes; at most 64 can be used")

    def __repr__(self) -> str:
        return f"Settings(hash_key=***, cache_bytes={self.cache_bytes})"


class Counter:
    """Counts calls, remembering texts. Not to be shared between threads: one for each worker instance."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._budget = Budget(self._settings.cache_bytes)
        self._spaces: dict[tuple[str, str, bool], Space] = {}

    def count(self, call: Call) -> None:
        """Fill the counted and by-role fields and ``content_hash`` of ``call``, and drop ``call.content``.

        Where nothing reported any usage, the counts become the usage (source ``counted``). Reported usage stays. Never
        raises on what a record may hold.
        """
        content = call.content
        if content is None:
            return
        call.content = None
        kind = family(call.model or call.model_requested, call.provider)
        responses = call.api == RESPONSES
        space = self._space(call.tenant, kind, responses)
        trail: list[bytes] = []
        unseen = not content.complete
        if content.prompt or content.tools_json or content.token_inputs:
            unseen |= _input(call, content, kind, space, trail)
        else:
            trail += (b"S", space.digest(content.schema_json))
        trail.append(b"A")
        if content.output:
            unseen |= _output(call, content, kind, space, trail)
        trail += (b"E", framed(utf8(content.tool_choice)), content.token_inputs.to_bytes(8, "big"), call.params)
        call.content_hash = space.digest(b"".join(trail))
        if call.counted_input is None and call.counted_output is None:
            return
        call.counted_with = kind.tokenizer
        exact = kind.exact and (not kind.open or _plain(call, content, kind))
        call.count_quality = "partial" if unseen else "exact_tokenizer" if exact else "estimate"
        if not unseen:
            _errors(call, content, kind, exact)
        if call.usage_source == "none" and _answered(call):
            _stand_in(call, kind)

    def _space(self, tenant: str, kind: Family, responses: bool) -> Space:
        found = self._spaces.get((tenant, kind.name, responses))
        if found is None:
            if len(self._spaces) >= _MAX_SPACES:  # more tenants than can be remembered at once: start afresh
                self._spaces.clear()
                self._budget = Budget(self._settings.cache_bytes)
            key = hashlib.blake2b(utf8(tenant), digest_size=32, key=self._settings.hash_key, person=b"tenant").digest()
            found = Space(self._budget, _counter(kind), key)
            self._spaces[tenant, kind.name, responses] = found
        return found


def _counter(kind: Family) -> Callable[[str], int]:
    """What counts the texts of a family: its tokenizer, or the one that stands in for it and how it differs."""
    count, stand_in = tokenizer(kind.tokenizer).count, kind.stand_in
    if stand_in is None:
        return count
    return lambda text: count(text) + stand_in.more(text)


def _plain(call: Call, content: Content, kind: Family) -> bool:
    """Whether a chat template alone tells how the call is written: texts of a chat, without tools, a schema or names."""
    if call.operation not in _CHAT or content.tools_json or content.schema_json or (kind.single and len(content.prompt) > 1):
        return False
    if kind.hidden.thinking and call.output_reasoning and not content.thinking:
        return False  # instructions to think may be there or not
    messages = (*content.prompt, *content.output)
    return not any(message.name for message in messages) and all(
        part.kind == "text" for message in messages for part in message.parts
    )


def _errors(call: Call, content: Content, kind: Family, exact: bool) -> None:
    """How far the counts may be off; how far an answer is that reasoning went before, which no record shows, is not known."""
    if call.counted_input is not None:
        band = kind.tools_band if content.tools_json or content.schema_json else kind.band
        call.counted_input_error = 0 if exact else band.around(call.counted_input)
    if call.counted_output is not None and not (kind.hidden_reasoning or content.thinking):
        band = kind.call_band if call.answer_call_tokens else kind.answer_band
        call.counted_output_error = 0 if exact else band.around(call.counted_output)


def _input(call: Call, content: Content, kind: Family, space: Space, trail: list[bytes]) -> bool:
    """Count the prompt; say whether something in it could not be counted."""
    responses = call.api == RESPONSES
    trip = 0
    if content.tools_json:
        trip = kind.responses_trip if responses else kind.round_trip if call.api == "openai.chat" else 0
    prompt = count_prompt(content.prompt, kind, responses, trip, space)
    trail += prompt.trail
    tokens, sizes, messages, digests = prompt.tokens.copy(), prompt.sizes, prompt.number, prompt.digests
    tokens[USER] += content.token_inputs
    tools_around = _tools(call, content, prompt.counted, kind, space, trail)
    framing = kind.reply + prompt.framing + tools_around if call.operation in _CHAT else 0
    call.media_parts += prompt.media
    scaled, hashed = kind.scaled, space.together
    total = call.tools_tokens = scaled(call.tools_tokens)
    if messages[SYSTEM]:
        call.system_messages, call.system_bytes = messages[SYSTEM], sizes[SYSTEM]
        call.system_tokens = scaled(tokens[SYSTEM])
        call.system_hash = _bits(hashed(digests[SYSTEM]))
        total += call.system_tokens
    if messages[HISTORY] or tokens[HISTORY]:
        call.history_messages, call.history_bytes = messages[HISTORY], sizes[HISTORY]
        call.history_tokens = scaled(tokens[HISTORY])
        call.history_hash = _bits(hashed(digests[HISTORY]))
        total += call.history_tokens
    if messages[RESULT]:
        call.tool_result_messages, call.tool_result_bytes = messages[RESULT], sizes[RESULT]
        call.tool_result_tokens = scaled(tokens[RESULT])
        call.tool_result_hash = _bits(hashed(digests[RESULT]))
        total += call.tool_result_tokens
    if messages[USER] or tokens[USER]:
        call.user_messages, call.user_bytes, call.user_tokens = messages[USER], sizes[USER], scaled(tokens[USER])
        call.user_hash = _bits(hashed(digests[USER]))
        total += call.user_tokens
    if call.operation in _CHAT:
        framing += 0 if messages[SYSTEM] else kind.unasked
        framing = max(0, scaled(framing) + kind.offset + _hidden(content, kind))
    call.counted_input = total + framing
    return prompt.unseen


def _hidden(content: Content, kind: Family) -> int:
    """Tokens of the instructions that a vendor adds."""
    hidden, tokens = kind.hidden, 0
    if content.tools_json:
        choice = content.tool_choice.lower()
        tokens = hidden.tools if choice in _FREE else hidden.forced
    if content.schema_json:
        tokens += hidden.schema
    return tokens + (hidden.thinking if content.thinking else 0)


def _tools(call: Call, content: Content, counted: Sequence[Counted], kind: Family, space: Space, trail: list[bytes]) -> int:
    """Count tools and response schema into the tools fields; the framing they add."""
    tools_json, schema_json = content.tools_json, content.schema_json
    if not tools_json and not schema_json:
        return 0
    framing = tools = schema = 0
    responses = call.api == RESPONSES
    digests: list[bytes] = []
    if tools_json:
        entry = space.young.get(tools_json) or _remember(tools_json, partial(_tool_set, responses, kind.stand_in), space)
        tools = entry.tokens
        call.tools_count, call.tools_bytes = entry.items, entry.size
        digests.append(entry.digest)
        trail += (b"F", entry.digest)
        choice = content.tool_choice
        if kind.choice_named and choice.lower() not in _CHOICES and utf8(choice) in tools_json:
            framing += 7 + space.text(choice).tokens
        if tools and call.api == "openai.chat":
            framing += kind.preamble
        if tools and kind.hidden_reasoning and _DESCRIBED.search(tools_json) is None:
            framing -= 1
    if schema_json:
        entry = _shape(schema_json, kind, space)
        schema = entry.tokens
        call.tools_bytes += entry.size
        digests.append(entry.digest)
        trail += (b"S", entry.digest)
        if kind.schema_named and not tools_json and not responses:
            turns = 1 + sum(message.role == "assistant" for message in content.prompt)
            framing += turns * (2 + entry.items)
    call.tools_hash = _bits(space.together(digests))
    call.tools_tokens = tools + schema
    if kind.stand_in is not None:
        return 0  # what joins them is not known
    # Both stand in the system prompt, a blank line between; without one, in a message of their own.
    beside = bool(counted) and counted[0].side == SYSTEM and counted[0].size > 0
    if (tools or schema) and (not beside or (tools and (kind.tools_apart or responses))):
        framing += 4
    elif tools or schema:
        end = rules.last_run(content.prompt[0].parts[-1].text)
        framing += space.text(end + "\n\n").tokens - space.text(end).tokens
    if tools and schema:
        framing += 1
    if responses:
        framing += kind.responses_tools if tools else -4 if kind.tools_apart and not beside else -3
    return framing


def _shape(schema_json: bytes, kind: Family, space: Space) -> Entry:
    return space.young.get((schema_json,)) or _remember((schema_json,), partial(_schema, kind.stand_in), space)


def _remember(key: bytes | tuple[bytes], make: Callable[[bytes, Space], Entry], space: Space) -> Entry:
    """The entry under ``key``: tools by their JSON, a response schema by its JSON in a tuple."""
    data = key if isinstance(key, bytes) else key[0]
    found: Entry | None = space.old.get(key)
    if found is None:
        found = make(data, space)
    space.keep(key, found, sys.getsizeof(data))
    return found


def _output(call: Call, content: Content, kind: Family, space: Space, trail: list[bytes]) -> bool:
    """Count the answer, all its choices; say whether something in it could not be counted."""
    text = called = framing = size = 0
    unseen = False
    digests: list[bytes] = []
    wrapped: list[int] = []  # how many calls are written as one
    responses = call.api == RESPONSES
    chat = call.operation in _CHAT
    azure = call.provider.startswith("azure")
    text_close, call_close = kind.text_close, kind.call_close
    if responses:
        text_close, call_close = kind.responses_text_close, kind.responses_call_close
    for message in content.output:
        one = space.young.get(message) or message_of(message, kind, responses, space)
        trail.append(one.trail)
        text += one.text
        size += one.size
        if one.digest:
            digests.append(one.digest)
        call.media_parts += one.media
        unseen |= one.media > 0  # made by the model: what it costs is not what reading it would
        if one.called:
            called += one.calls
            if content.tool_choice == one.called[0]:  # the name was given, not written
                called -= name_tokens(one.called[0], space)
            elif chat:
                wrapped.append(len(one.called))
        elif one.size and chat:
            framing += 0 if kind.open and call.stop_reason == "length" else text_close
            if content.schema_json and content.tools_json and kind.schema_named and not responses:
                # the schema is named where an answer may be a call, too
                framing += 2 + _shape(content.schema_json, kind, space).items
            if call.stop_reason != "length" and not kind.hidden_reasoning and kind.openai:
                framing += (1 if content.tools_json else 0) + azure
    if responses and len(wrapped) > 1:  # items of their own, but written as one call around them all
        written = [(part.name, part.text) for message in content.output for part in message.parts if part.kind == "call"]
        called, wrapped = call_tokens(written, space, apart=False), [len(written)]
    framing += sum(call_close + (3 if number > 1 else 0) + azure for number in wrapped)
    call.answer_call_tokens = kind.scaled(called)
    call.answer_tokens = kind.scaled(text) + call.answer_call_tokens
    call.answer_bytes = size
    call.answer_hash = _bits(space.together(digests))
    call.counted_output = call.answer_tokens + (framing if kind.exact or kind.stand_in is not None else 0)
    return unseen


def _tool_set(responses: bool, stand_in: StandIn | None, tools_json: bytes, space: Space) -> Entry:
    rendered = rules.render_tools(tools_json, responses)
    if stand_in is not None:
        text = rules.declarations(tools_json)
        tokens = space.once(text).tokens + text.count('"') * stand_in.quotes // 1000
    else:
        tokens = max(0, space.once(rendered.text).tokens - rendered.discount) if rendered.text else 0
    return Entry(tokens, space.digest(tools_json), len(tools_json), rendered.tools)


def _schema(stand_in: StandIn | None, schema_json: bytes, space: Space) -> Entry:
    """The response schema; ``items`` is the number of tokens of its name."""
    shape = rules.render_schema(schema_json)
    name = space.text(shape.name).tokens
    if stand_in is not None:
        tokens = space.once(rules.schema_body(schema_json)).tokens * (1000 + stand_in.schema) // 1000
        return Entry(tokens, space.digest(schema_json), len(schema_json), name)
    return Entry(space.once(shape.text).tokens, space.digest(schema_json), len(schema_json), name)


def _bits(digest: bytes) -> int:
    """The 64 bits of a digest that are stored; 0 for no text."""
    return int.from_bytes(digest[:8], "big")


def _answered(call: Call) -> bool:
    """Whether a vendor bills the call although its record reports no usage."""
    return call.status == "ok" or (call.stream and call.status in ("incomplete", "cancelled"))


def stand_in(call: Call) -> None:
    """Let the counts of a call be its usage, if a vendor bills it."""
    if _answered(call):
        _stand_in(call, family(call.model or call.model_requested, call.provider))


def _stand_in(call: Call, kind: Family) -> None:
    """Let the counts be the usage; partial where a part of the call, or reasoning nobody shows, is not in them."""
    call.input_fresh = call.counted_input
    call.output_visible = call.counted_output
    call.usage_source = "counted"
    whole = call.counted_input is not None and (call.counted_output is not None or call.operation == "embedding")
    seen = call.count_quality != "partial" and not (call.counted_output_error is None and call.operation in _CHAT)
    call.usage_quality = "ok" if whole and seen else "partial"
