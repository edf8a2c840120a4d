"""What the URL and the headers of a call tell: provider, wire format, model, deployment, region, project, account.

An address decides most of it, and a log has few distinct ones, so reading one is cached (without its query, which
may hold keys).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from schemas.call import Call
from transforms.decode.values import milliseconds

COUNT_TOKENS: Final = "count_tokens"
CONTROL: Final = "control"


class Address(NamedTuple):
    """What one URL says. ``api`` is the wire format, or ``COUNT_TOKENS`` or ``CONTROL``; empty: the body decides."""

    host: str = ""
    provider: str = ""
    api: str = ""
    model: str = ""
    deployment: str = ""
    region: str = ""
    region_scope: str = ""
    columns: dict[str, Any] = {}  # noqa: RUF012  what of it goes on a call as it is; shared, not to be changed


_HOSTS: Final = {
    "api.openai.com": "openai",
    "us.api.openai.com": "openai",
    "eu.api.openai.com": "openai",
    "chatgpt.com": "chatgpt-codex",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "openrouter.ai": "openrouter",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "ollama.com": "ollama-cloud",
    "api.perplexity.ai": "perplexity",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zai",
    "api.cerebras.ai": "cerebras",
    "api.venice.ai": "venice",
    "api.doubleword.ai": "doubleword",
    "ai-gateway.vercel.sh": "vercel-gateway",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.voyageai.com": "voyage",
    "api.writer.com": "writer",
    "api.portkey.ai": "portkey",
    "api.replicate.com": "replicate",
    "api.aleph-alpha.com": "alephalpha",
    "api.moonshot.ai": "moonshot",
    "dashscope.aliyuncs.com": "dashscope",
    "dashscope-intl.aliyuncs.com": "dashscope",
}
# Only where the host alone does not name it as its registrable part does.
_HOST_ENDS: Final = (
    (".openai.azure.com", "azure"),
    (".services.ai.azure.com", "azure"),
    (".cognitiveservices.azure.com", "azure"),
    (".models.ai.azure.com", "azure"),
    ("aiplatform.googleapis.com", "vertex"),
    ("aiplatform.eu.rep.googleapis.com", "vertex"),
    ("aiplatform.us.rep.googleapis.com", "vertex"),
    (".githubcopilot.com", "copilot"),
    (".ml.cloud.ibm.com", "watsonx"),
    (".snowflakecomputing.com", "snowflake"),
    (".crusoecloud.com", "crusoe"),
    (".databricks.com", "databricks"),
)
KNOWN_PROVIDERS: Final = frozenset({*_HOSTS.values(), *(provider for _, provider in _HOST_ENDS), "bedrock", "sagemaker"})
"""Providers that a host tells for certain."""

_PRIVATE: Final = re.compile(
    r"(?:localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|10\.\d+\.\d+\.\d+|192\.168\.\d+\.\d+|172\.(?:1[6-9]|2\d|3[01])\.\d+\.\d+"
    r"|\[?::1\]?|host\.docker\.internal)\Z"
)
_AWS: Final = re.compile(r"(bedrock|sagemaker)?[\w-]*(?:\.(sagemaker))?\.([^.]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)\Z")
_TWO_PART_SUFFIX: Final = {"co", "com", "org", "net", "ac", "gov"}

SELF_HOSTED: Final = frozenset({"ollama", "llamacpp", "vllm", "local", "gpustack", "mistralrs", "lmstudio", "localai"})
"""Providers that bill nobody: their calls cost what their machines cost."""

# The first pattern found in the path names the wire format; the more specific ones come first.
_ROUTES: Final = tuple(
    (re.compile(pattern), api)
    for pattern, api in (
        (r"(?:/count_tokens|/count-tokens|:countTokens|/input_tokens|/tokenize|/tokenizers?/[\w-]+)/?\Z", COUNT_TOKENS),
        (r"/chat/completions/?\Z", "openai.chat"),
        (r"/responses(?:/resp_\w+)?/?\Z", "openai.responses"),
        (r"/api/embed(?:dings)?/?\Z", "ollama.embeddings"),
        (r"/embeddings/?\Z", "openai.embeddings"),
        (r"/messages/?\Z|/publishers/anthropic/models/[^/]+:(?:streamR|r)awPredict", "anthropic.messages"),
        (r"/converse(?:-stream)?/?\Z", "bedrock.converse"),
        (r"/model/.+/invoke(?:-with-response-stream)?/?\Z", "bedrock.invoke"),
        (r":(?:generateContent|streamGenerateContent)|/generate_content(?:_stream)?\Z", "gemini.generate"),
        (r":(?:embedContent|batchEmbedContents|asyncBatchEmbedContent)", "gemini.embeddings"),
        (r"/interactions/?\Z", "gemini.interactions"),
        (r":predict\Z", "vertex.predict"),
        (r"/api/chat/?\Z", "ollama.chat"),
        (r"/api/generate/?\Z", "ollama.generate"),
        (r"/rerank/?\Z", "rerank"),
        (r"/v[12]/chat/?\Z", "cohere.chat"),
        (r"/v[12]/embed/?\Z", "cohere.embeddings"),
        (r"/images/(?:generations|edits|variations)/?\Z", "openai.images"),
        (r"/moderations/?\Z", "openai.moderation"),
        (r"/audio/(?:speech|transcriptions|translations)/?\Z", "openai.audio"),
        (r"/completions/?\Z", "openai.completions"),
        (r"/GetCompletion(?:Chunk)?\Z", "xai.grpc_chat"),
        (r"/complete/?\Z", "anthropic.complete"),
        (r"/(?:v1/)?(?:models|files|batches|fine_tuning|vector_stores|assistants|threads)(?:/[\w.:-]+)?/?\Z", CONTROL),
        (r"/api/(?:tags|show|version|ps|pull)/?\Z", CONTROL),
    )
)
_MODEL_IN_PATH: Final = re.compile(r"/models?/([^/:]+(?::\d[^/:]*)?)(?:[:/]|\Z)")
_BEDROCK_MODEL: Final = re.compile(r"/model/(.+)/(?:converse|invoke|count-tokens)")
_DEPLOYMENT: Final = re.compile(r"/deployments/([^/]+)/")
_LOCATION: Final = re.compile(r"/locations/([^/]+)/")
_PROJECT: Final = re.compile(r"/projects/([^/]+)/locations/")
_SUBSCRIPTION: Final = re.compile(r"/subscriptions/([^/]+)/")
_ARN: Final = re.compile(r"arn:aws[\w-]*:[\w-]+:[\w-]*:(\d{12}):")
_PROFILE_SCOPE: Final = re.compile(r"(?:.*/)?(us-gov|us|eu|apac|global|jp|au|ca)\.[a-z]")


_BARE_SCHEME: Final = re.compile(r"\A[a-z][a-z0-9+.-]*:(?=/)")


@lru_cache(maxsize=8192)
def _address(url: str) -> Address:
    scheme, found, rest = url.partition("://")
    if not found:  # no scheme, or one without a host, as of a call within a library
        rest = _BARE_SCHEME.sub("", url)
    authority, slash, tail = rest.partition("/")
    path = slash + tail
    host = authority.rpartition("@")[2].lower()
    bare, _, port = host.rpartition(":")
    if not port.isdigit():
        if bare and not host.startswith("["):  # a user and a password whose host was cut off
            host = bare.partition(":")[0]
        bare, port = host, ""
    api = next((api for pattern, api in _ROUTES if pattern.search(path)), "")
    provider = "" if scheme == "file" else provider_of_host(bare, port)
    if provider == "writer" and api == "cohere.chat":
        api = "openai.chat"
    if provider == "alephalpha" and api == "anthropic.complete":
        api = "alephalpha.complete"
    region, scope = _region(bare, path)
    model = _model_of_path(path, api)
    if provider == "bedrock" and not scope:
        scope = profile_scope(model) or ("regional" if region else "")
    deployment = _DEPLOYMENT.search(path)
    found_deployment = unquote(deployment.group(1)) if deployment else ""
    project = _PROJECT.search(path) if provider in ("vertex", "gemini") else None
    columns = {
        "endpoint_host": host,
        "project": unquote(project.group(1)) if project else "",
        "account": _account(bare, path, provider, model),
        "provider": provider if provider != "unknown" else "",  # the body may tell
        "region": region,
        "region_scope": scope,
        "deployment": found_deployment,
        "stream": "stream" in path.rpartition("/")[2].lower(),
    }
    return Address(host, provider, api, model, found_deployment, region, scope, {k: v for k, v in columns.items() if v})


def address(url: str) -> Address:
    """Read a URL, with or without scheme; never raises."""
    return _address(url.partition("?")[0].partition("#")[0][:1024]) if url else Address()


def profile_scope(model: str) -> str:
    """Where a model of Bedrock may run, by the prefix of its inference profile: us, eu, global …; empty without one."""
    profile = _PROFILE_SCOPE.match(model)
    return profile.group(1) if profile else ""


def _region(host: str, path: str) -> tuple[str, str]:
    if host.endswith("googleapis.com"):
        location = _LOCATION.search(path)
        if location:
            region = unquote(location.group(1))
            return region, region if region in ("global", "us", "eu") else "regional"
        before = host.removesuffix("-aiplatform.googleapis.com")
        return (before, "regional") if before != host else ("", "")
    aws = _AWS.match(host)
    if aws:
        return aws.group(3), ""
    if host.endswith(".api.openai.com"):
        return "", host.partition(".")[0]
    if host.endswith(".ml.cloud.ibm.com"):
        return host.partition(".")[0], "regional"
    return "", ""


def _account(host: str, path: str, provider: str, model: str) -> str:
    """The AWS account of an ARN; of Azure the subscription, or the resource that the host is named after."""
    if provider in ("bedrock", "sagemaker"):
        return account_of_arn(model)
    if provider == "azure":
        subscription = _SUBSCRIPTION.search(path)
        return unquote(subscription.group(1)) if subscription else host.partition(".")[0]
    return ""


def account_of_arn(text: str) -> str:
    """The AWS account that an ARN in the text belongs to, if there is one."""
    found = _ARN.search(text)
    return found.group(1) if found else ""


def _model_of_path(path: str, api: str) -> str:
    if api.startswith("bedrock.") or "/model/" in path:
        found = _BEDROCK_MODEL.search(path)
        if found:
            return unquote(found.group(1))
    if api == COUNT_TOKENS or not (":" in path or api in ("", "vertex.predict")):
        return ""
    found = _MODEL_IN_PATH.search(path)
    return unquote(found.group(1)) if found else ""


def provider_of_host(host: str, port: str = "") -> str:
    """Who answers at a host: a known name, else the host's registrable part, else ``unknown``."""
    if not host or host.endswith(".invalid") or host.startswith("<"):
        return "unknown"
    known = _HOSTS.get(host)
    if known:
        return known
    for end, provider in _HOST_ENDS:
        if host.endswith(end):
            return provider
    aws = _AWS.match(host)
    if aws:
        return aws.group(1) or aws.group(2) or "aws"
    if _PRIVATE.match(host):
        return "ollama" if port == "11434" else "local"
    labels = host.split(".")
    if len(labels) == 1:
        return host
    if labels[-1].isdigit():
        return "unknown"
    if len(labels) > 2 and labels[-2] in _TWO_PART_SUFFIX and len(labels[-1]) == 2:
        return labels[-3]
    return labels[-2]


_MODEL_PREFIXES: Final = (
    (("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-3", "text-embedding-ada", "ft:gpt-"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-",), "gemini"),
)


def provider_of_body(api: str, model: str, answer: dict[str, Any]) -> str:
    """Who answered, where no host tells: by fields only one vendor writes, then by the wire format, then the model."""
    if "prompt_filter_results" in answer or "content_filters" in answer:
        return "azure"
    if "x_groq" in answer:
        return "groq"
    if "usage_metadata" in answer or "createTime" in answer or "create_time" in answer:
        return "vertex"
    vendor = api.partition(".")[0]
    if vendor in ("anthropic", "gemini", "bedrock", "ollama", "cohere", "xai", "vertex"):
        return vendor
    for prefixes, provider in _MODEL_PREFIXES:
        if model.startswith(prefixes):
            return provider
    return "unknown"


def headers(*given: Any) -> dict[str, str]:
    """HTTP headers with lower-case names: from objects (values strings or lists), pairs, or {name, value} entries."""
    result: dict[str, str] = {}
    for some in given:
        if isinstance(some, dict):
            pairs: Any = some.items()
        elif isinstance(some, list):
            pairs = (
                (entry.get("name", entry.get("key")), entry.get("value")) if isinstance(entry, dict) else entry
                for entry in some
                if isinstance(entry, dict) or (isinstance(entry, list) and len(entry) == 2)
            )
        else:
            continue
        for key, value in pairs:
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(key, str) and isinstance(value, str | int | float):
                result[key.lower()] = str(value)
    return result


_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-goog-request-id")


_PROJECTS: Final = ("openai-project", "x-goog-user-project")
_ACCOUNTS: Final = ("openai-organization", "anthropic-organization-id")


def apply_headers(call: Call, given: dict[str, str]) -> None:
    """Request id, region, deployment, project, account, spillover from a reserved deployment, wait before a retry.

    What the record or its address says of project and account stands.
    """
    for each in _PROJECTS:
        if each in given and not call.project:
            call.project = given[each][:256]
    for each in _ACCOUNTS:
        if each in given and not call.account:
            call.account = given[each][:256]
    if not call.account and call.provider in ("bedrock", "sagemaker"):
        arns = (value for each, value in given.items() if each.startswith("x-amzn-"))
        call.account = next(filter(None, map(account_of_arn, arns)), "")
    for each in _REQUEST_IDS:
        if each in given:
            call.request_id = given[each][:256]
            break
    region = given.get("x-ms-region")
    if region:
        call.region = region.lower().replace(" ", "")
    deployment = given.get("x-ms-deployment-name")
    if deployment:
        call.deployment = deployment
    from_deployment = given.get("x-ms-spillover-from-deployment")
    if given.get("x-ms-is-spilled-over", "").lower() == "true" or from_deployment:
        call.spillover = True
        if from_deployment and not call.deployment:
            call.deployment = from_deployment
    wait = milliseconds(given.get("retry-after-ms"))
    if wait is None:
        seconds = milliseconds(given.get("retry-after"))
        wait = None if seconds is None else seconds * 1000
    if wait is not None and wait < 2**31:
        call.retry_after_ms = round(wait)
    speed = given.get("x-amzn-bedrock-performanceconfig-latency")
    if speed:
        call.speed = speed
    tier = given.get("x-amzn-bedrock-service-tier")
    if tier:
        call.service_tier = tier[:64]
