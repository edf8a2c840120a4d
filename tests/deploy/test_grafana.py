"""The dashboard: every query on the real engine over real rows against a plain loop over ``calls``, and the file itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import overview
from schemas.tables import TABLES
from sinks.clickhouse import Store
from sinks.recompute import recompute
from sources.generate import GenerateSettings, write
from tests.deploy.plugin import ALL, Look, sent
from tests.pipelines.jobs import go, holds

FOLDER = Path(overview.__file__).parent
FIRST = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
HOSTILE = (
    "",
    "O'Brien",
    "back\\",
    "x\\' OR 1=1 -- ",
    "a,b",
    "$__all",
    "$team",
    "${tenant}",
    "$__timeFilter(x)",
    "[[team]]",
    '"double"',
    "new\nline",
    "日本 (東京)",
    "x:00",
    "other teams",
    "50%",
)
WIDTH = {"minute": 60, "hour": 3600, "day": 86_400}

Row = dict[str, Any]


def _event(number: int, **more: Any) -> str:
    at = datetime.fromtimestamp(FIRST + 977 * number, UTC).isoformat().replace("+00:00", "Z")
    fields = {"schema": "llm-finops/call/v1", "provider": "openai", "model": "gpt-4o-mini-2024-07-18", "id": f"e{number}", "started_at": at}
    return json.dumps({**fields, "usage": {"input_total": 1000 + number, "output_total": 7 * number}, **more})


@pytest.fixture(scope="module")
def store(module_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two days of traffic and events with awkward names, read twice; the calls of one team then move to another."""
    folder = tmp_path_factory.mktemp("logs")
    settings = GenerateSettings(seed=3, start=date(2026, 3, 2), days=2, calls=1500, duplicates=0.02, late=0.02, broken=0.02, undated=0)
    write(settings, folder / "traffic")
    events = [_event(n, team=name, environment="O'Brien's", tenant="b\\") for n, name in enumerate(HOSTILE)]
    events += [_event(100 + n, team="search", model="nobody-knows-9", environment="prod") for n in range(5)]
    events += [_event(200 + n, team="mystery", model="nobody-knows-9") for n in range(2)]
    text = {"role": "user", "content": "How much is a token?"}
    events += [_event(300 + n, team="search", usage=None, messages=[text], output=[{**text, "role": "assistant"}]) for n in range(3)]
    (folder / "events.jsonl").write_text("\n".join(events) + "\nnot json\n")
    for table in ("minutes", "hours", "days", "dead_letters", "runs"):  # what was replaced stays, so FINAL is needed
        module_store.command(f"SYSTEM STOP MERGES {module_store.table(table)}")
    paths = [*sorted((folder / "traffic").glob("calls-*")), folder / "events.jsonl"]
    go(module_store.address, *paths)
    go(module_store.address, *paths, again=True)
    _move(module_store)
    holds(module_store)
    return module_store


def _move(store: Store) -> None:
    """Give all calls of one team to another, as new rules do; so its keys vanish from their minutes."""
    minutes = [at for (at,) in store.rows(f"SELECT DISTINCT toUInt32(minute) FROM {store.table('calls')} FINAL WHERE team = 'mystery'")]
    calls = store.table("calls")
    theirs = f"(SELECT * FROM {calls} FINAL WHERE team = 'mystery')"
    store.command(f"INSERT INTO {calls} SELECT * REPLACE ('moved' AS team, version + 1 AS version) FROM {theirs}")
    assert len(minutes) == 2
    recompute(store, minutes)


@pytest.fixture(scope="module")
def calls(store: Store) -> list[Row]:
    """The truth: every call once. The engine gives rows, the sums are made here."""
    rows = store.named_rows(
        f"SELECT *, toUInt32(minute) AS at FROM {store.table('calls')} FINAL ORDER BY minute, call_key"
    )
    assert len(rows) > 1400
    return rows


def run(store: Store, sql: str, look: Look) -> list[Row]:
    return store.named_rows(_qualified(store, sent(sql, look)))


def _qualified(store: Store, sql: str) -> str:
    # In Grafana the data source names the database.
    names = "|".join(table.name for table in TABLES)
    return re.sub(rf"\bFROM ({names}) AS", lambda found: f"FROM {store.table(found[1])} AS", sql)


def panels() -> dict[str, str]:
    return {panel["title"]: panel["targets"][0]["rawSql"] for panel in overview.dashboard()["panels"]}


# -- the oracle --------------------------------------------------------------------------------------------------


def code(name: str) -> str:
    return "x:" + name.encode().hex().upper() if not re.fullmatch(r"[A-Za-z0-9_./ -]+", name) else name


def seen(calls: Iterable[Row], look: Look) -> list[Row]:
    """Calls in periods that overlap the time range, of what is chosen."""
    width = WIDTH[look.rollup]
    found = []
    for call in calls:
        period = call["at"] // width * width
        if not (period + width > look.start and period < look.end):
            continue
        if all(chosen == (ALL,) or code(call[name]) in chosen for name, chosen in look.variables().items() if name != "rollup"):
            bar = datetime.fromtimestamp(period // look.interval_s * look.interval_s, UTC)
            found.append({**call, "bar": bar.replace(tzinfo=None)})  # as the client gives times in UTC
    return found


def total(calls: Iterable[Row]) -> Decimal:
    return sum((call["cost"] for call in calls if call["cost"] is not None), Decimal(0))


def spend(calls: list[Row]) -> Decimal | None:
    """NULL where no call has a price: unknown is not zero."""
    return total(calls) if any(call["price_status"] != "unpriced" for call in calls) else None


def tokens(calls: Iterable[Row], prefix: str = "") -> int:
    leaves = "input_fresh input_cache_read input_cache_write_5m input_cache_write_1h input_cache_write_other input_tool_use input_audio input_image output_visible output_reasoning output_audio output_image"
    return sum(call[leaf] or 0 for call in calls for leaf in leaves.split() if leaf.startswith(prefix))


def grouped(calls: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups = defaultdict(list)
    for call in calls:
        groups[key(call)].append(call)
    return groups


def of_status(calls: Iterable[Row], *statuses: str) -> list[Row]:
    return [call for call in calls if call["price_status"] in statuses]


def bars(calls: list[Row], make: Callable[[list[Row]], Row]) -> list[Row]:
    return [{"time": bar, **make(some)} for bar, some in sorted(grouped(calls, lambda c: c["bar"]).items())]


def expect_spend(calls: list[Row], look: Look) -> list[Row]:
    lost = [call for call in calls if call["price_status"] == "unpriced"]
    return [{"Spend": spend(calls), "Calls": len(calls) or None, "Calls without a price": len(lost) if calls else None}]


def expect_spend_over_time(calls: list[Row], look: Look) -> list[Row]:
    return bars(
        calls,
        lambda some: {
            "from reported usage": total(c for c in some if c["price_status"] != "estimated"),
            "from counted text": total(of_status(some, "estimated")),
        },
    )


def expect_by_team(calls: list[Row], look: Look) -> list[Row]:
    teams = grouped(calls, lambda c: c["team"])
    # Bytes, as the engine sorts.
    largest = sorted(teams, key=lambda team: (-total(teams[team]), -len(teams[team]), team.encode()))[:8]
    named = grouped(calls, lambda c: (c["bar"], (c["team"] or "(none)") if c["team"] in largest else "other teams"))
    order = sorted(named, key=lambda key: (key[0], key[1].encode()))
    return [{"time": bar, "name": name, "spend": total(named[bar, name])} for bar, name in order]


def expect_teams_and_models(calls: list[Row], look: Look) -> list[Row]:
    rows = [
        {
            "Team": team,
            "Model": model,
            "Spend": spend(some),
            "Calls": len(some),
            "Without a price": len(of_status(some, "unpriced")),
            "Input tokens": tokens(some, "input_"),
            "Output tokens": tokens(some, "output_"),
        }
        for (team, model), some in grouped(calls, lambda c: (c["team"] or "(none)", f"{c['provider']}/{c['model']}")).items()
    ]
    rows.sort(key=lambda r: (r["Spend"] is None, -(r["Spend"] or 0), -r["Calls"], r["Team"].encode(), r["Model"].encode()))
    return rows[:200]


def expect_share(calls: list[Row], look: Look) -> list[Row]:
    rows = [
        {
            "Price": status,
            "Share of calls": len(some) / len(calls),
            "Share of tokens": tokens(some) / tokens(calls) if tokens(calls) else None,
            "Calls": len(some),
            "Spend": None if status == "unpriced" else total(some),
        }
        for status, some in grouped(calls, lambda c: c["price_status"]).items()
    ]
    return sorted(rows, key=lambda r: (-r["Calls"], r["Price"]))


def expect_share_over_time(calls: list[Row], look: Look) -> list[Row]:
    statuses = ("priced", "estimated", "free", "not_billed", "unpriced")
    return bars(calls, lambda some: {status: len(of_status(some, status)) / len(some) for status in statuses})


def expect_rate(calls: list[Row], look: Look) -> list[Row]:
    seconds = max(look.interval_s, WIDTH[look.rollup])

    def rates(some: list[Row]) -> Row:
        kinds = [call["status"] if call["status"] in ("ok", "error") else "blocked, incomplete, cancelled" for call in some]
        return {kind: kinds.count(kind) * 60 / seconds for kind in ("ok", "error", "blocked, incomplete, cancelled")}

    return bars(calls, rates)


EXPECTED: dict[str, Callable[[list[Row], Look], list[Row]]] = {
    "Spend": expect_spend,
    "Spend over time": expect_spend_over_time,
    "Spend by team, 8 largest": expect_by_team,
    "Teams and models": expect_teams_and_models,
    "How sure the dollars are, over time": expect_share_over_time,
    "How sure the dollars are": expect_share,
    "Calls per minute": expect_rate,
}

DAY = Look(FIRST, FIRST + 86_400, interval_s=600)
LOOKS = {
    "a day": DAY,
    "cut inside minutes": Look(FIRST + 9 * 3600 + 17, FIRST + 11 * 3600 + 43),
    "everything by hour": Look(FIRST - 5 * 86_400 + 1234, FIRST + 5 * 86_400, interval_s=3600, rollup="hour"),
    "hours drawn fine": Look(FIRST + 5000, FIRST + 200_000, interval_s=600, rollup="hour"),
    "everything by day": Look(FIRST - 100 * 86_400 + 1234, FIRST + 100 * 86_400, interval_s=86_400, rollup="day"),
    "one team": replace(DAY, team=("search",)),
    "two teams, one place": replace(DAY, team=("search", "moved"), environment=("prod",)),
    "one tenant": replace(DAY, tenant=(code("b\\"),)),
    "the empty tenant": replace(DAY, tenant=(code(""),)),
    "awkward names": replace(DAY, team=(*map(code, HOSTILE), "unallocated"), environment=(code("O'Brien's"),), tenant=(code("b\\"),)),
    "only unpriced": replace(DAY, rollup="day", team=("moved",), end=FIRST + 3 * 86_400),
    "nothing": replace(DAY, team=("no such team",)),
    "before all calls": Look(FIRST - 86_400, FIRST),
    "an empty range": Look(FIRST + 40_000, FIRST + 40_000),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
@pytest.mark.parametrize("title", EXPECTED)
def test_a_panel_shows_what_a_loop_over_calls_finds(title: str, look: Look, store: Store, calls: list[Row]) -> None:
    assert run(store, panels()[title], look) == EXPECTED[title](seen(calls, look), look)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_team_of_any_name_can_be_chosen(name: str, store: Store, calls: list[Row]) -> None:
    name = name or "unallocated"  # what the job makes of it
    offered = {row["text"]: row["value"] for row in run(store, overview.options("team"), DAY)}
    look = replace(DAY, team=(offered[name],))
    mine = seen(calls, replace(DAY, team=(code(name),)))
    assert {call["team"] for call in mine} == {name}
    for title, expect in EXPECTED.items():
        assert run(store, panels()[title], look) == expect(mine, look)


def test_the_rows_can_show_what_may_go_wrong(store: Store, calls: list[Row]) -> None:
    """Else the tests above would pass without FINAL, without a look at zeros, or with one kind of call."""
    minutes = store.table("minutes")
    written, standing, living = (
        store.rows(f"SELECT count() FROM {minutes} {how}")[0][0] for how in ("", "FINAL", "FINAL WHERE calls != 0")
    )
    assert written > standing > living > 0
    assert {call["price_status"] for call in calls} >= {"priced", "estimated", "not_billed", "unpriced"}
    assert {call["status"] for call in calls} >= {"ok", "error"}
    assert len({call["team"] for call in calls}) > 8 + len(HOSTILE) - 1
    assert seen(calls, LOOKS["only unpriced"])
    assert {call["team"] for call in seen(calls, LOOKS["only unpriced"])} == {"moved"}
    assert spend(seen(calls, LOOKS["only unpriced"])) is None


@pytest.mark.parametrize("name", overview.CHOICES)
def test_a_variable_offers_every_name_that_has_calls(name: str, store: Store, calls: list[Row]) -> None:
    names = {call[name] for call in calls}
    rows = run(store, overview.options(name), DAY)
    assert {row["value"]: row["text"] for row in rows} == {code(one): one or "(none)" for one in names}
    assert len(rows) == len(names)


def test_a_code_never_needs_quoting(store: Store) -> None:
    words = [a + b for a, b in combinations(("", "'", "\\", ",", "$", "{", ")", "%", "a", " ", "[", "\n", "é", ":"), 2)]
    for word in words:
        (row,) = store.named_rows(f"SELECT {overview._code('word')} AS coded FROM (SELECT {{word:String}} AS word)", {"word": word})
        assert row["coded"] == code(word)
        assert re.fullmatch(r"[A-Za-z0-9_./ :-]+", row["coded"])


@pytest.mark.parametrize(
    ("seconds", "rollup"),
    [(60, "minute"), (86_400, "minute"), (86_401, "hour"), (31 * 86_400, "hour"), (31 * 86_400 + 1, "day"), (10**9, "day")],
)
def test_the_length_of_the_range_chooses_the_rollup(seconds: int, rollup: str, store: Store) -> None:
    assert run(store, overview.ROLLUP, Look(FIRST, FIRST + seconds)) == [{"value": rollup}]


# -- health ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [DAY, LOOKS["one team"], LOOKS["awkward names"]], ids=["all", "team", "awkward"])
def test_freshness_is_the_age_of_the_newest_chosen_call(look: Look, store: Store, calls: list[Row]) -> None:
    newest = max(call["at"] for call in seen(calls, replace(look, end=2**32 - 1)))
    before = time.time()
    (row,) = run(store, overview.FRESHNESS, look)
    after = time.time()
    assert int(before) - newest <= row["Newest call"] <= after - newest


def test_dead_letters_are_counted_once_by_reason(store: Store) -> None:
    rows = store.named_rows(f"SELECT DISTINCT segment, position, item, record_hash, reason FROM {store.table('dead_letters')}")
    now = int(time.time())
    shown = run(store, overview.DEAD_LETTERS, Look(now - 3600, now + 60))
    counts = {reason: len(some) for reason, some in grouped(rows, lambda r: r["reason"]).items()}
    assert {row["Reason"]: row["Dead letters"] for row in shown} == counts
    assert counts["not_json"] >= 1
    assert [row["Dead letters"] for row in shown] == sorted(counts.values(), reverse=True)
    assert all(row["Latest"] for row in shown)
    assert run(store, overview.DEAD_LETTERS, Look(now - 7200, now - 3600)) == []


def test_the_last_runs_are_shown_newest_first(store: Store) -> None:
    rows = store.named_rows(f"SELECT * FROM {store.table('runs')} FINAL")
    shown = run(store, overview.RUNS, DAY)
    assert [row["Started"] for row in shown] == sorted((row["started_at"] for row in rows), reverse=True)
    assert {row["State"] for row in shown} == {"done"}
    assert sum(row["Records"] for row in shown) == sum(row["records"] for row in rows) > 3000
    for row in rows:
        (mine,) = [one for one in shown if one["Started"] == row["started_at"]]
        assert mine["Ended"] == row["ended_at"]
        assert mine["Calls"] == row["calls"]
        assert mine["Dead letters"] == row["dead_letters"]
        assert mine["Records per second"] == row["records"] / row["seconds"]


# -- shapes ------------------------------------------------------------------------------------------------------

TIME, NUMBER, TEXT = r"(Nullable\()?DateTime(64\(3, 'UTC'\)|\('UTC'\))\)?", r"(Nullable\()?(U?Int64|Float64|Decimal\(38, 12\))\)?", r"(LowCardinality\()?String\)?"


@pytest.mark.parametrize("panel", overview.dashboard()["panels"], ids=lambda panel: panel["title"])
@pytest.mark.parametrize("rollup", WIDTH)
def test_columns_have_the_types_that_grafana_draws(panel: dict[str, Any], rollup: str, store: Store) -> None:
    sql = _qualified(store, sent(panel["targets"][0]["rawSql"], replace(DAY, rollup=rollup)))
    types = {name: kind for name, kind, *_ in store.rows(f"DESCRIBE TABLE ({sql})")}
    if panel["type"] == "timeseries":
        assert re.fullmatch(TIME, types.pop("time"))
        labels = {name for name, kind in types.items() if re.fullmatch(TEXT, kind)}
        assert labels <= {"name"}
        assert all(re.fullmatch(NUMBER, kind) for name, kind in types.items() if name not in labels), types
    elif panel["type"] == "stat":
        assert all(re.fullmatch(NUMBER, kind) for kind in types.values()), types
    else:
        assert all(re.fullmatch(f"{TIME}|{NUMBER}|{TEXT}", kind) for kind in types.values()), types


def test_a_store_without_rows_shows_nothing_and_no_error(store: Store, address: Any) -> None:
    from sinks.clickhouse import connect
    from sinks.schema import migrate

    empty = connect(address)
    migrate(empty)
    for rollup in WIDTH:
        for title, sql in panels().items():
            rows = run(empty, sql, replace(DAY, rollup=rollup))
            assert rows == [] or all(value is None for value in rows[0].values()), title
    for name in overview.CHOICES:
        assert run(empty, overview.options(name), DAY) == []


# -- the files ---------------------------------------------------------------------------------------------------


def test_the_dashboard_file_is_that_of_the_code(tmp_path: Path) -> None:
    made = tmp_path / "overview.json"
    subprocess.run([sys.executable, "-m", "deploy.grafana.overview", str(made)], cwd=FOLDER.parents[1], check=True)
    assert (FOLDER / "dashboards" / "overview.json").read_text() == made.read_text(), "run `make docs`"


def test_panels_lie_beside_each_other_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    board = overview.dashboard()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith(".")
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == 24 * bottom  # no holes


def test_names_that_a_panel_colours_or_formats_are_columns_of_its_query() -> None:
    for panel in overview.dashboard()["panels"]:
        for override in panel["fieldConfig"]["overrides"]:
            assert f'AS "{override["matcher"]["options"]}"' in panel["targets"][0]["rawSql"]


def test_the_data_source_is_the_provisioned_one() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/llm-finops.yaml").read_text())["datasources"]
    board = overview.dashboard()
    (variable,) = [one for one in board["templating"]["list"] if one["type"] == "datasource"]
    assert (source["uid"], source["type"]) == (variable["current"]["value"], variable["query"])
    asked = [panel["datasource"] for panel in board["panels"]]
    asked += [target["datasource"] for panel in board["panels"] for target in panel["targets"]]
    asked += [one["datasource"] for one in board["templating"]["list"] if one["type"] == "query"]
    assert {(one["type"], one["uid"]) for one in asked} == {(source["type"], "${datasource}")}
    assert source["jsonData"]["protocol"] == "http"
    # Nothing of a deployment, least of all a secret, is in the file.
    for value in (source["jsonData"]["host"], source["jsonData"]["port"], source["jsonData"]["username"], *source["secureJsonData"].values()):
        assert re.fullmatch(r"\$\{LLM_FINOPS_GRAFANA_[A-Z]+\}", value)


def test_compose_gives_every_variable_and_mounts_what_is_there() -> None:
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values()
    source = (FOLDER / "provisioning/datasources/llm-finops.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", source)) <= set(service["environment"])
    for volume in service["volumes"]:
        assert (FOLDER / volume.split(":")[0]).exists()
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/llm-finops.yaml").read_text())["providers"]
    assert any(volume.split(":")[1] == provider["options"]["path"] for volume in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
