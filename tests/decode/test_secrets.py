"""Secrets where loggers put them: whatever becomes of the record, none of them is in a row or a log line."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import RawBatch
from tests.decode import pool
from tests.decode.mutations import Place, Step, _as_text, _cut, _double_key, _parsed, _wrap, mutate, written
from tests.decode.test_mutations import NUMBERS, repeatable
from transforms.decode.scrub import scrub
from transforms.work import CallWork

CORE: Final = "Zq7w9KxV2mTb4RnY"
"""What is secret about each; a part of it gives it away, too."""

GIVEN_AWAY: Final = CORE[:10]
BASIC: Final = base64.b64encode(f"user:{CORE}{CORE}".encode()).decode()
ENCODED: Final = tuple(base64.b64encode(b"x" * shift + CORE.encode()).decode()[4:18] for shift in range(3))
"""The same as base64 has it, by where it begins."""

HEADERS: Final = (
    ("authorization", f"Bearer sk-proj-{CORE}"), ("Authorization", f"Bearer {CORE}"), ("AUTHORIZATION", CORE),
    ("Authorization", f"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature={CORE}"),
    ("proxy-authorization", f"Digest {CORE}"), ("x-api-key", CORE), ("api-key", CORE), ("X-Goog-Api-Key", CORE),
    ("Ocp-Apim-Subscription-Key", CORE), ("Helicone-Auth", f"Bearer {CORE}"), ("helicone-auth", CORE), ("x-portkey-api-key", CORE),
    ("x-portkey-virtual-key", CORE), ("cf-aig-authorization", CORE), ("Cookie", f"session={CORE}; a=b"), ("Set-Cookie", f"a={CORE}; Path=/"),
    ("x-amz-security-token", CORE), ("x-functions-key", CORE), ("x-auth-token", CORE), ("x-vault-token", CORE), ("Private-Token", CORE),
    ("x-csrf-token", CORE), ("dd-application-key", CORE), ("x-access-token", CORE), ("http.request.header.authorization", CORE),
)  # fmt: skip
FIELDS: Final = (
    ("api_key", CORE), ("apiKey", CORE), ("user_api_key", CORE), ("OPENAI_API_KEY", CORE), ("aws_secret_access_key", CORE),
    ("aws_session_token", CORE), ("azure_ad_token", CORE), ("client_secret", CORE), ("clientSecret", CORE), ("password", CORE),
    ("db_password", CORE), ("accessToken", CORE), ("refresh_token", CORE), ("secretKey", CORE), ("account_key", CORE),
    ("connection_string", f"AccountName=a;AccountKey={CORE}==;EndpointSuffix=core.windows.net"), ("credentials", CORE),
    ("callback", f"https://example.com/cb?access_token={CORE}"), ("note", f"Bearer {CORE}"), ("curl", f"curl -H 'x-api-key: {CORE}'"),
)  # fmt: skip
KNOWN: Final = (
    f"sk-{CORE}", f"sk-ant-api03-{CORE}", f"sk-or-v1-{CORE}", f"sk-lf-{CORE}", f"AIzaSy{CORE}{CORE}", f"gsk_{CORE}", f"xai-{CORE}", f"hf_{CORE}",
    f"pplx-{CORE}", f"r8_{CORE}", f"nvapi-{CORE}", f"ghp_{CORE}{CORE}", f"github_pat_{CORE}{CORE}", f"glpat-{CORE}", f"xoxb-{CORE}",
    f"sk_live_{CORE}", f"lsv2_pt_{CORE}", f"tgp_v1_{CORE}", f"csk-{CORE}", f"pcsk_{CORE}", f"eyJhbGciOiJI.{CORE}.{CORE}", f"ya29.{CORE}",
    f"Bearer {CORE}", f"Basic {BASIC}", f"AccountKey={CORE}==", f"SharedAccessSignature sr=a&sig={CORE}&se=1",
    f"-----BEGIN PRIVATE KEY-----\n{CORE}\n-----END PRIVATE KEY-----",
)  # fmt: skip
"""What is known by its shape, wherever it stands."""

URLS: Final = (
    f"https://user:{CORE}@api.openai.com/v1/chat/completions", f"https://api.openai.com/v1/chat/completions?api_key={CORE}",
    f"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.0-flash:generateContent?key=AIzaSy{CORE}{CORE}&alt=sse",
    f"https://a.openai.azure.com/openai/deployments/d/chat/completions?api-version=1&subscription-key={CORE}",
    f"https://a.blob.core.windows.net/c/b?sv=2024-01-01&se=2026-01-01&sr=b&sp=r&sig={CORE}%3D", f"https://b.s3.amazonaws.com/k?X-Amz-Signature={CORE}",
    f"https://b.s3.amazonaws.com/k?X-Amz-Security-Token={CORE}&X-Amz-Credential={CORE}", f"https://f.azurewebsites.net/api/f?code={CORE}",
    f"https://example.com/cb#access_token={CORE}&state=1", f"wss://api.openai.com/v1/realtime?model=m&client_secret={CORE}",
    f"postgres://user:{CORE}@db/name", f"https://user:{CORE}@host",
)  # fmt: skip

Json = dict[str, Any]


def inner(record: Json, *names: str) -> Json:
    """The object at a path of a record, made where there is none."""
    for name in names:
        found = record.get(name)
        if not isinstance(found, dict):
            found = record[name] = {}
        record = found
    return record


def into_headers(record: Json, pair: tuple[str, str], form: int) -> None:
    name, value = pair
    place = ("headers", "request_headers", "response_headers")[form % 3]
    shape = form // 3 % 5
    if shape == 0:
        inner(record, place)[name] = value
    elif shape == 1:
        inner(record, place)[name] = [value]
    elif shape == 2:
        record[place] = [{"name": name, "value": value}]
    elif shape == 3:
        record[place] = [[name, value], ["x-request-id", "r"]]
    else:
        inner(record, ("request", "response")[form % 2], "headers")[name] = value


def into_labels(record: Json, pair: tuple[str, str], form: int) -> None:
    name, value = pair
    place = ("metadata", "tags", "labels")[form % 3]
    shape = form // 3 % 5
    if shape == 0:
        inner(record, place)[name] = value
    elif shape == 1:
        record[place] = [f"{name}: {value}", f"{name}:{value}"]
    elif shape == 2:
        inner(record, "request", "metadata")[name] = value
    elif shape == 3:
        record[place] = orjson.dumps({"a": orjson.dumps({name: value}).decode()}).decode()
    else:
        record["attributes"] = [{"key": name, "value": {"stringValue": value}}]


def into_url(record: Json, url: str, form: int) -> None:
    record[("url", "uri", "api_base", "host", "target_url")[form % 5]] = url
    if form // 5 % 2:
        inner(record, "metadata")["url"] = url


def into_texts(record: Json, known: str, form: int) -> None:
    told = f"Incorrect API key provided: {known}. You can find your key at https://example.com."
    shape = form % 6
    if shape == 0:
        record["status"], record["response"] = (
            401,
            {"error": {"message": told, "type": "invalid_request_error", "code": "invalid_api_key"}},
        )
    elif shape == 1:
        record["error"] = told
    elif shape == 2:
        inner(record, "metadata")["error"] = told
    elif shape == 3:
        record["tags"] = [known, told]
    elif shape == 4:
        inner(record, "response", "usage")["prompt_tokens"] = known
    else:
        record[known] = told


Plant = tuple[int, int, int]
PLANTERS: Final[tuple[tuple[Callable[[Json, Any, int], None], tuple[Any, ...]], ...]] = (
    (into_headers, HEADERS), (into_labels, (*HEADERS, *FIELDS)), (into_url, URLS), (into_texts, KNOWN),
)  # fmt: skip


def _as_body(found: list[Place], where: int, what: int) -> None:
    _as_text([(holder, key) for holder, key in found if isinstance(holder[key], dict | list)] or found, where, what)


HARMLESS: Final = (_parsed(_as_body), _cut, _double_key, _wrap, _wrap)
"""Steps that leave the name of a secret beside it: what an opaque one that stands alone is, nobody can tell."""


def planted(data: bytes, before: list[Step], plants: list[Plant], steps: list[Step]) -> bytes:
    """A record that was made wrong, if it is still JSON, with secrets in it, and made wrong again."""
    try:
        record = orjson.loads(mutate(data, before))
    except orjson.JSONDecodeError:
        record = orjson.loads(data)
    if not isinstance(record, dict):
        record = {"request": {}, "response": record}
    for which, what, form in plants:
        plant, secrets = PLANTERS[which % len(PLANTERS)]
        plant(record, secrets[what % len(secrets)], form)
    data = written(record)
    for step in steps:
        data = HARMLESS[step.kind % len(HARMLESS)](data, step.where, step.what)
    return data


def leaks(done: CallWork, data: list[bytes], beside: list[dict[str, str]]) -> list[str]:
    """Where a secret is in the rows of records."""
    raw = RawBatch("fuzz", b"s" * 16, b"o" * 16, 1_772_442_900_000_000, data, list(range(len(data))), headers=beside)
    found = done.rows(raw, lambda stage, items, nanoseconds: None)
    return [
        f"{table}.{name}: {value!r}"
        for table in ("calls", "receipts", "dead_letters", "segments", "parts")
        for row in getattr(found, table).to_pylist()
        for name, value in row.items()
        if any(given_away in str(value) for given_away in (GIVEN_AWAY, *ENCODED))
    ]


@pytest.fixture(scope="module")
def seeds(shared: Path) -> list[bytes]:
    def is_json(data: bytes) -> bool:
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            return False
        return True

    return [data for data in pool.records(shared) if is_json(data)]


@pytest.fixture(scope="module")
def done() -> CallWork:
    return pool.work()


STEPS = st.lists(st.builds(Step, NUMBERS, NUMBERS, NUMBERS), max_size=2)
PLANTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=3)


def check_secrets(seeds: list[bytes], done: CallWork, caplog: pytest.LogCaptureFixture, examples: int) -> None:
    @repeatable(examples)
    @given(st.lists(st.tuples(NUMBERS, STEPS, PLANTS, STEPS), min_size=8, max_size=8), NUMBERS)
    def check(plan: list[tuple[int, list[Step], list[Plant], list[Step]]], header: int) -> None:
        data = [planted(seeds[which % len(seeds)], before, plants, steps) for which, before, plants, steps in plan]
        name, value = HEADERS[header % len(HEADERS)]
        beside = [{name.lower(): value, "referer": URLS[(header + number) % len(URLS)]} for number in range(len(data))]
        found = leaks(done, data, beside)
        assert not found, found[:3]

    with caplog.at_level(logging.DEBUG):
        check()
    assert GIVEN_AWAY not in caplog.text


def test_no_secret_leaves(seeds: list[bytes], done: CallWork, caplog: pytest.LogCaptureFixture) -> None:
    check_secrets(seeds, done, caplog, 150)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_no_secret_leaves_many_records(seeds: list[bytes], done: CallWork, caplog: pytest.LogCaptureFixture) -> None:
    check_secrets(seeds, done, caplog, 2500)


@pytest.mark.parametrize("where", range(15))
def test_each_secret_at_each_place(done: CallWork, where: int) -> None:
    """Of a call that is read and of a record that is not."""
    data = []
    for plant, secrets in PLANTERS:
        for secret in secrets:
            for record in (pool.BY_HAND[0], {"hello": 1}):
                record = orjson.loads(orjson.dumps(record))
                plant(record, secret, where)
                data.append(orjson.dumps(record))
    assert not leaks(done, data, [])


@pytest.mark.parametrize("text", [*KNOWN, *URLS, *(f"{name}: {value}" for name, value in HEADERS)])
def test_what_is_known_is_masked_in_any_text(text: str) -> None:
    for form in (
        text,
        f"error: {text} was refused",
        orjson.dumps({"a": text}).decode(),
        orjson.dumps(orjson.dumps([text]).decode()).decode(),
    ):
        assert not any(given_away in scrub(form) for given_away in (GIVEN_AWAY, *ENCODED))


@pytest.mark.parametrize("known", ["https://user:", "tgp_v1_", "hf_", "gsk_", "AIza", "glpat-", "xoxb-", "eyJhbGciOiJI."])
def test_a_secret_is_masked_where_the_text_is_cut(known: str) -> None:
    cut = f'{{"url":"{known}{CORE[:12]}'
    assert GIVEN_AWAY not in scrub(cut)
    assert GIVEN_AWAY not in scrub(orjson.dumps({"body": cut, "more": 1}).decode())


@pytest.mark.parametrize("text", ["http://localhost:8123", "see https://example.com:443", "https://example.com/a:b", "//a:", '{"u":"http://h:80"}', "http://[::1]:8123"])
def test_addresses_stay(text: str) -> None:
    assert scrub(text) == text


def test_prompts_are_in_no_row(done: CallWork) -> None:
    record = orjson.loads(orjson.dumps(pool.STREAM))
    for message in record["request"]["messages"]:
        message["content"] = f"my password is {CORE}"
    record["response"]["stream"][0]["choices"][0]["delta"]["content"] = f"I keep {CORE}"
    assert not leaks(done, [orjson.dumps(record)], [])


def test_scrubbing_goes_once_over_a_text() -> None:
    """The work grows with the text: each rule leaves what it does not match, and matches what is endless to its end."""
    for piece in (
        '"',
        '\\"',
        "authorization ",
        "authorization:",
        '"api_key":"',
        "a-",
        "a.",
        "?key=",
        "://a:",
        "sk-",
        "eyJaaaaaaaaaaa.",
        "Bearer ",
    ):
        assert len(scrub(piece * 20_000)) <= len(piece) * 20_000 + 20_000 * 8
