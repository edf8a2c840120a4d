"""Azure's LLM logs, whose records tell of a call together and cut its messages: what is joined is what was cut here."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from sinks.clickhouse import Store, StoreAddress
from sinks.dead_letters import living
from tests.pipelines.jobs import go, holds, totals

SIZE = 40
"""Characters of a piece; Azure's are of 32 KiB."""


def cut(text: str) -> list[str]:
    return [text[at : at + SIZE] for at in range(0, len(text), SIZE)]


def question(n: int) -> str:
    return f"Hü, {n}: " + '"why?" \\ ' * (n % 9)


def answer(n: int) -> str:
    return f"So {n}." + " Because…" * (n % 7)


def log(n: int, number: int, **said: Any) -> dict[str, Any]:
    time = f"2026-07-02T06:{n % 60:02}:31.446Z"
    return {"category": "GatewayLlmLogs", "time": time, "correlationId": f"k{n}", "properties": {"sequenceNumber": number, **said}}


def records(n: int) -> list[dict[str, Any]]:
    """One call: its usage, then its prompt and its answer in as many records as they need, numbered through."""
    found = [log(n, 0, requestId=f"chatcmpl-{n}", modelName="gpt-4o-mini", deploymentName="d", promptTokens=10 + n, completionTokens=n)]
    asked = json.dumps([{"role": "user", "content": question(n)}], ensure_ascii=n % 2 == 0)
    told = json.dumps([{"role": "assistant", "content": answer(n)}])
    for side, text in (("requestMessages", asked), ("responseMessages", told)):
        found += [log(n, len(found) + at, **{side: piece}) for at, piece in enumerate(cut(text))]
    return found


def written(path: Path, some: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in some))


def texts(store: Store) -> dict[str, tuple[int, ...]]:
    rows = store.rows(
        f"SELECT provider_call_id, user_bytes, answer_bytes, input_fresh, output_visible FROM {store.table('calls')} FINAL"
    )
    return {key: tuple(map(int, numbers)) for key, *numbers in rows}


def wanted(n: int) -> tuple[int, ...]:
    return len(question(n).encode()), len(answer(n).encode()), 10 + n, n


def test_messages_that_were_cut_are_joined_in_any_order(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    number = range(9)
    every = [record for n in number for record in records(n)]
    some = [*every, *random.Random(1).sample(every, 20)]  # some come twice
    random.Random(2).shuffle(some)
    for run in range(2):
        written(tmp_path / f"{run}.jsonl", some[run::2])
        go(address, tmp_path)
    holds(store)
    assert texts(store) == {f"chatcmpl-{n}": wanted(n) for n in number}
    models = store.rows(f"SELECT model, usage_source, usage_quality, flags FROM {store.table('calls')} FINAL GROUP BY ALL")
    assert [tuple(map(str, row)) for row in models] == [("gpt-4o-mini", "gateway", "ok", "[]")]
    assert not store.rows(f"SELECT reason FROM {living(store)}")
    once = totals(store)
    go(address, tmp_path, again=True)
    assert totals(store) == once


def test_without_the_last_piece_a_call_has_its_usage_and_the_texts_that_are_whole(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    """What lacks its end waits in silence, for nobody says that there is more; a gap is told once nobody waits for it any more."""
    without_end = [r for r in records(8) if r["properties"]["sequenceNumber"] != 3]
    assert "requestMessages" in records(8)[3]["properties"]
    first = [records(8)[n] for n in (0, 1, 2)]
    written(tmp_path / "a.jsonl", first)
    go(address, tmp_path)
    assert texts(store) == {"chatcmpl-8": (0, 0, 18, 8)}
    assert not store.rows(f"SELECT reason FROM {living(store)}")
    written(tmp_path / "b.jsonl", without_end[3:])
    go(address, tmp_path)
    holds(store)
    letters = store.rows(f"SELECT reason, error FROM {living(store)}")
    assert [reason for reason, _ in letters] == ["incomplete_record"]
    assert str(letters[0][1]).startswith("pieces [1,2,4,")
    assert texts(store) == {"chatcmpl-8": (0, 0, 18, 8)}
    written(tmp_path / "c.jsonl", [records(8)[3]])
    go(address, tmp_path)
    holds(store)
    assert texts(store) == {"chatcmpl-8": wanted(8)}
    assert not store.rows(f"SELECT reason FROM {living(store)}")
