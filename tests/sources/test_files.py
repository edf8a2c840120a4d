"""The file source against a plain reading of the same bytes."""

from __future__ import annotations

import gzip
import os
import random
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batch import RawBatch
from sources.files import FileLimits, SourceError, Split, began_as, find, plan, read, read_at
from transforms.decode.batch import record_hash

SMALL = FileLimits(batch_records=3, batch_bytes=200)


def read_all(paths: list[Path], limits: FileLimits = SMALL) -> tuple[list[Split], list[RawBatch]]:
    splits = plan(paths, limits)
    return splits, [batch for split in splits for batch in read(split, limits)]


def records(batches: list[RawBatch]) -> list[tuple[int, bytes]]:
    return sorted(pair for b in batches for pair in zip(b.positions, b.records, strict=True))


def plain(content: bytes) -> list[tuple[int, bytes]]:
    """Oracle: lines and their offsets, one byte at a time in spirit."""
    found, start = [], 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        found.append((start, content[start:end]))
        start = end + 1
    return found


LINES = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * (n * 7 % 50)) for n in range(40)]
CONTENT = b"\n".join(LINES) + b"\n"


def write(path: Path, content: bytes) -> Path:
    opener = {".gz": gzip.open, ".zst": zstd.open}.get(path.suffix, open)
    with opener(path, "wb") as file:  # type: ignore[operator]
        file.write(content)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_records_and_positions_are_those_of_the_content(tmp_path: Path, suffix: str) -> None:
    splits, batches = read_all([write(tmp_path / f"calls{suffix}", CONTENT)])
    assert records(batches) == plain(CONTENT)
    assert max(len(b.records) for b in batches) <= SMALL.batch_records
    (end,) = [b.end for b in batches if b.end]
    assert (end.start, end.end, end.records, end.bytes) == (0, len(CONTENT), len(LINES), len(CONTENT))
    assert len(splits) == 1


def test_identity_survives_rename_copy_and_compression(tmp_path: Path) -> None:
    names = ["a.jsonl", "renamed.log", "c.jsonl.gz", "d.zst"]
    splits = plan([write(tmp_path / name, CONTENT) for name in names], SMALL)
    assert len({s.segment for s in splits}) == 1
    assert len({s.origin for s in splits}) == 1
    other = plan([write(tmp_path / "other.jsonl", CONTENT.replace(b'"n":9', b'"n":8'))], SMALL)
    assert other[0].segment != splits[0].segment


def test_a_grown_small_file_keeps_its_origin(tmp_path: Path) -> None:
    before = plan([write(tmp_path / "a.jsonl", CONTENT)], SMALL)[0]
    after = plan([write(tmp_path / "a.jsonl", CONTENT + CONTENT)], SMALL)[0]
    assert before.origin == after.origin


@settings(deadline=None, max_examples=60)
@given(
    lines=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=30),
    newline_at_end=st.booleans(),
    split=st.integers(1, 97),
)
def test_every_line_is_in_exactly_one_split(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], newline_at_end: bool, split: int
) -> None:
    content = b"\n".join(lines) + (b"\n" if newline_at_end else b"")
    path = tmp_path_factory.mktemp("s") / "f.jsonl"
    path.write_bytes(content)
    if content[:2] == b"\x1f\x8b" or content[:4] in (b"\x28\xb5\x2f\xfd", b"PAR1"):
        return
    _, batches = read_all([path], FileLimits(batch_records=4, split_bytes=split))
    assert records(batches) == plain(content)
    ends = [b.end for b in batches if b.end]
    assert sum(end.records for end in ends) == len(plain(content))


def test_the_last_line_of_a_file_that_may_grow_is_unfinished(tmp_path: Path) -> None:
    grows, whole, packed = (tmp_path / name for name in ("grows.jsonl", "whole.jsonl", "packed.jsonl.gz"))
    whole.write_bytes(b"one\ntwo\n")
    grows.write_bytes(b"one\ntw")
    packed.write_bytes(gzip.compress(b"one\ntw"))
    for limits in (FileLimits(), FileLimits(batch_records=1)):
        for path, expected in ((whole, set()), (grows, {4}), (packed, set())):
            _, batches = read_all([path], limits)
            assert {b.unfinished for b in batches} - {-1} == expected
            assert all(b.unfinished in (-1, *b.positions) for b in batches)


def test_a_line_longer_than_blocks_and_splits_is_whole(tmp_path: Path) -> None:
    rng = random.Random(1)
    long = bytes(rng.choices(b"abcdef", k=3_000_000))
    content = b"first\n" + long + b"\nlast"
    path = write(tmp_path / "f.jsonl", content)
    _, batches = read_all([path], FileLimits(split_bytes=700_000))
    assert records(batches) == plain(content)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("size", [5_000, 3_000_000])
def test_a_record_over_the_limit_is_a_dead_letter_in_its_place(tmp_path: Path, suffix: str, size: int) -> None:
    content = b"before\n" + b"y" * size + b"\nafter\n" + b"z" * size
    _, batches = read_all([write(tmp_path / f"f{suffix}", content)], FileLimits(max_record_bytes=1000))
    assert records(batches) == [(0, b"before"), (size + 8, b"after")]
    letters = [letter for b in batches for letter in b.rejects]
    assert [(d.position, d.reason, d.size) for d in letters] == [
        (7, "record_too_large", size),
        (size + 14, "record_too_large", size),
    ]
    assert letters[0].record_hash != letters[1].record_hash
    assert next(b.end for b in batches if b.end).records == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_truncated_archive_gives_what_it_holds_and_a_dead_letter(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(2)
    content = b"\n".join(bytes(rng.choices(b"0123456789abcdef", k=200)) for _ in range(5000)) + b"\n"
    path = write(tmp_path / f"f{suffix}", content)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, batches = read_all([path], FileLimits())
    got = records(batches)
    assert 0 < len(got) < 5000
    assert got == plain(content)[: len(got)]
    (letter,) = [letter for b in batches for letter in b.rejects]
    assert letter.reason == "broken_archive"
    assert letter.position == got[-1][0] + len(got[-1][1]) + 1
    assert next(b.end for b in batches if b.end).records == len(got) + 1  # type: ignore[union-attr]


def test_the_dead_letter_of_an_archive_that_breaks_between_records_lies_inside_of_its_range(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(gzip.compress(b"")[:10])  # a header, and nothing of the content
    _, (batch,) = read_all([tmp_path / "f.gz"])
    assert [(letter.reason, letter.position) for letter in batch.rejects] == [("broken_archive", 0)]
    assert batch.end is not None
    assert batch.end.start <= 0 < batch.end.end
    assert batch.end.records == 1


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n"))
    assert records(read_all([path])[1]) == [(0, b"a"), (2, b"bc"), (5, b"d")]


def test_a_bomb_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sources.files.reading._EXPANSION_GRACE", 4 * 1024 * 1024)
    path = write(tmp_path / "bomb.gz", b"\n" * 50_000_000)
    _, batches = read_all([path], FileLimits(max_expansion=20))
    (letter,) = [letter for b in batches for letter in b.rejects]
    assert letter.reason == "broken_archive"
    assert "grew past" in letter.error


def test_parquet_values_and_rows(tmp_path: Path) -> None:
    values = tmp_path / "v.parquet"
    pq.write_table(pa.table({"value": [b'{"a":1}', b'{"a":2}', None], "other": [1, 2, 3]}), values)
    assert records(read_all([values])[1]) == [(0, b'{"a":1}'), (1, b'{"a":2}'), (2, b"")]
    rows = tmp_path / "r.parquet"
    pq.write_table(pa.table({"model": ["m"], "tokens": [7]}), rows)
    assert records(read_all([rows])[1]) == [(0, b'{"model":"m","tokens":7}')]


def test_find_takes_folders_globs_and_files_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    a = write(tmp_path / "a.jsonl", CONTENT)
    b = write(tmp_path / "deep" / "b.jsonl.gz", CONTENT)
    (tmp_path / "notes.txt").write_text("not a log")
    assert find([str(tmp_path)]) == [a, b]
    assert find([str(tmp_path / "**" / "*.gz"), str(b)]) == [b]
    assert find([str(tmp_path / "notes.txt")]) == [tmp_path / "notes.txt"]


def test_missing_and_unreadable_inputs_are_one_clear_line(tmp_path: Path) -> None:
    for pattern, says in [("nowhere", "no such file or folder"), ("*.gz", "no file matches")]:
        with pytest.raises(SourceError, match=says):
            find([str(tmp_path / pattern)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no file"):
        find([str(tmp_path / "empty")])
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1 but not really")
    with pytest.raises(SourceError, match="cannot be read"):
        plan([broken], SMALL)
    with pytest.raises(SourceError, match="cannot be read"):
        plan([tmp_path / "gone"], SMALL)


def test_no_permission_is_one_clear_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CONTENT)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read every file, so look as nobody
    try:
        with pytest.raises(SourceError, match="Permission denied"):
            plan([path], SMALL)
    finally:
        os.seteuid(user)


def test_empty_files_are_read_to_their_end(tmp_path: Path) -> None:
    _, batches = read_all([write(tmp_path / "e.jsonl", b""), write(tmp_path / "e.jsonl.gz", b"")])
    assert [b.end.records for b in batches if b.end] == [0, 0]


def test_default_time_is_given_then_known_then_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CONTENT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    first = plan([path], SMALL)[0]
    assert first.default_time == 1_700_000_000_000_000
    assert plan([path], SMALL, known={first.segment: 5})[0].default_time == 5
    assert plan([path], SMALL, default_time=9, known={first.segment: 5})[0].default_time == 9


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_reading_at_positions_gives_just_those_records(tmp_path: Path, pack: Any) -> None:
    rng = random.Random(8)
    lines = [bytes(rng.choices(b"abc", k=rng.randrange(1, 400))) for _ in range(2000)]
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    path = tmp_path / "log"
    path.write_bytes(pack(b"\n".join(lines)))
    limits = FileLimits(split_bytes=70_000, batch_records=33, max_record_bytes=390)
    splits = plan([path], limits)
    for count in (0, 1, 7, 500, 2000):
        chosen = sorted(rng.sample(range(2000), count))
        asked = [*(starts[n] for n in chosen), starts[5] + 1, starts[-1] + 999]  # no record begins at the last two
        found, refused = {}, set()
        for raw in read_at(splits, asked, limits):
            assert raw.end is None
            found.update(zip(raw.positions, raw.records, strict=True))
            refused |= {letter.position for letter in raw.rejects}
        assert found == {starts[n]: lines[n] for n in chosen if len(lines[n]) <= 390}
        assert refused == {starts[n] for n in chosen if len(lines[n]) > 390}


def test_a_long_record_has_the_hash_it_has_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    record = bytes(random.Random(9).choices(b"abc", k=3_000_000))
    path.write_bytes(record + b"\n")
    limits = FileLimits(max_record_bytes=1000)
    (letter,) = [letter for split in plan([path], limits) for raw in read(split, limits) for letter in raw.rejects]
    assert letter.record_hash == record_hash(record)


def test_a_file_is_known_again_after_it_grew_but_not_after_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    (before,) = plan([path], FileLimits())
    assert not began_as(before, before.segment, 8)  # it has not grown
    path.write_bytes(b"one\ntwo\nthree\n")
    (after,) = plan([path], FileLimits())
    assert after.segment != before.segment
    assert began_as(after, before.segment, 8)
    assert not began_as(after, before.segment, 7)
    assert not began_as(after, before.segment, 0)
    path.write_bytes(b"one\nTWO\nthree\n")
    (changed,) = plan([path], FileLimits())
    assert not began_as(changed, before.segment, 8)
