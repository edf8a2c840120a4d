"""What ownership rules look at: project, account and the headers they name, as far as each record tells."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.batch import RawBatch
from schemas.call import Call
from transforms.decode import DecodeSettings, decode_batch

USAGE = {"prompt_tokens": 9, "completion_tokens": 3}
CHAT = {"id": "c", "model": "gpt-4o", "choices": [{"message": {"role": "assistant", "content": "Hi"}}], "usage": USAGE}
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123"
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "usage": {"inputTokens": 9, "outputTokens": 3},
}
GEMINI = {
    "candidates": [],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
    "modelVersion": "gemini-2.0-flash",
}


def read(record: dict[str, Any], *headers: str) -> Call:
    raw = RawBatch("a", bytes(16), bytes(16), 0, [orjson.dumps(record)], [0])
    batch = decode_batch(raw, DecodeSettings(headers=frozenset(headers)))
    assert not batch.dead, batch.dead
    (call,) = batch.calls
    return call


def pair(url: str = "https://api.openai.com/v1/chat/completions", response: Any = CHAT, **more: Any) -> dict[str, Any]:
    return {"url": url, "status": 200, "request": {"model": "gpt-4o", "messages": []}, "response": response, **more}


@pytest.mark.parametrize(
    ("record", "project", "account"),
    [
        (pair(), "", ""),
        (pair(request_headers={"OpenAI-Project": "proj_1", "OpenAI-Organization": "org-1"}), "proj_1", "org-1"),
        (pair(request_headers={"OpenAI-Project": "proj_1"}, project="mine", organization="ours"), "mine", "ours"),
        (
            pair("https://api.anthropic.com/v1/x/chat/completions", response_headers={"anthropic-organization-id": "o-2"}),
            "",
            "o-2",
        ),
        (pair("https://Acme-Prod.openai.azure.com/openai/deployments/d1/chat/completions"), "", "acme-prod"),
        (pair("https://x.openai.azure.com/subscriptions/5f-1/openai/deployments/d1/chat/completions"), "", "5f-1"),
        (
            pair(f"https://bedrock-runtime.eu-west-1.amazonaws.com/model/{PROFILE.replace('/', '%2F')}/converse", CONVERSE),
            "",
            "123456789012",
        ),
        (
            pair(
                "https://bedrock-runtime.eu-west-1.amazonaws.com/model/m/converse",
                CONVERSE,
                response_headers={"x-amzn-profile": PROFILE},
            ),
            "",
            "123456789012",
        ),
        (
            pair(
                "https://europe-west4-aiplatform.googleapis.com/v1/projects/my-gcp/locations/europe-west4/publishers/google/"
                "models/gemini-2.0-flash:generateContent",
                GEMINI,
            ),
            "my-gcp",
            "",
        ),
        (
            pair(
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.0-flash:generateContent",
                GEMINI,
                request_headers={"x-goog-user-project": "billed-here"},
            ),
            "billed-here",
            "",
        ),
    ],
)
def test_project_and_account_of_a_recorded_pair(record: dict[str, Any], project: str, account: str) -> None:
    call = read(record)
    assert (call.project, call.account) == (project, account)


def test_project_and_account_of_litellm() -> None:
    metadata = {
        "user_api_key_project_id": "p-7",
        "user_api_key_org_id": "o-7",
        "requester_custom_headers": {"X-Team": "search"},
    }
    record = {"call_type": "completion", "custom_llm_provider": "openai", "model": "gpt-4o", "metadata": metadata, **USAGE}
    call = read(record, "x-team")
    assert (call.project, call.account, call.headers) == ("p-7", "o-7", {"x-team": "search"})
    arn = {**record, "custom_llm_provider": "bedrock", "model": f"bedrock/{PROFILE}", "metadata": {}}
    assert read(arn).account == "123456789012"


def test_what_a_record_says_of_service_and_cost_centre() -> None:
    call = read(pair(service="checkout", tags={"cost_center": "cc-1", "project": "apollo"}))
    assert (call.app, call.cost_center) == ("checkout", "cc-1")
    assert call.project == ""  # a caller's tag is not the vendor's project
    assert call.tags == {"service": "checkout", "cost_center": "cc-1", "project": "apollo"}


def test_only_headers_that_rules_name_are_kept_and_never_a_secret() -> None:
    headers = {"X-Team": "search", "X-Other": "1", "Authorization": "Bearer abcdefghijkl", "X-Note": "see sk-abcdefghijklmnop"}
    record = pair(request_headers=headers)
    assert read(record).headers is None
    assert read(record, "x-team", "x-absent").headers == {"x-team": "search"}
    kept = read(record, "authorization", "x-note").headers
    assert kept is not None
    assert set(kept) == {"x-note"}
    assert "abcdefgh" not in kept["x-note"]
    long = read(pair(request_headers={"x-team": "t" * 999}), "x-team").headers
    assert long == {"x-team": "t" * 256}


@pytest.mark.parametrize("more", [{key: "pay"} for key in ("service", "service_name", "service.name")])
def test_a_service_is_kept_as_one_tag_also_beside_an_app(more: dict[str, str]) -> None:
    for record in (pair(**more), pair(tags=dict(more))):
        assert (read(record).app, (read(record).tags or {})["service"]) == ("pay", "pay")
    for record in (pair(app="shop", **more), pair(app="shop", tags=dict(more))):
        assert (read(record).app, (read(record).tags or {})["service"]) == ("shop", "pay")
