"""Charges of OpenAI's costs: ``GET /v1/organization/costs`` (platform.openai.com/docs/api-reference/usage/costs) and its CSV."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from schemas.invoice import Charge
from transforms.invoice.models import Models, item
from transforms.invoice.values import CellError, number, pico, places, same_sign, second, text, whole

_DAY = 86_400


def openai_charge(fields: Mapping[str, Any], file: str, row: int, models: Models) -> Charge | None:
    """The charge of one result; None for a day without costs, which the CSV writes as a row without an amount.

    ``line_item`` is there only if costs were asked for with ``group_by=line_item``, the project only with ``project_id``. A
    quantity counts tokens if the item is one of tokens. The file has no list prices, and credits are no items of it.

    Raises:
        CellError: a cell is missing or cannot be read.
    """
    amount = number(fields, "amount_value")
    start, end = second(fields, "start_time"), second(fields, "end_time")
    if amount is None and not text(fields, "amount_currency", "line_item"):
        return None
    if amount is None:
        raise CellError("amount_value", "", "empty; a charge has an amount")
    if start is None:
        raise CellError("start_time", "", "empty; a charge has a period")
    end = start + _DAY if end is None else end
    if end <= start:
        raise CellError("end_time", end, "not after start_time")
    line = text(fields, "line_item")
    said = item(line)
    model = said.model or line.partition(",")[0]
    known = models.known("openai", model, start) if model else None
    quantity = number(fields, "quantity")
    same_sign(quantity, amount, "quantity")
    return Charge(
        file=file,
        row=row,
        start=start,
        end=end,
        provider="openai",
        account=text(fields, "organization_id"),
        project=text(fields, "project_id"),
        model=known or said.model,
        kind=said.kind,
        tokens=whole(quantity, "quantity") if said.kind and quantity is not None else None,
        quantity=_plain(quantity),
        billed=pico(amount),
        list_cost=None,
        contracted=None,
        effective=None,
        currency=text(fields, "amount_currency").upper() or "USD",
        category="usage",
        description=line or "all costs",
        places=places(amount),
    )


def _plain(quantity: Decimal | None) -> str:
    return "" if quantity is None else f"{quantity:f}"
