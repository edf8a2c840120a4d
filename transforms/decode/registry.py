"""The registry of log formats.

A format is one module in ``transforms.decode.formats``: the keys that give it away, its decoder. To add one, write the module and
its test, and name it in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from schemas.call import Call
from schemas.part import Part
from transforms.decode.envelopes import Opened
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.formats import (
    azure_gateway,
    batch_item,
    bedrock_log,
    event,
    http_pair,
    kong,
    langfuse,
    langsmith,
    litellm,
    litellm_spend,
    llmstudio,
    mlflow,
    otel_log_entry,
    otlp,
    tensorzero,
    vendor_body,
    vertex_log,
)
from transforms.decode.mapping import Mapping, compiled
from transforms.decode.mapping_files import built_in

Outcome = Call | Part | Undecodable | Skipped
"""What an item is: a call, a part of one, a dead letter, or rightly ignored."""


class Format(NamedTuple):
    """One log format.

    ``signs``: keys of which a record of this format has at least one; only such records are asked about. ``detect`` looks at the
    keys of a parsed record, and perhaps at a short value, and must be cheap. ``decode`` gives what a record holds, one call
    nearly always; what of it is no call may be among it or be raised; a record within it that may be of any format may be among
    it, too. ``authority`` ranks observers of the same call: the highest stands (the vendor's own bodies above a gateway's
    summary).
    """

    name: str
    describes: str
    signs: tuple[str, ...]
    detect: Callable[[dict[str, Any]], bool]
    decode: Callable[[dict[str, Any]], Iterable[Outcome | Opened]]
    authority: int


def mapped(mapping: Mapping) -> Format:
    """A mapping as a format."""
    made = compiled(mapping)
    return Format(made.name, made.describes, made.signs, made.detect, made.decode, made.authority)


FORMATS: Final = (
    Format("event", event.DESCRIBES, event.SIGNS, event.detect, event.decode, 20),
    Format("litellm_spend", litellm_spend.DESCRIBES, litellm_spend.SIGNS, litellm_spend.detect, litellm_spend.decode, 10),
    Format("litellm", litellm.DESCRIBES, litellm.SIGNS, litellm.detect, litellm.decode, 10),
    Format("bedrock_log", bedrock_log.DESCRIBES, bedrock_log.SIGNS, bedrock_log.detect, bedrock_log.decode, 40),
    Format("vertex_log", vertex_log.DESCRIBES, vertex_log.SIGNS, vertex_log.detect, vertex_log.decode, 40),
    Format("azure_gateway", azure_gateway.DESCRIBES, azure_gateway.SIGNS, azure_gateway.detect, azure_gateway.decode, 25),
    Format("otlp", otlp.DESCRIBES, otlp.SIGNS, otlp.detect, otlp.decode, 5),
    Format("mlflow", mlflow.DESCRIBES, mlflow.SIGNS, mlflow.detect, mlflow.decode, 5),
    Format("otel_log_entry", otel_log_entry.DESCRIBES, otel_log_entry.SIGNS, otel_log_entry.detect, otel_log_entry.decode, 5),
    Format("langfuse_events", langfuse.EVENTS_DESCRIBE, langfuse.EVENTS_SIGNS, langfuse.is_event, langfuse.decode_events, 10),
    Format("langfuse", langfuse.ROWS_DESCRIBE, langfuse.ROWS_SIGNS, langfuse.is_row, langfuse.decode_row, 10),
    Format("langsmith", langsmith.DESCRIBES, langsmith.SIGNS, langsmith.detect, langsmith.decode, 10),
    Format("llmstudio", llmstudio.DESCRIBES, llmstudio.SIGNS, llmstudio.detect, llmstudio.decode, 10),
    Format("tensorzero", tensorzero.DESCRIBES, tensorzero.SIGNS, tensorzero.detect, tensorzero.decode, 15),
    Format("kong", kong.DESCRIBES, kong.SIGNS, kong.detect, kong.decode, 10),
    *map(mapped, built_in()),
    Format("batch_item", batch_item.DESCRIBES, batch_item.SIGNS, batch_item.detect, batch_item.decode, 30),
    Format("http_pair", http_pair.DESCRIBES, http_pair.SIGNS, http_pair.detect, http_pair.decode, 30),
    Format("vendor_body", vendor_body.DESCRIBES, vendor_body.SIGNS, vendor_body.detect, vendor_body.decode, 25),
)
"""Every format. Of those that recognise a record, the first reads it: gateways write a ``response``, too, so pairs come late, and
bodies alone, which tell the least, last."""


class Index:
    """Formats by their signs, so that a record costs one look at its keys, however many formats there are."""

    def __init__(self, forms: tuple[Format, ...]) -> None:
        self.forms = forms
        self._by_sign: dict[str, list[int]] = {}
        for rank, form in enumerate(forms):
            for sign in form.signs:
                self._by_sign.setdefault(sign, []).append(rank)
        self._signs = frozenset(self._by_sign)
        self._asked: dict[frozenset[str], tuple[Format, ...]] = {}

    def format_of(self, record: dict[str, Any]) -> Format | None:
        """The first format that recognises a record."""
        for form in self._candidates(self._signs.intersection(record)):
            if form.detect(record):
                return form
        return None

    def _candidates(self, signs: frozenset[str]) -> tuple[Format, ...]:
        found = self._asked.get(signs)
        if found is None:
            ranks = sorted({rank for sign in signs for rank in self._by_sign[sign]})
            found = tuple(self.forms[rank] for rank in ranks)
            if len(self._asked) < _MOST_REMEMBERED:
                self._asked[signs] = found
        return found


_MOST_REMEMBERED: Final = 1024
_index = Index(FORMATS)


@lru_cache(maxsize=64)
def _index_of(mappings: tuple[Mapping, ...], forms: tuple[Format, ...]) -> Index:
    return Index((*map(mapped, mappings), *forms))


def index_of(mappings: tuple[Mapping, ...] = ()) -> Index:
    """Every format by its signs; an operator's mappings come before what comes along."""
    global _index
    if mappings:
        return _index_of(mappings, FORMATS)
    if _index.forms is not FORMATS:
        _index = Index(FORMATS)
    return _index


def format_of(record: dict[str, Any], index: Index | None = None) -> Format | None:
    """The format that a record without envelopes has; None where none recognises it."""
    return (index or index_of()).format_of(record)


def format_table() -> str:
    """The formats and the vendor bodies as Markdown tables, for the documentation."""
    from transforms.decode.bodies import BODIES

    rows = ["| format | what it is |", "| --- | --- |"]
    rows += [f"| `{form.name}` | {form.describes} |" for form in FORMATS]
    rows += ["", "| vendor body | what it is | operation | texts are read |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{body.api}` | {body.describes} | {body.operation} | {'yes' if body.texts else 'no, usage only'} |"
        for body in BODIES.values()
    ]
    return "\n".join(rows)
