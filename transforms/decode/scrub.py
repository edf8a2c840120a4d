"""Take secrets out of what is kept: dead-letter payloads, error texts, tags."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
import zlib
from typing import Final

from schemas.call import Call

MAX_TAGS: Final = 32
MAX_TAG_CHARS: Final = 256
MASK: Final = "***"


def _after(words: str, end: str) -> str:
    """Whether one of the words stands before the end that was just read."""
    return "|".join(f"(?<={word}{join}{end})" for word in words.split() for join in ("", "[_-]"))


_KEYS = (
    "api subscription access secret private account application app function functions virtual master signing encryption"
    " shared storage"
)
_TOKENS = "access refresh id session security auth api vault private csrf xsrf ad bot bearer sas"
# Repeats are bounded, so that no text takes longer than its length times a constant. Names are told by their ends; the first
# letter stands apart, since a set of letters is what is looked for the fastest.
_SECRET_NAME = (
    r"[aApPsScCdDbBkKtT](?i:(?<=a)uth(?:orization)?|(?<=p)assw(?:or)?d|(?<=s)ecret|(?<=c)redentials?|(?<=c)ookie|(?<=d)sn|(?<=b)earer"
    rf"|(?<=k)ey(?:{_after(_KEYS, 'key')})|(?<=t)oken(?:{_after(_TOKENS, 'token')})"
    rf"|(?<=s)tring(?:{_after('connection', 'string')})|(?<=c)onfig(?<=portkey-config))"
)
_NAMED: Final = re.compile(rf"{_SECRET_NAME}\Z")

_QUOTE = r"\\{0,31}[\"']"
_GAP = r"\s{0,20}"
_VALUE = rf"(?:\[{_GAP})?{_QUOTE}(?:(?!(?<!\\)\2).)*(?:\2|\Z)"

_RULES: Final = (
    # "name": "value" in JSON, also in JSON inside a string, where each quote wears backslashes, and as Python shows it
    (
        re.compile(rf"({_SECRET_NAME}({_QUOTE}){_GAP}:{_GAP}){_VALUE}", re.DOTALL),
        rf"\1\2{MASK}\2",
    ),
    # {"key": "name", "value": …} of telemetry, where the value is in an object of its type, and of headers in a list
    (
        re.compile(
            rf'("(?:key|name)"\s{{0,20}}:\s{{0,20}}"[\w.-]{{0,120}}?{_SECRET_NAME}"\s{{0,20}},\s{{0,20}}"value"\s{{0,20}}:\s{{0,20}}'
            r'(?:\{\s{0,20}"array_?value"\s{0,20}:\s{0,20}\{\s{0,20}"values"\s{0,20}:\s{0,20}\[\s{0,20})?'
            r'(?:\{\s{0,20}"string_?value"\s{0,20}:\s{0,20})?")(?:[^"\\]|\\.)*("|\Z)',
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1{MASK}\2",
    ),
    # "name", "value" of pairs; "name": "authorization", "value": "…" of lists of headers; {"stringValue": "…"} of attributes
    (
        re.compile(
            rf"({_SECRET_NAME}({_QUOTE}){_GAP},{_GAP}(?:{_QUOTE}(?i:value){_QUOTE}{_GAP}:{_GAP}"
            rf"(?:\{{{_GAP}{_QUOTE}\w{{1,20}}{_QUOTE}{_GAP}:{_GAP})?)?)(?!{_QUOTE}(?i:value){_QUOTE}{_GAP}:){_VALUE}",
            re.DOTALL,
        ),
        rf"\1\2{MASK}\2",
    ),
    # name: value of an HTTP header
    (re.compile(rf"({_SECRET_NAME}{_GAP}:{_GAP})[^\s\"\\,][^\r\n\"\\]*"), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer|Basic|Digest|SharedAccessSignature)\s{1,20}[A-Za-z0-9._~+/=&%-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    # ?key=… of a URL, of a connection string
    (
        re.compile(
            r"([kKtTsScCpPxX](?i:(?<=k)ey|(?<=t)oken|(?<=s)ecret|(?<=s)ig(?:nature)?|(?<=c)ode(?<=[?&;#]code)|(?<=p)assword|(?<=x)-amz-[\w-]{1,40})=)"
            r"[^&#;\s\"'\\]+"
        ),
        rf"\1{MASK}",
    ),
    # user:password@ of a URL, also where the text, or a string of it, is cut; what is a port stays
    (re.compile(r"//[^/\s:@\"\\\[]{0,256}:(?!\d{0,5}(?:[\"\\]|\Z))[^/\s@\"\\]{1,1024}(?:@|(?=[\"\\])|\Z)"), f"//{MASK}@"),
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END|\Z)", re.DOTALL), MASK),
    # keys of known shape: OpenAI and Anthropic, Langfuse, Stripe, Cerebras
    (re.compile(r"\b(?:[spr]k|csk)[-_][A-Za-z0-9_\-*]{6,}"), f"sk-{MASK}"),
    # Google, AWS, GitHub, GitLab, Groq, xAI, Hugging Face, Perplexity, Replicate, NVIDIA, LangSmith, Together, Pinecone, Slack,
    # JSON web tokens
    (
        re.compile(
            r"\b(?:AIza[\w-]{20,}|ya29\.[\w.-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
            r"|gsk_\w{16,}|xai-\w{16,}|hf_\w{16,}|pplx-\w{16,}|r8_\w{16,}|nvapi-[\w-]{16,}|lsv2_\w{16,}|tgp_v\d_[\w-]{16,}|pcsk_\w{16,}"
            r"|xox[abprs]-[\w-]{10,}|eyJ[\w-]{5,600}\.[\w-]{10,4000}\.[\w-]*)"
        ),
        MASK,
    ),
    # the same where the text, or a string of it, is cut within one
    (
        re.compile(
            r"\b(?:AIza|ya29\.|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|gsk_|xai-|hf_|pplx-|r8_|nvapi-|lsv2_|tgp_v\d_|pcsk_|xox[abprs]-)"
            r"[\w-]{1,60}(?=[\"\\]|\Z)|\beyJ[\w-]{5,600}\.[\w-]{1,4000}(?=[\"\\]|\Z)"
        ),
        MASK,
    ),
)


def is_secret_name(name: str) -> bool:
    """Whether a header or field of that name holds a secret."""
    return _NAMED.search(name) is not None


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
    some = _ENCODED.sub(_without_hidden, some)
    return some if len(some) <= limit else some[:limit]


_ENCODED: Final = re.compile(r"[A-Za-z0-9+/_-]{40,}")


def _without_hidden(found: re.Match[str]) -> str:
    """What is base64, as transports write records, or a mask where a secret is in it, perhaps compressed."""
    text = found[0]
    data = base64.b64decode(text[: len(text) // 4 * 4], "-_" if "-" in text or "_" in text else "+/")
    if data[:2] == b"\x1f\x8b":
        with contextlib.suppress(zlib.error):
            data = zlib.decompressobj(31).decompress(data, _MAX_HIDDEN)
    hidden = data.decode("utf-8", "replace")
    return text if scrub(hidden) == hidden else MASK


_MAX_HIDDEN: Final = 1 << 20
"""Bytes of what is compressed that are looked at."""


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
        kept[_shown(key)] = safe
    if kept:
        call.tags = kept


def keep_headers(call: Call, wanted: frozenset[str]) -> None:
    """Of a call's headers keep the wanted ones (lower case), no secrets, at most ``MAX_TAG_CHARS`` of each."""
    found = call.headers or {}
    safe = {name: _safe(name, found[name][:MAX_TAG_CHARS]) for name in sorted(wanted.intersection(found))}
    call.headers = {name: value for name, value in safe.items() if value is not None} or None


@functools.lru_cache(maxsize=8192)  # the same few labels stand on every call
def _safe(key: str, value: str) -> str | None:
    """What may be kept of a tag's value; ``None`` for a secret."""
    if is_secret_name(key):
        return None
    return _shown(value)


@functools.lru_cache(maxsize=8192)
def _shown(text: str) -> str:
    return text if len(text) < 16 else scrub(text)  # no key of a vendor is shorter
