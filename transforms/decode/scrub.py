"""Take secrets out of what is kept: dead-letter payloads, error texts, tags."""

from __future__ import annotations

import functools
import re
from typing import Final

from schemas.call import Call

MAX_TAGS: Final = 32
MAX_TAG_CHARS: Final = 256
MASK: Final = "***"

# Repeats are bounded, so that no text takes longer than its length times a constant.
_SECRET_NAME = (
    r"(?:proxy-|x-)?authorization|(?:[\w-]{0,40}[_-])?api[_-]?key|apikey|ocp-apim-subscription-key|[\w-]{0,40}subscription-key"
    r"|x-goog-api-key|x-amz-security-token|(?:set-)?cookie|password|passwd|secret|[\w-]{0,40}[_-]secret|client_secret"
    r"|access[_-]?token|refresh[_-]?token|id[_-]?token|session[_-]?token|bearer|credentials?|private[_-]?key"
)
_DOTTED: Final = r"(?:[\w-]{1,40}\.){0,6}"
"""What stands before a name among the attributes of telemetry: ``http.request.header.authorization``."""

_NAMED: Final = re.compile(rf"{_DOTTED}(?:{_SECRET_NAME})\Z", re.IGNORECASE)

_RULES: Final = (
    # "name": "value" in JSON, also in JSON inside a string, where each quote wears backslashes
    (
        re.compile(
            rf'((\\{{0,31}}"){_DOTTED}(?:{_SECRET_NAME})\\{{0,31}}"\s{{0,20}}:\s{{0,20}})(?:\[\s{{0,20}})?\\{{0,31}}"(?:(?!(?<!\\)\2).)*(?:\2|\Z)',
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1\2{MASK}\2",
    ),
    # {"key": "name", "value": …} of telemetry, where the value is in an object of its type, and of headers in a list
    (
        re.compile(
            rf'("(?:key|name)"\s{{0,20}}:\s{{0,20}}"{_DOTTED}(?:{_SECRET_NAME})"\s{{0,20}},\s{{0,20}}"value"\s{{0,20}}:\s{{0,20}}'
            r'(?:\{\s{0,20}"array_?value"\s{0,20}:\s{0,20}\{\s{0,20}"values"\s{0,20}:\s{0,20}\[\s{0,20})?'
            r'(?:\{\s{0,20}"string_?value"\s{0,20}:\s{0,20})?")(?:[^"\\]|\\.)*("|\Z)',
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1{MASK}\2",
    ),
    # name: value of an HTTP header
    (re.compile(rf"\b((?:{_SECRET_NAME})\s*:\s*)[^\s\"\\,][^\r\n\"\\]*", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    # ?key=… of a URL
    (
        re.compile(
            r"([?&;](?:[\w-]{0,40}key|[\w-]{0,40}token|sig|signature|x-amz-[\w-]+|code|password)=)[^&#\s\"'\\]+", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"://[^/\s:@\"\\]+:[^/\s@\"\\]+@"), f"://{MASK}@"),
    # keys of known shape: OpenAI and Anthropic, Google, AWS, GitHub, Groq, xAI, Hugging Face, Slack, JSON web tokens
    (re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_\-*]{6,}"), f"sk-{MASK}"),
    (
        re.compile(
            r"\b(?:AIza[\w-]{20,}|ya29\.[\w.-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|gsk_\w{16,}|xai-\w{16,}"
            r"|hf_\w{16,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,600}\.[\w-]{10,4000}\.[\w-]*)"
        ),
        MASK,
    ),
)


def is_secret_name(name: str) -> bool:
    """Whether a header or field of that name holds a secret."""
    return _NAMED.match(name) is not None


def scrub(text: str) -> str:
    """The text with the values of secret fields and everything that looks like a key masked."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def payload(record: bytes, limit: int) -> str:
    """At most ``limit`` characters of a record, scrubbed. Bytes that are not UTF-8 are replaced.

    The cut comes last, so that no half of a key is left at the end that would no longer be recognised.
    """
    some = scrub(record[: 4 * limit + 4096].decode("utf-8", "replace").replace("\x00", "�"))
    return some if len(some) <= limit else some[:limit]


def set_tags(call: Call, tags: dict[str, str]) -> None:
    """Give the call its tags: no secrets, at most ``MAX_TAGS`` of ``MAX_TAG_CHARS`` each; flags what was cut."""
    kept: dict[str, str] = {}
    for key, value in tags.items():
        if len(key) > MAX_TAG_CHARS or len(value) > MAX_TAG_CHARS:
            call.flag("tags_cut")
            key, value = key[:MAX_TAG_CHARS], value[:MAX_TAG_CHARS]
        safe = _safe(key, value)
        if safe is None:
            continue
        if len(kept) == MAX_TAGS:
            call.flag("tags_cut")
            break
        kept[key] = safe
    if kept:
        call.tags = kept


def keep_headers(call: Call, wanted: frozenset[str]) -> None:
    """Of a call's headers keep the wanted ones (lower case), no secrets, at most ``MAX_TAG_CHARS`` of each."""
    found = call.headers or {}
    safe = {name: _safe(name, found[name][:MAX_TAG_CHARS]) for name in sorted(wanted & found.keys())}
    call.headers = {name: value for name, value in safe.items() if value is not None} or None


@functools.lru_cache(maxsize=8192)  # the same few labels stand on every call
def _safe(key: str, value: str) -> str | None:
    """What may be kept of a tag's value; ``None`` for a secret."""
    if is_secret_name(key):
        return None
    return value if len(value) < 16 else scrub(value)  # no key of a vendor is shorter
