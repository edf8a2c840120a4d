"""Files as a source: JSON lines (plain, gzip, zstd) and Parquet, read as streams of micro-batches.

Guarantees: every record of a file comes out exactly once per read, with a position that does not change when the file is
renamed, copied or compressed otherwise (decompressed byte offset; row number in Parquet). A record that cannot be
handed on (too long, cut by a broken archive) comes out as a dead letter in its place. Reading again after a crash
starts at the beginning of the split: downstream is idempotent.

Compression is recognised by content, not by name.
"""

from sources.files.lines import too_large
from sources.files.planning import began_as, find, grown, plan, spool
from sources.files.reading import read, read_at
from sources.files.splits import SUFFIXES, FileLimits, SourceError, Split, Version

__all__ = [
    "SUFFIXES",
    "FileLimits",
    "SourceError",
    "Split",
    "Version",
    "began_as",
    "find",
    "grown",
    "plan",
    "read",
    "read_at",
    "spool",
    "too_large",
]
