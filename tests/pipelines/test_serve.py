"""``llm-finops serve`` as a command: starting, ending, runs and summaries that go through it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks.clickhouse import PASSWORD_VARIABLE, StoreAddress, connect, disconnect
from sinks.owner import Note, publish, release, take
from sources.generate import GenerateSettings, write
from tests.sinks.front.conftest import MAIN, PASSWORDS, Served, served

CLI = [sys.executable, "-c", MAIN]
CHECKOUT = Path(__file__).resolve().parents[2]


def command(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command of ours in a process of its own."""
    known = {**os.environ, "PYTHONPATH": str(CHECKOUT), "XDG_STATE_HOME": str(folder / "state"), **environ}
    return subprocess.run([*CLI, *arguments], env=known, cwd=folder, text=True, capture_output=True, timeout=280, check=False)


def done(*arguments: str, folder: Path, **environ: str) -> Any:
    """What a command that worked says, as JSON."""
    found = command(*arguments, "--format", "json", folder=folder, **environ)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("served") / "logs"
    write(GenerateSettings(seed=11, calls=1500, hours=3, duplicates=0.02, late=0.02, broken=0.01, undated=0), folder)
    return str(folder / "calls-*")


def contents(store: Path, folder: Path) -> dict[str, list[Any]]:
    """Every row of every rollup and the sum of all calls, read from a folder that nobody holds, by the engine itself."""
    code = (
        "import chdb, json, sys\n"
        "c = chdb.connect(sys.argv[1])\n"
        "tables = {t: f'SELECT * EXCEPT (version, duration_ms) FROM llm_finops.{t} FINAL WHERE calls != 0 ORDER BY ALL'"
        " for t in ('minutes', 'hours', 'days')}\n"
        "tables['calls'] = 'SELECT hex(call_key), minute, tenant, model, cost FROM llm_finops.calls FINAL ORDER BY ALL'\n"
        "tables['receipts'] = 'SELECT hex(segment), position, outcome FROM llm_finops.receipts FINAL ORDER BY ALL'\n"
        "print(json.dumps({t: c.query(sql, 'JSONCompactEachRow').bytes().decode().splitlines() for t, sql in tables.items()}))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(store)], cwd=folder, capture_output=True, text=True, check=True)
    rows: dict[str, list[Any]] = json.loads(found.stdout)
    return rows


# -- runs through the owner --------------------------------------------------------------------------------------


def test_a_run_through_serve_ends_in_the_rows_of_an_embedded_run(logs: str, tmp_path: Path) -> None:
    """The whole job over HTTP with the real client, by its address and by its folder, against the engine in process."""
    embedded = tmp_path / "embedded"
    done("run", "--quiet", "--from", logs, "--to", f"chdb://{embedded}", folder=tmp_path)
    wanted = contents(embedded, tmp_path)
    assert len(wanted["calls"]) > 1000
    assert len(wanted["minutes"]) > 100
    for way in ("address", "folder"):
        with served(tmp_path / way) as server:
            to = f"http://writer@127.0.0.1:{server.port}" if way == "address" else f"chdb://{server.folder}"
            environ = {PASSWORD_VARIABLE: PASSWORDS["writer"]} if way == "address" else {}
            done("migrate", "--to", to, folder=tmp_path, **environ)
            done("run", "--quiet", "--from", logs, "--to", to, folder=tmp_path, **environ)
            again = done("run", "--quiet", "--from", logs, "--to", to, folder=tmp_path, **environ)
            assert again["records"] == 0, "the state of the first run stands"
            proof = done("reconcile", "--to", to, folder=tmp_path, **environ)
            assert {row["holds"] for row in proof} == {True}
            total = done("summary", "--by", "totals", "--to", to, folder=tmp_path, **environ)
            assert _first(total)["calls"] == len(wanted["calls"])
            assert server.end() == 0
        assert contents(server.folder, tmp_path) == wanted, way


def _first(rows: Any) -> Any:
    return rows[0] if isinstance(rows, list) else rows


def test_a_reader_cannot_run(logs: str, tmp_path: Path) -> None:
    with served(tmp_path / "s") as server:
        to = f"http://reader@127.0.0.1:{server.port}"
        found = command("run", "--from", logs, "--to", to, folder=tmp_path, **{PASSWORD_VARIABLE: PASSWORDS["reader"]})
        assert found.returncode == 4
        assert found.stderr.strip().splitlines()[-1].endswith("the user may not write; grant it the writer role")
        found = command("summary", "--to", to, folder=tmp_path, **{PASSWORD_VARIABLE: "wrong"})
        assert found.returncode == 4
        assert "user or password refused" in found.stderr
        assert "wrong" not in found.stderr.replace("wrong usage", "")


RUNNING = """
import sys
from pathlib import Path
from pipelines.job import Job
from pipelines.run import run
from sinks.clickhouse import StoreAddress, StoreSettings

asked = 0

def stop():
    # Asked before each split and after each epoch: hold the run there, when some minutes are done, until the test has seen enough.
    global asked
    asked += 1
    if asked == 5:
        print("between epochs", flush=True)
        sys.stdin.readline()
    return False

if __name__ == "__main__":
    files = sorted(Path(sys.argv[1]).parent.glob("calls-*"))
    counts = run(Job(files, StoreSettings(StoreAddress(folder=sys.argv[2])), epoch_bytes=1), stop)
    print("done", counts.calls)
"""


@pytest.mark.parametrize("through", ["the run itself", "serve"])
def test_summary_and_export_during_a_run_go_through_the_owner(logs: str, tmp_path: Path, through: str) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        store = tmp_path / "store"
        if through == "serve":
            store = stack.enter_context(served(tmp_path)).folder
        running = stack.enter_context(_running(logs, store, tmp_path))
        assert running.stdout
        assert running.stdin
        assert running.stdout.readline() == "between epochs\n"
        during = _first(done("summary", "--by", "totals", "--to", f"chdb://{store}", folder=tmp_path))
        file = tmp_path / "calls.jsonl"
        exported = command("export", "calls", "--to", f"chdb://{store}", "--out", str(file), folder=tmp_path)
        assert exported.returncode == 0, exported.stderr
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert len({row["call_key"] for row in rows}) == len(rows) >= during["calls"] > 0  # minutes come after their calls
        refused = command("run", "--from", logs, "--to", f"chdb://{store}", folder=tmp_path)
        assert refused.returncode == 4
        assert f"held by process {running.pid} " in refused.stderr
        out, _ = running.communicate("\n" * 100, timeout=200)
        assert out.splitlines()[-1].startswith("done ")
        after = _first(done("summary", "--by", "totals", "--to", f"chdb://{store}", folder=tmp_path))
        assert during["calls"] <= len(rows) < after["calls"]


def _running(logs: str, store: Path, folder: Path) -> subprocess.Popen[str]:
    script = folder / "running.py"
    script.write_text(RUNNING, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(
        [sys.executable, str(script), logs, str(store)], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


# -- starting and ending -----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as one:
        yield one


def test_the_first_line_says_where_and_for_whom(server: Served) -> None:
    assert server.lines == [
        f"serving chdb://{server.folder} on http://127.0.0.1:{server.port} for reader, writer, acme, none; Ctrl-C ends it\n"
    ]
    for password in PASSWORDS.values():
        assert password not in server.lines[0]


def test_without_configuration_one_reader_has_a_password_of_this_start(tmp_path: Path) -> None:
    with served(tmp_path, "") as server:
        line = server.errors.readline()
        words = line.split()
        password = words[words.index("password") + 1]
        assert len(password) >= 16
        assert server.client("reader", password).query("SELECT count() FROM calls").result_rows == [(0,)]
        with pytest.raises(Exception, match="Code: 516"):
            server.client("reader", "")
        with pytest.raises(Exception, match="Code: 164"):
            server.client("reader", password).insert("llm_finops.runs", [["x"]], column_names=["run_id"])


def test_a_second_owner_is_told_who_is_the_first(server: Served, tmp_path: Path) -> None:
    found = command("serve", "--to", f"chdb://{server.folder}", "--port", "0", folder=tmp_path)
    assert found.returncode == 4
    (line,) = found.stderr.strip().splitlines()
    assert f"held by process {server.process.pid} on " in line
    assert "serve --to" in line


def test_a_port_that_is_taken_is_one_line(server: Served, tmp_path: Path) -> None:
    found = command("serve", "--to", f"chdb://{tmp_path / 'other'}", "--port", str(server.port), folder=tmp_path)
    assert found.returncode == 4
    (line,) = found.stderr.strip().splitlines()
    assert line == f"llm-finops: 127.0.0.1:{server.port}: cannot be listened on: Address already in use"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('[[serve.users]]\nname = "a"\nrole = "reader"', "a needs one of password_env and password_sha256"),
        ('[[serve.users]]\nname = "a"\nrole = "admin"\npassword_env = "A"', "serve.users"),
        ('[[serve.users]]\nname = "a"\nrole = "reader"\npassword_env = "NOT_SET"', "set NOT_SET, the password of a"),
        ('[[serve.users]]\nname = "a"\nrole = "writer"\npassword_env = "A"\ntenants = ["x"]', "only a reader"),
        ('[[serve.users]]\nname = "a"\nrole = "reader"\npassword_env = "A"\ntenants = []', "name the tenants"),
        ('[[serve.users]]\nname = "a"\nrole = "reader"\npassword_env = "LLM_FINOPS_A"', "choose another"),
        ('[[serve.users]]\nname = "a"\nrole = "reader"\npassword = "hunter2"', "serve.users"),
        ("[serve]\nport = 99999", "serve.port"),
        ("[serve]\nanonymous = true", "unknown key serve.anonymous"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, config: str, says: str) -> None:
    (tmp_path / "llm-finops.toml").write_text(config, encoding="utf-8")
    found = command("serve", "--to", "chdb://store", folder=tmp_path)
    assert found.returncode == 2
    (line,) = found.stderr.strip().splitlines()
    assert says in line
    assert "hunter2" not in line
    assert not (tmp_path / "store").exists()


def test_only_an_embedded_store_is_served(tmp_path: Path) -> None:
    found = command("serve", "--to", "http://localhost:8123", folder=tmp_path)
    assert found.returncode == 2
    assert "is a server already" in found.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_and_lets_a_query_finish(tmp_path: Path, number: int) -> None:
    with served(tmp_path, "[serve]\nstop_seconds = 3600\nmax_seconds = 3600\n" + _USERS) as server:
        found: list[Any] = []
        client = server.client("reader", autogenerate_session_id=False)
        slow = "SELECT count() FROM numbers(100000000) WHERE NOT ignore(sipHash64(number))"
        asking = threading.Thread(target=lambda: found.append(client.query(slow).result_rows))
        asking.start()
        _until_it_runs(server)
        server.process.send_signal(number)
        asking.join(120)
        assert server.process.wait(120) == 0
        assert found == [[(100_000_000,)]]
        rest = server.errors.read()
    assert "stopping: " in rest
    assert rest.endswith("stopped\n")
    assert "Traceback" not in rest


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with served(tmp_path, "[serve]\nstop_seconds = 3600\nmax_seconds = 3600\n" + _USERS) as server:
        failed: list[Exception] = []

        def ask() -> None:
            try:
                server.client("reader").query("SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
            except Exception as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        _until_it_runs(server)
        server.process.terminate()
        assert server.errors.readline().startswith("stopping: ")
        server.process.terminate()
        assert server.process.wait(120) == 0
        asking.join(60)
        assert len(failed) == 1
        assert "Traceback" not in server.errors.read()


_USERS = '[[serve.users]]\nname = "reader"\nrole = "reader"\npassword_env = "READER"\n'


def _until_it_runs(server: Served) -> None:
    """The one query is being worked at: the process uses a processor."""
    import time

    statistics = Path(f"/proc/{server.process.pid}/stat")
    before = sum(map(int, statistics.read_text().split()[13:15]))
    for _ in range(600):
        if sum(map(int, statistics.read_text().split()[13:15])) > before + 20:
            return
        time.sleep(0.1)
    pytest.fail("the query did not begin")


def test_a_killed_server_leaves_nothing_in_the_way(server: Served, tmp_path: Path) -> None:
    writer = server.client("writer")
    writer.insert("llm_finops.runs", [["kept"]], column_names=["run_id"])
    server.process.kill()
    server.process.wait()
    found = done("summary", "--by", "totals", "--to", f"chdb://{server.folder}", folder=tmp_path)
    assert found
    with served(tmp_path) as second:
        assert second.client().query("SELECT run_id FROM runs").result_rows == [("kept",)]


# -- the note ----------------------------------------------------------------------------------------------------


def test_the_way_in_is_readable_by_its_own_user_only_and_ends_with_the_server(server: Served) -> None:
    path = server.folder / "llm-finops" / "owner.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    note = json.loads(path.read_text())
    assert note["port"] == server.port
    assert server.client(note["user"], note["password"]).query("SELECT 1").result_rows == [(1,)]
    assert note["password"] not in repr(Note(**note))
    assert server.end() == 0
    assert not path.exists()


def test_an_owner_that_does_not_answer_is_named(tmp_path: Path) -> None:
    code = "import sys; from sinks.owner import take; take(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        found = command("summary", "--to", f"chdb://{tmp_path}", folder=tmp_path)
        assert found.returncode == 4
        (line,) = found.stderr.strip().splitlines()
        assert f"held by process {other.pid} on " in line
        other.kill()
    assert take(str(tmp_path)) is None, "the lock of a dead process is free"
    assert take(str(tmp_path)) is None, "and this process may take it several times"
    publish(str(tmp_path), 1, "u", "p")
    release(str(tmp_path))
    release(str(tmp_path))
    assert take(str(tmp_path)) is None
    release(str(tmp_path))


def test_a_store_of_this_process_is_opened_once_and_given_back(address: StoreAddress) -> None:
    first = connect(address)
    assert connect(address) is first
    disconnect(address)
    disconnect(address)
    assert connect(address).rows("SELECT 1") == [(1,)]
