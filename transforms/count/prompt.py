"""The figures of a whole prompt by side, and how to go on from those of an earlier prompt that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.call import Message
from transforms.count import rules
from transforms.count.cache import Space
from transforms.count.families import Family, Turn
from transforms.count.messages import (
    HISTORY,
    RESULT,
    SEVERAL_RESULTS,
    USER,
    Counted,
    call_tokens,
    message_of,
    result_name,
    spoken,
)

SHORTEST: Final = 4
"""Prompts of fewer messages are not remembered as a whole: each message is."""

MAX_HELD: Final = 1 << 20


class Prompt:
    """What the messages of a prompt add up to. Lists of four are by side: ``SYSTEM``, ``HISTORY``, ``RESULT``, ``USER``.

    ``turn``: first and last index of the last user turn, (0, -1) where there is none; earlier ones are history.
    ``trip``: framing of a turn of tool calls. ``trail``: what the content hash covers of the messages. ``held``:
    bytes it keeps alive, roughly. ``together``: results of several calls of one turn are read as one; ``answers`` are those of
    the last turn so far, ``answered`` their tokens.
    """

    __slots__ = (
        "after_calls",
        "answered",
        "answers",
        "counted",
        "digests",
        "framing",
        "held",
        "kind",
        "media",
        "messages",
        "number",
        "open_calls",
        "sizes",
        "together",
        "tokens",
        "trail",
        "trip",
        "turn",
        "unseen",
    )

    def __init__(
        self, messages: list[Message], counted: list[Counted], kind: Family, trip: int, held: int, together: bool
    ) -> None:
        self.messages = messages
        self.counted = counted
        self.kind = kind
        self.trip = trip
        self.held = held
        self.turn = _last_turn(counted)
        self.tokens = [0, 0, 0, 0]
        self.sizes = [0, 0, 0, 0]
        self.number = [0, 0, 0, 0]
        self.digests: tuple[list[bytes], ...] = ([], [], [], [])
        self.trail: list[bytes] = []
        self.framing = self.media = 0
        self.unseen = self.after_calls = False
        self.open_calls: list[str] = []
        self.together = together
        self.answers: list[str] | None = None
        self.answered = 0

    def followed(self, messages: list[Message], more: list[Counted], held: int) -> Prompt:
        """The figures of ``messages``, which begin as this prompt does and go on with what was counted as ``more``."""
        longer = Prompt.__new__(Prompt)
        longer.messages = messages
        longer.counted = self.counted + more
        longer.kind, longer.trip = self.kind, self.trip
        longer.held = self.held + held
        longer.turn = self.turn
        longer.tokens = self.tokens.copy()
        longer.sizes = self.sizes.copy()
        longer.number = self.number.copy()
        longer.digests = tuple([side.copy() for side in self.digests])
        longer.trail = self.trail.copy()
        longer.framing, longer.media = self.framing, self.media
        longer.unseen, longer.after_calls = self.unseen, self.after_calls
        longer.open_calls = self.open_calls.copy()
        longer.together, longer.answered = self.together, self.answered
        longer.answers = None if self.answers is None else self.answers.copy()
        return longer

    def add(self, start: int, space: Space, responses: bool) -> None:
        """Add the messages from index ``start`` on."""
        tokens, sizes, number, digests = self.tokens, self.sizes, self.number, self.digests
        first, last = self.turn
        framing, open_calls, after_calls = self.framing, self.open_calls, self.after_calls
        for index, one in enumerate(self.counted[start:] if start else self.counted, start):
            side, text, calls, around, size, digest, said, called, unnamed, media, unseen, results, only_calls, _, _ = one
            self.trail.append(said)
            if results is not None:
                tokens[RESULT] += results[0]
                sizes[RESULT] += results[1]
                digests[RESULT].append(results[2])
                number[RESULT] += 1
            if side == USER and not first <= index <= last:
                side = HISTORY
            if side == RESULT and self.answers is not None:
                around, unnamed = 0 if self.answers else SEVERAL_RESULTS, False
                text = self._answer(index, space)
            tokens[side] += text
            sizes[side] += size
            number[side] += 1
            if digest:
                digests[side].append(digest)
            framing += around
            if called:
                tokens[HISTORY] += calls
                if responses and only_calls and after_calls:
                    written, around = self._one_more(index, space)
                    tokens[HISTORY] += written
                    framing += around
                    open_calls += called
                else:
                    framing += self.trip
                    if responses and only_calls and len(called) == 1 and not self.messages[index].parts[0].stored:
                        framing += self.kind.responses_unstored
                    open_calls = list(called)
                self.answers = [] if self.together and len(called) > 1 else None
                self.answered = 0
            elif unnamed or side == RESULT:  # it answers the next call of the last turn of calls
                told = open_calls.pop(0) if open_calls else ""
                if unnamed and told:
                    framing += result_name(told, self.kind, space)
            after_calls = only_calls
            if media:
                self.media += media
            if unseen:
                self.unseen = True
        self.framing, self.open_calls, self.after_calls = framing, open_calls, after_calls

    def _one_more(self, index: int, space: Space) -> tuple[int, int]:
        """Tokens, and framing, that one more call of a turn adds beside its own, on the Responses API."""
        kind = self.kind
        if kind.responses_turn is Turn.APART:
            return 0, self.trip
        first = index - 1
        while first > 0 and self.counted[first - 1].only_calls:
            first -= 1
        number = index - first + 1
        if kind.responses_turn is Turn.JOINED:
            back = number == 2 and not self.messages[first].parts[0].stored  # it was not the only one
            return 0, -5 - (kind.responses_unstored if back else 0)
        parts = [part for message in self.messages[first : index + 1] for part in message.parts if part.kind == "call"]
        calls = [(part.name, part.text) for part in parts]
        before = call_tokens(calls[:-1], space, apart=False)
        return call_tokens(calls, space, apart=False) - before - self.counted[index].calls, -6 + (3 if number == 2 else 0)

    def _answer(self, index: int, space: Space) -> int:
        """Take the message at ``index`` as one more result of several calls of a turn; the tokens that it adds."""
        assert self.answers is not None
        self.answers.append("".join([part.text for part in self.messages[index].parts]))
        before, self.answered = self.answered, space.once(rules.results(self.answers)).tokens
        return self.answered - before


def count_prompt(messages: list[Message], kind: Family, responses: bool, trip: int, space: Space) -> Prompt:
    """Count every message of a prompt, going on from a prompt seen before where this one begins with it."""
    length, together = len(messages), kind.openai and not responses
    if length < SHORTEST:
        prompt = Prompt(messages, _count(messages, kind, responses, space), kind, trip, 0, together)
        prompt.add(0, space, responses)
        return prompt
    key = (messages[0], messages[1], trip)
    known: Prompt | None = space.find(key)
    start = 0 if known is None else len(known.messages)
    if known is None or start > length or messages[:start] != known.messages:
        start = 0
    new = messages[start:]
    more = _count(new, kind, responses, space)
    held = sum([400 + 3 * spoken(message.parts) for message in new])
    if start and known is not None:
        if any(one.side == USER for one in more):
            prompt, start = Prompt(messages, known.counted + more, kind, trip, known.held + held, together), 0
        else:
            prompt = known.followed(messages, more, held)
    else:
        prompt = Prompt(messages, more, kind, trip, held, together)
    prompt.add(start, space, responses)
    if prompt.held <= MAX_HELD:
        space.put(key, prompt, prompt.held, prompt.held - (known.held if known is not None else 0))
    return prompt


def _count(messages: list[Message], kind: Family, responses: bool, space: Space) -> list[Counted]:
    counted: list[Counted] = []
    for message in messages:
        one = space.young.get(message)
        counted.append(message_of(message, kind, responses, space) if one is None else one)
    return counted


def _last_turn(counted: Sequence[Counted]) -> tuple[int, int]:
    """First and last index of the last run of user messages; (0, -1) where there is none."""
    last = len(counted) - 1
    while last >= 0 and counted[last].side != USER:
        last -= 1
    if last < 0:
        return 0, -1
    first = last
    while first > 0 and counted[first - 1].side == USER:
        first -= 1
    return first, last


def thoughts(counted: Sequence[Counted]) -> tuple[int, bool]:
    """Tokens of sealed reasoning of the turn that goes on: what came since the user last said something, if a tool has answered.

    And whether some of it is not in the record.
    """
    tokens, lost, answered = 0, False, False
    for one in reversed(counted):
        if one.side == USER and one.size:
            break
        answered |= one.side == RESULT or one.results is not None
        if answered:
            tokens += max(0, one.sealed)
            lost |= one.sealed < 0
    return tokens, lost
