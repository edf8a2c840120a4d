"""A generator of realistic LLM traffic with known truth, for demonstrations, benchmarks and tests.

``generate`` yields the records of a company's LLM logs as a stream; ``write`` puts them into files with a truth file
beside them. The same settings give the same bytes. See ``docs/generator.md``.
"""

from sources.generate.files import TRUTH_FILE, write
from sources.generate.records import BROKEN, LEAVES, Facts, Record
from sources.generate.settings import FORMATS, INCIDENT_KINDS, GenerateSettings, Incident, SettingsError
from sources.generate.traffic import generate
from sources.generate.truth import Truth

__all__ = [
    "BROKEN",
    "FORMATS",
    "INCIDENT_KINDS",
    "LEAVES",
    "TRUTH_FILE",
    "Facts",
    "GenerateSettings",
    "Incident",
    "Record",
    "SettingsError",
    "Truth",
    "generate",
    "write",
]
