"""Labelled incidents: where they are put, what they do, and what a detector should see."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sources.generate.clock import weight
from sources.generate.fleet import APPS
from sources.generate.settings import HOUR, GenerateSettings, Incident, SettingsError, micros, moment

_VICTIMS: Final = {
    "volume_step": "helpdesk-chat",
    "volume_ramp": "docs-rag",
    "retry_storm": "ticket-triage",
    "prompt_growth": "crm-copilot",
    "cache_break": "code-agent",
    "model_switch": "assistant",
    "runaway_agent": "ops-agent",
}
"""Which app each kind happens to when placed by seed: one app, one incident, so that effects stay apart."""

_SIZES: Final = {
    "volume_step": 3.0,
    "volume_ramp": 5.0,
    "retry_storm": 0.6,
    "prompt_growth": 8000.0,
    "cache_break": 0.0,
    "model_switch": 0.0,
    "runaway_agent": 2.0,
}

_EFFECTS: Final[Mapping[str, tuple[str, str]]] = {
    "volume_step": ("requests", "times {size:g} from the start to the end"),
    "volume_ramp": ("requests", "rises evenly to times {size:g} at the end"),
    "retry_storm": ("attempts", "{size:.0%} of attempts fail with 429 and are tried again at once, up to 6 times"),
    "prompt_growth": ("input tokens per call", "about {size:g} more, all in the system prompt, since a new version"),
    "cache_break": ("cache read share", "falls to 0; a time stamp at the head of the prompt keeps the cache cold"),
    "model_switch": ("model", "all calls go to a larger model"),
    "runaway_agent": ("steps per run", "times {size:g} for runs that start in it"),
}

GROWN_VERSION: Final = "2026.3.1"
"""Version of an app (tag ``version``) while ``prompt_growth`` lasts."""
CLOCKED_VERSION: Final = "2026.3.2"
"""Version of an app while ``cache_break`` lasts."""


@dataclass(frozen=True, slots=True)
class Active:
    """An incident with its size filled in and its times in microseconds."""

    kind: str
    app: str
    start: int
    end: int
    size: float


def place(settings: GenerateSettings) -> tuple[Active, ...]:
    """The incidents of a run, in the order of their start.

    Placed by seed: each kind once, after the first 40 % of the span (so that there is something to compare with), in
    office hours where the span has any.

    Raises:
        SettingsError: a given incident names an app that does not exist or cannot have it.
    """
    if settings.incidents is False:
        return ()
    chosen = _by_seed(settings) if settings.incidents is True else settings.incidents
    apps = {app.name: app for app in APPS}
    active = []
    for incident in chosen:
        if incident.app not in apps:
            raise SettingsError(f"incident app {incident.app!r}: must be one of {', '.join(apps)}")
        if incident.kind == "runaway_agent" and apps[incident.app].workload != "agent":
            raise SettingsError(f"incident app {incident.app!r}: only an agent can run away")
        if incident.kind in ("prompt_growth", "cache_break") and apps[incident.app].workload == "embed":
            raise SettingsError(f"incident app {incident.app!r}: has no prompt")
        size = incident.size or _SIZES[incident.kind]
        active.append(Active(incident.kind, incident.app, micros(incident.start), micros(incident.end), size))
    return tuple(sorted(active, key=lambda item: (item.start, item.app)))


def _by_seed(settings: GenerateSettings) -> tuple[Incident, ...]:
    rng = random.Random(f"incidents {settings.seed}")
    begin, span = settings.begin, settings.span
    placed = []
    for kind, app in _VICTIMS.items():
        # A deploy stays until it is rolled back; the others are over within hours.
        length = min(span // 8, 12 * HOUR if kind == "prompt_growth" else 3 * HOUR)
        profile = next(item.profile for item in APPS if item.name == app)
        best = max(
            (begin + int(span * 0.4) + int(rng.random() * (span * 0.6 - length)) for _ in range(12)),
            key=lambda start: min(weight(profile, start), weight(profile, start + length // 2)),
        )
        start = best - best % 60_000_000
        placed.append(Incident(kind, app, moment(start), moment(start + length - length % 60_000_000)))
    return tuple(placed)


def label(incident: Active) -> dict[str, Any]:
    """What the truth file says about an incident: kind, times, keys and the effect to expect."""
    app = next(item for item in APPS if item.name == incident.app)
    metric, text = _EFFECTS[incident.kind]
    keys = {"team": app.team, "app": app.name, "provider": app.provider, "template": app.template}
    if incident.kind == "model_switch":
        keys |= {"model": app.larger.answered, "model_before": app.model.answered}
    if incident.kind == "prompt_growth":
        keys["version"] = GROWN_VERSION
    if incident.kind == "cache_break":
        keys["version"] = CLOCKED_VERSION
    return {
        "kind": incident.kind,
        "start": moment(incident.start).isoformat(),
        "end": moment(incident.end).isoformat(),
        "keys": keys,
        "metric": metric,
        "size": incident.size,
        "effect": text.format(size=incident.size),
    }


def volume_factor(incidents: tuple[Active, ...], app: str, time: int) -> float:
    """What the number of requests of an app is multiplied by at a time."""
    factor = 1.0
    for incident in incidents:
        if incident.app == app and incident.start <= time < incident.end:
            if incident.kind == "volume_step":
                factor *= incident.size
            elif incident.kind == "volume_ramp":
                factor *= 1 + (incident.size - 1) * (time - incident.start) / (incident.end - incident.start)
    return factor
