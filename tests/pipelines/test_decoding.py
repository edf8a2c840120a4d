"""``llm-finops decode``: what a person sees of records before a run, in every format of output."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from tests.decode.test_explain import PAIR
from tests.pipelines.test_cli import finops

SECRET = "Zq7wZq7wZq7wZq7w"
RECORD = {**PAIR, "request_headers": {"authorization": f"Bearer {SECRET}"}, "note": f"sk-proj-{SECRET}"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decode")
    lines = [json.dumps(RECORD), '{"cut": ', json.dumps({"k": 1, "a": "m"}), ""]
    (folder / "log.jsonl").write_text("\n".join(lines))
    with gzip.open(folder / "log.jsonl.gz", "wt") as file:
        file.write("\n".join(lines))
    (folder / "pretty.json").write_text(json.dumps(RECORD, indent=1))
    (folder / "own.toml").write_text('[[mapping]]\nname = "ours"\nwhen = { keys = ["k"] }\nfields = { model = "a" }\n')
    return folder


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_a_row_for_each_outcome(place: Path, name: str) -> None:
    ran = finops("decode", name, "--decode-mappings", "own.toml", "--format", "json", cwd=place)
    assert ran.returncode == 0, ran.stderr
    call, cut, ours = json.loads(ran.stdout)
    assert (call["file"], call["position"], call["read_as"], call["outcome"]) == (name, 0, "http_pair", "call")
    assert (call["provider"], call["model"], call["input"], call["output"]) == ("openai", "gpt-4o-mini-2024-07-18", 10, 4)
    assert (cut["position"], cut["outcome"], cut["says"].partition(":")[0]) == (len(json.dumps(RECORD)) + 1, "dead letter", "not_json")
    assert (ours["read_as"], ours["model"]) == ("ours", "m")


def test_standard_input_and_values_over_several_lines(place: Path) -> None:
    ran = finops("decode", "-", "pretty.json", "--format", "csv", cwd=place, stdin=json.dumps(RECORD).encode())
    assert ran.returncode == 0, ran.stderr
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [(row["read_as"], row["outcome"]) for row in rows] == [("http_pair", "call")] * 2


def test_only_as_many_records_as_asked_for(place: Path) -> None:
    ran = finops("decode", "log.jsonl", "--records", "2", "--format", "json", cwd=place)
    assert len(json.loads(ran.stdout)) == 2


def test_named_files_go_before_the_source_of_the_configuration(place: Path, tmp_path: Path) -> None:
    (tmp_path / "llm-finops.toml").write_text('[source]\nfrom = ["kafka://host:9092/topic"]\n')
    ran = finops("decode", place / "pretty.json", "--format", "json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert [row["outcome"] for row in json.loads(ran.stdout)] == ["call"]


@pytest.mark.parametrize("fmt", ["table", "json", "csv"])
def test_an_explanation_shows_no_texts_and_no_secrets(place: Path, fmt: str) -> None:
    ran = finops("decode", "--explain", "log.jsonl", "--format", fmt, cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert "response.usage.prompt_tokens" in ran.stdout
    assert "gpt-4o-mini-2024-07-18" in ran.stdout
    assert SECRET not in ran.stdout
    assert "private" not in ran.stdout


def test_an_explanation_for_scripts(place: Path) -> None:
    ran = finops("decode", "--explain", "pretty.json", "--format", "json", cwd=place)
    (one,) = json.loads(ran.stdout)
    assert (one["read_as"], one["outcomes"], one["unseen"]) == (["http_pair"], ["call"], 0)
    assert {"field": "team", "value": "search", "from": ["team"]} in one["fields"]
    assert {"path": "note", "kind": "text", "size": len(RECORD["note"])} in one["left_over"]
    assert {"path": "team", "removed": ["team"], "altered": ["team"]} in one["sources"]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ((), 3, "llm-finops: name the records to look at: llm-finops decode --explain FILE (files, folders, globs, -)"),
        (("absent.jsonl",), 3, "llm-finops: absent.jsonl: no such file or folder"),
        (("kafka://host:9092/topic",), 3, "llm-finops: kafka://host:9092/topic: decode looks at files and at standard input; copy some records into a file"),
        (("log.jsonl", "--decode-mappings", "absent.toml"), 2, "llm-finops: absent.toml: No such file or directory"),
    ],
)
def test_what_it_cannot_do_is_one_line(place: Path, words: tuple[str, ...], code: int, line: str) -> None:
    ran = finops("decode", *words, cwd=place)
    assert (ran.returncode, ran.stderr) == (code, line + "\n")


def test_a_file_without_records_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    ran = finops("decode", "--explain", "empty.jsonl", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "no records: there is nothing in these files\n")
