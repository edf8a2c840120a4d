"""Limits of a query, and the settings a client may choose."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sinks.front.errors import ACCESS_DENIED, SETTING_CONSTRAINT_VIOLATION, UNKNOWN_DATABASE, Refused

MAX_QUERY_BYTES: Final = 16 << 20
"""Text of a statement: a recompute names up to 20,000 minutes, a look-up 20,000 keys."""


def names(text: str) -> frozenset[str]:
    """The words of a text: a long list of names is easier to read as one."""
    return frozenset(text.split())


_MAY_SET: Final = names("""
    alter_sync any_join_distinct_right_table_keys cast_keep_nullable cast_string_to_dynamic_use_inference
    count_distinct_implementation date_time_input_format date_time_output_format
    do_not_merge_across_partitions_select_final empty_result_for_aggregation_by_empty_set extremes final
    format_csv_allow_double_quotes format_csv_allow_single_quotes format_csv_delimiter format_csv_null_representation
    format_tsv_null_representation group_by_overflow_mode group_by_use_nulls insert_deduplicate
    insert_deduplication_token insert_null_as_default join_algorithm join_default_strictness join_use_nulls
    lightweight_deletes_sync materialize_ttl_after_modify max_block_size max_columns_to_read
    max_insert_block_size max_partitions_per_insert_block max_rows_to_group_by max_rows_to_sort
    min_insert_block_size_bytes min_insert_block_size_rows mutations_sync optimize_on_insert
    prefer_column_name_to_alias session_timezone sort_overflow_mode totals_mode transform_null_in
    union_default_mode
""")
# Not among them: limits on what is read, whose errors tell how much there is of others.
_MAY_SET_BY_PREFIX: Final = ("input_format_", "output_format_")
_NEVER: Final = frozenset(
    # A file is written; expressions of VALUES are evaluated, `file()` among them; statistics tell of hidden rows.
    (
        "output_format_schema",
        "input_format_values_interpret_expressions",
        "input_format_values_deduce_templates_of_expressions",
        "output_format_write_statistics",
    )
)
LIMITED: Final = ("max_execution_time", "max_memory_usage", "max_result_rows", "max_result_bytes", "max_threads")
"""Settings that a client may lower, but not raise."""

TRANSPORT: Final = names("""
    buffer_size cancel_http_readonly_queries_on_client_close client_protocol_version compress database decompress
    default_format enable_http_compression http_headers_progress_interval_ms http_receive_timeout http_send_timeout
    http_wait_end_of_query log_queries max_query_size network_compression_method password query query_id quota_key
    receive_timeout role send_progress_in_http_headers send_timeout session_check session_id session_timeout user
    wait_end_of_query
""")
"""Parameters of a request that are no settings, or that mean nothing here."""

TABLE_SETTINGS: Final = names("""
    allow_nullable_key deduplicate_merge_projection_mode index_granularity index_granularity_bytes merge_with_ttl_timeout
    min_bytes_for_wide_part min_rows_for_wide_part non_replicated_deduplication_window ttl_only_drop_parts
""")
"""Settings of a MergeTree table that a writer may choose; ``disk`` and ``storage_policy`` name places."""

NO_SPILL: Final = {
    "max_bytes_before_external_sort": "0",
    "max_bytes_before_external_group_by": "0",
    "max_bytes_ratio_before_external_sort": "0",
    "max_bytes_ratio_before_external_group_by": "0",
    "max_temporary_data_on_disk_size_for_query": "1",
}
"""A query of a reader ends at its limit of memory: it may not fill the disk of the store with what it sorts."""

_NUMBER: Final = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Limits:
    """What one query of a reader may use. Seconds, bytes and rows; writers have none of these."""

    seconds: int = 60
    memory_bytes: int = 2 << 30
    result_rows: int = 10_000_000
    result_bytes: int = 1 << 30
    threads: int = os.cpu_count() or 1

    def by_setting(self) -> dict[str, int]:
        values = (self.seconds, self.memory_bytes, self.result_rows, self.result_bytes, self.threads)
        return dict(zip(LIMITED, values, strict=True))


def may_set(name: str) -> bool:
    """A client may choose this setting of a session."""
    return (name in _MAY_SET or name in LIMITED or name.startswith(_MAY_SET_BY_PREFIX)) and name not in _NEVER


def refuse_setting(name: str) -> Refused:
    return Refused(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed here")


def session_settings(asked: Mapping[str, str], limits: Limits | None) -> dict[str, str]:
    """Settings of a session: those asked for in the URL, with limits lowered to ours where they are higher or none.

    Raises:
        Refused: a setting is not one that a client may choose.
    """
    chosen: dict[str, str] = {}
    for name, value in asked.items():
        if not may_set(name):
            raise refuse_setting(name)
        chosen[name] = value
    for name, most in limits.by_setting().items() if limits else ():
        chosen[name] = _lower(chosen.get(name, "0"), most)
    return chosen


def _lower(asked: str, most: int) -> str:
    return asked if _NUMBER.fullmatch(asked) and 0 < float(asked) <= most else str(most)


def check_clause(name: str, value: object, limits: Limits | None) -> None:
    """A setting of a SETTINGS clause, which we do not rewrite: it is right, or the query is refused.

    Raises:
        Refused: not one that a client may choose, or a limit that is higher than ours.
    """
    if not may_set(name):
        raise refuse_setting(name)
    most = limits.by_setting().get(name) if limits else None
    if most is not None and _lower(str(value), most) != str(value):
        raise Refused(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should be above 0 and not greater than {most}")


def check_database(name: str, ours: str) -> None:
    """The database that names without one are looked up in; empty: ours.

    Raises:
        Refused: there is no such database here, or its tables are let through by their full names only.
    """
    if name.lower() in ("system", "information_schema"):
        raise Refused(ACCESS_DENIED, f"Database {name} cannot be the current one; write {name}.table")
    if name not in ("", "default", ours):
        raise Refused(UNKNOWN_DATABASE, f"Database {name} does not exist here")
