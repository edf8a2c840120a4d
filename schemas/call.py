"""The canonical call: what every log format is decoded to, before and after counting and pricing.

A call is one request to one model that a vendor could bill. Adapters fill what their record tells and
leave the rest at its default; ``None`` means *unknown*, ``0`` means *known to be zero*.

Usage is disjoint (see ``LEAVES``): vendors disagree on whether input includes cached tokens and output
includes reasoning, so adapters map to leaves that never overlap, and totals are sums of leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

LEAVES: Final = (
    "input_fresh",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "input_cache_write_other",
    "input_tool_use",
    "input_audio",
    "input_image",
    "output_visible",
    "output_reasoning",
    "output_audio",
    "output_image",
)
"""Disjoint token leaves, in table order. Every leaf is a count of tokens.

``input_fresh`` is prompt text (and media the vendor does not split) that no cache served or stored;
``input_cache_write_other`` is a cache write whose time to live the vendor does not name;
``input_tool_use`` is the extra prompt of server-side tools (Gemini); ``input_audio`` and ``input_image``
only where the vendor splits them out; ``output_visible`` is output less reasoning, audio and image."""

TOOL_USES: Final = ("web_searches", "file_searches")
"""What server-side tools did that vendors charge for by number."""


class Media(NamedTuple):
    """An image, audio clip or file inside a message, as far as its record tells. Sizes in pixels and bytes. ``guessed``: width
    and height are what its link hints at. ``milliseconds``: how long sound lasts."""

    kind: str  # image | audio | file | video
    width: int = 0
    height: int = 0
    size: int = 0
    detail: str = ""
    guessed: bool = False
    milliseconds: int = 0


class Part(NamedTuple):
    """One piece of a message.

    ``kind``: ``text``; ``call`` (a tool call: ``name``, ``text`` is its JSON arguments); ``result`` (what a tool
    answered); ``reasoning`` (visible thinking text); ``sealed`` (what only the vendor can read of it); ``media`` (see ``media``).
    ``stored``: it is a call by the id that its vendor keeps it under.
    """

    kind: str
    text: str
    name: str = ""
    media: Media | None = None
    stored: bool = False


class Message(NamedTuple):
    """One message of a prompt or an answer. ``role``: system, developer, user, assistant or tool."""

    role: str
    parts: tuple[Part, ...]
    name: str = ""


@dataclass(slots=True)
class Content:
    """What was said. It lives from decode to count and is never stored.

    ``tools_json`` is the request's tool list as compact JSON (``b""``: none), so that a repeated tool set is
    recognised by its bytes; ``schema_json`` likewise for a response schema. ``thinking``: the model was asked to think
    first, where a vendor adds instructions for it. ``reasoned``: the answer holds an item of reasoning, shown or not.
    ``refused``: the answer says so where a model may refuse. ``token_inputs`` counts input that
    arrived already tokenized (embeddings accept token ids). ``complete`` is false where the record holds only part
    of what the model read (server-side history, redaction, truncation, elided blobs).
    """

    prompt: list[Message] = field(default_factory=list)
    output: list[Message] = field(default_factory=list)
    tools_json: bytes = b""
    schema_json: bytes = b""
    tool_choice: str = ""
    thinking: bool = False
    reasoned: bool = False
    refused: bool = False
    token_inputs: int = 0
    complete: bool = True


@dataclass(init=False)
class Call:
    """One call. Fields are class-level defaults, so an instance holds only what its record told.

    Times are UTC microseconds since 1970. Money is int pico-dollars (10⁻¹² $). The ``calls`` table has a column of the
    same name for each field but ``params`` and ``content``; what a call costs is added there by ``transforms.price``.
    """

    # where it was read
    tenant: str = ""
    source: str = ""
    segment: bytes = bytes(16)
    position: int = 0
    item: int = 0
    format: str = ""
    # identity
    call_key: bytes = bytes(16)
    content_hash: bytes = bytes(16)
    provider_call_id: str = ""
    request_id: str = ""
    authority: int = 0
    # time
    event_time: int = 0  # start of the call; 0 until known, then the transport's time
    end_time: int | None = None
    time_quality: str = ""  # exact | second | transport | implausible
    duration_ms: float | None = None
    ttft_ms: float | None = None
    # model
    provider: str = ""
    api: str = ""  # wire format of the body: openai.chat, openai.responses, anthropic.messages …
    operation: str = ""  # chat | completion | embedding | rerank | image | audio | moderation | count_tokens
    model_requested: str = ""
    model: str = ""  # the model that answered; the one asked for where the answer names none
    deployment: str = ""
    deployment_type: str = ""  # payg | ptu | self_hosted …, where a record tells
    endpoint_host: str = ""
    region: str = ""
    region_scope: str = ""  # global | datazone | regional | us | eu …
    service_tier_requested: str = ""
    service_tier: str = ""  # as served
    speed: str = ""
    stream: bool = False
    batch: bool = False
    max_tokens: int | None = None
    cache_key: str = ""
    cache_breakpoints: int = 0
    # outcome
    status: str = "ok"  # ok | error | blocked | incomplete | cancelled
    http_status: int = 0
    error_type: str = ""
    stop_reason: str = ""
    retry_after_ms: int | None = None
    spillover: bool = False
    gateway_cache_hit: bool = False
    sampling_rate: float | None = None
    attempt: int = 0
    # who
    team: str = ""
    app: str = ""
    feature: str = ""
    environment: str = ""
    cost_center: str = ""
    project: str = ""  # the vendor's project: of OpenAI, Google Cloud, watsonx, LiteLLM
    account: str = ""  # the vendor's account: organization, AWS account, Azure subscription or resource
    end_user: str = ""
    api_key_alias: str = ""
    template: str = ""
    agent: str = ""
    step: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    session_id: str = ""
    tags: dict[str, str] | None = None
    headers: dict[str, str] | None = None  # of the request and its answer, by lower-case name; decode keeps those asked for
    # usage: the leaves that are billed; see usage_source for where they come from
    input_fresh: int | None = None
    input_cache_read: int | None = None
    input_cache_write_5m: int | None = None
    input_cache_write_1h: int | None = None
    input_cache_write_other: int | None = None
    input_tool_use: int | None = None
    input_audio: int | None = None
    input_image: int | None = None
    output_visible: int | None = None
    output_reasoning: int | None = None
    output_audio: int | None = None
    output_image: int | None = None
    vendor_input: int | None = None  # the vendor's own input figure, as it stands in the record
    vendor_output: int | None = None
    vendor_total: int | None = None
    web_searches: int | None = None
    file_searches: int | None = None
    usage_source: str = "none"  # vendor | gateway | counted | none
    usage_quality: str = ""  # ok | inconsistent | partial; "" where there is no usage
    reported_cost: int | None = None  # pico-dollars that the vendor or gateway says it cost
    reported_cost_by: str = ""  # vendor | gateway
    flags: tuple[str, ...] = ()
    # counted, beside what was reported
    counted_input: int | None = None
    counted_output: int | None = None
    counted_input_error: int | None = None  # half-width of the band that holds nine of ten true counts; 0: exact
    counted_output_error: int | None = None
    counted_with: str = ""  # name of the tokenizer
    count_quality: str = ""  # exact_tokenizer | estimate | partial; "" where nothing was counted
    system_messages: int = 0
    system_bytes: int = 0
    system_tokens: int = 0
    system_hash: int = 0
    tools_count: int = 0
    tools_bytes: int = 0
    tools_tokens: int = 0
    tools_hash: int = 0
    history_messages: int = 0
    history_bytes: int = 0
    history_tokens: int = 0
    history_hash: int = 0
    tool_result_messages: int = 0
    tool_result_bytes: int = 0
    tool_result_tokens: int = 0
    tool_result_hash: int = 0
    user_messages: int = 0
    user_bytes: int = 0
    user_tokens: int = 0
    user_hash: int = 0
    answer_bytes: int = 0
    answer_tokens: int = 0
    answer_hash: int = 0
    answer_call_tokens: int = 0
    media_parts: int = 0
    # on its way only: what its transport says of its record (see ``transforms.decode.envelopes``), and its content
    transport_id: str = ""  # identifies the record wherever it is delivered; empty: the place it was read from does
    transport_item: int = -1  # which of the items of what ``transport_id`` names; -1: as ``item`` says
    transport_time: int = 0  # when it was handed over; 0: as its batch says
    inside_hash: int = 0  # of the record without its envelopes; 0: it was in none
    params: bytes = b""  # request settings other than content, as sorted JSON: part of the content hash
    content: Content | None = None
    beside: dict[str, Any] | None = None  # its record and what else only configured tags look at; dropped by decode

    def flag(self, name: str) -> None:
        """Add a finding about this call; a flag is never a reason to change a number in silence."""
        if name not in self.flags:
            self.flags = (*self.flags, name)
