"""Files as a feed: what of them was read, the state and the store's ledger agree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pipelines.feeds import Standing
from pipelines.state import State, segment_ends
from sinks.clickhouse import Store
from sources.files import FileLimits, Split, plan


class FoldersFeed:
    """Files at these paths. Undated records get ``default_time`` (UTC microseconds), if there is one."""

    def __init__(self, paths: Sequence[Path], limits: FileLimits, default_time: int | None) -> None:
        self._paths = paths
        self._limits = limits
        self._default_time = default_time

    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Split], int]:
        splits = plan(self._paths, self._limits, self._default_time, known_times(store))
        paths = {split.path for split in splits}
        if state is not None:
            splits = state.left(splits, segment_ends(store))
        return splits, len(paths) - len({split.path for split in splits})

    def begin(self, store: Store, state: State) -> None:
        raise NotImplementedError

    def next(self, most: int) -> Sequence[Split]:
        raise NotImplementedError

    def committed(self) -> None:
        pass

    def standing(self) -> Standing:
        return Standing()

    def news(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def known_times(store: Store) -> dict[bytes, int]:
    """Event time that undated records of each known segment were given at first sight, in UTC microseconds."""
    rows = store.rows(
        f"SELECT segment, toUnixTimestamp64Micro(min(default_time)) FROM {store.table('segments')} GROUP BY segment"
    )
    return {segment: int(micros) for segment, micros in rows}
