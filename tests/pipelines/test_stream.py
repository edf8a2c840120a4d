"""The job as one unbounded pipeline: the names and coders of its steps are what checkpoints and updates of running jobs hold on to."""

from __future__ import annotations

import io
import pickle
import tomllib
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam import ParDo, coders
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.pipeline import Pipeline, PipelineVisitor

from pipelines.job import Job
from pipelines.stream import runner_answers, streaming
from sinks.clickhouse import PASSWORD_VARIABLE, StoreAddress, StoreSettings
from sources import kafka
from sources.files import SourceError
from sources.kafka import KafkaSettings
from transforms.decode import DecodeSettings, named_tag
from transforms.decode.mapping_files import mappings_in

CHECKOUT = Path(__file__).resolve().parents[2]
KNOWN = Path(__file__).with_name("streaming_steps.txt")


def steps(pipeline: Pipeline) -> list[str]:
    """Label and coder of what each step gives."""
    found: list[str] = []

    class Visitor(PipelineVisitor):  # type: ignore[misc]
        def visit_transform(self, node: Any) -> None:
            found.extend(f"{node.full_label}: {coders.registry.get_coder(out.element_type)}" for out in node.outputs.values())

    pipeline.visit(Visitor())
    return found


def pipeline() -> Pipeline:
    store = StoreSettings(StoreAddress.parse("http://writer@store:8123"))
    return streaming(Job((), store, source=KafkaSettings(("broker:9092",), ("calls",)), runner="DirectRunner"))


def test_names_and_coders_are_those_that_running_jobs_have() -> None:
    """Who changes one of these lines makes jobs that run start anew, without their checkpoints: say so in the changelog."""
    assert steps(pipeline()) == KNOWN.read_text(encoding="utf-8").splitlines()


def test_no_name_depends_on_a_line_of_somebodys_source() -> None:
    assert not [step for step in steps(pipeline()) if "lambda" in step]


def sent() -> list[bytes]:
    """Functions of the steps as they are sent to workers."""
    functions: list[bytes] = []

    class Visitor(PipelineVisitor):  # type: ignore[misc]
        def visit_transform(self, node: Any) -> None:
            if isinstance(node.transform, ParDo):
                functions.append(cloudpickle.dumps(node.transform.fn))

    pipeline().visit(Visitor())
    return functions


class Classes(pickle.Unpickler):
    """Finds what classes are pickled, by their modules."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if isinstance(found, type):
            self.modules = {*getattr(self, "modules", ()), module}
        return found


def test_no_object_of_a_compiled_module_goes_to_workers() -> None:
    """Instances of compiled classes lose their fields when they are pickled."""
    asked = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["llm-finops"]["compiled"]
    files = {pattern: list(CHECKOUT.glob(pattern)) for pattern in asked}
    assert all(files.values()), "a module that is to be compiled is not there"
    places = [path.relative_to(CHECKOUT).with_suffix("") for some in files.values() for path in some]
    compiled = {".".join(place.parts).removesuffix(".__init__") for place in places}
    assert "transforms.decode.record" in compiled
    mappings = mappings_in([("own.toml", '[[mapping]]\nname = "own"\nwhen = { keys = ["a"] }\n[mapping.fields]\nmodel = "a"\n')])
    settings = DecodeSettings(mappings=mappings, tags=(named_tag("header:x-team"),))
    for one in (*sent(), pickle.dumps(settings)):
        classes = Classes(io.BytesIO(one))
        classes.load()
        assert compiled.isdisjoint(classes.modules)


def test_what_runners_get_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers take passwords from their own environment."""
    for name in (PASSWORD_VARIABLE, kafka.PASSWORD_VARIABLE, kafka.KEY_PASSWORD_VARIABLE, kafka.REGISTRY_PASSWORD_VARIABLE):
        monkeypatch.setenv(name, "planted-secret")
    functions = sent()
    assert any(b"writer" in one for one in functions)
    assert any(b"broker:9092" in one for one in functions)
    assert not any(b"planted-secret" in one for one in functions)


def test_a_job_server_that_has_gone_is_one_line() -> None:
    store = StoreSettings(StoreAddress.parse("http://writer@store:8123"))
    job = Job((), store, source=KafkaSettings(("broker:9092",), ("calls",)), runner="PortableRunner")
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(SourceError) as raised, runner_answers(job):
        channel.unary_unary("/nobody/There")(b"", timeout=20)
    said = str(raised.value)
    assert said.startswith("kafka://broker:9092/calls: the job server of PortableRunner does not answer (UNAVAILABLE: ")
    assert said.endswith("; the job may run on")
    assert "\n" not in said
