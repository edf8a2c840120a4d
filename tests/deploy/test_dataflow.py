"""The job on Dataflow, as far as that goes without a Google project: the real pipeline, translated by the Dataflow runner, and what
launches it. Oracles are Google's own message types, Beam's own options and the golden names of the steps."""

from __future__ import annotations

import base64
import bz2
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from click.testing import CliRunner

from deploy.dataflow import launch
from deploy.dataflow.main import command
from deploy.dataflow.secret_env import VARIABLE, fetched, named
from deploy.dataflow.template import OPTIONS, REQUIRED, SETTINGS, arguments, document, metadata, page, parameter
from pipelines.commands import running
from pipelines.job import Job
from pipelines.jobs import job_of
from pipelines.sections import HASH_KEY_VARIABLE, Settings, fields, is_secret
from pipelines.settings import load
from pipelines.stream import stream, streaming
from sinks.clickhouse import PASSWORD_VARIABLE, Store, StoreSettings
from sources import kafka
from sources.files import SourceError
from sources.kafka import KafkaSettings
from tests.deploy.google import Google, google

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "deploy" / "dataflow"
STEPS = CHECKOUT / "tests" / "pipelines" / "streaming_steps.txt"
IMAGE = "region-docker.pkg.dev/project/repository/llm-finops:1"

GIVEN = {
    "source_from": "kafka://one:9092,two:9092/calls,chats",
    "source_max_record_bytes": "32 MiB",
    "kafka_group": "finops",
    "kafka_start": "2026-03-01T00:00:00Z",
    "kafka_security": "SASL_SSL",
    "kafka_mechanism": "SCRAM-SHA-512",
    "kafka_user": "ann",
    "kafka_ca": "/certificates/ca.pem",
    "kafka_certificate": "/certificates/own.pem",
    "kafka_key": "/certificates/own.key",
    "kafka_check_host": "false",
    "kafka_patience_seconds": "30",
    "store_to": "https://writer@clickhouse:8443/llm_finops",
    "store_ca": "/certificates/ca.pem",
    "store_certificate": "/certificates/own.pem",
    "store_key": "/certificates/own.key",
    "store_insert_rows": "50000",
    "store_insert_seconds": "5",
    "dead_letters_kafka": "kafka://one:9092/dead",
    "decode_tenant": "acme",
    "decode_keep_payloads": "true",
    "count_cache_mib": "128",
    "price_books": "/books",
    "price_contracts": "/contracts.toml",
    "owners_rules": "/rules.toml",
    "windows_early_seconds": "30",
    "windows_late_hours": "48",
    "windows_expected_call_seconds": "300",
    "retention_calls": "400",
    "retention_receipts": "30",
    "retention_dead_letters": "30",
    "sdk_container_image": IMAGE,
    "number_of_worker_harness_threads": "4",
    "dataflow_service_options": "streaming_mode_at_least_once",
}
"""A value of each parameter, none of them its default."""

LAUNCHER = (
    "--runner=DataflowRunner",
    "--project=project",
    "--region=europe-west1",
    "--job_name=llm-finops",
    "--temp_location=gs://bucket/tmp",
    "--staging_location=gs://bucket/staging",
    "--template_location=gs://bucket/staging/template_launches/1/job_object",
    "--service_account_email=finops@project.iam.gserviceaccount.com",
    "--machine_type=n2-standard-2",
    "--max_num_workers=4",
)
"""What Dataflow's launcher adds to the parameters, by flags of gcloud."""


LISTED = "submission_environment_dependencies.txt"
"""What Beam stages in any case: a list of the launcher's packages, for the log. Nothing else is: workers install nothing."""


def test_the_files_are_those_of_the_code() -> None:
    assert (FOLDER / "metadata.json").read_text(encoding="utf-8") == document(), "run `make docs`"
    text = (CHECKOUT / "docs" / "dataflow.md").read_text(encoding="utf-8")
    assert page(text) == text, "run `make docs`"
    assert all(f"| `{one['name']}` |" in text for one in metadata()["parameters"])


def test_google_reads_the_metadata() -> None:
    types = pytest.importorskip("google.cloud.dataflow_v1beta3.types", reason="needs llm-finops[dataflow]")
    read = types.TemplateMetadata.from_json(document(), ignore_unknown_fields=False)  # which fails on a field that there is not
    assert read.streaming
    assert read.supports_at_least_once
    assert [one.name for one in read.parameters] == [one["name"] for one in metadata()["parameters"]]
    assert {one.param_type for one in read.parameters} == {types.ParameterType.TEXT}


def test_each_parameter_is_a_setting_or_an_option_of_beam() -> None:
    beam = {action.dest for view in PipelineOptions.__subclasses__() for action in _options_of(view)}
    settings = {parameter(key): field for key, field in fields().items()}
    for one in metadata()["parameters"]:
        name = one["name"]
        assert (name in settings) != (name in beam), name
        assert name not in settings or not is_secret(settings[name])
        assert name not in settings or one["label"] == next(key for key in fields() if parameter(key) == name)
        assert one["isOptional"] == (name not in {"source_from", "store_to", "sdk_container_image"})
        assert re.fullmatch(r"[a-z][a-z_]*", name)
    assert {parameter(key) for key in SETTINGS} | set(OPTIONS) == set(GIVEN)
    assert {key for key in REQUIRED if key in fields()} == {"source.from", "store.to"}


def _options_of(view: type[PipelineOptions]) -> list[Any]:
    from argparse import ArgumentParser

    parser = ArgumentParser(add_help=False)
    if hasattr(view, "_add_argparse_args"):
        view._add_argparse_args(parser)
    return parser._actions


def test_each_parameter_arrives_as_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = launched([*(f"--{name}={value}" for name, value in GIVEN.items()), *LAUNCHER], monkeypatch)
    flat = {f"{section}.{key}": value for section, values in settings.model_dump(by_alias=True).items() for key, value in values.items()}
    defaults = {key: field.default for key, field in fields().items()}
    for key in SETTINGS:
        assert flat[key] != defaults[key], key
        known = load(environ={}, flags={key: GIVEN[parameter(key)]}, folder=tmp_path).model_dump(by_alias=True)
        section, _, name = key.partition(".")
        assert flat[key] == known[section][name]
    assert settings.runner.name == "DataflowRunner"
    beam = {f"--{name}={GIVEN[name]}" for name in OPTIONS}
    assert set(settings.runner.options) == {*LAUNCHER, *beam, "--sdk_location=container"}


def launched(given: list[str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of ``llm-finops run`` for what the launcher passes on."""
    found: list[tuple[Settings, bool]] = []

    def kept(settings: Settings, paths: object, quiet: bool, again: bool, follow: bool) -> dict[str, Any]:
        found.append((settings, follow))
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_run", kept)
    words = command(given)
    assert words.pop(0) == "run"
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.commands.options.as_json", lambda: None)
        done = CliRunner().invoke(running.run, words)
    assert found, done.output
    ((settings, follow),) = found
    assert follow
    return settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_from", "/var/log/calls.jsonl"),
        ("source_from", "kafka://user:secret@host/calls"),
        ("store_to", "chdb://store"),
        ("store_to", "https://writer:secret@host"),
        ("store_to", "host:8123"),
        ("dead_letters_kafka", "kafka://host/one,two"),
        ("kafka_start", "yesterday"),
        ("kafka_start", "2026-03-01T00:00:00"),
        ("kafka_security", "TLS"),
        ("kafka_check_host", "yes"),
        ("store_insert_rows", "many"),
        ("source_max_record_bytes", "16 apples"),
        ("number_of_worker_harness_threads", "0"),
    ],
)
def test_what_is_wrong_is_refused_before_a_machine_is_started(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        launch.refuse_wrong({**GIVEN, name: value})


def test_what_may_be_given_matches_its_shape() -> None:
    launch.refuse_wrong(GIVEN)
    shapes = {one["name"]: one["regexes"] for one in metadata()["parameters"]}
    for key in SETTINGS:
        field = fields()[key]
        if field.default not in (None, (), "") and key not in REQUIRED:
            shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert all(re.fullmatch(shape, shown) for shape in shapes[parameter(key)]), key


def test_settings_without_a_value_are_not_given() -> None:
    assert arguments(["--kafka_user=", "--max_num_workers=4", "positional"]) == ([], ["--max_num_workers=4", "positional"])
    with pytest.raises(ValueError, match="--store_to=value"):
        arguments(["--store_to"])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Beam's Dataflow client, which has nobody's credentials and looks for none."""
    try:
        from apache_beam.internal.gcp import auth
        from apache_beam.runners.dataflow.internal import apiclient
    except ImportError:
        reason = "needs llm-finops[dataflow]: pip install 'apache-beam[gcp]'"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    return apiclient


@pytest.fixture
def offline(client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same on a machine without any network."""

    def none(*_: object, **__: object) -> Any:
        raise AssertionError("this must do without a network")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    monkeypatch.setattr(socket, "create_connection", none)
    monkeypatch.setattr("google.auth.default", none)
    return client


def translated(monkeypatch: pytest.MonkeyPatch, *more: str, source: str = "kafka://broker:9092/calls") -> Any:
    """The job of a launch as the Dataflow runner translates it: Beam's ``apiclient.Job``."""
    given = {"source_from": source, "store_to": "https://writer@store:8443", "sdk_container_image": IMAGE}
    words = [*(f"--{name}={value}" for name, value in given.items()), *LAUNCHER, "--no_auth", "--dry_run=True", *more]
    settings = launched(words, monkeypatch)
    job = job_of(settings, [], service=settings.source.from_[0])
    return streaming(job).run().job


def test_the_runner_translates_the_job(offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from apache_beam.portability.api import beam_runner_api_pb2
    from google.cloud import dataflow_v1beta3 as dataflow

    secrets = (PASSWORD_VARIABLE, kafka.PASSWORD_VARIABLE, kafka.KEY_PASSWORD_VARIABLE, kafka.REGISTRY_PASSWORD_VARIABLE)
    for name in secrets:
        monkeypatch.setenv(name, "planted-secret")
    monkeypatch.setenv(HASH_KEY_VARIABLE, "planted-key-of-hashes")
    job = translated(monkeypatch, "--dataflow_service_options=streaming_mode_at_least_once")
    assert job.proto.name == "llm-finops"
    assert job.proto.type_ == dataflow.JobType.JOB_TYPE_STREAMING
    pipeline = job.proto_pipeline
    leaves = [one for one in pipeline.components.transforms.values() if not one.subtransforms]
    golden = [line.rpartition(": ")[0] for line in STEPS.read_text(encoding="utf-8").splitlines()]
    assert sorted(one.unique_name for one in leaves) == sorted(set(golden))  # a line for each output of a step
    assert {one.unique_name: len(one.outputs) for one in leaves}["RowsToMinutes/WriteRows"] == 2
    kinds = {one.unique_name: one.spec.urn for one in leaves}
    assert kinds["ReadTopics/Begin"] == "beam:transform:impulse:v1"
    assert kinds["RowsToMinutes/DirtyMinutes/GroupMinutes"] == "beam:transform:group_by_key:v1"
    assert "beam:requirement:pardo:splittable_dofn:v1" in pipeline.requirements
    assert {environment.urn for environment in pipeline.components.environments.values()} == {"beam:env:docker:v1"}
    needed = [one for environment in pipeline.components.environments.values() for one in environment.dependencies]
    assert [beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(one.role_payload).staged_name for one in needed] == [LISTED]
    assert b"broker:9092" in sent(pipeline)
    assert b"planted-key-of-hashes" in sent(pipeline)  # as the page says
    assert b"planted-secret" not in sent(pipeline)


def test_the_service_itself_reads_a_subscription(offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from apache_beam.portability.api import beam_runner_api_pb2

    pipeline = translated(monkeypatch, source="pubsub://projects/project/subscriptions/calls").proto_pipeline
    leaves = {one.unique_name: one for one in pipeline.components.transforms.values() if not one.subtransforms}
    reads = [one for one in leaves.values() if one.spec.urn == "beam:transform:pubsub_read:v1"]
    assert [one.unique_name for one in reads] == ["ReadMessages/ReadFromPubSub/Read"]
    asked = beam_runner_api_pb2.PubSubReadPayload.FromString(reads[0].spec.payload)
    assert (asked.subscription, asked.with_attributes) == ("projects/project/subscriptions/calls", True)
    golden = [line.rpartition(": ")[0] for line in STEPS.read_text(encoding="utf-8").splitlines()]
    shared = {name for name in golden if not name.startswith("ReadTopics/")}
    assert shared <= leaves.keys(), "behind the source the steps are those of topics"
    others = leaves.keys() - shared - {"ReadMessages/ReadFromPubSub/Read"}
    assert "ReadMessages/BatchMessages" in others
    assert all(name.startswith("ReadMessages/") for name in others)


def sent(pipeline: Any) -> bytes:
    """The functions of the steps as workers get them, unpacked."""
    from apache_beam.portability.api import beam_runner_api_pb2

    found = []
    for one in pipeline.components.transforms.values():
        if one.spec.urn == "beam:transform:pardo:v1":
            packed = beam_runner_api_pb2.ParDoPayload.FromString(one.spec.payload).do_fn.payload
            found.append(bz2.decompress(base64.b64decode(packed)))
    return b"".join(found)


def test_a_launch_writes_the_job_that_the_service_is_given(
    offline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All but the last step: the files that the launcher stages, into a folder instead of a bucket."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from apache_beam.portability.api import beam_runner_api_pb2
    from google.cloud import dataflow_v1beta3 as dataflow

    monkeypatch.setenv(PASSWORD_VARIABLE, "planted-secret")
    job = translated(monkeypatch, "--number_of_worker_harness_threads=4")
    options = job.options.view_as(GoogleCloudOptions)
    options.staging_location = job.google_cloud_options.staging_location = str(tmp_path)
    options.template_location = str(tmp_path / "job_object")
    assert offline.DataflowApplicationClient(job.options, str(tmp_path)).create_job(job) is None
    assert {path.name for path in tmp_path.iterdir()} == {"job_object", "pipeline.pb", LISTED}
    written = dataflow.Job.from_json((tmp_path / "job_object").read_text(), ignore_unknown_fields=False)
    assert written.name == "llm-finops"
    (pool,) = written.environment.worker_pools
    assert (pool.machine_type, pool.autoscaling_settings.max_num_workers, pool.num_threads_per_worker) == ("n2-standard-2", 4, 4)
    assert [image.container_image for image in pool.sdk_harness_container_images] == [IMAGE]
    assert pool.worker_harness_container_image == IMAGE
    assert [package.name for package in pool.packages] == [LISTED]
    assert {"use_runner_v2", "enable_streaming_engine", "enable_windmill_service"} <= set(written.environment.experiments)
    assert written.environment.service_account_email == "finops@project.iam.gserviceaccount.com"
    pipeline = beam_runner_api_pb2.Pipeline.FromString((tmp_path / "pipeline.pb").read_bytes())
    assert "RowsToMinutes/WriteRows" in {one.unique_name for one in pipeline.components.transforms.values()}
    assert b"writer" in sent(pipeline)
    assert b"planted-secret" not in sent(pipeline) + (tmp_path / "job_object").read_bytes()


def test_an_update_names_the_job_it_replaces(offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline.Job, "job_id_for_name", lambda _, name: f"id of {name}")
    renamed = json.dumps({"OldRead": "ReadTopics"})
    job = translated(monkeypatch, "--update", f"--transform_name_mapping={renamed}")
    assert job.proto.replace_job_id == "id of llm-finops"
    assert dict(job.proto.transform_name_mapping.items()) == {"OldRead": "ReadTopics"}


def test_a_template_is_described_and_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Described:
        has_job = False

        def run(self) -> Described:
            return self

    monkeypatch.setattr("pipelines.stream.streaming", lambda _: Described())
    said: list[str] = []
    job = Job((), StoreSettings(store.address), source=KafkaSettings(("broker:9092",), ("calls",)), runner="DataflowRunner")
    counts = stream(job, lambda: False, said.append)
    assert counts.state == "submitted"
    assert said == ["kafka://broker:9092/calls: described for DataflowRunner; who launches the template submits it"]
    assert store.rows(f"SELECT state FROM {store.table('runs')} FINAL WHERE run_id = '{counts.run_id}'") == [("submitted",)]


ON_GOOGLE = (
    "--project=project",
    "--region=europe-west1",
    "--job_name=llm-finops",
    "--temp_location=gs://bucket/tmp",
    "--staging_location=gs://bucket/staging",
    f"--sdk_container_image={IMAGE}",
    "--sdk_location=container",
    "--no_auth",
)


def submitted(there: Google, store: Store, stop: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[str, list[str]]:
    """How a run with the Dataflow runner ended, and what it said, with ``there`` for Google."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", there.url)
    monkeypatch.setattr("pipelines.stream._ASK_S", 0.01)
    said: list[str] = []
    options = (*ON_GOOGLE, f"--dataflow_endpoint={there.url}", *more)
    source = KafkaSettings(("broker:9092",), ("calls",))
    job = Job((), StoreSettings(store.address), source=source, runner="DataflowRunner", runner_options=options)
    try:
        return stream(job, stop, said.append).state, said
    finally:
        assert there.strange == []


def test_a_job_is_submitted_watched_and_cancelled(client: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud import dataflow_v1beta3 as dataflow

    turns = iter(range(5))
    with google("JOB_STATE_PENDING", "JOB_STATE_RUNNING") as there:
        state, said = submitted(there, store, lambda: next(turns, None) is None, monkeypatch)
    assert state == "stopped"
    assert said == ["kafka://broker:9092/calls: submitted to DataflowRunner; Ctrl-C cancels the job"]
    assert there.asked == [dataflow.JobState.JOB_STATE_CANCELLED]
    (job,) = (dataflow.Job.from_json(json.dumps(one)) for one in there.jobs)
    assert (job.name, job.type_) == ("llm-finops", dataflow.JobType.JOB_TYPE_STREAMING)
    (pool,) = job.environment.worker_pools
    assert pool.sdk_harness_container_images[0].container_image == IMAGE
    url = str(job.environment.sdk_pipeline_options["options"]["pipelineUrl"])
    (pipeline,) = (content for name, content in there.objects.items() if name.endswith("pipeline.pb"))
    assert url.startswith("gs://bucket/staging/")
    assert there.objects[url.removeprefix("gs://")] == pipeline
    assert b"RowsToMinutes/WriteRows" in pipeline


@pytest.mark.parametrize("end", ["JOB_STATE_DRAINED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED"])
def test_a_job_that_was_ended_elsewhere_ends_the_run(
    end: str, client: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with google("JOB_STATE_RUNNING", "JOB_STATE_DRAINING", end) as there:
        assert submitted(there, store, lambda: False, monkeypatch)[0] == "stopped"
    assert there.asked == []


def test_a_job_that_failed_is_an_error(client: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with google("JOB_STATE_RUNNING", "JOB_STATE_FAILED") as there, pytest.raises(SourceError, match="the job failed"):
        submitted(there, store, lambda: False, monkeypatch)


def test_a_launch_leaves_the_job_to_its_launcher(client: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with google() as there:
        more = "--template_location=gs://bucket/staging/template_launches/1/job_object"
        assert submitted(there, store, lambda: False, monkeypatch, more)[0] == "submitted"
    assert there.jobs == []
    assert json.loads(there.objects["bucket/staging/template_launches/1/job_object"])["name"] == "llm-finops"


def test_the_image_has_the_beam_of_the_lock_and_what_it_copies_is_there() -> None:
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    (beam,) = re.findall(r"^apache-beam==(\S+)", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE)
    assert given["BEAM"] == beam
    assert given["PYTHON"] in ("3.11", "3.12", "3.13")
    assert f"python{given['PYTHON'].replace('.', '')}-template-launcher-base" in given["LAUNCHER"]
    sent = set(re.findall(r"^!(\S+)$", (FOLDER / "Containerfile.dockerignore").read_text(), re.MULTILINE))
    copied = {one for words in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for one in words.split()}
    assert copied == sent
    assert all(list(CHECKOUT.glob(one)) for one in copied)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    packages = {one.rstrip("*") for one in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE))


def test_secrets_are_named_and_fetched() -> None:
    text = f"{PASSWORD_VARIABLE}=projects/p/secrets/store/versions/latest LLM_FINOPS_HASH_KEY=projects/p/secrets/hash/versions/3"
    known = {"projects/p/secrets/store/versions/latest": b"one\n", "projects/p/secrets/hash/versions/3": b"two"}
    assert fetched({VARIABLE: text}, known.__getitem__) == {PASSWORD_VARIABLE: "one", "LLM_FINOPS_HASH_KEY": "two"}
    assert fetched({VARIABLE: text, PASSWORD_VARIABLE: "mine"}, known.__getitem__) == {"LLM_FINOPS_HASH_KEY": "two"}
    assert fetched({}) == {}  # and nobody is asked
    for wrong in ("PATH=projects/p/secrets/s/versions/1", f"{PASSWORD_VARIABLE}=secret", f"{text} {text}"):
        with pytest.raises(ValueError, match=VARIABLE):
            named(wrong)


FLAGS = {
    "build": {"--image", "--sdk-language", "--metadata-file"},
    "run": {"--template-file-gcs-location", "--region", "--parameters", "--update", "--transform-name-mappings", "--max-workers"},
    "drain": {"--region"},
}
"""Flags that gcloud has, by its reference, among those that are used."""


def test_commands_of_a_launch() -> None:
    three = {"source_from": GIVEN["source_from"], "store_to": GIVEN["store_to"], "sdk_container_image": IMAGE}
    words = ["run", "--name=llm-finops", "--template=gs://bucket/llm.json", "--region=europe-west1", "--dry-run", "--flag=--max-workers=4"]
    words += [f"--set={name}={value}" for name, value in three.items()]
    ((*asked,),), dry_run = launch.commands([*words, "--update", "--renamed=OldRead=ReadTopics"])
    assert dry_run
    assert asked == [
        "gcloud",
        "dataflow",
        "flex-template",
        "run",
        "llm-finops",
        "--template-file-gcs-location=gs://bucket/llm.json",
        "--region=europe-west1",
        f"--parameters=^~^source_from={GIVEN['source_from']}~store_to={GIVEN['store_to']}~sdk_container_image={IMAGE}",
        "--update",
        "--transform-name-mappings=OldRead=ReadTopics",
        "--max-workers=4",
    ]
    build, _ = launch.commands(["build", f"--image={IMAGE}", "--template=gs://bucket/llm.json"])
    assert [one[:2] for one in build] == [["docker", "build"], ["docker", "push"], ["gcloud", "dataflow"]]
    drain, _ = launch.commands(["drain", "--job-id=1", "--region=europe-west1"])
    assert drain == [["gcloud", "dataflow", "jobs", "drain", "1", "--region=europe-west1"]]
    for name, one in (("run", asked), ("build", build[-1]), ("drain", drain[0])):
        assert {word.partition("=")[0] for word in one if word.startswith("--")} <= FLAGS[name]


def test_a_launch_with_something_wrong() -> None:
    with pytest.raises(ValueError, match="no such parameter"):
        launch.refuse_wrong({**GIVEN, "store_password": "secret"})
    with pytest.raises(ValueError, match="missing: store_to, sdk_container_image"):
        launch.refuse_wrong({"source_from": GIVEN["source_from"]})
    with pytest.raises(ValueError, match="only by an update"):
        launch.run_command("n", "gs://b/t", "r", GIVEN, renamed={"a": "b"})


def test_a_dry_run_prints_the_commands_and_runs_none(tmp_path: Path) -> None:
    words = ["build", f"--image={IMAGE}", "--template=gs://bucket/llm.json", "--dry-run"]
    known = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}  # where neither docker nor gcloud is
    run = [sys.executable, "-m", "deploy.dataflow.launch"]
    done = subprocess.run([*run, *words], env=known, cwd=CHECKOUT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [shlex.split(line) for line in done.stdout.splitlines()] == launch.commands(words)[0]
    wrong = ["run", "--name=n", "--template=t", "--region=r", "--set=nothing=1"]
    done = subprocess.run([*run, *wrong], env=known, cwd=CHECKOUT, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nothing: no such parameter")
