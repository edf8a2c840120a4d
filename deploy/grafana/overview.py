"""The Grafana dashboard "LLM spend" as code: ``python -m deploy.grafana.overview deploy/grafana/dashboards/overview.json``.

Every query stands here once, with what its panel shows. Three rules keep the figures right:

- Rollups are read with ``FINAL`` and without rows of zero calls, which stand for keys that vanished.
- A period counts where it overlaps the time range, and counts whole; all panels cut in the same way, so their sums agree.
- Money stays a Decimal until Grafana draws it. What has no price is shown as calls, never as 0 dollars.

The variables of the dashboard are safe for any name that a log may hold: see ``_code``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

UID: Final = "llm-finops"
"""Of the provisioned data source and, with ``-overview``, of the dashboard."""

PLUGIN: Final = "grafana-clickhouse-datasource"
SOURCE: Final = {"type": PLUGIN, "uid": "${datasource}"}

MINUTES_UP_TO_S: Final = 86_400
HOURS_UP_TO_S: Final = 31 * 86_400
"""Time ranges, in seconds, up to which minutes and hours are read; longer ones read days."""

BARS: Final = 200
"""Points of a time series, at most: each bar can be seen."""

TOP: Final = 8
"""Teams with a colour of their own; the rest is one bar."""

PRICE_STATUSES: Final = {
    "priced": "green",
    "estimated": "yellow",
    "free": "blue",
    "not_billed": "purple",
    "unpriced": "red",
}

LEAVES: Final = (
    *("input_fresh", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h", "input_cache_write_other"),
    *("input_tool_use", "input_audio", "input_image"),
    *("output_visible", "output_reasoning", "output_audio", "output_image"),
)

# -- queries -----------------------------------------------------------------------------------------------------

CHOICES: Final = ("tenant", "team", "environment")


def _code(column: str) -> str:
    """What the dashboard says instead of a name that could break out of a quoted string.

    Names come from logs. Grafana escapes quotes but not backslashes, the plugin takes an empty choice for "All", and a
    ``$`` in a name would be expanded; so such names, and the empty one, are written in hexadecimal.
    """
    return f"if({column} = '' OR match({column}, '[^A-Za-z0-9_./ -]'), concat('x:', hex({column})), {column})"


def shown(column: str) -> str:
    return f"if({column} = '', '(none)', {column})"


def _sum(prefix: str) -> str:
    return " + ".join(f"d.{leaf}" for leaf in LEAVES if leaf.startswith(prefix))


def chosen(*names: str) -> str:
    """The condition that rows, called ``d``, are of what is chosen."""
    return "\n  AND ".join(f"$__conditionalAll({_code(f'd.{name}')} IN (${{{name}:singlequote}}), ${name})" for name in names)


_CHOSEN: Final = chosen(*CHOICES)

# ``rollup`` is minute, hour or day: the name of a table less its s, and of its time column. In UTC each has one length.
ROWS: Final = f"""\
FROM ${{rollup}}s AS d FINAL
WHERE d.${{rollup}} > toTimeZone($__fromTime, 'UTC') - INTERVAL 1 ${{rollup}}
  AND d.${{rollup}} < $__toTime
  AND {_CHOSEN}
  AND d.calls != 0"""

_SECONDS: Final = "greatest($__interval_s, multiIf('${rollup}' = 'minute', 60, '${rollup}' = 'hour', 3600, 86400))"

SPEND: Final = f"""\
SELECT
  sumOrNullIf(d.cost, d.price_status != 'unpriced') AS "Spend",
  sumOrNull(d.calls) AS "Calls",
  sumOrNull(if(d.price_status = 'unpriced', d.calls, 0)) AS "Calls without a price"
{ROWS}"""

SPEND_OVER_TIME: Final = f"""\
SELECT
  $__timeInterval(d.${{rollup}}) AS time,
  sumIf(d.cost, d.price_status != 'estimated') AS "from reported usage",
  sumIf(d.cost, d.price_status = 'estimated') AS "from counted text"
{ROWS}
GROUP BY time
ORDER BY time"""

SPEND_BY_TEAM: Final = f"""\
WITH largest AS (
  SELECT d.team
  {ROWS.replace(chr(10), chr(10) + "  ")}
  GROUP BY d.team
  ORDER BY sum(d.cost) DESC, sum(d.calls) DESC, d.team
  LIMIT {TOP}
)
SELECT
  $__timeInterval(d.${{rollup}}) AS time,
  if(d.team IN (SELECT team FROM largest), {shown("d.team")}, 'other teams') AS name,
  sum(d.cost) AS spend
{ROWS}
GROUP BY time, name
ORDER BY time, name"""

TEAMS_AND_MODELS: Final = f"""\
SELECT
  {shown("d.team")} AS "Team",
  concat(d.provider, '/', d.model) AS "Model",
  sumOrNullIf(d.cost, d.price_status != 'unpriced') AS "Spend",
  sum(d.calls) AS "Calls",
  sumIf(d.calls, d.price_status = 'unpriced') AS "Without a price",
  sum({_sum("input_")}) AS "Input tokens",
  sum({_sum("output_")}) AS "Output tokens"
{ROWS}
GROUP BY "Team", "Model"
ORDER BY "Spend" DESC NULLS LAST, "Calls" DESC, "Team", "Model"
LIMIT 200"""

_SHARES: Final = ",\n  ".join(
    f"sumIf(d.calls, d.price_status = '{status}') / sum(d.calls) AS \"{status}\"" for status in PRICE_STATUSES
)

PRICED_SHARE: Final = f"""\
SELECT
  d.price_status AS "Price",
  sum(d.calls) / sum(sum(d.calls)) OVER () AS "Share of calls",
  sum({_sum("")}) / nullIf(sum(sum({_sum("")})) OVER (), 0) AS "Share of tokens",
  sum(d.calls) AS "Calls",
  if(d.price_status = 'unpriced', NULL, sum(d.cost)) AS "Spend"
{ROWS}
GROUP BY d.price_status
ORDER BY "Calls" DESC, "Price\""""

SHARE_OVER_TIME: Final = f"""\
SELECT
  $__timeInterval(d.${{rollup}}) AS time,
  {_SHARES}
{ROWS}
GROUP BY time
ORDER BY time"""

CALL_RATE: Final = f"""\
SELECT
  $__timeInterval(d.${{rollup}}) AS time,
  sumIf(d.calls, d.status = 'ok') * 60 / {_SECONDS} AS "ok",
  sumIf(d.calls, d.status = 'error') * 60 / {_SECONDS} AS "error",
  sumIf(d.calls, d.status NOT IN ('ok', 'error')) * 60 / {_SECONDS} AS "blocked, incomplete, cancelled"
{ROWS}
GROUP BY time
ORDER BY time"""

# The newest day is found in days, the newest minute in that day: both are short reads, at any size of the store.
_CHOSEN_CALLS: Final = f"{_CHOSEN}\n  AND d.calls != 0"
FRESHNESS: Final = f"""\
SELECT dateDiff('second', maxOrNull(d.minute), now()) AS "Newest call"
FROM minutes AS d FINAL
WHERE d.minute >= (
    SELECT maxOrNull(d.day)
    FROM days AS d FINAL
    WHERE {_CHOSEN_CALLS}
  )
  AND {_CHOSEN_CALLS}"""

DEAD_LETTERS: Final = """\
SELECT
  l.reason AS "Reason",
  count() AS "Dead letters",
  max(l.ingested_at) AS "Last written",
  argMax(l.error, l.ingested_at) AS "Latest"
FROM dead_letters AS l FINAL
WHERE $__timeFilter(l.ingested_at)
GROUP BY l.reason
ORDER BY "Dead letters" DESC, "Reason\""""

RUNS: Final = """\
SELECT
  r.started_at AS "Started",
  r.ended_at AS "Ended",
  r.state AS "State",
  r.records AS "Records",
  r.calls AS "Calls",
  r.dead_letters AS "Dead letters",
  r.records / nullIf(r.seconds, 0) AS "Records per second"
FROM runs AS r FINAL
ORDER BY r.started_at DESC
LIMIT 10"""

ROLLUP: Final = f"""\
SELECT multiIf(
  $__toTime - $__fromTime <= {MINUTES_UP_TO_S}, 'minute',
  $__toTime - $__fromTime <= {HOURS_UP_TO_S}, 'hour',
  'day') AS value"""


def options(name: str) -> str:
    """The query for what can be chosen as ``name``: its code, and what is shown of it."""
    return (
        f"SELECT DISTINCT {_code(f'd.{name}')} AS value, {shown(f'd.{name}')} AS text\n"
        "FROM days AS d FINAL\nWHERE d.calls != 0\nORDER BY text"
    )


# -- panels ------------------------------------------------------------------------------------------------------

Json = dict[str, Any]


def fixed(name: str, color: str) -> Json:
    return override(name, {"color": {"mode": "fixed", "fixedColor": color}})


def override(name: str, properties: Mapping[str, Any]) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def panel(kind: str, title: str, doc: str, sql: str, place: tuple[int, int, int, int], **more: Any) -> Json:
    """A panel: ``place`` is x, y, width and height on Grafana's grid of 24 columns."""
    x, y, width, height = place
    series = kind == "timeseries"
    return {
        "type": kind,
        "title": title,
        "description": doc,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        **({"interval": "1m", "maxDataPoints": BARS} if series else {}),
        "targets": [
            {
                "refId": "A",
                "datasource": SOURCE,
                "editorType": "sql",
                "queryType": "timeseries" if series else "table",
                "format": 0 if series else 1,
                "rawSql": sql,
            }
        ],
        **more,
    }


def fields(unit: str, overrides: Sequence[Json] = (), **defaults: Any) -> Json:
    return {"defaults": {"unit": unit, **defaults}, "overrides": list(overrides)}


def bars(unit: str, overrides: Sequence[Json] = (), **defaults: Any) -> Json:
    custom = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    return fields(unit, overrides, custom=custom, min=0, **defaults)


LEGEND: Final = {"displayMode": "list", "placement": "bottom", "showLegend": True}
SERIES: Final = {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}}
TABLE: Final = {"showHeader": True, "cellHeight": "sm"}
STAT: Final = {
    "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": "/.*/"},
    "colorMode": "value",
    "graphMode": "none",
    "textMode": "value_and_name",
}
GREY: Final = {"mode": "fixed", "fixedColor": "text"}


def _panels() -> list[Json]:
    gauge = {"unit": "percentunit", "min": 0, "max": 1, "custom.cellOptions": {"type": "gauge", "mode": "basic"}}
    time = {"unit": "dateTimeAsLocal", "custom.width": 170}
    return [
        panel(
            "stat",
            "Spend",
            "Dollars of the calls that have a price. What the others cost is not known; they are counted beside it.",
            SPEND,
            (0, 0, 6, 8),
            fieldConfig=fields(
                "short",
                [
                    override("Spend", {"unit": "currencyUSD", "decimals": 2}),
                    override("Calls without a price", {"color": {"mode": "thresholds"}}),
                ],
                color=GREY,
                noValue="no calls",
                thresholds={"mode": "absolute", "steps": [{"color": "green", "value": None}, {"color": "red", "value": 1}]},
            ),
            options={**STAT, "orientation": "horizontal"},
        ),
        panel(
            "timeseries",
            "Spend over time",
            "Dollars per bar. Where nobody reported usage, the text was counted: an estimate.",
            SPEND_OVER_TIME,
            (6, 0, 18, 8),
            fieldConfig=bars("currencyUSD", [fixed("from reported usage", "green"), fixed("from counted text", "yellow")]),
            options=SERIES,
        ),
        panel(
            "timeseries",
            f"Spend by team, {TOP} largest",
            "Dollars per bar, by the team that owns the calls.",
            SPEND_BY_TEAM,
            (0, 8, 12, 10),
            fieldConfig=bars("currencyUSD", displayName="${__field.labels.name}"),
            options={**SERIES, "legend": {**LEGEND, "placement": "right"}},
        ),
        panel(
            "table",
            "Teams and models",
            "The 200 largest by spend. An empty spend means that no call of the row has a price.",
            TEAMS_AND_MODELS,
            (12, 8, 12, 10),
            fieldConfig=fields("short", [override("Spend", {"unit": "currencyUSD", "decimals": 4})]),
            options=TABLE,
        ),
        panel(
            "timeseries",
            "How sure the dollars are, over time",
            "Share of calls by price status: priced, estimated from counted text, free and not billed by statement, unpriced.",
            SHARE_OVER_TIME,
            (0, 18, 12, 8),
            fieldConfig=bars("percentunit", [fixed(name, color) for name, color in PRICE_STATUSES.items()], max=1),
            options=SERIES,
        ),
        panel(
            "table",
            "How sure the dollars are",
            "By calls and tokens, since what unpriced calls cost is not known. Tokens are the reported ones.",
            PRICED_SHARE,
            (12, 18, 12, 8),
            fieldConfig=fields(
                "short",
                [
                    override("Share of calls", gauge),
                    override("Share of tokens", gauge),
                    override("Spend", {"unit": "currencyUSD", "decimals": 4}),
                ],
            ),
            options=TABLE,
        ),
        panel(
            "timeseries",
            "Calls per minute",
            "By outcome.",
            CALL_RATE,
            (0, 26, 10, 8),
            fieldConfig=bars("short", [fixed("ok", "green"), fixed("error", "red")]),
            options=SERIES,
        ),
        panel(
            "stat",
            "Freshness",
            "Age of the newest minute with calls, whatever the time range.",
            FRESHNESS,
            (10, 26, 4, 8),
            fieldConfig=fields("s", color=GREY, noValue="no calls", decimals=0),
            options={**STAT, "orientation": "horizontal"},
        ),
        panel(
            "table",
            "Dead letters by reason",
            "Records that could not be read, by the time they were written to the store. Of all tenants and teams.",
            DEAD_LETTERS,
            (14, 26, 10, 4),
            fieldConfig=fields(
                "short",
                [override("Last written", time), override("Dead letters", {"custom.width": 110})],
                noValue="none in the time range",
            ),
            options=TABLE,
        ),
        panel(
            "table",
            "Last runs",
            "The ten latest runs of the job, whatever the time range.",
            RUNS,
            (14, 30, 10, 4),
            fieldConfig=fields("short", [override("Started", time), override("Ended", time)], noValue="no run yet"),
            options=TABLE,
        ),
    ]


def variable(name: str, sql: str, **more: Any) -> Json:
    return {
        "type": "query",
        "name": name,
        "datasource": SOURCE,
        "query": {"refId": name, "editorType": "sql", "queryType": "sql", "rawSql": sql},
        "definition": sql,
        "sort": 0,
        "regex": "",
        "options": [],
        **more,
    }


def dashboard() -> Json:
    """The dashboard as Grafana reads it."""
    return board("overview", "LLM spend", "Spend, by team and model, how sure it is, and how the pipeline does.", _panels())


def board(name: str, title: str, doc: str, panels: Sequence[Json], since: str = "now-24h") -> Json:
    """A dashboard of these panels, with the choices that all have, and links to the others."""
    all_of = {"selected": True, "text": ["All"], "value": ["$__all"]}
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": PLUGIN,
        "current": {"selected": True, "text": UID, "value": UID},
        "regex": "",
        "options": [],
        "refresh": 1,
        "hide": 0,
    }
    offered = [
        variable(name, options(name), label=name.capitalize(), multi=True, includeAll=True, current=all_of, refresh=1, hide=0)
        for name in CHOICES
    ]
    # Asked anew whenever the time range changes, and hidden: it has one value.
    rollup = variable("rollup", ROLLUP, multi=False, includeAll=False, current={}, refresh=2, hide=2)
    return {
        "uid": f"{UID}-{name}",
        "title": title,
        "description": doc,
        "tags": [UID],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": since, "to": "now"},
        "refresh": "1m",
        "templating": {"list": [source, *offered, rollup]},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "", "tags": [UID], "asDropdown": False, "includeVars": True, "keepTime": True}],
        "panels": [{"id": number, **one} for number, one in enumerate(panels, 1)],
    }


def document(of: Json) -> str:
    """The file of a dashboard."""
    return json.dumps(of, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(dashboard()), encoding="utf-8")
