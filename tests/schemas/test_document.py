"""The table reference is current, and every field of a call has its column."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from schemas.call import Call
from schemas.document import document
from schemas.tables import CALLS, COSTS, RECORDED

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_what_the_code_says() -> None:
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == document(), "run `make docs`"


def test_every_field_of_a_call_is_a_column() -> None:
    on_its_way = {"params", "content", "beside", "transport_id", "transport_item", "transport_time", "inside_hash"}
    fields = {field.name for field in dataclasses.fields(Call)} - on_its_way
    columns = {column.name for column in CALLS.columns}
    assert fields <= columns
    added = {"minute", "version", "ingested_at", "price_run", "book_version", "rate_id", "cost", "cost_source"}
    added |= {"list_cost", "cost_error", "contract"}
    added |= {"owner_rule"} | {f"recorded_{name}" for name in RECORDED}
    assert columns - fields == added | {"price_status", "price_reason"} | {name for name, _ in COSTS}


def test_columns_that_history_needs_are_there_from_the_start() -> None:
    needed = """max_tokens deployment deployment_type region_scope spillover retry_after_ms http_status sampling_rate
        service_tier_requested service_tier cache_key cache_breakpoints stop_reason stream ttft_ms agent step"""
    assert set(needed.split()) <= {column.name for column in CALLS.columns}
