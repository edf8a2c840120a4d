"""A user with tenants sees their rows and nothing of the others', however the question is put."""

from __future__ import annotations

import re

import pytest

from tests.sinks.front.conftest import CALLS
from tests.sinks.front.test_refusals import Ask, ask

__all__ = ["ask"]  # a fixture

OWN = [n for n, one in enumerate(CALLS) if one.tenant in ("acme", "it's")]
OTHERS = [n for n, one in enumerate(CALLS) if one.tenant == "globex"]


def test_rows_are_those_of_the_users_tenants(ask: Ask) -> None:
    for user, numbers in (("acme", OWN), ("none", []), ("reader", [*OWN, *OTHERS])):
        found = ask("SELECT count(), toInt64(ifNull(sum(input_fresh), 0)) FROM calls FINAL", user)
        assert found == (0, f"{len(numbers)}\t{sum(numbers)}\n"), user
        for table in ("minutes", "hours", "days"):
            found = ask(f"SELECT toInt64(sum(calls)), toInt64(sum(input_fresh)) FROM {table} FINAL", user)
            assert found == (0, f"{len(numbers)}\t{sum(numbers)}\n"), (user, table)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM calls WHERE tenant = 'globex'",
        "SELECT count() FROM calls FINAL WHERE tenant = 'globex'",
        "SELECT count() FROM calls PREWHERE tenant = 'globex'",
        "SELECT count() FROM calls WHERE tenant = 'acme' OR tenant = 'globex' AND tenant = 'globex' HAVING max(tenant) = 'globex'",
        "SELECT count() FROM calls AS a JOIN calls AS b ON 1 = 1 WHERE b.tenant = 'globex'",
        "SELECT count() FROM calls AS a LEFT JOIN calls AS b USING (minute) WHERE b.tenant = 'globex'",
        "SELECT count() FROM minutes WHERE app IN (SELECT app FROM calls WHERE tenant = 'globex') AND tenant = 'globex'",
        "SELECT count() FROM (SELECT tenant FROM calls UNION ALL SELECT tenant FROM minutes) WHERE tenant = 'globex'",
        "WITH x AS (SELECT tenant FROM calls) SELECT count() FROM x WHERE tenant = 'globex'",
        "WITH RECURSIVE x AS (SELECT tenant FROM calls UNION ALL SELECT tenant FROM x WHERE 0) SELECT count() FROM x WHERE tenant = 'globex'",
        "SELECT count() FROM view(SELECT * FROM calls) WHERE tenant = 'globex'",
        "SELECT countIf(tenant = 'globex') FROM llm_finops.calls",
        "SELECT count() FROM `llm_finops`.`calls` WHERE tenant = 'globex'",
        "SELECT count() FROM {d:Identifier}.{t:Identifier} WHERE tenant = 'globex'",
        "SELECT count() FROM calls WHERE tenant = 'globex' SETTINGS final = 1",
        "SELECT count() FROM calls WHERE tenant LIKE 'glo%' OR tenant ILIKE 'GLO%'",
        "SELECT max(tenant = 'globex') FROM calls",
        "SELECT (SELECT count() FROM calls WHERE tenant = 'globex')",
        "SELECT length(arrayFilter(x -> x = 'globex', groupArray(tenant))) FROM calls",
        "SELECT count() FROM calls EXCEPT SELECT count() FROM calls WHERE tenant != 'globex' UNION ALL SELECT 0",
        "SELECT count() FROM dead_letters WHERE tenant = 'globex'",
    ],
)
def test_no_way_of_asking_gives_rows_of_others(ask: Ask, sql: str) -> None:
    code, text = ask(sql, "acme", param_d="llm_finops", param_t="calls")
    assert (code, text.strip() or "0") == (0, "0") or code in (47, 62, 497), text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT total_rows FROM system.tables WHERE name = 'calls'",
        "SELECT * FROM system.tables WHERE name = 'calls'",
        "SELECT COLUMNS('total.*') FROM system.tables",
        "SELECT t.total_bytes FROM system.tables AS t",
        "SELECT tuple(t.*) FROM system.tables AS t",
        "SELECT data_compressed_bytes FROM system.columns WHERE table = 'calls'",
        "SELECT name AS total_rows, total_rows FROM system.tables",
        "SELECT (SELECT 1 AS total_rows), total_rows FROM system.tables",
        "SELECT count() FROM system.tables WHERE total_rows > 10",
        "SELECT count() FROM system.tables WHERE isNotNull(total_rows.null)",
        "SELECT count() FROM system.tables NATURAL JOIN values('total_rows UInt64', 60)",
        "SELECT count() FROM system.tables JOIN values('total_rows UInt64', 60) USING (total_rows)",
        "SELECT aa FROM system.tables AS t(aa, bb)",
        "SELECT tuple(1) IN system.tables",
        "SELECT {c:Identifier} FROM system.tables",
        "SELECT count() FROM system.tables WHERE {c:Identifier} > 1",
        "SELECT rows FROM system.parts",
        "SELECT min_time, max_time FROM system.parts",
        "SELECT * FROM system.parts_columns",
        "SELECT * FROM system.part_log",
        "SELECT * FROM system.merges",
        "SELECT * FROM system.mutations",
        "SELECT * FROM system.metrics",
        "SELECT * FROM system.events",
        "SELECT * FROM system.query_log",
        "SELECT * FROM segments",
        "SELECT * FROM runs",
        "SELECT * FROM receipts",
        "EXPLAIN ESTIMATE SELECT * FROM calls",
        "EXPLAIN indexes = 1 SELECT * FROM calls WHERE tenant = 'globex'",
        "SHOW TABLES WHERE total_rows > 10",
        "SELECT * FROM mergeTreeIndex('llm_finops', 'calls')",
        "SELECT count() FROM calls SETTINGS max_rows_to_read = 45",
        "SELECT count() FROM calls SETTINGS max_bytes_to_read = 1",
        "SELECT max(_part_offset) FROM calls",
        "SELECT uniq(_part), max(_block_number), max(calls._part_index) FROM calls",
        "SELECT data_path FROM system.databases",
        "SELECT last_error_message FROM system.errors",
        "SELECT count() FROM calls SETTINGS output_format_write_statistics = 1 FORMAT JSON",
    ],
)
def test_how_much_others_have_is_not_told(ask: Ask, sql: str) -> None:
    code, text = ask(sql, "acme", param_c="total_rows")
    assert code in (452, 497), text


def test_limits_on_what_is_read_do_not_tell_how_much_there_is(ask: Ask) -> None:
    for name in ("max_rows_to_read", "max_bytes_to_read"):
        assert ask("SELECT count() FROM calls", "acme", **{name: "45"})[0] == 452


def test_statistics_are_not_told(ask: Ask) -> None:
    code, text = ask("SELECT count() AS n FROM calls FORMAT JSON", "acme", output_format_write_statistics="0")
    assert code == 452
    code, text = ask("SELECT count() AS n FROM calls FORMAT JSON", "acme")
    assert code == 0
    assert '"rows_read"' not in text


def test_errors_do_not_show_rows_of_others(ask: Ask) -> None:
    for sql in (
        "SELECT throwIf(tenant = 'globex', 'seen') FROM calls",
        "SELECT throwIf(tenant = 'globex', 'seen') FROM calls ORDER BY tenant",
        "SELECT sum(if(tenant = 'globex', throwIf(1, 'seen'), 0)) FROM calls WHERE tenant = 'globex'",
        "SELECT toInt64(tenant) FROM calls WHERE tenant = 'globex'",
        "SELECT intDiv(1, tenant != 'globex') FROM calls",
        "SELECT count() FROM calls PREWHERE throwIf(tenant = 'globex', 'seen') = 0",
        "SELECT count() FROM calls WHERE throwIf(tenant = 'globex', 'seen') = 0",
        "SELECT count() FROM calls AS a JOIN calls AS b ON throwIf(b.tenant = 'globex', 'seen') = 0",
        "SELECT count() FROM calls WHERE tenant IN (SELECT if(throwIf(tenant = 'globex', 'seen') = 0, 'x', 'y') FROM minutes)",
    ):
        _, text = ask(sql, "acme")
        assert not re.search(r"globex(?!')|Division by zero|: seen", text), (sql, text)


def test_what_dashboards_ask_about_tables_works_for_a_tenant(ask: Ask) -> None:
    code, text = ask("SELECT name, engine, comment FROM system.tables WHERE database = 'llm_finops' ORDER BY name", "acme")
    assert code == 0, text
    assert "calls" in text
    assert "segments" not in text, "tables that cannot be read are not listed"
    assert ask("SELECT DISTINCT database FROM system.columns WHERE table = 'minutes'", "acme") == (0, "llm_finops\n")
    assert ask("SHOW TABLES LIKE 'min%'", "acme") == (0, "minutes\n")
    assert ask("SELECT version FROM schema_version", "acme")[0] == 0
