"""Where a setting comes from, and what a person is told when it is wrong."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ExitCode, SettingsError
from pipelines.settings import EXAMPLE, Settings, describe, document, load, option_help
from sinks import clickhouse
from sources.files import FileLimits

DOCS = Path(__file__).resolve().parents[2] / "docs"


def loaded(folder: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    (folder / "llm-finops.toml").write_text(text, encoding="utf-8")
    return load(environ=environ or {}, flags={k.replace("__", "."): v for k, v in flags.items()}, folder=folder)


def refused(folder: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, text, environ, **flags)
    message = str(caught.value).replace(str(folder), "DIR")
    assert "\n" not in message
    assert caught.value.exit_code == ExitCode.USAGE == 2
    return message


def test_later_sources_win(tmp_path: Path) -> None:
    text = '[store]\ninsert_rows = 2\nretries = 2\ntimeout_seconds = 2\n[decode]\ntenant = "file"\n'
    environ = {"LLM_FINOPS_STORE__RETRIES": "3", "LLM_FINOPS_STORE__TIMEOUT_SECONDS": "3", "PATH": "/bin"}
    settings = loaded(tmp_path, text, environ, store__timeout_seconds=4, store__to=None)
    found = settings.store
    assert (found.insert_rows, found.retries, found.timeout_seconds) == (2, 3, 4)
    assert found.to == "chdb://llm-finops-store"
    assert settings.decode.tenant == "file"
    assert settings.windows.early_seconds == 10


def test_the_file_is_named_by_option_then_variable_then_found_in_the_working_folder(tmp_path: Path) -> None:
    for name in ("option", "variable", "llm-finops"):
        (tmp_path / f"{name}.toml").write_text(f'[decode]\ntenant = "{name}"\n')
    environ = {"LLM_FINOPS_CONFIG": str(tmp_path / "variable.toml")}
    assert load(tmp_path / "option.toml", environ, folder=tmp_path).decode.tenant == "option"
    assert load(None, environ, folder=tmp_path).decode.tenant == "variable"
    assert load(None, {}, folder=tmp_path).decode.tenant == "llm-finops"
    assert load(None, {}, folder=tmp_path / "elsewhere").decode.tenant == "default"


def test_values_are_understood_as_people_write_them(tmp_path: Path) -> None:
    text = """
[source]
from = "logs"
default_time = 2025-11-20T01:00:00+01:00
max_record_bytes = "32 MiB"
split_bytes = 67_108_864
[price]
books = ["contracts", "more"]
"""
    environ = {
        "LLM_FINOPS_RUNNER__OPTIONS": '["--a=1,2", "--b"]',
        "LLM_FINOPS_DECODE__KEEP_PAYLOADS": "true",
        "LLM_FINOPS_DECODE__TENANT": "",
    }
    settings = loaded(tmp_path, text, environ)
    assert settings.source.from_ == ("logs",)
    assert settings.source.default_time == datetime(2025, 11, 20, tzinfo=UTC)
    assert settings.source.max_record_bytes == 32 * 1024 * 1024
    assert settings.price.books == (Path("contracts"), Path("more"))
    assert settings.runner.options == ("--a=1,2", "--b")
    assert settings.decode.keep_payloads is True
    assert settings.decode.tenant == "default"
    assert loaded(tmp_path, "", {"LLM_FINOPS_SOURCE__FROM": "a, b,"}).source.from_ == ("a", "b")
    assert loaded(tmp_path, "", source__from=("a,b", "c")).source.from_ == ("a,b", "c")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[source]\nform = "x"', "unknown key source.form in DIR/llm-finops.toml; did you mean source.from?"),
        ("[sorce]\nfrom = 'x'", "unknown key [sorce] in DIR/llm-finops.toml; did you mean [source]?"),
        ("[decode]\nretries = 2", "unknown key decode.retries in DIR/llm-finops.toml; did you mean store.retries?"),
        ("[source.limits]\nx = 1", "unknown key source.limits in DIR/llm-finops.toml"),
        ("store = 'x'", "store in DIR/llm-finops.toml must be a section: write [store] and its keys below"),
        ("qqq = 1", "unknown key qqq in DIR/llm-finops.toml; see docs/configuration.md"),
        (
            "[store]\ninsert_rows = 'many'",
            "store.insert_rows = 'many' in DIR/llm-finops.toml: must be a whole number from 1 to 10,000,000",
        ),
        (
            "[store]\ninsert_rows = 0",
            "store.insert_rows = 0 in DIR/llm-finops.toml: must be a whole number from 1 to 10,000,000",
        ),
        ("[store]\nretries = true", "store.retries = True in DIR/llm-finops.toml: must be a whole number from 0 to"),
        ("[store]\nretries = 1.5", "store.retries = 1.5 in DIR/llm-finops.toml: must be a whole number from 0 to"),
        ("[source]\nbatch_bytes = 1", "must be a size from 1 KiB to 1 GiB"),
        ("[source]\nfrom = [1]", "source.from = [1] in DIR/llm-finops.toml: must be a list of texts"),
        ("[source]\ndefault_time = 20251120", "must be a time with its zone, such as 2025-11-20T00:00:00Z"),
        ("[source]\ndefault_time = 2025-11-20T00:00:00", "must be a time with its zone"),
        ("[runner]\nname = 'Flink'", "must be one of local, PrismRunner, FlinkRunner"),
        ("[decode]\nkeep_payloads = 'perhaps'", "must be true or false"),
        ("[decode]\ntenant = ''", "must be a text of 1 to 200 characters"),
        ("[store]\nto = 'postgres://x'", "must be chdb://folder or http[s]://"),
        ("[store]\npassword = 'x'", "a secret does not belong into a file; set LLM_FINOPS_STORE__PASSWORD"),
        ("[count]\nhash_key = 'x'", "a secret does not belong into a file; set LLM_FINOPS_HASH_KEY"),
        ("[store", "DIR/llm-finops.toml: not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_key_value_and_what_is_allowed(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in refused(tmp_path, text)


def test_a_wrong_variable_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, environ={"LLM_FINOPS_SOURCE__FORM": "x"}) == (
        "unknown environment variable LLM_FINOPS_SOURCE__FORM; did you mean LLM_FINOPS_SOURCE__FROM?"
    )
    assert refused(tmp_path, environ={"LLM_FINOPS_STORE__RETRIES": "-1"}) == (
        "store.retries = '-1' in environment variable LLM_FINOPS_STORE__RETRIES: must be a whole number from 0 to 100"
    )
    assert "not a JSON array" in refused(tmp_path, environ={"LLM_FINOPS_PRICE__BOOKS": "[books"})


def test_a_wrong_option_is_refused(tmp_path: Path) -> None:
    assert "store.to = 'nowhere' in the command line" in refused(tmp_path, store__to="nowhere")
    assert "unknown key store.too in the command line" in refused(tmp_path, store__too="x")


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "none.toml", {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load(tmp_path / "binary.toml", {})


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    secret = "s3cret-s3cret-s3cret"
    environ = {"LLM_FINOPS_STORE__PASSWORD": secret, "LLM_FINOPS_HASH_KEY": secret}
    settings = loaded(tmp_path, "", environ)
    assert settings.count.key == secret.encode()
    assert secret not in repr(settings) + str(settings) + settings.model_dump_json()
    assert secret not in refused(tmp_path, environ={"LLM_FINOPS_HASH_KEY": secret * 4})
    for address in (f"http://writer:{secret}@host", f"writer:{secret}@host"):
        said = refused(tmp_path, f"[store]\nto = '{address}'")
        assert secret not in said


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded(tmp_path).store.retries = 1  # type: ignore[misc]


def test_without_a_hash_key_the_public_one_is_used(tmp_path: Path) -> None:
    assert loaded(tmp_path).count.key == b"llm-finops: no hash key was configured"


def test_the_defaults_are_those_of_the_layers_below() -> None:
    limits, source = FileLimits(), Settings().source
    for name in ("max_record_bytes", "max_expansion", "batch_records", "batch_bytes", "split_bytes"):
        assert getattr(source, name) == getattr(limits, name), name
    assert clickhouse.Retry().attempts == Settings().store.retries + 1
    assert clickhouse.StoreAddress.parse(Settings().store.to).embedded
    variables = {setting.variable for setting in describe()}
    assert clickhouse.PASSWORD_VARIABLE in variables


def test_every_setting_is_described_once() -> None:
    rows = describe()
    assert len({row.key for row in rows}) == len({row.variable for row in rows}) == len(rows)
    for row in rows:
        assert all(row), row
        section, name = row.key.split(".")
        assert row.variable in (f"LLM_FINOPS_{section}__{name}".upper(), "LLM_FINOPS_HASH_KEY")
        assert row.default in option_help(row.key)


def test_the_page_is_current_and_its_example_is_valid(tmp_path: Path) -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == document(), "run `make docs`"
    tomllib.loads(EXAMPLE)
    assert loaded(tmp_path, EXAMPLE).store.to.startswith("https://writer@")


def load_flags(flags: dict[str, object]) -> Settings | str:
    """The settings, or the one line that refuses them."""
    try:
        return load(environ={}, flags=flags, folder=Path("nowhere"))
    except SettingsError as error:
        return str(error)


@given(st.dictionaries(st.text(max_size=12), st.integers() | st.text(max_size=8), min_size=1))
def test_unknown_keys_of_any_kind_are_refused_in_one_line(flags: dict[str, object]) -> None:
    said = load_flags(flags)
    assert isinstance(said, str)
    assert said.startswith("unknown key")
    assert "\n" not in said


@given(
    key=st.sampled_from([row.key for row in describe()]),
    value=st.text() | st.integers() | st.booleans() | st.lists(st.text(), max_size=3),
)
def test_any_value_of_a_known_key_is_taken_or_refused_by_name(key: str, value: object) -> None:
    said = load_flags({key: value})
    if isinstance(said, str):
        assert said.startswith(key)
        assert "\n" not in said


def test_mappings_are_read_at_the_start_and_change_what_a_run_is(tmp_path: Path) -> None:
    from pipelines.jobs import decode_settings, job_of
    from transforms.decode.mapping_files import MappingError

    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text('[[mapping]]\nname = "m"\nwhen = { keys = ["k"] }\nfields = { model = "a" }\n')
    other.write_text('[[mapping]]\nname = "m"\nwhen = { keys = ["k"] }\nfields = { model = "b" }\n')
    plain, with_one = loaded(tmp_path), loaded(tmp_path, decode__mappings=str(one))
    assert [mapping.name for mapping in decode_settings(with_one).mappings] == ["m"]
    works = {job_of(loaded(tmp_path, decode__mappings=path), []).work for path in (str(one), str(other), None)}
    assert len(works) == 3
    assert job_of(plain, []).work in works
    other.write_text('[[mapping]]\nname = "http_pair"\nwhen = { keys = ["k"] }\nfields = { model = "b" }\n')
    for path, line in (
        (tmp_path / "absent.toml", f"{tmp_path}/absent.toml: No such file or directory"),
        (other, "mapping 'http_pair': a format that comes along has this name: choose another"),
    ):
        with pytest.raises(MappingError) as caught:
            decode_settings(loaded(tmp_path, decode__mappings=str(path)))
        assert str(caught.value) == line
