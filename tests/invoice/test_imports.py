"""Invoices in a store: what stands after imports, corrections, removals and kills, against a plain loop over days."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import pipelines.charges
from pipelines.charges import import_invoices, remove
from pipelines.cli import cli
from pipelines.errors import CheckFailed, InputError, SettingsError
from pipelines.invoices import Invoice, read_invoices
from schemas.invoice import CATEGORIES, KINDS, Charge
from sinks.charges import imports, lines
from sinks.clickhouse import Store
from sinks.export import Form, select, write
from sinks.retention import Retention, keep
from tests.invoice.samples import FIRST, MODELS, as_csv, charge, focus, logged, page
from transforms.invoice.imports import in_force, parts

DAY = 86_400
START = int(FIRST.timestamp())


def line(day: int, billed: int = 1, account: str = "org-1", length: int = 1, **more: Any) -> Charge:
    """A line that begins on that day after ``START``, of so many days."""
    start = START + day * DAY
    plain = Charge(
        file="a.csv", row=2, start=start, end=start + length * DAY, provider="openai", account=account, project="", model="gpt-4o",
        kind="input", tokens=7, quantity="7 Tokens", billed=billed, list_cost=None, contracted=None, effective=None, currency="USD",
        category="usage", description="", places=2,
    )  # fmt: skip
    return plain._replace(**more)


def bring(store: Store, charges: Sequence[Charge], **more: Any) -> int:
    """Number of the import."""
    (outcome,) = import_invoices(store, Invoice(list(charges)), **more)
    return outcome.one.number


def everything(store: Store) -> Any:
    tables = ("charges", "invoices")
    return [store.rows(f"SELECT * EXCEPT(ingested_at) FROM {store.table(name)} FINAL ORDER BY ALL") for name in tables]


_PICO = st.integers(-(10**27), 10**27)
_CHARGES = st.builds(
    line,
    day=st.integers(0, 40),
    billed=_PICO,
    length=st.integers(1, 40),
    account=st.sampled_from(("org-1", "org-2", "")),
    file=st.sampled_from(("a.csv", "b.csv")),
    row=st.integers(2, 10**6),
    project=st.text(max_size=3),
    kind=st.sampled_from((*KINDS, "")),
    tokens=st.none() | st.integers(-(2**63), 2**63 - 1),
    list_cost=st.none() | _PICO,
    contracted=st.none() | _PICO,
    effective=st.none() | _PICO,
    category=st.sampled_from(CATEGORIES),
    description=st.text(max_size=5),
    places=st.integers(0, 40),
)


@given(st.lists(_CHARGES, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_lines_are_one_import_in_whatever_order_and_file_they_come(some: list[Charge], rng: random.Random) -> None:
    other = [c._replace(file="other.csv", row=number) for number, c in enumerate(rng.sample(some, len(some)))]
    ours, theirs = parts(some), parts(other)
    assert [part[:5] for part in ours] == [part[:5] for part in theirs]
    assert Counter(c for part in ours for c in part.charges) == Counter(some)
    for part in ours:
        assert part.since <= min(c.start for c in part.charges) < max(c.end for c in part.charges) <= part.until
        changed = [c._replace(billed=c.billed + 1) if c is part.charges[0] else c for c in part.charges]
        assert parts(changed)[0].fingerprint != part.fingerprint


def test_what_is_kept_comes_back_to_the_last_digit(store: Store) -> None:
    wide = 10**27 - 1
    some = [
        line(0, wide, tokens=2**63 - 1, list_cost=-wide, contracted=1, effective=0),
        line(1, -wide, tokens=None, model="", kind="", project="p'\\", description='Öl, "x"\n', currency="EUR", places=40),
    ]
    for _ in range(2):
        bring(store, some)
        assert lines(store) == some
    assert lines(store, ["azure"]) == [] == lines(store, account="x") == lines(store, until=START)
    assert lines(store, ["openai"], "org-1", START + DAY, START + DAY + 1) == some[1:]


@given(st.data())
def test_of_several_imports_the_latest_of_each_day_stands(data: st.DataObject) -> None:
    known: list[Any] = []
    wanted: dict[tuple[str, str, int], int] = {}
    for number in range(1, data.draw(st.integers(1, 6)) + 1):
        first, days = data.draw(st.integers(0, 9)), data.draw(st.integers(1, 9))
        (part,) = parts([line(first, length=days, account=data.draw(st.sampled_from("ab")))])
        state = data.draw(st.sampled_from(("imported", "removed", "writing")))
        known.append(pipelines.charges.Import(number, *part[:5], 1, 0, "", state, 0))
        for day in range(first, first + days):
            if state == "imported":
                wanted["openai", part.account, START + day * DAY] = number
    random.Random(1).shuffle(known)
    assert in_force(known) == wanted


def test_imports_corrections_and_removals_against_a_plain_loop(store: Store) -> None:
    rng = random.Random(5)
    made: dict[int, tuple[str, range, list[Charge]]] = {}
    for step in range(14):
        if len(made) > 3 and rng.random() < 0.35:
            gone = rng.choice(sorted(made))
            del made[gone]
            remove(store, gone)
            with pytest.raises(SettingsError, match="removed already"):
                remove(store, gone)
        else:
            first = rng.randrange(5)
            days = range(first, first + rng.randrange(1, 5))
            account = rng.choice(("org-1", "org-2"))
            some = [line(day, rng.randrange(-9, 99), account, row=row) for day in days for row in range(rng.randrange(1, 4))]
            number = bring(store, some, whole=True)
            made[number] = account, days, some
            before = everything(store)
            assert bring(store, rng.sample(some, len(some)), whole=True) == number, step
            assert everything(store) == before, "twice is once"
        standing: dict[tuple[str, int], list[Charge]] = {}
        for _, (account, days, some) in sorted(made.items()):
            for day in days:
                standing[account, START + day * DAY] = [c for c in some if c.start == START + day * DAY]
        wanted = Counter(c for some in standing.values() for c in some)
        assert Counter(lines(store)) == wanted
        exported = io.BytesIO()
        list(write(store, select("charges", ["billed", "account"]), Form.CSV, exported))
        found = [(Decimal(row["billed"]), row["account"]) for row in csv.DictReader(io.StringIO(exported.getvalue().decode()))]
        assert sorted(found) == sorted((Decimal(c.billed).scaleb(-12), c.account) for c in wanted.elements())
    assert len(imports(store)) > len(made) > 2


@pytest.mark.parametrize("at", range(4), ids=("made known", "lines of the one", "lines of the other", "in force"))
def test_an_import_that_was_killed_is_not_in_force_and_is_finished_by_the_same_command(
    store: Store, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    bring(store, [line(0, 1), line(1, 2)])
    new = [line(0, 3), line(1, 4), line(0, 5, "org-2")]
    before = lines(store)
    real, left = {name: getattr(pipelines.charges, name) for name in ("record", "put")}, at

    def killed(name: str) -> Any:
        def step(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                if name == "put":
                    real[name](*arguments[:2], arguments[2][:1])  # half of it
                raise KeyboardInterrupt
            real[name](*arguments)

        return step

    for name in real:
        monkeypatch.setattr(pipelines.charges, name, killed(name))
    with pytest.raises(KeyboardInterrupt):
        import_invoices(store, Invoice(new))
    assert lines(store) == before
    for name, step in real.items():
        monkeypatch.setattr(pipelines.charges, name, step)
    import_invoices(store, Invoice(new))
    assert Counter(lines(store)) == Counter(new)
    assert [(one.number, one.state) for one in imports(store)] == [(1, "imported"), (2, "imported"), (3, "imported")]
    remove(store, 2)
    assert Counter(lines(store)) == Counter([*before, new[2]])


def test_a_killed_import_does_not_stand_in_the_way_of_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipelines.charges, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bring(store, [line(0, 1)])
    assert bring(store, [line(0, 2)]) == 2
    with pytest.raises(SettingsError, match="no invoice 1"):
        remove(store, 1)
    assert bring(store, [line(0, 1)]) == 1
    assert [c.billed for c in lines(store)] == [2], "it was begun before the other"


@pytest.mark.parametrize(
    ("there", "new", "says"),
    [
        ([line(0), line(1), line(2)], [line(0), line(2)], "lines of 2026-03-03 are in force"),
        ([line(0, project="a"), line(0, project="b")], [line(0, 2, project="a")], "lines of project b are in force"),
        ([line(0), line(0, category="tax")], [line(0, 2)], "lines of tax are in force"),
        ([line(0, length=31)], [line(d) for d in range(9, 12)], "for 2026-03-02 to 2026-04-01, these files for 2026-03-11 to 2026-"),
    ],
)
def test_files_that_lack_what_is_in_force_are_refused_unless_they_are_whole(
    store: Store, there: list[Charge], new: list[Charge], says: str
) -> None:
    bring(store, there)
    before = everything(store)
    with pytest.raises(InputError, match=says):
        bring(store, new)
    assert everything(store) == before
    bring(store, [c._replace(account="org-2") for c in new])
    bring(store, new, whole=True)
    assert set(new) <= set(lines(store))


def test_days_that_files_are_whole_for_may_be_given(store: Store) -> None:
    bring(store, [line(0), line(1)])
    with pytest.raises(InputError, match=r"a\.csv, row 2: is for 2026-03-02 to 2026-03-02, which is not within"):
        bring(store, [line(0)], since=START + DAY)
    bring(store, [line(0, 5)], since=START, until=START + 2 * DAY, whole=True)
    assert lines(store) == [line(0, 5)], "the second day has no charges any more"


def test_files_that_hold_the_same_are_no_parts_of_one_export(tmp_path: Path) -> None:
    one, two, other, half = (tmp_path / name for name in ("one.csv", "two.csv", "other.csv", "half.csv"))
    rows = focus(logged())
    one.write_text(as_csv(rows))
    two.write_text(as_csv([*rows[1:], charge("Tax", "1")]))
    other.write_text(as_csv(focus(logged(), "org-2")))
    half.write_text(as_csv([rows[0], *focus(logged(), "org-3")]))
    january, again = tmp_path / "a.json", tmp_path / "b.json"
    january.write_text(json.dumps(page(logged())))
    again.write_text(json.dumps(page(logged(), money=lambda amount: float(amount * 2))))
    for some, says in (((one, two), "11 of 12 lines of"), ((january, again), "both have 'gpt-4o-2024-08-06, input' of 2026-03-02")):
        with pytest.raises(InputError, match=says):
            pipelines.charges.refuse_parts_of(read_invoices(some, MODELS), None, None)
    pipelines.charges.refuse_parts_of(read_invoices((one, other, half), MODELS), None, None)


def test_lines_age_by_what_they_charge_for(store: Store) -> None:
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [(int((now - timedelta(days=back)).timestamp()) - START) // DAY for back in (40, 2)]
    bring(store, [line(day) for day in days])
    keep(store, Retention(charges=30))
    assert lines(store) == [line(days[1])]


def test_the_commands(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: store)
    monkeypatch.chdir(tmp_path)
    Path("march.csv").write_text(as_csv([*focus(logged()), charge("Credit", "-0.5"), charge("Tax", "0.07")]))
    Path("fixed.csv").write_text(as_csv([*focus(logged()), charge("Credit", "-0.75"), charge("Tax", "0.07")]))
    Path("broken.csv").write_text(as_csv([*focus(logged()), charge("Credit", "-0,75"), charge("Tax", "0.07")]))

    def said(*words: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(
            cli, ["invoice", *words, "--to", "chdb://x", "--format", "json"], catch_exceptions=False, standalone_mode=False
        )
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found

    used = sum((call.cost() for call in logged()), Decimal(0))
    with pytest.raises(InputError, match="no invoice is in force"):
        said("compare")
    assert said("import", "march.csv")[0]["outcome"] == "new"
    (row,) = said("list")
    assert {name: row[name] for name in ("invoice", "account", "first_day", "last_day", "lines", "currency", "state")} == {
        "invoice": 1, "account": "org-1", "first_day": "2026-03-02", "last_day": "2026-03-03", "lines": 14, "currency": "USD",
        "state": "in force",
    }  # fmt: skip
    sums = {name: Decimal(row[name]) for name in ("billed", "usage", "credit", "tax")}
    assert sums == {"billed": used - Decimal("0.43"), "usage": used, "credit": Decimal("-0.5"), "tax": Decimal("0.07")}
    assert said("import", "march.csv")[0]["outcome"] == "is there already, in force: nothing changed"
    assert said("import", "fixed.csv")[0]["outcome"] == "replaces 14 lines of invoice 1 (-$0.172)"
    assert [row["state"] for row in said("list", "--all")] == ["replaced", "in force"]
    assert Decimal(said("compare")["totals"]["credit"]) == Decimal("-0.75")  # type: ignore[call-overload]
    assert [row["invoice"] for row in said("remove", "2")] == [1]
    with pytest.raises(CheckFailed, match="1 row could not be read; nothing was imported"):
        said("import", "broken.csv")
    with pytest.raises(InputError, match="lines of credit are in force"):
        said("import", "broken.csv", "--partial")
    with pytest.raises(CheckFailed, match="1 row could not be read; all else was imported"):
        said("import", "broken.csv", "--partial", "--whole")
    assert [(row["invoice"], row["unreadable"]) for row in said("list")] == [(3, 1)]
    for words in (("--from-time", "2026-03-02T01:00"), ("--from-time", "2026-03-03", "--until", "2026-03-03")):
        with pytest.raises(SettingsError, match="must be"):
            said("import", "march.csv", *words)
