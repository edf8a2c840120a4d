"""Kafka topics as a source: one process plans ranges of offsets, any process reads them, as streams of micro-batches.

Guarantees: every record of a range comes out exactly once per read, at its offset. A segment is a partition of one topic of
one cluster, by their ids: a topic that was deleted and made anew is another one. Records are counted as they are delivered;
offsets that compaction or transactions left empty are none. Records that the broker deleted before they were read leave a
gap in the ledger and a dead letter that says so: nothing is ever skipped in silence. Only committed transactions are read.

Offsets are committed to the broker as hints for its own tools; what was read is known from the state beside the store.
"""

from sources.kafka.planning import Log, Topics, place_of, segment_of, source_name
from sources.kafka.reading import LAST_READ, hang_up, read
from sources.kafka.settings import (
    KEY_PASSWORD_VARIABLE,
    PASSWORD_VARIABLE,
    REGISTRY_PASSWORD_VARIABLE,
    KafkaSettings,
    is_address,
    parse,
)

__all__ = [
    "KEY_PASSWORD_VARIABLE",
    "LAST_READ",
    "PASSWORD_VARIABLE",
    "REGISTRY_PASSWORD_VARIABLE",
    "KafkaSettings",
    "Log",
    "Topics",
    "hang_up",
    "is_address",
    "parse",
    "place_of",
    "read",
    "segment_of",
    "source_name",
]
