"""The Grafana dashboard "LLM money" as code: ``python -m deploy.grafana.money deploy/grafana/dashboards/money.json``.

Where dollars come from and how far they may be off, what contracts save, whether reported tokens are what was sent, and which
pricing of history stands. The rules are those of ``deploy.grafana.overview``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from deploy.grafana.overview import (
    GREY,
    ROWS,
    SERIES,
    STAT,
    TABLE,
    Json,
    bars,
    board,
    chosen,
    document,
    fields,
    fixed,
    override,
    panel,
    shown,
)

PROVENANCE: Final = {
    "the vendor's own figure": ("sum(d.cost_vendor_reported)", "blue"),
    "from reported usage": ("sum(d.cost - d.cost_vendor_reported - d.cost_counted - d.cost_estimated)", "green"),
    "from text, counted exactly": ("sum(d.cost_counted)", "yellow"),
    "from text, estimated": ("sum(d.cost_estimated)", "orange"),
}
"""Where dollars come from: each is the sum of a part of ``cost``, and the parts are all of it."""

SURE: Final = f"""\
SELECT
  sumOrNullIf(d.cost, d.price_status != 'unpriced') AS "Spend",
  sumOrNullIf(d.cost_error, d.price_status != 'unpriced') AS "May be off by",
  sumOrNullIf(d.list_cost, d.price_status != 'unpriced') AS "At list prices"
{ROWS}"""

_PARTS: Final = ",\n  ".join(f'{what} AS "{name}"' for name, (what, _) in PROVENANCE.items())

SOURCES_OVER_TIME: Final = f"""\
SELECT
  $__timeInterval(d.${{rollup}}) AS time,
  {_PARTS}
{ROWS}
GROUP BY time
ORDER BY time"""

SOURCES: Final = f"""\
SELECT
  d.provider AS "Provider",
  sum(d.cost) AS "Spend",
  {_PARTS},
  sum(d.cost_error) AS "May be off by",
  sumIf(d.calls, d.price_status = 'unpriced') AS "Calls without a price"
{ROWS}
GROUP BY d.provider
ORDER BY "Spend" DESC, "Provider\""""

# Rollups do not tell accounts apart. Periods are cut as those of the rollups are, so that the sums agree.
_PERIOD: Final = "toStartOfInterval(d.minute, INTERVAL 1 ${rollup})"
CONTRACTS: Final = f"""\
SELECT
  d.provider AS "Provider",
  {shown("d.account")} AS "Account",
  if(d.contract = '', '(list price)', d.contract) AS "Contract",
  sum(ifNull(d.list_cost, 0)) AS "At list prices",
  sum(ifNull(d.cost, 0)) AS "Contracted",
  sum(ifNull(d.list_cost, 0)) - sum(ifNull(d.cost, 0)) AS "Saved",
  count() AS "Calls",
  countIf(isNull(d.cost)) AS "Calls without a price"
FROM calls AS d FINAL
WHERE {_PERIOD} > toTimeZone($__fromTime, 'UTC') - INTERVAL 1 ${{rollup}}
  AND {_PERIOD} < $__toTime
  AND {chosen("tenant", "team", "environment")}
GROUP BY d.provider, d.account, d.contract
ORDER BY "At list prices" DESC, "Calls" DESC, "Provider", "Account", "Contract"
LIMIT 200"""

_AUDITED: Final = f"""\
FROM audit_days AS d FINAL
WHERE d.day > toTimeZone($__fromTime, 'UTC') - INTERVAL 1 day
  AND d.day < $__toTime
  AND {chosen("tenant")}
  AND d.calls != 0"""

AUDIT: Final = f"""\
SELECT
  concat(d.provider, '/', d.model) AS "Model",
  d.side AS "Side",
  d.count_quality AS "Count",
  sum(d.calls) AS "Calls",
  sum(d.exact_calls) / sum(d.calls) AS "Exact",
  sum(d.reported) AS "Reported",
  sum(d.counted) AS "Counted",
  sum(d.difference_cost) AS "Dollars of the difference",
  sumOrNullIf(d.unexplained_cost, d.banded_calls != 0) AS "Unexplained"
{_AUDITED}
GROUP BY d.provider, d.model, d.side, d.count_quality
ORDER BY abs("Unexplained") DESC NULLS LAST, "Calls" DESC, "Model", "Side", "Count"
LIMIT 200"""

AUDIT_OVER_TIME: Final = f"""\
SELECT
  $__timeInterval(d.day) AS time,
  sumIf(d.exact_calls, d.count_quality = 'exact_tokenizer')
    / nullIf(sumIf(d.calls, d.count_quality = 'exact_tokenizer'), 0) AS "exact calls",
  sumIf(d.unexplained_cost, d.banded_calls != 0) AS "unexplained"
{_AUDITED}
GROUP BY time
ORDER BY time"""

PRICE_RUNS: Final = """\
SELECT
  toInt64(p.price_run) AS "Run",
  multiIf(NOT p.active, 'taken back', p.state = 'running', 'running, or killed: do it again', p.state) AS "State",
  p.book_version AS "Book",
  p.since AS "Calls since",
  p.until AS "Calls before",
  if(p.undoes = 0, NULL, toInt64(p.undoes)) AS "Takes back",
  s.calls AS "Calls it stands for",
  p.ingested_at AS "Written"
FROM price_runs AS p FINAL
LEFT JOIN (
  SELECT d.price_run AS price_run, toNullable(sum(d.calls)) AS calls
  FROM days AS d FINAL
  WHERE d.calls != 0
  GROUP BY d.price_run
) AS s ON s.price_run = p.price_run
ORDER BY "Written" DESC, "Run" DESC
LIMIT 50"""


def _panels() -> list[Json]:
    dollars = {"unit": "currencyUSD", "decimals": 4}
    gauge = {"unit": "percentunit", "min": 0, "max": 1, "custom.cellOptions": {"type": "gauge", "mode": "basic"}}
    time = {"unit": "dateTimeAsLocal", "custom.width": 170}
    return [
        panel(
            "stat",
            "Spend and its error",
            "The error is the sum over calls of the half-width that holds nine of ten true costs. 0: all usage was reported.",
            SURE,
            (0, 0, 6, 8),
            fieldConfig=fields("currencyUSD", color=GREY, decimals=2, noValue="no calls"),
            options={**STAT, "orientation": "horizontal"},
        ),
        panel(
            "timeseries",
            "Where the dollars come from, over time",
            "Dollars per bar: as the vendor states, usage times price, or counted text times price where none was reported.",
            SOURCES_OVER_TIME,
            (6, 0, 18, 8),
            fieldConfig=bars("currencyUSD", [fixed(name, color) for name, (_, color) in PROVENANCE.items()]),
            options=SERIES,
        ),
        panel(
            "table",
            "Where the dollars come from",
            "By provider, with the error bar of what was counted.",
            SOURCES,
            (0, 8, 24, 7),
            fieldConfig=fields("short", [override(name, dollars) for name in ("Spend", *PROVENANCE, "May be off by")]),
            options=TABLE,
        ),
        panel(
            "table",
            "Contracts",
            "List price beside what contracts make of it. What credits pay of that is shared out by `llm-finops contracts`.",
            CONTRACTS,
            (0, 15, 24, 8),
            fieldConfig=fields("short", [override(name, dollars) for name in ("At list prices", "Contracted", "Saved")]),
            options=TABLE,
        ),
        panel(
            "table",
            "Reported against counted tokens",
            "As the last `llm-finops audit` derived them: whole days, by tenant. Unexplained: beyond the error of the count.",
            AUDIT,
            (0, 23, 14, 9),
            fieldConfig=fields(
                "short",
                [
                    override("Exact", gauge),
                    override("Dollars of the difference", dollars),
                    override("Unexplained", dollars),
                ],
                noValue="not audited",
            ),
            options=TABLE,
        ),
        panel(
            "timeseries",
            "Audit over time",
            "Share of calls counted exactly that agree to the token, and dollars that no error of a count explains.",
            AUDIT_OVER_TIME,
            (14, 23, 10, 9),
            fieldConfig=fields(
                "currencyUSD",
                [override("exact calls", {"unit": "percentunit", "min": 0, "max": 1})],
                custom={"showPoints": "always"},
            ),
            options=SERIES,
        ),
        panel(
            "table",
            "Pricings of history",
            "Run 1 is the live one, a row for each book. Of several over one call the highest not taken back stands.",
            PRICE_RUNS,
            (0, 32, 24, 6),
            fieldConfig=fields("short", [override(name, time) for name in ("Calls since", "Calls before", "Written")]),
            options=TABLE,
        ),
    ]


def dashboard() -> Json:
    """The dashboard as Grafana reads it."""
    doc = "Where dollars come from, what contracts save, whether reported tokens are right, and which prices stand."
    return board("money", "LLM money", doc, _panels(), "now-30d")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(dashboard()), encoding="utf-8")
