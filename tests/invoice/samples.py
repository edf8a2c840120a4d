"""Calls of two days and the invoice a vendor would write of them, worked out by a plain loop with prices typed by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.invoices import Invoice, read_invoices
from transforms.invoice import Models
from transforms.price import load_book

MODELS = Models(load_book())
FIRST = datetime(2026, 3, 2, tzinfo=UTC)
PRICES = {  # dollars per million tokens, from openai.com/api/pricing
    "gpt-4o-2024-08-06": {"input": Decimal("2.50"), "cached input": Decimal("1.25"), "output": Decimal("10")},
    "gpt-4o-mini-2024-07-18": {"input": Decimal("0.15"), "cached input": Decimal("0.075"), "output": Decimal("0.60")},
}
LEAVES = {"input": "input_fresh", "cached input": "input_cache_read", "output": "output_visible"}


class Logged(NamedTuple):
    at: datetime
    model: str
    tokens: dict[str, int]

    def cost(self) -> Decimal:
        return sum((PRICES[self.model][kind] * count / 1_000_000 for kind, count in self.tokens.items()), Decimal(0))


def logged() -> list[Logged]:
    """Two calls an hour for two days."""
    made = []
    for hour in range(48):
        for number, model in enumerate(PRICES):
            tokens = {"input": 1003 + 17 * hour + number, "cached input": 256 * (hour % 3), "output": 101 + 7 * number + hour}
            made.append(Logged(FIRST + timedelta(hours=hour, minutes=5 * number), model, tokens))
    return made


def focus(calls: Iterable[Logged], account: str = "org-1", **more: Any) -> list[dict[str, Any]]:
    """One row for each day, model and kind, as a vendor would charge these calls at list prices."""
    sums: dict[tuple[datetime, str, str], int] = {}
    for call in calls:
        for kind, count in call.tokens.items():
            key = (call.at.replace(hour=0, minute=0), call.model, kind)
            sums[key] = sums.get(key, 0) + count
    rows = []
    for (day, model, kind), count in sums.items():
        if not count:
            continue
        price = PRICES[model][kind] / 1_000_000
        rows.append(
            {
                "ProviderName": "OpenAI",
                "ServiceName": "OpenAI API",
                "BillingAccountId": account,
                "BillingCurrency": "USD",
                "ChargeCategory": "Usage",
                "ChargePeriodStart": day.isoformat(),
                "ChargePeriodEnd": (day + timedelta(days=1)).isoformat(),
                "ChargeDescription": f"{model}, {kind}",
                "ConsumedQuantity": count,
                "ConsumedUnit": "Tokens",
                "PricingQuantity": count,
                "PricingUnit": "Tokens",
                "ListUnitPrice": price,
                "ListCost": price * count,
                "ContractedUnitPrice": price,
                "ContractedCost": price * count,
                "EffectiveCost": price * count,
                "BilledCost": price * count,
                **more,
            }
        )
    return rows


def charge(category: str, billed: str, day: datetime = FIRST) -> dict[str, Any]:
    """A line that is of no call."""
    row = focus([Logged(day, "gpt-4o-2024-08-06", {"input": 1})])[0]
    kept = {k: v for k, v in row.items() if not k.startswith(("Consumed", "Pricing", "List", "Contracted", "Effective"))}
    return {**kept, "ChargeCategory": category, "ChargeDescription": category, "BilledCost": billed}


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, delimiter=delimiter, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:f}" if isinstance(v, Decimal) else v for k, v in row.items()})
    return text.getvalue()


def read(path: Path, text: str | bytes) -> Invoice:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_invoices([path], MODELS)


def page(calls: Iterable[Logged], quantity: bool = True, money: Callable[[Decimal], Any] = float, **more: Any) -> dict[str, Any]:
    """The same as a page of /v1/organization/costs."""
    buckets: dict[int, dict[str, Any]] = {}
    for row in focus(calls):
        start = int(datetime.fromisoformat(row["ChargePeriodStart"]).timestamp())
        bucket = buckets.setdefault(start, {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": []})
        result = {
            "object": "organization.costs.result",
            "amount": {"value": money(row["BilledCost"]), "currency": "usd"},
            "line_item": row["ChargeDescription"],
            "project_id": None,
            "organization_id": "org-1",
            **more,
        }
        bucket["results"].append({**result, "quantity": row["ConsumedQuantity"]} if quantity else result)
    return {"object": "page", "data": list(buckets.values()), "has_more": False, "next_page": None}


def events(calls: Iterable[Logged], account: str = "org-1") -> str:
    """The calls as lines of our own event."""
    return "".join(
        json.dumps(
            {
                "schema": "llm-finops/call/v1",
                "provider": "openai",
                "model": call.model,
                "id": f"call-{number}",
                "started_at": call.at.isoformat(),
                "account": account,
                "usage": {LEAVES[kind]: count for kind, count in call.tokens.items()},
            }
        )
        + "\n"
        for number, call in enumerate(calls)
    )
