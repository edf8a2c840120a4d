"""Units of Bedrock's guardrails, where a body has their trace: billed beside the tokens, also of a call that was blocked.

Converse has it as ``trace.guardrail``, InvokeModel as ``amazon-bedrock-trace.guardrail``
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_GuardrailUsage.html). Assessments of the input and of each
output tell of units of their own, which add up.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode.bodies.reported import last_with
from transforms.decode.context import promote_tags
from transforms.decode.exchange import Exchange
from transforms.decode.values import MAX_COUNT, mapping

UNITS: Final = "guardrail_units"
"""Flag of a call that was billed for units of a guardrail, which no price here covers."""

_TAG: Final = "guardrail."
_TRACE, _TRACE_OF_INVOKE = "trace", "amazon-bedrock-trace"
_DEEPEST: Final = 6


def read_units(call: Call, x: Exchange) -> None:
    """Give a call the units that its guardrails counted as tags ``guardrail.topicPolicyUnits`` …; none, where they are 0."""
    last = last_with(x, _TRACE, _TRACE_OF_INVOKE, "metadata")
    trace = last.get(_TRACE_OF_INVOKE) or last.get(_TRACE) or mapping(last.get("metadata")).get(_TRACE)
    guardrail = mapping(trace).get("guardrail")
    if not guardrail:
        return
    units: dict[str, int] = {}
    _add(guardrail, units, 0)
    told = {_TAG + name: str(number) for name, number in sorted(units.items()) if number}
    if told:
        promote_tags(call, {**(call.tags or {}), **told})
        call.flag(UNITS)


def _add(value: Any, units: dict[str, int], depth: int) -> None:
    """Add up what is called usage in the metrics of every assessment."""
    if depth > _DEEPEST:
        return
    if type(value) is list:
        for each in value:
            _add(each, units, depth + 1)
    elif type(value) is dict:
        usage = mapping(mapping(value.get("invocationMetrics")).get("usage"))
        for name, number in usage.items():
            if name.endswith("Units") and type(number) is int and 0 <= number <= MAX_COUNT:
                units[name] = units.get(name, 0) + number
        if not usage:
            for each in value.values():
                _add(each, units, depth + 1)
