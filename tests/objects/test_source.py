"""Objects of real clients' stores against a plain reading of the same bytes."""

from __future__ import annotations

import glob
import gzip
import io
import random
import sys
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from schemas.batch import DeadLetter, RawBatch, SegmentEnd
from sources.files import FileLimits, SourceError, read, read_at
from sources.objects import find, look, parse, plan, stores
from sources.objects.stores import store_of
from tests.objects.servers import BUCKET, Server

LIMITS = FileLimits(batch_records=50)
Url = Callable[[str], str]

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


@cache
def text(lines: int, seed: int = 1, width: int = 400) -> bytes:
    rng = random.Random(seed)
    return b"".join(b'{"n":%d,"x":"%s"}\n' % (n, rng.randbytes(rng.randrange(width)).hex().encode()) for n in range(lines))


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 1)


def plain(content: bytes) -> list[tuple[int, bytes]]:
    """Oracle: lines and their offsets."""
    lines = content.removesuffix(b"\n").split(b"\n")
    return list(zip(accumulate((len(line) + 1 for line in lines), initial=0), lines, strict=False))


def records(batches: list[RawBatch]) -> list[tuple[int, bytes]]:
    return sorted(pair for b in batches for pair in zip(b.positions, b.records, strict=True))


def letters(batches: list[RawBatch]) -> list[DeadLetter]:
    return [letter for b in batches for letter in b.rejects]


def end(batches: list[RawBatch]) -> SegmentEnd:
    (found,) = [b.end for b in batches if b.end]
    return found


def parquet(lines: list[bytes]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"value": lines}), out, row_group_size=2000)
    return out.getvalue()


# -- what is read -------------------------------------------------------------------------------------------------


def test_every_record_of_an_object_is_read_in_its_place(server: Server, url: Url) -> None:
    content = text(3000)
    for key, data in (
        ("logs/plain.jsonl", content),
        ("logs/cut.log", content[:-1]),
        ("logs/a.json.gz", packed(content)),
        ("logs/two-members.gz", gzip.compress(content[:7777]) + gzip.compress(content[7777:])),
        ("logs/b.zst", zstd.compress(content)),
        ("logs/sink.json", content),
        ("logs/empty.log", b""),
    ):
        server.put(key, data)
        splits = plan(find([url(key)]), FileLimits(split_bytes=100_000, batch_records=33))
        assert (len(splits) > 1) == (key in ("logs/plain.jsonl", "logs/cut.log", "logs/sink.json")), key
        batches = [batch for split in splits for batch in read(split, LIMITS)]
        wanted = [] if not data else plain(content)
        assert records(batches) == wanted, key
        assert sum(b.end.records for b in batches if b.end) == len(wanted)
        assert letters(batches) == []
    lines = [line for _, line in plain(content)]
    server.put("logs/c.parquet", parquet(lines))
    (split,) = plan(find([url("logs/c.parquet")]), LIMITS)
    assert records(list(read(split, LIMITS))) == list(enumerate(lines))


def test_an_object_that_is_a_file_elsewhere_identifies_undated_records_alike(server: Server, url: Url, tmp_path: Path) -> None:
    from sources.files import plan as plan_files

    content = text(300)
    (tmp_path / "a.jsonl").write_bytes(content)
    server.put("a.jsonl", content)
    server.put("copy/b.jsonl", content)
    server.put("a.gz", packed(content))
    names = ("a.jsonl", "copy/b.jsonl", "a.gz")
    one, copy, zipped = plan(find(map(url, names)), LIMITS)
    assert {one.origin, copy.origin, zipped.origin} == {plan_files([tmp_path / "a.jsonl"], LIMITS)[0].origin}
    assert one.segment == copy.segment != zipped.segment


def test_undated_records_keep_the_time_of_the_first_sight(server: Server, url: Url) -> None:
    server.put("a.jsonl", text(10))
    (one,) = find([url("a.jsonl")])
    (first,) = plan([one], LIMITS)
    assert first.default_time == one.version.changed > 1_600_000_000_000_000
    assert plan([one], LIMITS, known={first.segment: 5})[0].default_time == 5
    assert plan([one], LIMITS, known_paths={one.path: 6})[0].default_time == 6
    assert plan([one], LIMITS, 9, {first.segment: 5}, {one.path: 6})[0].default_time == 9


def test_listing_opens_nothing_and_reading_takes_bounded_ranges(server: Server, url: Url) -> None:
    content = text(28_000)
    assert 2.5 * stores._BLOCK < len(content) < 3 * stores._BLOCK
    server.put("big.jsonl", content)
    server.seen.clear()
    (one,) = find([url("")])
    assert not [asked for asked in server.seen if "big.jsonl" in asked]
    (split,) = plan([one], LIMITS)
    server.seen.clear()
    assert records(list(read(split, LIMITS))) == plain(content)
    assert len([asked for asked in server.seen if "big.jsonl" in asked]) == 3


def test_reading_at_positions_gives_just_those_records(server: Server, url: Url) -> None:
    content = text(2000)
    server.put("a.jsonl", content)
    wanted = dict(random.Random(3).sample(plain(content), 40))
    splits = plan(find([url("a.jsonl")]), FileLimits(split_bytes=70_000))
    assert dict(records(list(read_at(splits, wanted, LIMITS)))) == wanted


# -- what is meant by an address -----------------------------------------------------------------------------------

KEYS = (
    "logs/2026/01/31/a.jsonl",
    "logs/2026/02/01/b.json.gz",
    "logs/2026/02/01/notes.txt",
    "logs/2026/02/c[1].jsonl",
    "logs2/d.jsonl",
    "logs",
    "top.log",
)


def test_folders_names_and_the_first_of_both(server: Server, url: Url) -> None:
    for key in KEYS:
        server.put(key, b"{}\n")

    def named(*addresses: str) -> list[str]:
        return [one.path.partition(f"{BUCKET}/")[2] for one in find(map(url, addresses))]

    logs = [key for key in sorted(KEYS) if key.startswith("logs/") and not key.endswith(".txt")]
    assert named("logs/") == logs
    assert named("logs/2026/02") == [key for key in logs if "/02/" in key]
    assert named("logs") == ["logs"], "an object of just this key"
    assert named("logs/2026/02/01/notes.txt") == ["logs/2026/02/01/notes.txt"]
    assert named("logs/2026/02/c[1].jsonl") == ["logs/2026/02/c[1].jsonl"]
    assert named("") == [key for key in sorted(KEYS) if key not in ("logs", "logs/2026/02/01/notes.txt")]
    assert named("logs2/*", "top.log") == ["logs2/d.jsonl", "top.log"]
    for wrong, says in (("log", "no such object"), ("*.gz", "no object matches"), ("none/", "no such object")):
        with pytest.raises(SourceError, match=says):
            named(wrong)
    told: list[str] = []
    assert list(find([url("none/")], told.append)) == []
    assert told[0].startswith(url("none/"))


@pytest.mark.parametrize(
    "pattern", ["**/*.jsonl", "logs*/**/*", "logs/2026/0?/*/*", "logs/**", "*", "logs/*/*", "**/02/**/b*", "logs/2026/02/c[[]1].jsonl"]
)
def test_patterns_mean_what_they_mean_for_files(pattern: str, tmp_path: Path) -> None:
    keys = [key for key in KEYS if key != "logs"]
    for key in keys:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).touch()
    found = {path for path in glob.glob(pattern, root_dir=tmp_path, recursive=True) if (tmp_path / path).is_file()}
    address = parse(f"s3://bucket/{pattern}")
    assert {key for key in keys if address.matches(key)} == found
    assert all(key.startswith(address.literal) for key in found)


def test_bodies_beside_the_logs_of_bedrock_are_no_logs(s3: Server) -> None:
    log = "x/AWSLogs/1/BedrockModelInvocationLogs/eu-west-1/2026/01/31/23"
    for key in (f"{log}/a.json.gz", f"{log}/data/b_input.json.gz", "data/c.json", "amazon-bedrock-logs-permission-check"):
        s3.put(key, b"{}\n")
    assert [one.path for one in find([f"s3://{BUCKET}"])] == [f"s3://{BUCKET}/data/c.json", f"s3://{BUCKET}/{log}/a.json.gz"]
    assert len(list(find([f"s3://{BUCKET}/**/data/*"]))) == 2, "unless they are asked for"


@pytest.mark.parametrize("wrong", ["s3://", "gs:///key", "s3://*/key", "gs://[a]/b"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(SourceError, match="not an address of objects"):
        list(find([wrong]))


# -- what happens meanwhile ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, packed])
def test_of_an_object_that_is_replaced_nothing_else_is_read(server: Server, url: Url, pack: Callable[[bytes], bytes]) -> None:
    content = text(30_000)
    server.put("a.log", pack(content))
    (old,) = find([url("a.log")])
    (split,) = plan([old], LIMITS)
    reading = read(split, LIMITS)
    batches = [next(reading)]
    server.put("a.log", pack(text(30_000, seed=2)))
    batches += reading
    got = records(batches)
    assert 0 < len(got) < 30_000
    assert got == plain(content)[: len(got)]
    assert letters(batches) == []
    assert end(batches)[:3] == (0, got[-1][0] + len(got[-1][1]) + 1, len(got))
    (new,) = find([url("a.log")])
    assert new != old
    assert records(list(read(plan([new], LIMITS)[0], LIMITS))) == plain(text(30_000, seed=2))
    assert [b.end for b in read(split, LIMITS)] == [SegmentEnd(0, 0, 0, 0)], "of what was replaced before nothing is read"
    assert plan([old], LIMITS)[0].segment != split.segment


def test_a_part_in_the_middle_of_what_was_replaced_ends_where_it_begins(server: Server, url: Url) -> None:
    server.put("a.log", text(3000))
    splits = plan(find([url("a.log")]), FileLimits(split_bytes=100_000))
    server.put("a.log", text(4000))
    assert [b.end for b in read(splits[2], LIMITS)] == [SegmentEnd(200_000, 200_000, 0, 0)]


def test_parquet_that_is_replaced_or_deleted_ends_there(server: Server, url: Url) -> None:
    lines = [line for _, line in plain(text(30_000))]
    server.put("a.parquet", parquet(lines))
    (split,) = plan(find([url("a.parquet")]), LIMITS)
    reading = read(split, LIMITS)
    batches = [next(reading)]
    server.put("a.parquet", parquet(lines[:10]))
    batches += reading
    got = records(batches)
    assert 0 < len(got) < 30_000
    assert got == list(enumerate(lines))[: len(got)]
    assert end(batches)[:3] == (0, len(got), len(got))
    (split,) = plan(find([url("a.parquet")]), LIMITS)
    server.delete("a.parquet")
    (batch,) = read(split, LIMITS)
    assert [(letter.reason, letter.position) for letter in batch.rejects] == [("object_gone", 0)]
    assert batch.end is not None
    assert batch.end[:3] == (0, 1, 1)


@pytest.mark.parametrize("pack", [bytes, packed])
def test_an_object_that_is_deleted_is_a_dead_letter(server: Server, url: Url, pack: Callable[[bytes], bytes]) -> None:
    content = text(30_000)
    server.put("a.log", pack(content))
    (split,) = plan(find([url("a.log")]), LIMITS)
    reading = read(split, LIMITS)
    batches = [next(reading)]
    server.delete("a.log")
    batches += reading
    got = records(batches)
    (letter,) = letters(batches)
    assert 0 < len(got) < 30_000
    assert got == plain(content)[: len(got)]
    assert letter.reason == "object_gone"
    assert letter.position == got[-1][0] + len(got[-1][1]) + 1
    assert end(batches).records == len(got) + 1
    assert letter.position < end(batches).end


def test_what_fails_in_passing_is_tried_again(server: Server, url: Url) -> None:
    content = text(500)
    server.put("a.log", content)
    status = 503 if server.scheme == "s3" else 429
    server.failures += [("/o\\?|list-type", status, SLOW_DOWN), ("a.log", status, SLOW_DOWN), ("a.log", 500, b"")]
    splits = plan(find([url("a.log")]), LIMITS)
    assert server.failures == []
    server.failures += [("a.log", status, SLOW_DOWN), ("a.log", 503, SLOW_DOWN)]
    assert records([batch for split in splits for batch in read(split, LIMITS)]) == plain(content)
    assert server.failures == []


def test_an_answer_that_breaks_off_is_asked_for_again(s3: Server) -> None:
    content = text(500)
    s3.put("a.log", content)
    (split,) = plan(find([f"s3://{BUCKET}/a.log"]), LIMITS)
    s3.failures += [("a.log", 206, content[:100]), ("a.log", 206, content[:7])]
    assert records(list(read(split, LIMITS))) == plain(content)
    assert s3.failures == []


# -- what a person is told ---------------------------------------------------------------------------------------------


def test_what_a_store_refuses_is_one_line_that_says_what_to_do(server: Server, url: Url) -> None:
    s3 = server.scheme == "s3"
    with pytest.raises(SourceError, match=f"^{server.scheme}://no-bucket: no such bucket$"):
        list(find([f"{server.scheme}://no-bucket/logs/"]))
    server.put("a.log", text(10))
    server.failures.append(("/o\\?|list-type", 403, DENIED))
    right = "s3:ListBucket" if s3 else "storage.objects.list"
    with pytest.raises(SourceError, match=f"^{server.scheme}://{BUCKET}: access denied; it takes the right {right}"):
        list(find([url("a.log")]))
    found = list(find([url("a.log")]))
    (split,) = plan(found, LIMITS)
    server.failures.append(("/a.log", 403, DENIED))
    right = "s3:GetObject" if s3 else "storage.objects.get"
    with pytest.raises(SourceError, match=f"^{url('a.log')}: access denied; it takes the right {right}"):
        list(read(split, LIMITS))
    server.put("b.parquet", b"PAR1 but not really")
    with pytest.raises(SourceError, match=r"b\.parquet: cannot be read"):
        plan(find([url("b.parquet")]), LIMITS)
    refused: list[tuple[object, str]] = []
    assert [one.path for one in plan(find([url("")]), LIMITS, refused=refused)] == [url("a.log")]
    assert [line.partition(":  ")[0].startswith(url("b.parquet")) for _, line in refused] == [True]


def test_what_is_in_an_archive_class_must_be_restored(s3: Server) -> None:
    s3.put("a.log", text(10))
    s3.failures.append(("/a.log", 403, b"<Error><Code>InvalidObjectState</Code><Message>no</Message></Error>"))
    with pytest.raises(SourceError, match="in an archive storage class; restore it"):
        plan(find([f"s3://{BUCKET}/a.log"]), LIMITS)


def test_a_store_that_does_not_answer(server: Server, url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environ.items():
        if "://" in value:
            monkeypatch.setenv(name, "http://127.0.0.1:9")
    store_of.cache_clear()
    with pytest.raises(SourceError, match=f"^{server.scheme}://{BUCKET}: unreachable: "):
        look(url("logs/"), patience_s=1)


def test_without_credentials_one_line_says_so(monkeypatch: pytest.MonkeyPatch, s3: Server) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    store_of.cache_clear()
    with pytest.raises(SourceError, match=f"^s3://{BUCKET}: no credentials; set AWS_PROFILE"):
        look(f"s3://{BUCKET}", patience_s=1)


@pytest.mark.parametrize(("scheme", "package", "module", "extra"), [("s3", "boto3", "s3", "s3"), ("gs", "google.cloud", "gcs", "gcs")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"sources.objects.{module}", raising=False)
    store_of.cache_clear()
    with pytest.raises(SourceError, match=rf"pip install 'llm-finops\[{extra}\]'"):
        list(find([f"{scheme}://bucket/logs"]))


def test_looking_takes_one_page_and_one_byte(server: Server, url: Url) -> None:
    server.put("logs/a.log", b"")
    server.put("logs/b.log", b"12345")
    assert look(url("logs/"), 5) == (2, 5, True)
    server.failures.append(("b.log", 403, DENIED))
    with pytest.raises(SourceError, match="access denied"):
        look(url("logs/"), 5)
