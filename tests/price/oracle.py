"""What a call costs by docs/pricing.md, worked out from the book's files alone: one call at a time, with Decimal.

Nothing of ``transforms.price`` is used. It is slow and plain on purpose: what it says is what the compiled book must say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fnmatch import fnmatch, translate
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FIELD_OF = {
    "input_fresh": "input",
    "input_cache_read": "cache_read",
    "input_cache_write_5m": "cache_write_5m",
    "input_cache_write_1h": "cache_write_1h",
    "input_cache_write_other": "cache_write",
    "input_tool_use": "tool_use",
    "input_audio": "audio_input",
    "input_image": "image_input",
    "output_visible": "output",
    "output_reasoning": "reasoning",
    "output_audio": "audio_output",
    "output_image": "image_output",
    "web_searches": "web_search",
    "file_searches": "file_search",
}
PER_THOUSAND = ("web_search", "file_search", "request")
CAPACITY = ("ptu", "provisioned", "reserved")
FIRST_API = datetime(2020, 6, 1, tzinfo=UTC)
SNAPSHOTS = {
    "0301": date(2023, 3, 1),
    "0314": date(2023, 3, 14),
    "0613": date(2023, 6, 13),
    "0914": date(2023, 9, 14),
    "1106": date(2023, 11, 6),
    "0125": date(2024, 1, 25),
}
BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Verdict(NamedTuple):
    """Status, reason, and dollars by field of the price list; None: unpriced."""

    status: str
    reason: str
    parts: Mapping[str, Decimal] | None

    @property
    def cost(self) -> Decimal | None:
        return None if self.parts is None else sum(self.parts.values(), Decimal(0))


class Oracle:
    """The book of a folder."""

    def __init__(self, folder: Path) -> None:
        self.known: dict[tuple[str, str], tuple[list[tuple[str, datetime, datetime]], str]] = {}
        self.files = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))]

    def of(self, provider: str) -> list[dict[str, Any]]:
        return [file for file in self.files if provider in file["providers"]]

    def prices(self, provider: str, model: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Every price of a model, with its file and the day on which it was recorded."""
        for file in self.of(provider):
            for entry in file.get("model", []):
                if entry["model"] == model:
                    for price in entry["prices"]:
                        recorded = price.get("recorded") or entry.get("recorded") or file["recorded"]
                        yield file, {**price, "recorded": recorded}

    def meanings(self, provider: str, name: str) -> tuple[list[tuple[str, datetime, datetime]], str]:
        """The models that a name may mean, best first, each with the time in which it does; and the scope that the name tells."""
        if (provider, name) in self.known:
            return self.known[provider, name]
        files = self.of(provider)
        spellings, in_name = spell(name, {provider, *(prefix for file in files for prefix in file.get("prefixes", []))})
        found = []
        for file in files:
            for entry in file.get("model", []):
                if not any(fits(pattern, one) for pattern in entry.get("except", []) for one in spellings):
                    for pattern in (entry["model"], *entry.get("names", [])):
                        found += [(order, entry["model"], BEGINNING, END) for order in ranks(pattern.lower(), spellings)]
            for alias in file.get("alias", []):
                for order in ranks(alias["name"].lower(), spellings):
                    found.append((order, alias["model"], instant(alias.get("from"), BEGINNING), instant(alias.get("to"), END)))
        found.sort(key=lambda one: one[0])
        self.known[provider, name] = [(model, start, end) for _, model, start, end in found], in_name
        return self.known[provider, name]

    def list_prices(self, provider: str, name: str, tier: str, scope: str, at: datetime) -> list[dict[str, Any]] | str:
        """The prices that hold at a time, all bands and windows of them, each with the file's own rules; or why there are none."""
        files = self.of(provider)
        if not files:
            return "unknown_provider"
        meanings, in_name = self.meanings(provider, name)
        scope = scope.strip().lower() or in_name
        if not meanings:
            return "unknown_model"
        model = next((model for model, start, end in meanings if start <= at < end), None)
        if model is None:
            return "before_first_price" if at < min(start for _, start, _ in meanings) else "after_last_price"
        tier = tier.strip().lower()
        if tier in {"", "standard", *(one for file in files for one in file.get("standard_tiers", []))}:
            tier = "standard"
        every = [{**price, "file": file, "model": model} for file, price in self.prices(provider, model)]
        of_tier = [price for price in every if tier in listed(price, "tier", "standard")]
        of_tier = of_tier or [price for price in every if "free" in price and "standard" in listed(price, "tier", "standard")]
        if not of_tier:
            return "unknown_tier"
        bases = {one for file in files for one in file.get("base_scopes", [])}
        wanted = [scope, "", "*"] if scope in bases else [scope, "*"]
        of_scope = next((some for one in wanted if (some := [p for p in of_tier if one in listed(p, "scope", "")])), None)
        if of_scope is None:
            return "unknown_scope"
        first = FIRST_API if name_is_anything(files, spell(name, {provider})[0]) else born(name)
        starts = [instant(price.get("from"), first) for price in of_scope]
        begun = [start for start in starts if start <= at]
        if not begun:
            return "before_first_price"
        held = [price for price, start in zip(of_scope, starts, strict=True) if start == max(begun)]
        held = [price for price in held if price["recorded"] == max(one["recorded"] for one in held)]  # the others are corrected
        return held if at < instant(held[0].get("to"), END) else "after_last_price"

    def price(self, call: Mapping[str, Any]) -> Verdict:
        """What ``call`` costs: fields as in ``tests.price.calls``, its time as UTC microseconds."""
        usage = {leaf: call.get(leaf) for leaf in FIELD_OF}
        no_usage = all(value is None for leaf, value in usage.items() if not leaf.endswith("_searches"))
        reported, vendor = call.get("reported_cost"), call.get("reported_cost_by") == "vendor"
        refused = call["status"] == "error" or (call["status"] == "blocked" and call["http_status"] >= 400)
        if call["gateway_cache_hit"]:
            return Verdict("not_billed", "gateway_cache_hit", {})
        if refused and (no_usage or call["usage_source"] not in ("vendor", "gateway")) and not (vendor and reported is not None):
            return Verdict("not_billed", "not_served", {})
        if vendor and reported is not None:
            return Verdict("priced", "", {"reported": reported})
        if call.get("deployment_type") in CAPACITY and not call["spillover"]:
            return Verdict("not_billed", "capacity", {})
        if call.get("deployment_type") == "self_hosted":
            return Verdict("free", "self_hosted", {})
        speed = call.get("speed", "")
        tier = call.get("service_tier", "") if speed.lower() in ("", "standard", "default", "normal") else speed
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=call["event_time"])
        held = self.list_prices(
            call["provider"], call["model"], "batch" if call["batch"] else tier, call.get("region_scope", ""), at
        )
        if not isinstance(held, str) and "free" in held[0]:
            return Verdict("free", "", {})
        if no_usage:
            return Verdict("unpriced", "no_usage", None)
        if isinstance(held, str):
            return Verdict("unpriced", held, None)
        prompt = sum(value or 0 for leaf, value in usage.items() if leaf.startswith("input_"))
        in_window = [price for price in held if "window" in price and is_open(price["file"]["windows"][price["window"]], at)]
        bands = in_window or [price for price in held if "window" not in price]
        price = max((one for one in bands if one.get("above", 0) == 0 or prompt > one["above"]), key=lambda one: one.get("above", 0))
        rates = rates_of(price)
        parts = {"request": rates.get("request", Decimal(0)) / 1000}
        for leaf, count in usage.items():
            field = FIELD_OF[leaf]
            if count and field not in rates:
                return Verdict("unpriced", f"no_rate:{leaf}", None)
            if count:
                parts[field] = rates[field] * count / (1000 if field in PER_THOUSAND else 1_000_000)
        return Verdict("estimated" if call["usage_source"] == "counted" else "priced", "", parts)


def name_is_anything(files: Sequence[Mapping[str, Any]], spellings: Sequence[str]) -> bool:
    """Whether a name is known only by a pattern that takes every name."""
    rules = [rule.lower() for f in files for m in f.get("model", []) for rule in (m["model"], *m.get("names", []))]
    return "*" in rules and not any(fits(rule, one) for rule in rules if rule != "*" for one in spellings)


def born(name: str) -> datetime:
    """A week before the first date that a name tells; nothing was sold before June 2020."""
    name = name.strip().lower().replace("@", "-")
    name = name.split(":")[1] if name.startswith("ft:") else name
    told = []
    for form, size in (("%Y-%m-%d", 10), ("%Y%m%d", 8), ("%y%m%d", 6), ("%m-%Y", 7), ("%y%m", 4)):
        for i in range(len(name) - size + 1):
            before, text, after = name[:i][-2:], name[i : i + size], name[i + size :][:1]
            if after.isdigit() or before[-1:].isdigit() or not re.fullmatch("[0-9-]+", text) or text.count("-") != form.count("-"):
                continue
            if (size < 8 and before[-1:] != "-") or (size == 4 and (text < "22" or not before[:1].isalpha())):
                continue
            if "%y" in form and text > "3":
                continue
            with suppress(ValueError):
                told.append(datetime.strptime(text, form).replace(tzinfo=UTC))
    for model, day in SNAPSHOTS.items():
        if re.search(rf"gpt-3\.?5.*-{model}(?!\d)|gpt-4(-[a-z0-9]+)*-{model}(?!\d)", name):
            told.append(datetime.combine(day, time(), UTC))
    told = [one for one in told if 2020 <= one.year < 2100]
    return max(FIRST_API, min(told) - timedelta(days=7)) if told else FIRST_API


def rates_of(price: Mapping[str, Any]) -> dict[str, Decimal]:
    """Dollars by field: those of the price, those that are billed like another, and what reasoning and tool use imply."""
    like = {"reasoning": "output", "tool_use": "input", **price["file"].get("same", {})}
    fields = {*FIELD_OF.values(), "request"}
    stated = {field: value for field, value in price.items() if field in fields}
    own = {field: Decimal(value) for field, value in stated.items() if value not in fields}
    like |= {field: value for field, value in stated.items() if value in fields}
    for field in (*FIELD_OF.values(), "request"):  # in the order of the list: one may stand on the one before
        if field not in own and like.get(field) in own:
            own[field] = own[like[field]]
    for fee in price["file"].get("fee", []):
        if any(fnmatch(price["model"], one) for one in fee.get("models", ["*"])):
            own = {**{field: Decimal(fee[field]) for field in fields if field in fee}, **own}
    return own


def spell(name: str, prefixes: set[str]) -> tuple[list[str], str]:
    """The spellings of a name in logs, the likeliest first, and the region scope that it tells."""
    name = name.strip().lower()
    if name.startswith("arn:"):
        name = name.split("/")[-1]
    name = re.sub(r"^(projects/[^/]+/locations/[^/]+/)?(publishers/[^/]+/)?models/", "", name).replace("@", "-")
    spellings = [name]
    head, slash, rest = name.partition("/")
    if slash and head in prefixes:
        spellings.append(rest)
        name = rest
    geo = re.match(r"(us-gov|us|eu|apac|jp|au|ca|sa|global)\.(?=[a-z0-9]+\.)", name)
    if geo:
        spellings.append(name[geo.end() :])
    return spellings, geo[1] if geo else ""


def ranks(pattern: str, spellings: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """For each spelling that a name of the book fits: how good it is, small is better. Plain names go before patterns, patterns
    with more characters of their own before others."""
    for number, spelling in enumerate(spellings):
        if pattern == spelling and not set("*#") & set(pattern):
            yield number, 0, 0
        elif set("*#") & set(pattern) and fits(pattern, spelling):
            yield number, 1, -len(pattern.replace("*", "").replace("#", ""))


def fits(pattern: str, text: str) -> bool:
    return regex(pattern).fullmatch(text) is not None


@cache
def regex(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]").replace("?", "[?]")).replace("\\#", "[0-9]").replace("#", "[0-9]"))


def listed(price: Mapping[str, Any], field: str, default: str) -> list[str]:
    value = price.get(field, default)
    return [one.lower() for one in ([value] if isinstance(value, str) else value)]


def instant(value: date | datetime | None, default: datetime) -> datetime:
    if value is None:
        return default
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)


def is_open(window: Mapping[str, Any], at: datetime) -> bool:
    if at.isoweekday() not in window.get("weekdays", range(1, 8)) or at.date() in window.get("except_dates", []):
        return False
    now = at.strftime("%H:%M")
    for hours in window["hours"]:
        start, end = hours.split("-")
        if (start <= now < end) if start < end else (now >= start or now < end):
            return True
    return False
