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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.call import Call, Content, Message
from transforms.count import rules
from transforms.count.answer import CHAT, FREE, count_answer
from transforms.count.cache import Space, bits, utf8
from transforms.count.declared import response_schema, tool_set
from transforms.count.families import Family, family
from transforms.count.messages import HISTORY, RESPONSES, RESULT, SYSTEM, USER, Counted, framed, name_tokens
from transforms.count.prompt import count_prompt, thoughts
from transforms.count.templates import Template, names_tool
from transforms.count.tokenizers import tokenizer
from transforms.recent import Budget

_CHOICES: Final = FREE | {"required", "any"}
_TEXT: Final = frozenset({"text"})
_SAID: Final = frozenset({"text", "call", "result"})
_THOUGHT: Final = frozenset({"reasoning", "sealed"})
"""Parts of an answer that are billed as reasoning, and are none of its visible tokens."""
_MAX_SPACES: Final = 1024
_DESCRIBED: Final = re.compile(rb'"description":"[^"]')

PREAMBLE_ENDS: Final = 1_744_675_200_000_000
"""Until 15 April 2025 the Responses API put something before every prompt: of recorded calls, those of March 2025 have it, and
those from May on do not. Microseconds since 1970."""


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
            made, said = count_answer(call, content, kind, space)
            unseen |= made
            trail += said
        trail += (b"E", framed(utf8(content.tool_choice)), content.token_inputs.to_bytes(8, "big"), call.params)
        call.content_hash = space.digest(b"".join(trail))
        if call.counted_input is None and call.counted_output is None:
            return
        call.counted_with = kind.tokenizer
        exact = kind.exact and (not kind.open or _plain(call, content, kind))
        call.count_quality = "partial" if unseen else "exact_tokenizer" if exact else "estimate"
        if unseen:
            call.counted_input_error = None
        else:
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
    if stand_in is None or not stand_in.digits:
        return count
    return lambda text: count(text) + stand_in.more(text)


def _plain(call: Call, content: Content, kind: Family) -> bool:
    """Whether a chat template alone tells how the call is written: texts of a chat, without names, tools or a schema it reads."""
    if call.operation not in CHAT or (kind.single and len(content.prompt) > 1):
        return False
    if (content.schema_json and not kind.schema_unread) or (content.tools_json and kind.template is None):
        return False
    if kind.hidden.thinking and call.output_reasoning and not content.thinking:
        return False  # instructions to think may be there or not
    if kind.template is None and any(message.name for message in (*content.prompt, *content.output)):
        return False
    known = _TEXT if kind.template is None else _SAID
    thought = known if kind.dialect is None else known | _THOUGHT
    return known.issuperset(_kinds(content.prompt)) and thought.issuperset(_kinds(content.output))


def _kinds(messages: Sequence[Message]) -> set[str]:
    return {part.kind for message in messages for part in message.parts}


def _errors(call: Call, content: Content, kind: Family, exact: bool) -> None:
    """How far the counts may be off; how far an answer is that reasoning went before, which no record shows, is not known."""
    if call.counted_input is not None:
        band = kind.tools_band if content.tools_json or content.schema_json else kind.band
        more = call.counted_input_error or 0  # what is known to be unsure by itself
        if content.schema_json and kind.dialect is not None:
            more += kind.dialect.unsure
        call.counted_input_error = 0 if exact else band.around(call.counted_input) + more
    if call.counted_output is not None and not (kind.hidden_reasoning or content.thinking):
        band = kind.call_band if call.answer_call_tokens else kind.answer_band
        call.counted_output_error = 0 if exact else band.around(call.counted_output)


def _input(call: Call, content: Content, kind: Family, space: Space, trail: list[bytes]) -> bool:
    """Count the prompt; say whether something in it could not be counted."""
    responses = call.api == RESPONSES
    trip = kind.responses_trip if responses else kind.round_trip if content.tools_json and call.api == "openai.chat" else 0
    prompt = count_prompt(content.prompt, kind, responses, trip, space)
    trail += prompt.trail
    tokens, sizes, messages, digests = prompt.tokens.copy(), prompt.sizes, prompt.number, prompt.digests
    tokens[USER] += content.token_inputs
    sealed, lost = 0, False
    if kind.dialect is not None and (call.stream or not kind.dialect.streamed):
        sealed, lost = thoughts(prompt.counted)
        tokens[HISTORY] += sealed
    tools_around = _tools(call, content, prompt.counted, kind, space, trail)
    framing = kind.reply + prompt.framing + tools_around if call.operation in CHAT else 0
    call.media_parts += prompt.media
    scaled, hashed = kind.scaled, space.together
    total = call.tools_tokens = scaled(call.tools_tokens)
    if messages[SYSTEM]:
        call.system_messages, call.system_bytes = messages[SYSTEM], sizes[SYSTEM]
        call.system_tokens = scaled(tokens[SYSTEM])
        call.system_hash = bits(hashed(digests[SYSTEM]))
        total += call.system_tokens
    if messages[HISTORY] or tokens[HISTORY]:
        call.history_messages, call.history_bytes = messages[HISTORY], sizes[HISTORY]
        call.history_tokens = scaled(tokens[HISTORY])
        call.history_hash = bits(hashed(digests[HISTORY]))
        total += call.history_tokens
    if messages[RESULT]:
        call.tool_result_messages, call.tool_result_bytes = messages[RESULT], sizes[RESULT]
        call.tool_result_tokens = scaled(tokens[RESULT])
        call.tool_result_hash = bits(hashed(digests[RESULT]))
        total += call.tool_result_tokens
    if messages[USER] or tokens[USER]:
        call.user_messages, call.user_bytes, call.user_tokens = messages[USER], sizes[USER], scaled(tokens[USER])
        call.user_hash = bits(hashed(digests[USER]))
        total += call.user_tokens
    if call.operation in CHAT:
        framing += 0 if messages[SYSTEM] else kind.unasked
        if responses and kind.openai and not kind.hidden_reasoning and 0 < call.event_time < PREAMBLE_ENDS:
            framing += _preamble(content)
        framing = max(0, scaled(framing) + kind.offset + _hidden(content, kind))
    call.counted_input = total + framing
    if sealed:
        call.counted_input_error = sealed // 6
    return prompt.unseen or lost


def _named_turns(content: Content) -> int:
    """How many turns of a prompt name the response schema: answers, past and to come, that could be nothing else; past ones of
    words, where they could have been calls."""
    answers = [message for message in content.prompt if message.role == "assistant"]
    if not content.tools_json:
        return 1 + len(answers)
    return sum(any(part.text for part in message.parts if part.kind == "text") for message in answers)


def _preamble(content: Content) -> int:
    """What the Responses API put before prompts in its first weeks."""
    if not content.tools_json:
        return 18
    return 216 if b'"strict":true' in content.tools_json else 21


def _hidden(content: Content, kind: Family) -> int:
    """Tokens of the instructions that a vendor adds."""
    hidden, tokens = kind.hidden, 0
    if content.tools_json:
        choice = content.tool_choice.lower()
        tokens = hidden.tools if choice in FREE else hidden.forced
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
        entry = tool_set(tools_json, kind, responses, space)
        tools = entry.tokens
        if kind.template is not None:
            tools, framing = _offered(kind.template, tools, tools_json, content.tool_choice, space)
        call.tools_count, call.tools_bytes = entry.items, entry.size
        digests.append(entry.digest)
        trail += (b"F", entry.digest)
        choice = content.tool_choice
        if responses and choice == "required" and entry.items == 1:  # which is to say that one
            choice = rules.only_tool(tools_json)
        if kind.template is None and kind.choice_named and choice.lower() not in _CHOICES and utf8(choice) in tools_json:
            framing += 7 + name_tokens(choice, space) if kind.dialect is None else space.text(choice).tokens
        if tools and call.api == "openai.chat":
            framing += kind.preamble
        if tools and kind.hidden_reasoning and _DESCRIBED.search(tools_json) is None:
            framing -= 1
    if schema_json:
        entry = response_schema(schema_json, kind, space)
        schema = entry.tokens
        call.tools_bytes += entry.size
        digests.append(entry.digest)
        trail += (b"S", entry.digest)
        if kind.schema_named and not responses:
            framing += _named_turns(content) * (2 + entry.items)
    call.tools_hash = bits(space.together(digests))
    call.tools_tokens = tools + schema
    if kind.template is not None:
        return framing
    if kind.stand_in is not None:
        return 0  # what joins them is not known
    # Both stand in the system prompt, a blank line between; without one, in a message of their own.
    beside = bool(counted) and counted[0].side == SYSTEM and counted[0].size > 0
    if (tools or schema) and (not beside or (tools and responses) or (kind.tools_apart and (tools or responses))):
        framing += 4
    elif tools or schema:
        end = rules.last_run(content.prompt[0].parts[-1].text)
        framing += space.text(end + "\n\n").tokens - space.text(end).tokens
    if tools and schema:
        framing += 1
    if responses:
        framing += kind.responses_tools if tools else -4 if kind.tools_apart else -3
    return framing


def _offered(template: Template, tools: int, tools_json: bytes, choice: str, space: Space) -> tuple[int, int]:
    """Of tools that are ``tools`` tokens all together, tokens of those that a choice leaves, and of what is around them."""
    if not tools or choice == "none":
        return 0, 0
    if choice.lower() in _CHOICES or not names_tool(tools_json, choice):
        return tools, template.around
    begun = template.chosen + space.text(choice).tokens
    return space.once(template.tools(tools_json, choice)).tokens, template.around + begun


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
    seen = call.count_quality != "partial" and not (call.counted_output_error is None and call.operation in CHAT)
    call.usage_quality = "ok" if whole and seen else "partial"
