"""From a URL and the bodies to who was called and what speaks: provider, wire format, deployment, region."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from transforms.decode.values import mapping

_HOSTS: Final = (
    ("openai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("models.inference.ai.azure.com", "azure"),
    ("api.openai.com", "openai"),
    ("chatgpt.com", "chatgpt-codex"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("aiplatform.googleapis.com", "vertex"),
    ("amazonaws.com", "bedrock"),
    ("mistral.ai", "mistral"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("openrouter.ai", "openrouter"),
    ("x.ai", "xai"),
    ("cohere.com", "cohere"),
    ("cohere.ai", "cohere"),
    ("perplexity.ai", "perplexity"),
    ("together.xyz", "together"),
    ("together.ai", "together"),
    ("fireworks.ai", "fireworks"),
    ("cerebras.ai", "cerebras"),
    ("huggingface.co", "huggingface"),
    ("githubcopilot.com", "copilot"),
    ("portkey.ai", "portkey"),
    ("venice.ai", "venice"),
    ("z.ai", "zai"),
    ("doubleword.ai", "doubleword"),
    ("voyageai.com", "voyage"),
    ("writer.com", "writer"),
    ("snowflakecomputing.com", "snowflake"),
    ("ai-gateway.vercel.sh", "vercel-gateway"),
    ("ml.cloud.ibm.com", "watsonx"),
    ("replicate.com", "replicate"),
)
_LOCAL_PORTS: Final = {11434: "ollama", 8000: "vllm"}
_LOCAL: Final = re.compile(r"^(localhost|127\.|0\.0\.0\.0|10\.|192\.168\.|host\.docker\.internal|\[?::1)|\.local$")

_PATHS: Final = (
    (re.compile(r"(count_tokens|countTokens|/count-tokens|input_tokens|CountTokens|/tokenize)"), "count_tokens"),
    (re.compile(r"/chat/completions"), "openai.chat"),
    (re.compile(r"/responses(/compact)?/?$"), "openai.responses"),
    (re.compile(r"/messages/?$|:(streamR|r)awPredict"), "anthropic.messages"),
    (re.compile(r"/model/[^/]*anthropic[^/]*/invoke"), "anthropic.messages"),
    (re.compile(r":(batch)?[eE]mbedContents?|embedContent"), "gemini.embeddings"),
    (re.compile(r":(streamG|g)enerateContent"), "gemini.generate"),
    (re.compile(r"/converse"), "bedrock.converse"),
    (re.compile(r"/invoke"), "bedrock.invoke"),
    (re.compile(r"/api/chat$"), "ollama.chat"),
    (re.compile(r"/api/generate$"), "ollama.generate"),
    (re.compile(r"/api/embed"), "ollama.embeddings"),
    (re.compile(r"/embeddings/?$"), "openai.embeddings"),
    (re.compile(r"/embed/?$"), "cohere.embeddings"),
    (re.compile(r"/rerank/?$"), "rerank"),
    (re.compile(r"/images/"), "openai.images"),
    (re.compile(r"/audio/"), "openai.audio"),
    (re.compile(r"/completions/?$"), "openai.completions"),
    (re.compile(r"/v[12]/chat/?$"), "cohere.chat"),
)
_OPERATIONS: Final = {
    "embeddings": "embedding",
    "rerank": "rerank",
    "images": "image",
    "audio": "audio",
    "completions": "completion",
}


class Endpoint(NamedTuple):
    """What a URL tells. Empty fields: it does not."""

    provider: str
    api: str
    host: str
    model: str = ""
    deployment: str = ""
    region: str = ""


@lru_cache(maxsize=4096)
def endpoint(url: str) -> Endpoint:
    """Read a URL; queries and credentials in it are never kept."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = (parts.hostname or ""), parts.port
    except ValueError:
        return Endpoint("", "", "")
    path = unquote(parts.path)
    api = next((name for pattern, name in _PATHS if pattern.search(path)), "")
    return Endpoint(_provider(host, port), api, host, _model(path), _deployment(path), _region(host, path))


def _provider(host: str, port: int | None) -> str:
    for suffix, provider in _HOSTS:
        if host == suffix or host.endswith(("." + suffix, "-" + suffix)):
            return provider
    if _LOCAL.search(host):
        name = host.removesuffix(".local")
        return name if name in ("llamacpp", "ollama", "mistralrs", "vllm") else _LOCAL_PORTS.get(port or 0, "local")
    labels = host.split(".")
    return ".".join(labels[-2:]) if len(labels) > 1 else host


def _model(path: str) -> str:
    found = re.search(r"/(?:models?|publishers/[^/]+/models)/([^/:]+(?::\d+)?)", path)
    return found.group(1) if found and found.group(1) not in ("chat",) else ""


def _deployment(path: str) -> str:
    found = re.search(r"/deployments/([^/]+)", path)
    return found.group(1) if found else ""


def _region(host: str, path: str) -> str:
    found = re.search(r"/locations/([^/]+)", path) or re.search(r"(?:bedrock-runtime|sagemaker)\.([a-z0-9-]+)\.", host)
    return found.group(1) if found else ""


def body_api(request: dict[str, Any], response: Any, chunks: list[Any] | None) -> str:
    """The wire format by the shape of the bodies, where no URL tells."""
    answer = mapping(chunks[0]) if chunks else mapping(response)
    if "object" in answer:
        kind = str(answer["object"])
        if kind.startswith("chat.completion"):
            return "openai.chat"
        if kind == "response":
            return "openai.responses"
        if kind == "text_completion":
            return "openai.completions"
        if kind == "list" and "input" in request:
            return "openai.embeddings"
    kind = str(answer.get("type") or "")
    if kind.startswith("response."):
        return "openai.responses"
    if kind in ("message", "message_start") or "anthropic_version" in request:
        return "anthropic.messages"
    if "candidates" in answer or "usageMetadata" in answer or "contents" in request:
        return "gemini.generate"
    if "inferenceConfig" in request or "inputTokens" in mapping(answer.get("usage")):
        return "bedrock.converse"
    if "choices" in answer:
        return "openai.chat"
    if "messages" in request:
        return "openai.chat"
    return "openai.responses" if "input" in request and "model" in request else ""


def operation(api: str) -> str:
    """What kind of work an API does."""
    return _OPERATIONS.get(api.rpartition(".")[2], "chat")
