"""Other people's price lists as entries of ours: proposals to read, never taken up by themselves.

genai-prices and LiteLLM publish JSON. What of it can be said in the book is mapped, exactly; all else is named with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

from transforms.price.entries import Files
from transforms.price.names import GEO_PREFIX
from transforms.price.rates import FIELDS, pico_rate, plain

GENAI: Final = "genai-prices"
LITELLM: Final = "litellm"
SOURCES: Final = (GENAI, LITELLM)

_GENAI_PROVIDERS: Final = {
    "aws": "bedrock",
    "google": "gemini",
    "x-ai": "xai",
    "moonshotai": "moonshot",
    "voyageai": "voyage",
    "github-copilot": "copilot",
}
_LITELLM_PROVIDERS: Final = {
    "bedrock_converse": "bedrock",
    "text-completion-openai": "openai",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "together_ai": "together",
}
_GENAI_FIELDS: Final = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "input_image_mtok": "image_input",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
    "web_searches_kcount": "web_search",
    "requests_kcount": "request",
}
_LITELLM_FIELDS: Final = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_input",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "output_cost_per_audio_token": "audio_output",
    "output_cost_per_image_token": "image_output",
}
_LITELLM_TIERS: Final = {"batches": "batch", "priority": "priority", "flex": "flex", "ultrafast": "ultrafast"}
_LITELLM_UPLIFTS: Final = {
    "regional_processing_uplift_multiplier_us": "us",
    "regional_processing_uplift_multiplier_eu": "eu",
    "regional_endpoint_uplift_multiplier": "*",
}
"""What standard prices are multiplied by in a region → the scope of the book that it is."""
_AZURE_SCOPES: Final = {"us": "datazone", "eu": "datazone", "global": "", "global-standard": ""}
"""First part of a name at LiteLLM → the scope of the book; any other one is a scope as it stands."""
_REGION: Final = re.compile(r"^[a-z]{2}(-gov)?-[a-z]+-\d$")
_FOLLOWS: Final = {
    "image_input": "input",
    "audio_input": "input",
    "reasoning": "output",
    "image_output": "output",
    "audio_output": "output",
}
"""Fields that cost in a band what the other one does, if they do so in the first band and nothing is said of them."""
_DOUBLE: Final = Context(prec=15)
"""LiteLLM writes what a double makes of a price, such as 1.0000000000000001e-07; its first 15 digits are the price."""
_NO_OUTPUT: Final = frozenset({"embedding", "rerank", "moderation"})
_LITELLM_KEY: Final = re.compile(
    rf"^(?P<field>{'|'.join(sorted(_LITELLM_FIELDS, key=len, reverse=True))})"
    rf"(?:_above_(?P<above>\d+)k_tokens)?(?:_(?P<tier>{'|'.join(_LITELLM_TIERS)}))?$"
)
_NOT_FOR_TOKENS: Final = ("storage_searches_kcount", "search_context_cost_per_query", "google_maps_grounding_cost_per_query")
"""Fees beside the call, which the book does not hold; the price of the call is right without them."""


class Price(NamedTuple):
    """A price to propose: ``fields`` are dollars as in the book, ``start`` a day or "", ``scope`` a region scope or ""."""

    tier: str
    above: int
    start: str
    fields: Mapping[str, str]
    scope: str = ""


class Proposal(NamedTuple):
    """A model of a list as a model of the book."""

    provider: str
    model: str
    names: tuple[str, ...]
    prices: tuple[Price, ...]


class Refused(NamedTuple):
    """What of a list cannot be said in the book, and why."""

    provider: str
    model: str
    reason: str


class ListError(ValueError):
    """A list is not what it claims to be."""


def read_list(source: str, text: str) -> Iterator[Proposal | Refused]:
    """Every model of a list, in its order.

    Raises:
        ListError: it is not JSON of this source.
    """
    try:
        data = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except ValueError as error:
        raise ListError(f"not JSON: {error}") from None
    if source == GENAI and isinstance(data, list) and data:
        yield from _genai(data)
    elif source == LITELLM and isinstance(data, dict) and data:
        yield from _litellm(data)
    else:
        kind = "a list of providers" if source == GENAI else "a map of models"
        raise ListError(f"{source} publishes {kind}; this is something else")


def _genai(providers: list[Any]) -> Iterator[Proposal | Refused]:
    for provider in providers:
        if not isinstance(provider, dict) or not isinstance(provider.get("models"), list):
            raise ListError('genai-prices publishes a list of providers, each with "models"; this is something else')
        ours = _GENAI_PROVIDERS.get(str(provider.get("id")), str(provider.get("id")))
        for model in provider["models"]:
            name = str(model.get("id"))
            try:
                prices = tuple(_genai_prices(model))
            except ValueError as error:
                yield Refused(ours, name, str(error))
                continue
            names = dict.fromkeys(_genai_names(model.get("match") or {}))
            yield Proposal(ours, name, tuple(other for other in names if other != name), prices)


def _genai_names(match: Mapping[str, Any]) -> Iterator[str]:
    for part in match.get("or", [match]):
        yield from [str(part["equals"])] if "equals" in part else []
        yield from [f"{part['starts_with']}*"] if "starts_with" in part else []


def _genai_prices(model: Mapping[str, Any]) -> Iterator[Price]:
    stated = model.get("prices") or {}
    for one in stated if isinstance(stated, list) else [{"prices": stated}]:
        limit = one.get("constraint") or {}
        if set(limit) - {"start_date", "type"}:
            raise ValueError("priced by the hour of the day: write a window by hand")
        yield from _genai_bands("standard", str(limit.get("start_date") or ""), one["prices"], str(model.get("id")))
    for variant in model.get("price_variants") or []:
        when, limit = variant.get("when") or {}, variant.get("constraint") or {}
        tier = "batch" if when == {"processing": "batch"} else when.get("service_tier", "") if len(when) == 1 else ""
        if variant.get("prices") and tier in ("batch", "flex", "priority") and not set(limit) - {"start_date", "type"}:
            yield from _genai_bands(tier, str(limit.get("start_date") or ""), variant["prices"], str(model.get("id")))


def _genai_bands(tier: str, start: str, prices: Mapping[str, Any], name: str) -> Iterator[Price]:
    if not prices:
        raise ValueError("has no prices")
    unknown = [key for key in prices if key not in _GENAI_FIELDS and key not in _NOT_FOR_TOKENS and prices[key] is not None]
    if unknown:
        raise ValueError(f"no field of the book for {', '.join(sorted(unknown))}")
    bands: dict[int, dict[str, str]] = {0: {}}
    for key, value in prices.items():
        steps = [(0, value)]
        if isinstance(value, dict):
            steps = [(0, value["base"]), *((int(step["start"]), step["price"]) for step in value["tiers"])]
        for above, price in steps:
            if key in _GENAI_FIELDS and price is not None:
                bands.setdefault(above, {})[_GENAI_FIELDS[key]] = _exact(_GENAI_FIELDS[key], Decimal(price))
    yield from _filled(tier, start, bands, name)


def _litellm(models: Mapping[str, Any]) -> Iterator[Proposal | Refused]:
    by_scope: dict[tuple[str, str], dict[str, tuple[Price, ...]]] = {}
    for key, model in models.items():
        if not isinstance(model, dict):
            raise ListError(f"LiteLLM publishes a map of models to their fields; {key} is something else")
        theirs = str(model.get("litellm_provider", ""))
        provider = "vertex" if theirs.startswith("vertex_ai") else _LITELLM_PROVIDERS.get(theirs, theirs)
        if key == "sample_spec" or not provider:
            continue
        full = key.removeprefix(f"{theirs}/").removeprefix("vertex_ai/").removeprefix("bedrock/" if provider == "bedrock" else "")
        name, scope = _litellm_place(provider, full)
        try:
            prices = tuple(_litellm_prices(model, name, scope))
        except ValueError as error:
            yield Refused(provider, full, str(error))
            continue
        scopes = by_scope.setdefault((provider, name), {})
        if scopes.setdefault(scope, prices) != prices:
            yield Refused(provider, full, f"the list states another price of {name} in scope {scope or 'of no name'!r}")
    for (provider, name), scopes in by_scope.items():
        yield Proposal(provider, name, (), tuple(price for some in _without_global(scopes) for price in some))


def _litellm_place(provider: str, name: str) -> tuple[str, str]:
    """A name of the list as a model and the region scope that it tells."""
    head, slash, rest = name.partition("/")
    geo = GEO_PREFIX.match(name)
    if provider == "bedrock" and geo:
        return name[geo.end() :], geo[1]
    if slash and provider == "bedrock" and _REGION.match(head):
        return rest, head
    if slash and provider == "azure":
        return rest, _AZURE_SCOPES.get(head, head)
    return name, ""


def _without_global(scopes: Mapping[str, tuple[Price, ...]]) -> Iterable[tuple[Price, ...]]:
    """The prices of a model by scope, but those of its bare name if LiteLLM lists the global profile of Bedrock under it.

    Whoever calls by the bare name is served in the region, at the price of the region's profile.
    """
    base, whole = ([price._replace(scope="") for price in scopes.get(scope, ())] for scope in ("", "global"))
    if base and base == whole and any([p._replace(scope="") for p in some] != base for some in scopes.values()):
        return [some for scope, some in scopes.items() if scope]
    return scopes.values()


def _litellm_prices(model: Mapping[str, Any], name: str, scope: str) -> Iterator[Price]:
    if model.get("off_peak_pricing"):
        raise ValueError("priced by the hour of the day: write a window by hand")
    tiers: dict[str, dict[int, dict[str, str]]] = {"standard": {0: {}}}
    for key, value in model.items():
        found = _LITELLM_KEY.match(key)
        if found and isinstance(value, Decimal):
            field, above = _LITELLM_FIELDS[found["field"]], int(found["above"] or 0) * 1000
            if not value and (field.startswith("cache_write") or (field == "output" and model.get("mode") in _NO_OUTPUT)):
                continue  # not a gift: there are no such tokens, or nothing is charged beside the input
            band = tiers.setdefault(_LITELLM_TIERS.get(found["tier"] or "", "standard"), {0: {}}).setdefault(above, {})
            band[field] = _exact(field, _DOUBLE.plus(value) * 1_000_000)
    if not any(tiers["standard"][0].values()):
        other = sorted(key for key in model if "cost" in key and key not in _NOT_FOR_TOKENS and model[key])
        raise ValueError(f"not priced by the token: {', '.join(other[:3])}" if other else "has no prices")
    if all(not Decimal(price) for price in tiers["standard"][0].values()):
        raise ValueError("every price is 0, which may mean free or unknown: state { free = … } by hand")
    for tier, bands in tiers.items():
        yield from _filled(tier, "", bands, name, scope)
    for key, uplifted in _LITELLM_UPLIFTS.items():
        if isinstance(factor := model.get(key), Decimal) and not scope:
            for price in _filled("standard", "", tiers["standard"], name, uplifted):
                fields = {field: _exact(field, Decimal(text) * factor) for field, text in price.fields.items()}
                yield price._replace(fields=fields)


def _filled(
    tier: str, start: str, bands: Mapping[int, Mapping[str, str]], name: str, scope: str = ""
) -> Iterator[Price]:
    """A band whose price is stated for some fields has that of the band below for the others.

    A cache write whose life the list does not name is one of five minutes where the model is Claude; calls that do not say
    the life cost the same.
    """
    if not bands[0]:
        raise ValueError(f"its {tier} tier has a price above a prompt length and none below")
    base, held = bands[0], dict[str, str]()
    for above in sorted(bands):
        stated = bands[above]
        following = {
            field: stated[other]
            for field, other in _FOLLOWS.items()
            if field in base and base[field] == base.get(other) and other in stated and field not in stated
        }
        held = {**held, **stated, **following}
        if "claude" in name.lower() and "cache_write" in held:
            held["cache_write_5m"] = held["cache_write"]
        yield Price(tier, above, start, {field: held[field] for field in FIELDS if field in held}, scope)


def _exact(field: str, price: Decimal) -> str:
    text = plain(price)
    try:
        pico_rate(text, FIELDS[field])
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
    return text


def as_files(proposals: Iterable[Proposal], source: str, today: date) -> Files:
    """Proposals as files of prices, one for each provider, that can be loaded like own prices once they are approved."""
    by_provider: dict[str, list[Proposal]] = {}
    for proposal in proposals:
        by_provider.setdefault(proposal.provider, []).append(proposal)
    texts = {provider: _text(provider, some, source, today) for provider, some in sorted(by_provider.items())}
    return tuple((f"{_file_name(provider)}.toml", text) for provider, text in texts.items())


def _file_name(provider: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", provider.lower()) or "unnamed"


def _text(provider: str, proposals: Iterable[Proposal], source: str, today: date) -> str:
    lines = [
        f"# Proposed from {source}. Read it, compare with the vendor's page, and move what is right into the book.",
        "",
        f"providers = [{_quoted(provider)}]",
        f"source = {_quoted(source)}",
        f"recorded = {today.isoformat()}",
    ]
    for one in proposals:
        lines += ["", "[[model]]", f"model = {_quoted(one.model)}"]
        lines += [f"names = [{', '.join(map(_quoted, one.names))}]"] if one.names else []
        lines += ["prices = [", *(f"  {{ {_price(price)} }}," for price in one.prices), "]"]
    return "\n".join(lines) + "\n"


def _price(price: Price) -> str:
    parts = [f"from = {price.start}"] if price.start else []
    parts += [f"tier = {_quoted(price.tier)}"] if price.tier != "standard" else []
    parts += [f"scope = {_quoted(price.scope)}"] if price.scope else []
    parts += [f"above = {price.above:_}"] if price.above else []
    return ", ".join([*parts, *(f"{field} = {_quoted(text)}" for field, text in price.fields.items())])


def _quoted(text: str) -> str:
    return json.dumps(text)
