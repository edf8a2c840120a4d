"""The Flex Template's parameters: which settings and options of Beam may be given to a launch, and what each may be.

    python -m deploy.dataflow.template deploy/dataflow/metadata.json docs/dataflow.md

writes the template's metadata and the page's table of parameters. A parameter is named after the setting, with ``_`` for the dot:
``store_to`` is ``store.to``. What is not here keeps its default, or comes from the environment of the image.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from pipelines.sections import allowed, default_text, fields, types

NAME: Final = "LLM FinOps: call logs of Kafka or Pub/Sub to priced calls and minutes in ClickHouse"
DESCRIPTION: Final = (
    "Reads LLM request/response logs from Kafka or Pub/Sub, re-tokenizes and prices each call, and keeps exact sums by minute,"
    " hour and day in ClickHouse. Passwords and keys are no parameters: workers take them from Secret Manager."
)

SETTINGS: Final = (
    "source.from",
    "source.max_record_bytes",
    "kafka.group",
    "kafka.start",
    "kafka.security",
    "kafka.mechanism",
    "kafka.user",
    "kafka.ca",
    "kafka.certificate",
    "kafka.key",
    "kafka.check_host",
    "kafka.patience_seconds",
    "store.to",
    "store.ca",
    "store.certificate",
    "store.key",
    "store.insert_rows",
    "store.insert_seconds",
    "dead_letters.kafka",
    "decode.tenant",
    "decode.keep_payloads",
    "count.cache_mib",
    "price.books",
    "price.contracts",
    "owners.rules",
    "windows.early_seconds",
    "windows.late_hours",
    "windows.expected_call_seconds",
    "retention.calls",
    "retention.receipts",
    "retention.dead_letters",
)
REQUIRED: Final = ("source.from", "store.to", "sdk_container_image")

OPTIONS: Final[Mapping[str, tuple[str, str, str]]] = {
    "sdk_container_image": (
        "Image of the workers",
        "The image that this template was built from: workers run what the launcher was tested with.",
        r"^[\w.:/@-]+$",
    ),
    "number_of_worker_harness_threads": (
        "Threads of a worker process",
        "Bundles that a worker process works on at once. Decoding and counting hold one core; more threads wait for the store.",
        r"^[1-9][0-9]{0,2}$",
    ),
    "dataflow_service_options": (
        "Options of the service",
        "For example streaming_mode_at_least_once: rows that are written twice replace themselves.",
        r"^[\w=.,-]+$",
    ),
}
"""Options of Beam: label, help and what is allowed. Machine types, numbers of workers and networks are flags of gcloud."""

# What a type does not say by itself.
_SHAPES: Final = {
    "source.from": (
        r"^(kafka://[^/@\s]+/[a-zA-Z0-9._-]+(,[a-zA-Z0-9._-]+)*|pubsub://projects/[^/\s]+/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]+)$"
    ),
    "store.to": r"^(https?|clickhouses?)://[^/:@\s]+(@[^/:@\s]+)?(:[0-9]+)?(/[A-Za-z_][A-Za-z0-9_]*)?$",
    "dead_letters.kafka": r"^kafka://[^/@\s]+/[a-zA-Z0-9._-]{1,249}$",
    "kafka.start": r"^(earliest|latest|committed|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2}))$",
}
_SIZE: Final = r"^[0-9]+ ?([kKMGT]i?B?|B)?$"
_HELP: Final = {
    "dead_letters.kafka": "Topic that dead letters are also sent to: kafka://host:9092/topic. How to connect is said by kafka_…",
    "source.from": "What to read: topics, as kafka://host:9092/topic (lists with commas; workers must reach the brokers), or a"
    " subscription, as pubsub://projects/P/subscriptions/S.",
    "store.to": "The ClickHouse server that calls and minutes are written to. The launcher and the workers must reach it.",
}
_BEGIN: Final = "<!-- parameters: made by `make docs` -->"
_END: Final = "<!-- end of parameters -->"


def parameter(key: str) -> str:
    """The template's name of a setting."""
    return key.replace(".", "_")


def metadata() -> dict[str, Any]:
    """What ``gcloud dataflow flex-template build --metadata-file`` takes."""
    settings = fields()
    return {
        "name": NAME,
        "description": DESCRIPTION,
        "streaming": True,
        "supportsExactlyOnce": True,
        "supportsAtLeastOnce": True,
        "defaultStreamingMode": "EXACTLY_ONCE",
        "parameters": [
            *(_of_setting(key, settings[key]) for key in SETTINGS),
            *(_entry(name, label, text, shape, name not in REQUIRED) for name, (label, text, shape) in OPTIONS.items()),
        ],
    }


def _of_setting(key: str, field: FieldInfo) -> dict[str, Any]:
    text = _HELP.get(key) or f"{field.description} Allowed: {allowed(field)}. Default: {default_text(field)}."
    return _entry(parameter(key), key, text, _shape(key, field), key not in REQUIRED)


def _entry(name: str, label: str, text: str, shape: str, optional: bool) -> dict[str, Any]:
    return {"name": name, "label": label, "helpText": text, "isOptional": optional, "paramType": "TEXT", "regexes": [shape]}


def _shape(key: str, field: FieldInfo) -> str:
    """What a value looks like; the whole truth about it is with the setting."""
    kind, marks = next(types(field.annotation, tuple(field.metadata)))
    if key in _SHAPES:
        return _SHAPES[key]
    if kind is bool:
        return "^(true|false)$"
    if get_origin(kind) is Literal:
        return f"^({'|'.join(map(re.escape, get_args(kind)))})$"
    if kind is ByteSize:
        return _SIZE
    if kind is int:
        most = next(mark.le for mark in marks if hasattr(mark, "le"))
        return rf"^[0-9]{{1,{len(str(most))}}}$"
    return r"^.+$"


def arguments(given: list[str]) -> tuple[list[str], list[str]]:
    """What the launcher passes on (``--name=value``), as options of ``llm-finops run``: of settings, and for Beam.

    Raises:
        ValueError: a setting without a value.
    """
    from pipelines.commands.options import flag

    known = {parameter(key): flag(key) for key in SETTINGS}
    settings, beam = [], []
    for one in given:
        name, mark, value = one.removeprefix("--").partition("=")
        if name not in known or not one.startswith("--"):
            beam.append(one)
        elif not mark:
            raise ValueError(f"{one}: give it as --{name}=value")
        elif value:
            settings.append(f"{known[name]}={value}")
    return settings, beam


def document() -> str:
    """The file of the metadata."""
    return json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n"


def page(text: str) -> str:
    """The page with its table of parameters made anew."""
    rows = [
        "| parameter | must be given | what it is |",
        "| --- | --- | --- |",
        *(f"| `{one['name']}` | {'' if one['isOptional'] else 'yes'} | {one['helpText']} |" for one in metadata()["parameters"]),
    ]
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n" + "\n".join(rows) + f"\n{_END}" + rest.partition(_END)[2]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
    made = Path(sys.argv[2])
    made.write_text(page(made.read_text(encoding="utf-8")), encoding="utf-8")
