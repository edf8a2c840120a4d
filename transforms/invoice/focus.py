"""Charges of a FOCUS file: the FinOps Open Cost and Usage Specification 1.0 to 1.2 (focus.finops.org), and the names of 1.3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from schemas.invoice import CATEGORIES, Charge
from transforms.invoice.models import Item, Models, item, kind_of, tokens_per
from transforms.invoice.values import LARGEST, CellError, money, number, pico, places, product, same_sign, second, text, whole

PROVIDERS: Final = ("ProviderName", "ServiceProviderName", "HostProviderName", "PublisherName", "InvoiceIssuerName")
"""Columns that say who sells a service, under the names of 1.0 to 1.3."""

_MODEL: Final = ("x_Model", "x_ModelName", "x_ModelId", "x_SkuModel")
_KIND: Final = ("x_TokenKind", "x_TokenType", "SkuMeter", "x_SkuMeterName")
_TEXTS: Final = ("SkuId", "SkuMeter", "x_SkuMeterName", "ChargeDescription", "ResourceName", "SkuPriceId")


def focus_charge(fields: Mapping[str, Any], file: str, row: int, models: Models) -> Charge:
    """The charge of one row.

    FOCUS has no column for the model: it is that of an ``x_`` column or of ``SkuPriceDetails``, else the first word of SKU,
    meter, description or resource that the price book knows. ``ProviderName`` says who sells it (from 1.3 on
    ``ServiceProviderName``); of clouds only the services that are models count, the provider of the others is empty.

    Raises:
        CellError: a cell is missing or cannot be read.
    """
    billed = number(fields, "BilledCost")
    if billed is None:
        raise CellError("BilledCost", "", "empty; it must be there in every row")
    start, end = second(fields, "ChargePeriodStart"), second(fields, "ChargePeriodEnd")
    if start is None:
        raise CellError("ChargePeriodStart", "", "empty; it must be there in every row")
    if end is None:
        raise CellError("ChargePeriodEnd", "", "empty; it must be there in every row")
    if end <= start:
        raise CellError("ChargePeriodEnd", text(fields, "ChargePeriodEnd"), "not after ChargePeriodStart")
    provider = _provider(fields, models)
    quantity, unit, size = _quantity(fields)
    found = _item(fields, provider, start, models) if provider else Item("", "")
    category = _category(fields)
    if category == "usage":
        same_sign(quantity, billed, "ConsumedQuantity" if text(fields, "ConsumedQuantity") else "PricingQuantity")
    total = None if quantity is None or not size else product(quantity, Decimal(size))
    return Charge(
        file=file,
        row=row,
        start=start,
        end=end,
        provider=provider,
        account=text(fields, "BillingAccountId"),
        project=text(fields, "SubAccountId"),
        model=found.model,
        kind=found.kind,
        tokens=None if total is None else whole(total, "ConsumedQuantity"),
        quantity="" if quantity is None else f"{quantity:f} {unit}".strip(),
        billed=pico(billed),
        list_cost=_cost(fields, "ListCost", "ListUnitPrice"),
        contracted=_cost(fields, "ContractedCost", "ContractedUnitPrice"),
        effective=money(fields, "EffectiveCost"),
        currency=text(fields, "BillingCurrency").upper() or "USD",
        category=category,
        description=text(fields, "ChargeDescription", "SkuMeter", "SkuId", "ServiceName"),
        places=places(billed),
    )


def _category(fields: Mapping[str, Any]) -> str:
    said = text(fields, "ChargeCategory")
    category = said.lower() or "usage"
    if category not in CATEGORIES:
        raise CellError("ChargeCategory", said, "not one of " + ", ".join(name.capitalize() for name in CATEGORIES))
    if text(fields, "ChargeClass").lower() == "correction":
        return "adjustment"
    if text(fields, "CommitmentDiscountStatus").lower() == "unused":
        return "purchase"
    return category


def _provider(fields: Mapping[str, Any], models: Models) -> str:
    names = (*(said for name in PROVIDERS if (said := text(fields, name))), text(fields, "ServiceName"))
    ai = text(fields, "ServiceCategory").lower() == "ai and machine learning"
    return models.provider(names, text(fields, "ServiceName"), ai)


def _quantity(fields: Mapping[str, Any]) -> tuple[Decimal | None, str, int]:
    """What was used, else what was priced: quantity, unit, and how many tokens a unit is (0: it is none of tokens)."""
    consumed, priced = number(fields, "ConsumedQuantity"), number(fields, "PricingQuantity")
    for quantity, unit in ((consumed, text(fields, "ConsumedUnit")), (priced, text(fields, "PricingUnit"))):
        if quantity is not None and (size := tokens_per(unit)):
            return quantity, unit, size
    return (consumed, text(fields, "ConsumedUnit"), 0) if consumed is not None else (priced, text(fields, "PricingUnit"), 0)


def _cost(fields: Mapping[str, Any], cost: str, unit_price: str) -> int | None:
    """A cost; where it is unit price times quantity to its last decimal, that product, which nobody rounded."""
    stated, price, quantity = number(fields, cost), number(fields, unit_price), number(fields, "PricingQuantity")
    if price is None or quantity is None:
        return None if stated is None else pico(stated)
    exact = product(price, quantity)
    if stated is None and abs(exact) > LARGEST:
        raise CellError(unit_price, text(fields, unit_price), "times PricingQuantity, it is too large for a charge")
    if stated is None or abs(exact - stated) <= Decimal(5).scaleb(-1 - max(2, places(stated))):
        return pico(exact)
    return pico(stated)


def _item(fields: Mapping[str, Any], provider: str, start: int, models: Models) -> Item:
    details = _details(fields)
    model, kind = text(fields, *_MODEL) or details.model, ""
    if model:
        model = models.named(provider, model, start)
    for said in (text(fields, name) for name in _TEXTS):
        if not model:
            model = _model(said, provider, start, models)
        kind = kind or item(said).kind
    kind = next((k for k in (details.kind, *(kind_of(text(fields, name)) for name in _KIND)) if k), kind)
    kind = kind or kind_of(text(fields, "ChargeDescription"))
    if not model and (kind or _quantity(fields)[2]):
        model = text(fields, "SkuId", "SkuMeter", "ChargeDescription")
    return Item(model, kind)


def _model(said: str, provider: str, start: int, models: Models) -> str:
    spelled = item(said).model
    for name in (spelled, said, said.rpartition("/")[2], *said.replace(",", " ").split()[:3]):
        if name and (known := models.known(provider, name, start)):
            return known
    return spelled


def _details(fields: Mapping[str, Any]) -> Item:
    """What ``SkuPriceDetails`` says, a JSON object of 1.1 and later; vendors choose its keys."""
    said: Any = fields.get("skupricedetails")
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except ValueError:
            said = {}
    if isinstance(said, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in said):
        said = dict(said)  # as Parquet has a map
    keys = {str(k).lower().removeprefix("x_"): str(v) for k, v in said.items() if v} if isinstance(said, Mapping) else {}
    model = keys.get("model") or keys.get("modelname") or keys.get("modelid") or ""
    return Item(model, kind_of(keys.get("tokenkind") or keys.get("tokentype") or ""))
