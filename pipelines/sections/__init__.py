"""The settings themselves: sections, keys, what each may be, its default and its meaning.

``pipelines.settings`` fills them from their sources.
"""

from pipelines.sections.described import allowed, default_text, fields, is_secret, is_shown, is_table, section_of, types, variable
from pipelines.sections.inputs import Kafka, Source
from pipelines.sections.kinds import DEFAULT_HASH_KEY, HASH_KEY_VARIABLE, PREFIX
from pipelines.sections.operation import Serve, ServeUser
from pipelines.sections.whole import Settings
from pipelines.sections.work import DeadLetters, Store

__all__ = [
    "DEFAULT_HASH_KEY",
    "HASH_KEY_VARIABLE",
    "PREFIX",
    "DeadLetters",
    "Kafka",
    "Serve",
    "ServeUser",
    "Settings",
    "Source",
    "Store",
    "allowed",
    "default_text",
    "fields",
    "is_secret",
    "is_shown",
    "is_table",
    "section_of",
    "types",
    "variable",
]
