"""The doctor finds what was broken on purpose, and an exit code tells what kind of thing went wrong."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.doctor import Finding, Status, examine, findings_table, installed, reached, worst
from pipelines.errors import EXIT_CODES, CheckFailed, ExitCode, InputError, SettingsError, exit_code, fail, one_line
from pipelines.sections import Serve, ServeUser, Settings
from pipelines.settings import load
from pipelines.show import as_json
from sinks.clickhouse import StoreError
from sources.files import SourceError
from transforms.decode.compiled import is_compiled
from transforms.price import BookError


def only(findings: list[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


def test_a_good_installation_has_nothing_to_mend(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    flags = {"source.from": str(tmp_path), "store.to": f"chdb://{tmp_path}/new/store"}
    keys = {"LLM_FINOPS_HASH_KEY": "k" * 16, "LLM_FINOPS_PRIVACY__PSEUDONYM_KEYS": f"{'u' * 16},2026-07-01={'v' * 16}"}
    settings = load(environ=keys, flags=flags, folder=tmp_path)
    findings = examine(settings, lambda found: f"asked {found.store.to}")
    assert (only(findings, "decoder").status is Status.OK) == is_compiled()
    assert only(findings, "user keys").detail == "2 for end users, the latest since 2026-07-01"
    checks = (
        "python",
        "clock",
        "tokenizer",
        "prices",
        "hash key",
        "user keys",
        "input",
        "disk (temporary)",
        "disk (store)",
        "store",
    )
    for check in checks:
        assert only(findings, check).status in (Status.OK, Status.WARN), only(findings, check)
    assert only(findings, "store").detail == f"asked chdb://{tmp_path}/new/store"
    assert "1 files, 3 B" in only(findings, "input").detail
    assert not (tmp_path / "new").exists()


def test_what_is_broken_is_found_and_says_what_to_do(tmp_path: Path) -> None:
    def refuse(_: object) -> str:
        raise StoreError("http://host:8123: unreachable\n  because of the cable")

    flags = {"source.from": (str(tmp_path / "none"),), "store.to": "http://host", "price.books": (tmp_path / "gone",)}
    findings = examine(load(environ={}, flags=flags, folder=tmp_path), refuse)
    assert only(findings, "store").detail == "http://host:8123: unreachable because of the cable"
    assert only(findings, "hash key").status is Status.WARN
    assert only(findings, "user keys").status is Status.ABSENT
    failed = {finding.check for finding in worst(findings)}
    assert {"store", "input"} <= failed
    assert all(finding.fix for finding in findings if finding.status is not Status.OK)
    assert all(finding.status is not Status.OK or not finding.fix for finding in findings)


MAPPING = """
[[mapping]]
name = "shop"
when = { keys = ["shop_model"] }
[mapping.fields]
provider = { value = "openai" }
model = "shop_model"
[mapping.fields.usage]
input_total = "tokens_in"
output_total = "tokens_out"
"""
RULES = """
[[rule]]
name = "shop"
when = { app = "shop" }
team = "shop"
"""


def test_files_of_mappings_and_rules_are_read(tmp_path: Path) -> None:
    good = {"mine.toml": MAPPING, "owners.toml": RULES}
    bad = {"mine.toml": MAPPING.replace("tokens_in", "tokens in["), "owners.toml": RULES.replace("app =", "apps =")}
    told = []
    for folder, files in (("good", good), ("bad", bad)):
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
        flags = {"decode.mappings": (tmp_path / folder / "mine.toml",), "owners.rules": (tmp_path / folder / "owners.toml",)}
        findings = examine(load(environ={}, flags=flags, folder=tmp_path), lambda _: "asked")
        told.append({check: only(findings, check) for check in ("mappings", "owners")})
    right, wrong = told
    assert (right["mappings"].status, right["mappings"].detail) == (Status.OK, "1 files: shop")
    assert (right["owners"].status, right["owners"].detail) == (Status.OK, "1 rules of 1 files")
    for check, name in (("mappings", "mine.toml"), ("owners", "owners.toml")):
        assert wrong[check].status is Status.FAIL
        assert name in wrong[check].detail
        assert wrong[check].fix
    without = examine(load(environ={}, folder=tmp_path), lambda _: "asked")
    assert {only(without, check).status for check in ("mappings", "owners")} == {Status.ABSENT}


def test_packages_are_compared_with_what_is_asked_for() -> None:
    asked = [
        "orjson>=3.11",
        "rich>=14",
        "numpy>=2.1",
        'chdb<5,>=4.3; extra == "chdb"',
        'kafka-python<4,>=3; extra == "kafka"',
        'crc32c>=2.7; extra == "kafka"',
        'tomli>=2; python_version < "3.0"',
    ]
    there = {"orjson": "3.11.0", "rich": "13.9", "crc32c": "2.7.post1"}
    found = installed.packages(asked, there.get, frozenset({"chdb"}))
    assert [(f.check, f.status, f.fix) for f in found] == [
        ("package", Status.OK, ""),
        ("package", Status.FAIL, "pip install 'llm-finops'"),
        ("package", Status.FAIL, "pip install 'llm-finops'"),
        ("extra chdb", Status.FAIL, "pip install 'llm-finops[chdb]'"),
        ("extra kafka", Status.ABSENT, "pip install 'llm-finops[kafka]'"),
        ("extra kafka", Status.OK, ""),
    ]
    assert found[1].detail == "rich 13.9, needs rich>=14"
    assert installed.packages(asked[3:4], there.get, frozenset())[0].status is Status.ABSENT


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10), Status.FAIL), ((3, 11), Status.OK), ((3, 13), Status.OK), ((3, 14), Status.FAIL), ((2, 7), Status.FAIL)],
)
def test_python_versions(version: tuple[int, int], status: Status) -> None:
    assert installed.python_version(version, "x").status is status


def test_a_clock_that_is_wrong() -> None:
    right = datetime(2026, 6, 1, tzinfo=UTC)
    assert installed.clock(right, None).status is Status.OK
    assert installed.clock(datetime(1970, 1, 1, tzinfo=UTC), None).status is Status.FAIL
    assert installed.clock(right, datetime(2026, 6, 3, tzinfo=UTC)).status is Status.WARN


@pytest.mark.parametrize(("free", "status"), [(10**8, Status.FAIL), (10**9, Status.WARN), (10**11, Status.OK)])
def test_disk_space(free: int, status: Status) -> None:
    assert installed.disk("disk", Path("/"), free).status is status


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "b.jsonl")  # root may read everything
    found = reached.inputs(load(environ={}, flags={"source.from": str(tmp_path)}, folder=tmp_path))[0]
    assert found.status is Status.FAIL
    assert f"1 of 2 files cannot be read, such as {tmp_path}/b.jsonl" in found.detail


def test_the_report_is_a_table_in_every_format() -> None:
    table = findings_table([Finding("a", Status.OK, "x"), Finding("b", Status.FAIL, "y", "z")])
    assert as_json(table) == (
        '[{"check":"a","status":"ok","detail":"x","fix":""},{"check":"b","status":"fail","detail":"y","fix":"z"}]\n'
    )
    assert table.note == "1 ok, 1 fail"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckFailed("x"), 1),
        (SettingsError("x"), 2),
        (BookError("x"), 2),
        (InputError("x"), 3),
        (SourceError("x"), 3),
        (FileNotFoundError(2, "No such file", "x"), 3),
        (StoreError("x"), 4),
        (ZeroDivisionError("x"), 70),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 70),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code
    assert ExitCode(code) in EXIT_CODES


def test_an_error_that_a_runner_wrapped_keeps_its_code_and_its_line() -> None:
    wrapped = RuntimeError(
        "Traceback (most recent call last):\n"
        '  File "worker.py", line 1, in process\n'
        "sinks.clickhouse.StoreError: the disk is full\n\nDuring handling of the above\n"
    )
    assert (exit_code(wrapped), one_line(wrapped)) == (4, "the disk is full")
    chained = RuntimeError("pipeline failed")
    chained.__cause__ = StoreError("full [while running 'Write/ParDo']")
    assert (exit_code(chained), one_line(chained)) == (4, "full")
    assert one_line(ValueError("a\nb\x1b[0m")) == "ValueError: a b\\x1b[0m"
    assert len(one_line(ValueError("x" * 9999))) == 500


def test_a_failure_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(SettingsError("unknown key a.b")) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "llm-finops: unknown key a.b\n")


def test_what_is_not_configured_is_absent(tmp_path: Path) -> None:
    findings = examine(load(environ={}, flags={"store.to": f"chdb://{tmp_path}/store"}, folder=tmp_path), lambda _: "asked")
    assert {only(findings, check).status for check in ("input", "dead letters", "serve")} == {Status.ABSENT}


def serves(port: int) -> Settings:
    user = ServeUser(name="ann", role="reader", password_env="ANNS")
    return Settings(serve=Serve(port=port, users=(user,)))


def test_the_port_of_serve_is_free_or_answers() -> None:
    environ = {"ANNS": "secret"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        threading.Thread(target=lambda: taken.accept()[0].close()).start()
        found = reached.serving(serves(port), environ)
        assert (found.status, found.detail) == (Status.FAIL, f"127.0.0.1:{port}: taken by another program")
    assert reached.serving(serves(port), environ).status is Status.OK
    found = reached.serving(serves(port), {})
    assert (found.status, found.detail) == (Status.FAIL, "no password: ANNS not set")

    class Pings(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"Ok.\n" if self.path == "/ping" else b"")

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Pings) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        port = server.server_address[1]
        found = reached.serving(serves(port), environ)
        assert (found.status, found.detail) == (Status.OK, f"answers at 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("asked", "extra"),
    [
        ({"source.from": "kafka://host/calls"}, "kafka"),
        ({"dead_letters.kafka": "kafka://host/dead"}, "kafka"),
        ({"runner.name": "DataflowRunner"}, "dataflow"),
        ({"source.from": "kafka://host/calls", "kafka.registry": "https://host:8081"}, "kafka,registry"),
        ({"kafka.registry": "https://host:8081"}, ""),
    ],
)
def test_an_extra_that_settings_need(asked: dict[str, str], extra: str, tmp_path: Path) -> None:
    to = {"store.to": "http://host"}
    needed = installed.needed_extras(load(environ={}, flags={**to, **asked}, folder=tmp_path))
    assert needed == set(filter(None, extra.split(",")))
