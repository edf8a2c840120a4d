"""What ``serve`` refuses, each with ClickHouse's code, asked over the wire as an attacker would."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from sinks.clickhouse import Store
from tests.sinks.front.conftest import CALLS, PASSWORDS, Served

Ask = Callable[..., tuple[int, str]]
"""Sends a statement as a user: the error's code (0: none) and the text."""


@pytest.fixture
def ask(server: Served) -> Ask:
    def send(sql: str, user: str = "reader", **arguments: str) -> tuple[int, str]:
        headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": PASSWORDS[user]}
        url = server.url + ("?" + urlencode(arguments) if arguments else "")
        try:
            with urlopen(Request(url, sql.encode(), headers), timeout=120) as reply:
                return 0, reply.read().decode()
        except HTTPError as error:
            refused = error
        text = refused.read().decode()
        found = re.match(r"Code: (\d+)\. DB::Exception: ", text)
        assert found, text
        assert refused.headers["X-ClickHouse-Exception-Code"] == found[1]
        return int(found[1]), text

    return send


HOST_AND_NET = [
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM FILE('/etc/passwd')",
    "SELECT file('/etc/passwd')",
    "SELECT arrayMap(file, ['/etc/passwd'])",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "SELECT * FROM s3('http://127.0.0.1:1/b/k', 'CSV', 'a String')",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM executable('id', 'TSV', 'a String')",
    "SELECT * FROM mysql('h:1', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('h:1', 'd', 't', 'u', 'p')",
    "SELECT * FROM mongodb('h:1', 'd', 't', 'u', 'p', 'a String')",
    "SELECT * FROM sqlite('/tmp/x', 't')",
    "SELECT * FROM hdfs('hdfs://h/x', 'CSV')",
    "SELECT * FROM jdbc('x', 'y')",
    "SELECT * FROM python('x')",
    "SELECT * FROM Python(x)",
    "SELECT * FROM dictionary('d')",
    "SELECT dictGet('d', 'a', 1)",
    "SELECT * FROM input('a Int8')",
    "SELECT * FROM loop(calls)",
    "SELECT * FROM merge('llm_finops', '.*')",
    "SELECT * FROM mergeTreeIndex('llm_finops', 'calls')",
    "SELECT * FROM mergeTreeParts('llm_finops', 'calls')",
    "SELECT * FROM view(SELECT * FROM file('/etc/passwd', 'LineAsString'))",
    "WITH x AS (SELECT * FROM file('/etc/passwd', 'LineAsString')) SELECT * FROM x",
    "SELECT 1 IN (SELECT 1 FROM file('/etc/passwd', 'LineAsString'))",
    "SELECT 1 UNION ALL SELECT 1 FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM calls JOIN file('/etc/passwd', 'LineAsString') AS f ON 1 = 1",
    "SELECT /* f */ * FROM /**/ file /**/ ('/etc/passwd', 'LineAsString')",
    "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
    "EXPLAIN SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
    "SELECT 1 INTO OUTFILE '/tmp/llm-finops-out'",
    "SELECT 1 INTO OUTFILE '/tmp/llm-finops-out' FORMAT CSV",
    "SELECT sleep(3)",
    "SELECT sleepEachRow(1)",
    "SELECT getMacro('x'), hostName(), filesystemAvailable()",
    "SELECT getServerPort('http_port')",
    "SELECT addressToLine(1)",
    "SELECT catboostEvaluate('/x', 1)",
]


@pytest.mark.parametrize("user", ["reader", "writer", "acme"])
@pytest.mark.parametrize("sql", HOST_AND_NET)
def test_nothing_of_the_host_or_the_net_can_be_reached(ask: Ask, sql: str, user: str) -> None:
    code, text = ask(sql, user)
    assert code in (46, 62, 497), text
    assert "root:" not in text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM system.query_log",
        "SELECT * FROM system.processes",
        "SELECT * FROM system.users",
        "SELECT * FROM system.row_policies",
        "SELECT * FROM system.roles",
        "SELECT * FROM system.grants",
        "SELECT * FROM system.environment",
        "SELECT * FROM system.server_settings",
        "SELECT * FROM system.zookeeper",
        "SELECT * FROM system.stack_trace",
        "SELECT * FROM system.named_collections",
        "SELECT * FROM system.disks",
        "SELECT * FROM `system`.`users`",
        'SELECT * FROM "system" . "users"',
        "SELECT * FROM {d:Identifier}.{t:Identifier}",
        "SELECT * FROM INFORMATION_SCHEMA.tables",
        "SHOW USERS",
        "SHOW GRANTS",
        "SHOW PROCESSLIST",
        "SHOW ACCESS",
        "SHOW MERGES",
        "SHOW CLUSTERS",
        "SHOW TABLES WHERE total_rows > 0",
    ],
)
def test_system_tables_that_tell_of_others_are_not_shown(ask: Ask, sql: str) -> None:
    code, text = ask(sql, "acme", param_d="system", param_t="users")
    assert code in (62, 497), text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1;\n-- and\nSELECT 2;",
        "SELECT 1;DROP TABLE llm_finops.calls",
        "SELECT 1 FORMAT CSV; SELECT 2",
        "INSERT INTO llm_finops.runs (run_id) SELECT 'x'; SELECT 2",
    ],
)
def test_there_is_one_statement_in_a_request(ask: Ask, sql: str, writing: Store) -> None:
    for user in ("reader", "writer"):
        code, text = ask(sql, user)
        assert code in (62, 164), text
    assert writing.rows("SELECT count() FROM runs WHERE run_id = 'x'") == [(0,)]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("INSERT INTO llm_finops.runs (run_id) VALUES ('y')", 164),
        ("INSERT INTO llm_finops.runs (run_id) SELECT 'y'", 164),
        ("INSERT INTO llm_finops.runs FORMAT JSONEachRow {\"run_id\": \"y\"}", 164),
        ("insert /* x */ into FUNCTION file('/tmp/llm-finops-out') select 1", 164),
        ("WITH 1 AS x INSERT INTO llm_finops.runs (run_id) SELECT 'y'", 164),
        ("ALTER TABLE llm_finops.calls DELETE WHERE 1", 164),
        ("ALTER TABLE llm_finops.calls UPDATE cost = 0 WHERE 1", 164),
        ("DELETE FROM llm_finops.calls WHERE 1", 164),
        ("OPTIMIZE TABLE llm_finops.calls FINAL", 164),
        ("CREATE TABLE llm_finops.z (a Int8) ENGINE = Memory", 164),
        ("CREATE VIEW llm_finops.z AS SELECT 1", 164),
        ("CREATE USER z", 497),
        ("CREATE FUNCTION z AS x -> x", 497),
        ("DROP TABLE llm_finops.calls", 497),
        ("TRUNCATE TABLE llm_finops.calls", 497),
        ("RENAME TABLE llm_finops.calls TO llm_finops.z", 497),
        ("DETACH TABLE llm_finops.calls", 497),
        ("ATTACH TABLE llm_finops.z", 164),
        ("BACKUP TABLE llm_finops.calls TO File('/tmp/b')", 497),
        ("KILL QUERY WHERE 1", 497),
        ("SYSTEM SHUTDOWN", 497),
        ("SYSTEM FLUSH LOGS", 497),
        ("SET readonly = 0", 497),
        ("SET ROLE owner", 497),
        ("SET DEFAULT ROLE ALL TO default", 497),
        ("GRANT ALL ON *.* TO reader", 497),
        ("USE system", 497),
        ("EXCHANGE TABLES llm_finops.calls AND llm_finops.minutes", 497),
        ("BEGIN TRANSACTION", 497),
    ],
)
def test_a_reader_changes_nothing(ask: Ask, sql: str, code: int, writing: Store) -> None:
    found, text = ask(sql)
    assert found == code or (found in (62, 164, 497) and code in (164, 497)), text
    assert writing.rows("SELECT count() FROM runs WHERE run_id = 'y'") == [(0,)]
    assert writing.rows("SELECT count() FROM calls FINAL") == [(len(CALLS),)]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE llm_finops.calls",
        "DROP DATABASE llm_finops",
        "CREATE TABLE llm_finops.z (a String) ENGINE = File(CSV)",
        "CREATE TABLE llm_finops.z (a String) ENGINE = File(CSV, '/etc/passwd')",
        "CREATE TABLE llm_finops.z (a String) ENGINE = URL('http://127.0.0.1:1/', CSV)",
        "CREATE TABLE llm_finops.z (a String) ENGINE = Merge('system', '.*')",
        "CREATE TABLE llm_finops.z (a String) ENGINE = Executable('id', TSV)",
        "CREATE TABLE llm_finops.z (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '/tmp/')",
        "CREATE TABLE llm_finops.z AS file('/etc/passwd', 'LineAsString')",
        "CREATE TABLE llm_finops.z ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "CREATE TABLE llm_finops.z (a String DEFAULT file('/etc/passwd')) ENGINE = MergeTree ORDER BY a",
        "CREATE VIEW llm_finops.z AS SELECT * FROM system.users",
        "CREATE MATERIALIZED VIEW llm_finops.z TO llm_finops.runs AS SELECT 1",
        "CREATE DICTIONARY llm_finops.z (a Int8) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)",
        "CREATE DATABASE z ENGINE = Filesystem('/')",
        "CREATE DATABASE z",
        "CREATE TABLE default.z (a Int8) ENGINE = MergeTree ORDER BY a",
        "INSERT INTO FUNCTION file('/tmp/llm-finops-out', 'CSV', 'a Int8') SELECT 1",
        "INSERT INTO llm_finops.runs FROM INFILE '/etc/passwd' FORMAT CSV",
        "INSERT INTO llm_finops.runs (run_id) SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "INSERT INTO llm_finops.runs (run_id) VALUES (file('/etc/passwd'))",
        "INSERT INTO system.users VALUES (1)",
        "ALTER TABLE llm_finops.calls FREEZE",
        "ALTER TABLE llm_finops.calls MOVE PARTITION '202506' TO DISK 'x'",
        "ALTER TABLE llm_finops.calls FETCH PARTITION '202506' FROM '/x'",
        "ALTER TABLE llm_finops.calls ATTACH PARTITION '202506'",
        "ALTER TABLE llm_finops.calls UPDATE app = file('/etc/passwd') WHERE 1",
        "ALTER TABLE llm_finops.calls ADD COLUMN z String DEFAULT file('/etc/passwd')",
        "SET ROLE owner",
        "SET max_memory_usage = 0",
    ],
)
def test_a_writer_writes_rows_and_tables_and_nothing_else(ask: Ask, sql: str, writing: Store) -> None:
    code, text = ask(sql, "writer")
    assert code in (62, 81, 344, 452, 497, 48, 36, 27, 6, 26, 41), text
    assert "root:" not in text
    assert writing.rows("SELECT count() FROM calls FINAL") == [(len(CALLS),)]
    assert writing.rows("SELECT count() FROM system.tables WHERE name = 'z'") == [(0,)]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT max(length(a)) FROM (SELECT arraySort(groupArray(randomString(1000))) AS a FROM numbers(10000000))", 241),
        # 10 GB that must be sorted whole
        (
            "SELECT count(), max(r) FROM (SELECT row_number() OVER (ORDER BY s) AS r, s FROM"
            " (SELECT randomString(1000) AS s FROM numbers(10000000)))",
            241,
        ),
        ("SELECT uniqExact(s) FROM (SELECT randomString(100) AS s FROM numbers(100000000))", 241),
        ("SELECT s, count() FROM (SELECT randomString(100) AS s FROM numbers(100000000)) GROUP BY s", 241),
        ("SELECT number FROM numbers(2000000) FORMAT JSON", 396),
        ("SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number)) SETTINGS max_execution_time = 1", 159),
        ("SELECT count() FROM numbers(1000) SETTINGS max_execution_time = 3600", 452),
        ("SELECT count() FROM numbers(1000) SETTINGS max_memory_usage = 0", 452),
        ("SELECT count() FROM numbers(1000) SETTINGS max_memory_usage = 100000000000", 452),
        ("SELECT count() FROM numbers(1000) SETTINGS readonly = 0", 452),
        ("SELECT count() FROM numbers(1000) SETTINGS max_temporary_data_on_disk_size_for_query = 0", 452),
        ("SELECT 1 FROM (SELECT 1 SETTINGS max_execution_time = 0)", 452),
        ("SELECT 1 SETTINGS allow_introspection_functions = 1", 452),
        ("SELECT 1 SETTINGS max_execution_time = DEFAULT", 48),
    ],
)
def test_a_query_keeps_to_its_limits(ask: Ask, sql: str, code: int) -> None:
    found, text = ask(sql)
    assert found == code, text


def test_a_stream_over_its_limits_ends_in_the_error(ask: Ask) -> None:
    code, text = ask("SELECT number FROM numbers(1000000000)")
    assert code == 0, "it had begun"
    assert text.count("\n") < 1_100_000
    assert "Code: 396. DB::Exception: Limit for result exceeded" in text[-500:]
    assert "__exception__" in text[-500:]


@pytest.mark.parametrize("name", ["readonly", "allow_ddl", "log_comment", "output_format_schema", "max_query_size_", "s3_max_redirects"])
def test_settings_of_the_url_are_those_a_client_may_choose(ask: Ask, name: str) -> None:
    code, text = ask("SELECT 1", **{name: "1"})
    assert code == 452, text


def test_names_of_the_machine_and_texts_of_others_are_not_told(ask: Ask) -> None:
    assert ask("SELECT displayName()") == (0, "llm-finops\n")
    assert ask("SELECT * FROM system.errors")[0] == 497
    assert ask("SELECT query FROM system.processes") == (0, "")


def test_limits_of_the_url_can_only_be_lowered(ask: Ask) -> None:
    query = "SELECT toUInt64(value) FROM system.settings WHERE name = 'max_memory_usage'"
    assert ask(query, max_memory_usage="1000000000000") == (0, f"{512 << 20}\n")
    assert ask(query, max_memory_usage="0") == (0, f"{512 << 20}\n")
    assert ask(query, max_memory_usage="-1") == (0, f"{512 << 20}\n")
    assert ask(query, max_memory_usage="100000000") == (0, "100000000\n")


def test_passwords(server: Served) -> None:
    def code_of(**headers: str) -> tuple[int, str]:
        try:
            urlopen(Request(server.url, b"SELECT 1", headers))
        except HTTPError as error:
            return error.code, error.read().decode()
        return 200, ""

    for headers in (
        {},
        {"X-ClickHouse-User": "reader"},
        {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "wrong"},
        {"X-ClickHouse-User": "nobody", "X-ClickHouse-Key": PASSWORDS["reader"]},
        {"X-ClickHouse-User": "", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "default", "X-ClickHouse-Key": ""},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic"},
    ):
        status, text = code_of(**headers)
        assert (status, text[:10]) == (403, "Code: 516."), headers
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(server.url + "?user=reader&password=" + PASSWORDS["reader"], b"SELECT 1"))
    assert caught.value.code == 403


def test_a_wrong_password_through_the_client(client: Callable[..., Client]) -> None:
    with pytest.raises(DatabaseError, match="Code: 516"):
        client("reader", "wrong")
