"""What an answer costs: its texts and calls as written, and what closes and wraps them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from schemas.call import Call, Content
from transforms.count import rules
from transforms.count.cache import Space, bits
from transforms.count.declared import response_schema
from transforms.count.dialects import Dialect
from transforms.count.families import Family
from transforms.count.messages import RESPONSES, Counted, answer_framing, call_tokens, message_of, name_tokens

CHAT: Final = frozenset({"", "chat", "count_tokens"})
"""Operations whose messages are framed."""

FREE: Final = frozenset({"", "auto", "none", "validated"})
"""Choices of a tool by which nothing has to be called."""

_CUT: Final = frozenset({"length", "max_output_tokens"})
_STOPS: Final = re.compile(rb'"stop":\[?"')

END_TOLD: Final = (1_736_899_200_000_000, 1_747_440_000_000_000)
"""From 15 January to 17 May 2025 OpenAI's Chat counted the token that ends an answer, as Azure and the Responses API always do.

Of recorded calls between, all that name no stop sequence have it, few that name one; none until 12 January and from 20 May on.
Microseconds since 1970.
"""

PARALLEL: Final = 3
"""Tokens around several calls written as one, beside those around one."""

COMMENTARY: Final = 3
"""Between a text and the call it goes before, of reasoning models: the end of one message and the start of the next."""


def count_answer(call: Call, content: Content, kind: Family, space: Space) -> tuple[bool, list[bytes]]:
    """Count the answer of ``call``, all its choices, into its fields.

    Whether something in it could not be counted, and what the content hash covers of it.
    """
    text = called = size = media = 0
    counted: list[Counted] = []
    digests: list[bytes] = []
    trail: list[bytes] = []
    responses = call.api == RESPONSES
    for message in content.output:
        one = space.young.get(message) or message_of(message, kind, responses, space)
        counted.append(one)
        trail.append(one.trail)
        if one.digest:
            digests.append(one.digest)
        text += one.text - (one.mused if kind.dialect is not None else 0)  # billed as reasoning
        size += one.size
        called += one.calls
        media += one.media
    if kind.openai and call.operation in CHAT:
        called, framing = _written(call, content, counted, kind, space)
    else:
        called, framing = _estimated(call, content, counted, kind, space, called)
    call.media_parts += media
    call.answer_call_tokens = kind.scaled(called)
    call.answer_tokens = kind.scaled(text) + call.answer_call_tokens
    call.answer_bytes = size
    call.answer_hash = bits(space.together(digests))
    call.counted_output = call.answer_tokens + (framing if kind.exact or kind.stand_in is not None else 0)
    return media > 0, trail  # media made by the model: what they cost is not what reading them would


def _written(call: Call, content: Content, counted: Sequence[Counted], kind: Family, space: Space) -> tuple[int, int]:
    """Tokens of the calls, and of what is around texts and calls, as OpenAI's models write them."""
    responses = call.api == RESPONSES
    cut = call.stop_reason in _CUT
    end = 0 if cut or not _end_is_told(call) else 1
    text_close = kind.responses_text_close if responses else kind.text_close
    framing = kind.responses_thought if responses and content.reasoned else 0
    framing += content.refused
    may_call = bool(content.tools_json) and content.tool_choice != "none"
    turns: list[tuple[list[tuple[str, str]], int]] = []
    for message, one in zip(content.output, counted, strict=True):
        calls = [(part.name, part.text) for part in message.parts if part.kind == "call"] if one.called else []
        if calls and responses and turns:  # items of their own, but written as one call around them all
            calls = turns.pop()[0] + calls
            turns.append((calls, call_tokens(calls, space, apart=False)))
        elif calls:
            turns.append((calls, one.calls))
        if one.only_calls or not (one.text or any(part.kind == "text" for part in message.parts)):
            continue
        framing += end + (kind.responses_text_close if calls else text_close)
        if kind.hidden_reasoning:
            framing += COMMENTARY if calls or (responses and any(each.called for each in counted)) else 0
            framing += kind.schema_close if content.schema_json else 0
        else:
            framing += may_call and not cut
        if content.schema_json and content.tools_json and kind.schema_named:  # it is named where an answer may be a call, too
            framing += 2 + response_schema(content.schema_json, kind, space).items
    called = 0
    for calls, tokens in turns:
        called += tokens
        framing += end
        name, arguments = calls[0]
        if len(calls) == 1 and kind.choice_named and _is_given(name, call, content):
            called -= name_tokens(name, space)
            continue
        framing += kind.responses_call_close if responses else kind.call_close
        if len(calls) > 1:
            framing += PARALLEL
        elif not kind.hidden_reasoning and rules.spaced(arguments):
            called += space.once(rules.parallel(calls)).tokens - tokens
            framing += PARALLEL
    return called, framing


def _is_given(name: str, call: Call, content: Content) -> bool:
    """Whether the name of the tool was not the model's to write: it was chosen, or is the only one that can be."""
    choice = content.tool_choice
    return choice == name or (choice == "required" and call.tools_count == 1 and call.api == RESPONSES)


def _end_is_told(call: Call) -> bool:
    """Whether usage includes the token that ends an answer."""
    if call.api == RESPONSES or call.provider.startswith("azure"):
        return True
    return END_TOLD[0] <= call.event_time < END_TOLD[1] and _STOPS.search(call.params) is None


def _estimated(
    call: Call, content: Content, counted: Sequence[Counted], kind: Family, space: Space, called: int
) -> tuple[int, int]:
    """The same of other models: what closes an answer, and around each turn of calls."""
    framing = 0
    chat = call.operation in CHAT
    if kind.dialect is not None:
        return _spoken(call, content, counted, kind, kind.dialect, space, called)
    for one in counted:
        if one.called and chat and kind.template is not None:
            framing += kind.call * len(one.called) + (0 if call.stop_reason == "length" else kind.text_close)
        elif one.called and content.tool_choice == one.called[0]:  # the name was given, not written
            called -= name_tokens(one.called[0], space)
        elif one.called and chat:
            framing += kind.call_close + (PARALLEL if len(one.called) > 1 else 0) + call.provider.startswith("azure")
        elif one.size and chat:
            framing += 0 if kind.open and call.stop_reason == "length" else kind.text_close
    return called, framing


def _spoken(
    call: Call, content: Content, counted: Sequence[Counted], kind: Family, dialect: Dialect, space: Space, called: int
) -> tuple[int, int]:
    """The same of models that write calls in a form of their own."""
    framing = 0
    forced = content.tool_choice.lower() not in FREE
    for message, one in zip(content.output, counted, strict=True):
        framing += answer_framing(message, dialect, forced)
        if one.called and content.tool_choice == one.called[0] and dialect.verbatim:
            called -= space.text(one.called[0]).tokens
        elif one.size and not one.called and call.operation in CHAT:
            framing += 0 if call.stop_reason == "max_tokens" else kind.text_close
    return called, framing
