"""The job: composition only. Source, calls, minutes."""

from __future__ import annotations

import apache_beam as beam

from schemas.batch import RawBatch
from sinks.steps import RowsToMinutes
from transforms.steps import CallsToRows


def build(raw: beam.PCollection[RawBatch], calls: CallsToRows, minutes: RowsToMinutes) -> beam.PCollection[int]:
    """Raw batches of any source to recomputed minutes (seconds since 1970). Labels are the job's update contract."""
    return raw | "CallsToRows" >> calls | "RowsToMinutes" >> minutes
