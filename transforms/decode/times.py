"""When a call began and ended, from what its record says."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode.values import EARLIEST, LATEST, plausible, timestamp


def created(call: Call, value: Any) -> None:
    """The time a vendor put in its body: the call's own where its logger wrote none. 0 and null are no time."""
    if not value or call.event_time or (call.end_time is not None and call.duration_ms is not None):
        return
    if type(value) is int and _EARLIEST_SECOND <= value < _LATEST_SECOND:  # nearly all
        call.event_time = value * 1_000_000
        call.time_quality = "second"
        return
    start(call, value)


_EARLIEST_SECOND: Final = EARLIEST // 1_000_000
_LATEST_SECOND: Final = LATEST // 1_000_000


def start(call: Call, value: Any) -> None:
    """Set the start of the call; a time that cannot be is flagged and left out."""
    read = timestamp(value)
    if read is None:
        return
    if plausible(read[0]):
        call.event_time, call.time_quality = read
    else:
        call.flag("implausible_time")


def end(call: Call, value: Any) -> None:
    """Set the end of the call likewise."""
    read = timestamp(value)
    if read is None:
        return
    if plausible(read[0]):
        call.end_time = read[0]
    else:
        call.flag("implausible_time")


def settle(call: Call) -> None:
    """Derive the start from the end and the duration, or the end or duration from the others, where they are missing."""
    if call.event_time:
        if call.end_time is None:
            if call.duration_ms is not None and call.time_quality == "exact":
                ended = call.event_time + round(call.duration_ms * 1000)
                if plausible(ended):
                    call.end_time = ended
                else:
                    call.flag("implausible_time")
        elif call.duration_ms is None and call.time_quality == "exact" and call.end_time >= call.event_time:
            call.duration_ms = (call.end_time - call.event_time) / 1000
    elif call.end_time is not None:
        begun = call.end_time - round((call.duration_ms or 0) * 1000)
        if plausible(begun):
            call.event_time = begun
            call.time_quality = "exact" if call.duration_ms is not None else "second"
    if not call.event_time and "implausible_time" in call.flags:
        call.time_quality = "implausible"
