"""What one message of a prompt or an answer costs, remembered whole: histories repeat message by message."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, NamedTuple

from schemas.call import Media, Message, Part
from transforms.count import rules
from transforms.count.cache import LONG_TEXT, Entry, Space, utf8
from transforms.count.dialects import Dialect, Pieces, spaced, thought_tokens, values
from transforms.count.families import Family, least_image, media_tokens

SYSTEM: Final = 0
HISTORY: Final = 1
RESULT: Final = 2
USER: Final = 3

SEVERAL_RESULTS: Final = 13
"""Framing of the results of several calls of one turn, which are one message."""

RESPONSES: Final = "openai.responses"

_SIDES: Final = {"system": SYSTEM, "developer": SYSTEM, "assistant": HISTORY, "tool": RESULT, "user": USER}
_NO_NAME: Final = bytes(4)
_TAGS: Final = {"text": b"T", "call": b"C", "result": b"R", "reasoning": b"K"}


class Counted(NamedTuple):
    """A message as counted for one family.

    ``side``: whose it is (``SYSTEM`` …). ``text`` and ``calls`` are tokens of what was said and of tool calls,
    ``framing`` those of the markers around; ``size`` is in bytes. ``digest`` stands for its texts, ``trail`` for all
    it says. ``called`` names the tools it calls; ``unnamed``: the tool it is a result of is not named. ``unseen``:
    something in it could not be counted. ``results`` is set where tool results stand beside something said, as the
    Anthropic and Gemini formats have it: their tokens, bytes and digest, which are in none of the other figures.
    ``mused``: how many tokens of ``text`` are visible reasoning; ``sealed``: tokens of reasoning that only the vendor can read,
    which are in none of the other figures; -1 where the record holds something in its place.
    """

    side: int
    text: int
    calls: int
    framing: int
    size: int
    digest: bytes
    trail: bytes
    called: tuple[str, ...]
    unnamed: bool
    media: int
    unseen: bool
    results: tuple[int, int, bytes] | None
    only_calls: bool
    mused: int = 0
    sealed: int = 0


def message_of(message: Message, kind: Family, responses: bool, space: Space) -> Counted:
    """The counted form of one message, remembered."""
    found: Counted | None = space.find(message)
    if found is None:
        found = count_message(message, kind, responses, space)
    characters = spoken(message.parts)
    if characters <= LONG_TEXT:
        space.keep(message, found, 3 * characters + len(found.trail) + 400 + 120 * len(message.parts))
    return found


def count_message(message: Message, kind: Family, responses: bool, space: Space) -> Counted:
    """Count ``message`` as ``kind`` of model reads it; ``responses``: on the Responses API."""
    role, parts, name = message
    side = _SIDES.get(role, HISTORY)
    head = _head(role, name, sum([part.kind != "sealed" for part in parts]))
    if len(parts) == 1 and parts[0].kind == "text" and side != RESULT and not name and not parts[0].name:
        entry = space.once(parts[0].text)
        around = _around(kind, role, side)
        said_so = head + b"T" + entry.digest + _NO_NAME
        return Counted(side, entry.tokens, 0, around, entry.size, entry.digest, said_so, (), False, 0, False, None, False)
    trail = [head]
    digests: list[bytes] = []
    result_digests: list[bytes] = []
    calls: list[tuple[str, str]] = []
    text = framing = size = result_size = result_tokens = media = results = mused = sealed = 0
    dialect = kind.dialect
    said = unseen = unnamed = summed_up = False
    for part in parts:
        if part.kind == "media":
            media += 1
            said = True
            tokens = media_tokens(kind, part.media) if part.media is not None else None
            unseen |= part.media is not None and part.media.guessed
            if tokens is None:
                unseen = True
                tokens = least_image(kind.images, part.media) if part.media is not None else 0
            text += tokens
            trail += (b"I", framed(utf8(part.name)), _media_bytes(part.media))
            continue
        if part.kind == "sealed":
            tokens = thought_tokens(part.text)
            sealed = sealed + tokens if min(sealed, tokens) >= 0 else -1
            continue
        if part.kind == "result" and dialect is not None and not dialect.verbatim:
            data = utf8(part.text)
            tokens, keys = _values(part.text, space)
            entry = Entry(tokens, space.digest(data), len(data))
            framing += dialect.key * keys
        else:
            entry = space.once(part.text)
        trail += (_TAGS.get(part.kind, b"?"), entry.digest, framed(utf8(part.name)))
        if part.kind == "result" or (side == RESULT and part.kind == "text"):
            if kind.template is not None:
                framing += kind.template.result
            elif not results:
                called = part.name or name
                if dialect is None:
                    framing += 1 + (result_name(called, kind, space) if called else 0)
                elif called and not dialect.verbatim:
                    framing += space.text(called).tokens
                framing += kind.message
                unnamed = not called and (dialect is None or not dialect.verbatim)
            elif dialect is not None and part.name and not dialect.verbatim:
                framing += space.text(part.name).tokens
            results += 1
            if dialect is not None:
                framing += dialect.result + (dialect.several if results == 2 else 0)
            result_tokens += entry.tokens
            result_size += entry.size
            result_digests.append(entry.digest)
            continue
        size += entry.size
        digests.append(entry.digest)
        if part.kind == "call":
            calls.append((part.name, part.text))
        elif part.kind == "reasoning" and kind.openai and kind.hidden_reasoning:
            summed_up = True  # nobody is billed a summary
        elif part.kind == "reasoning" and dialect is not None and not dialect.muses:
            continue
        else:
            text += entry.tokens
            said |= part.text != ""
            mused += entry.tokens if part.kind == "reasoning" else 0
    called_tokens = 0
    if calls and dialect is not None:
        for called, arguments in calls:
            tokens, keys = _values(arguments, space, not dialect.verbatim)
            called_tokens += space.text(called).tokens + tokens
            framing += dialect.call + dialect.key * keys
        framing += 0 if said else kind.message
    elif calls and kind.template is not None:
        called_tokens = sum([space.text(called).tokens + space.once(spaced(arguments)).tokens for called, arguments in calls])
        framing += kind.call * len(calls) + (0 if said else _around(kind, role, side))
    elif calls:
        called_tokens = call_tokens(calls, space, responses or not kind.openai)
        framing += 5 + 3 * len(calls) if responses else kind.call * len(calls) if not kind.openai else 8 if len(calls) == 1 else 7
    speaks = said or not (calls or results or summed_up)
    speaks &= dialect is None or not (results and side == RESULT)  # what a tool answered is one message, with pictures, too
    if speaks:
        framing += _around(kind, role, side)
        if name:
            framing += 1 if name == role else 1 + space.text(name).tokens
    elif calls and name:
        framing += space.text(name).tokens
    if results and (side == RESULT or not (said or calls)):
        # Only results; empty texts beside them change nothing.
        side, text, size, digests = RESULT, text + result_tokens, size + result_size, digests + result_digests
        result_tokens = result_size = 0
        result_digests = []
    return Counted(
        side, text, called_tokens, framing, size, space.together(digests), b"".join(trail),
        tuple(called for called, _ in calls), unnamed, media, unseen,
        (result_tokens, result_size, space.together(result_digests)) if result_digests else None,
        bool(calls) and not said, mused, sealed,
    )  # fmt: skip


def _values(data: str, space: Space, deep: bool = True) -> tuple[int, int]:
    """Tokens of the keys and values of JSON, and how many keys there are."""
    pieces, keys = values(data, deep)
    return pieces_tokens(pieces, space), keys


def pieces_tokens(pieces: Pieces, space: Space) -> int:
    """Tokens of texts that are apart, and of what is around them."""
    return space.once(pieces.text).tokens + pieces.around


def answer_framing(message: Message, dialect: Dialect, forced: bool) -> int:
    """Tokens around the calls of an answer; ``forced``: it had to be one."""
    calls = [part for part in message.parts if part.kind == "call"]
    if not calls:
        return 0
    around = sum([dialect.answer + dialect.answer_key * values(part.text, not dialect.verbatim)[1] for part in calls])
    return around + dialect.answer_first - (dialect.forced if forced else 0)


def _around(kind: Family, role: str, side: int) -> int:
    """Tokens around a message of text."""
    if side == SYSTEM and kind.system is not None:
        return kind.system
    return kind.message + (kind.assistant if role == "assistant" else 0)


@functools.lru_cache(maxsize=4096)
def _head(role: str, name: str, parts: int) -> bytes:
    """The start of a message in the content hash: role, name and number of parts."""
    return b"M" + framed(utf8(role)) + framed(utf8(name)) + parts.to_bytes(4, "big")


def call_tokens(calls: Sequence[tuple[str, str]], space: Space, apart: bool) -> int:
    """Tokens of tool calls as written: name and compact arguments; several as one wrapper call unless ``apart``."""
    if len(calls) == 1 or apart:
        return sum(name_tokens(name, space) + space.once(rules.compact(text)).tokens for name, text in calls)
    return space.once(rules.parallel(calls)).tokens


def name_tokens(name: str, space: Space) -> int:
    """Tokens of a tool's name where it is called: it stands behind ``functions.``, and joins with its dot."""
    return space.text(f"functions.{name}").tokens - 1


def result_name(name: str, kind: Family, space: Space) -> int:
    """Tokens of a tool's name where it answers."""
    return name_tokens(name, space) if kind.result_called else space.text(name).tokens


def framed(data: bytes) -> bytes:
    """``data`` with its length before it, so that a sequence of such can be taken apart in one way only."""
    return len(data).to_bytes(4, "big") + data


def _media_bytes(media: Media | None) -> bytes:
    # A guess may become a better one: it is no part of what the message says.
    said = () if media is None else (media.kind, 0, 0, *media[3:5]) if media.guessed else media[:5]
    return framed(repr(said).encode("utf-8", "backslashreplace"))


def spoken(parts: Sequence[Part]) -> int:
    """Characters of all parts: what remembering the message would hold."""
    return sum(len(part.text) for part in parts)
