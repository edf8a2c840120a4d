"""Who owns a call: batches against a plain loop over calls and rules."""

from __future__ import annotations

import fnmatch
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.call import Call
from schemas.tables import CLAIMED
from tests.own.samples import NOON, rules_from, toml_of
from tests.sinks.samples import call
from transforms.own import Claims, Rule, own
from transforms.rows import call_rows

# -- a plain loop ------------------------------------------------------------------------------------------------


def specificity(rule: dict[str, Any]) -> tuple[Any, ...]:
    """As ``docs/ownership.md`` states it: the greatest goes first, then the first name."""
    when = [[values] if isinstance(values, str) else values for values in flat(rule["when"]).values()]
    return (
        rule.get("priority", 0),
        len(when),
        sum(all("*" not in value for value in values) for values in when),
        sum(min(len(value.replace("*", "")) for value in values) for values in when),
    )


def flat(when: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in when.items() if key not in ("tags", "headers")}
    for place in ("tags", "headers"):
        plain |= {f"{place}.{key}": value for key, value in when.get(place, {}).items()}
    return plain


def says(one: Call, key: str) -> str:
    place, _, name = key.partition(".")
    return str((getattr(one, place) or {}).get(name, "")) if name else str(getattr(one, key))


def meant(one: Call, rule: dict[str, Any]) -> bool:
    for key, values in flat(rule["when"]).items():
        value = says(one, key).lower()
        some = [values] if isinstance(values, str) else values
        if not any(value == want.lower() or (value and fnmatch.fnmatchcase(value, want.lower())) for want in some):
            return False
    return True


def plain_owner(one: Call, rules: list[dict[str, Any]]) -> tuple[str, ...]:
    names = ("team", "app", "feature", "environment", "cost_center")
    ranks = sorted(rules, key=lambda rule: rule["name"])
    ranks.sort(key=specificity, reverse=True)
    for rule in ranks:
        if not meant(one, rule):
            continue
        for period in rule.get("history", [rule]):
            if period.get("from", -(10**18)) <= one.event_time < period.get("until", 10**18):
                break
        else:
            continue
        team, override = period.get("team", ""), rule.get("override", False)
        if one.team and team and team.lower() != one.team.lower() and not override:
            continue
        owner = []
        for name in names:
            said, stated = getattr(one, name), period.get(name, "")
            if override and name == "cost_center" and team and team.lower() != one.team.lower():
                said = ""
            owner.append((stated or said) if override else (said or stated))
        return (owner[0] or "unallocated", *owner[1:], rule["name"])
    return (one.team or "unallocated", *(getattr(one, name) for name in names[1:]), "")


def owners(calls: list[Call], rules: tuple[Rule, ...]) -> list[tuple[Any, ...]]:
    rows = own(call_rows(calls), Claims(rules))
    rows.validate(full=True)
    return list(zip(*(rows.column(name).to_pylist() for name in CLAIMED), strict=True))


# -- laws --------------------------------------------------------------------------------------------------------

_values = st.sampled_from(["", "a", "A", "ab", "b", "a*", "*b", "*", "a*b"])
_texts = st.sampled_from(["", "a", "A", "ab", "b"])
_times = st.sampled_from([NOON - 1, NOON, NOON + 1, NOON + 2])
_owner = st.fixed_dictionaries(
    {"team": st.sampled_from(["a", "ab", "x"])},
    optional={name: st.sampled_from(["a", "x"]) for name in ("app", "feature", "environment", "cost_center")},
)
_when = st.fixed_dictionaries(
    {},
    optional={
        **{name: _values | st.lists(_values, min_size=1, max_size=2) for name in ("team", "app", "model", "project")},
        "tags": st.dictionaries(st.sampled_from(["k", "k.l"]), _values, min_size=1),
        "headers": st.dictionaries(st.sampled_from(["h", "x-h"]), _values, min_size=1),
    },
)


@st.composite
def _rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    rules = []
    for number in range(draw(st.integers(0, 5))):
        rule: dict[str, Any] = {"name": f"r{number}", "when": draw(_when)}
        rule |= draw(st.fixed_dictionaries({}, optional={"override": st.booleans(), "priority": st.integers(-1, 1)}))
        cut = draw(st.none() | _times)
        if cut is None:
            rule |= draw(_owner)
        elif draw(st.booleans()):
            rule["history"] = [{**draw(_owner), "until": cut}, {**draw(_owner), "from": cut}]
        else:
            rule |= draw(_owner) | {draw(st.sampled_from(["from", "until"])): cut}
        rules.append(rule)
    return rules


@st.composite
def _calls(draw: st.DrawFn) -> list[Call]:
    calls = []
    for number in range(draw(st.integers(1, 6))):
        fields = ("team", "app", "model", "project", "feature", "environment", "cost_center")
        said: dict[str, Any] = {name: draw(_texts) for name in fields}
        one = call(number, **said, tags=draw(st.none() | st.dictionaries(st.sampled_from(["k", "k.l"]), _texts)))
        one.headers = draw(st.none() | st.dictionaries(st.sampled_from(["h", "x-h"]), _texts))
        one.event_time = draw(_times)
        calls.append(one)
    return calls


@settings(deadline=None)
@given(_rules(), _calls())
def test_owners_are_those_of_a_plain_loop(rules: list[dict[str, Any]], calls: list[Call]) -> None:
    assert owners(calls, rules_from(rules)) == [plain_owner(one, rules) for one in calls]


@settings(deadline=None)
@given(_rules(), _calls(), st.randoms())
def test_the_order_of_rules_and_files_changes_nothing(
    rules: list[dict[str, Any]], calls: list[Call], order: random.Random
) -> None:
    once = owners(calls, rules_from(rules))
    order.shuffle(rules)
    cut = order.randrange(len(rules) + 1)
    assert owners(calls, rules_from(rules[:cut], rules[cut:])) == once


@settings(deadline=None)
@given(_rules(), _calls())
def test_claiming_twice_is_claiming_once(rules: list[dict[str, Any]], calls: list[Call]) -> None:
    claims = Claims(rules_from(rules))
    once = own(call_rows(calls), claims)
    assert own(once, claims).equals(once)
    assert own(own(once, Claims()), claims).equals(once)  # also by way of other rules


@settings(deadline=None)
@given(_rules(), _calls())
def test_nothing_but_the_owner_changes(rules: list[dict[str, Any]], calls: list[Call]) -> None:
    before = call_rows(calls)
    after = own(before, Claims(rules_from(rules)))
    assert after.schema == before.schema
    for name in before.schema.names:
        if name not in CLAIMED:
            assert after.column(name).equals(before.column(name)), name


# -- cases -------------------------------------------------------------------------------------------------------


def test_many_fields_and_values_do_not_overflow_the_key() -> None:
    """Sixty-four bits would not hold the product of what these columns may say."""
    rng = random.Random(4)
    names = ["model", "project", "account", "agent", "step", "template", "deployment", "region"]
    calls = [call(n, **{name: f"{rng.randrange(10**6)}" for name in names}) for n in range(700)]
    chosen = rng.sample(calls, 50)
    rules = [
        {"name": f"r{n}", "when": {name: getattr(one, name) for name in names}, "team": f"t{n}"} for n, one in enumerate(chosen)
    ]
    assert owners(calls, rules_from(rules)) == [plain_owner(one, rules) for one in calls]


def test_edges_are_half_open_to_the_microsecond() -> None:
    rule = {
        "name": "r",
        "when": {},
        "history": [{"team": "a", "from": NOON, "until": NOON + 2}, {"team": "b", "until": NOON + 3}],
    }
    calls = [call(n) for n in range(5)]
    for number, one in enumerate(calls):
        one.event_time = NOON - 1 + number
    assert [owner[0] for owner in owners(calls, rules_from([rule]))] == ["unallocated", "a", "a", "b", "unallocated"]


@pytest.mark.parametrize(
    ("said", "rule", "wanted"),
    [
        # what the record says stands; the rule fills the rest
        ({"team": "a"}, {"team": "A", "app": "x", "cost_center": "9"}, ("a", "x", "", "", "9", "r")),
        ({"team": "a", "app": "y"}, {"team": "a", "app": "x"}, ("a", "y", "", "", "", "r")),
        ({"app": "y", "cost_center": "1"}, {"team": "a", "app": "x", "cost_center": "9"}, ("a", "y", "", "", "1", "r")),
        # a rule for another team is passed over whole
        ({"team": "b"}, {"team": "a", "app": "x", "cost_center": "9"}, ("b", "", "", "", "", "")),
        # unless it overrides: then what it says stands, and the other team's cost centre goes
        ({"team": "b", "app": "y", "cost_center": "1"}, {"team": "a", "override": True}, ("a", "y", "", "", "", "r")),
        ({"team": "b", "app": "y", "cost_center": "1"}, {"team": "a", "app": "x", "cost_center": "9", "override": True}, ("a", "x", "", "", "9", "r")),
        ({"team": "a", "cost_center": "1"}, {"team": "A", "override": True}, ("A", "", "", "", "1", "r")),
        # a record that says unallocated claims nothing
        ({"team": "unallocated"}, {"team": "a"}, ("a", "", "", "", "", "r")),
    ],
)  # fmt: skip
def test_the_record_and_the_rule(said: dict[str, Any], rule: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert owners([call(1, **said)], rules_from([{"name": "r", "when": {}, **rule}])) == [wanted]


def test_the_worked_example_of_the_docs() -> None:
    """The rules and the table of outcomes in ``docs/ownership.md``."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "ownership.md").read_text(encoding="utf-8")
    rules = rules_from(page.partition("```toml\n")[2].partition("```")[0])
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| 2026-")]
    assert len(rows) >= 6
    for time, said, team, cost_center, rule in ([cell.strip().strip("`") for cell in row] for row in rows):
        fields = dict(part.strip().split(" ", 1) for part in said.replace("`", "").split(",") if part.strip())
        one = call(1, **{key: value for key, value in fields.items() if not key.startswith("tags.")})
        one.tags = {key.removeprefix("tags."): value for key, value in fields.items() if key.startswith("tags.")}
        one.event_time = (datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        (owner,) = owners([one], rules)
        assert (owner[0], owner[4], owner[5]) == (team, cost_center, rule), said


def test_combinations_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from transforms.own import claim

    monkeypatch.setattr(claim, "_REMEMBERED", 10)
    rules = [{"name": "r", "when": {"model": "m1*"}, "team": "t"}]
    claims = Claims(rules_from(rules))
    calls = [call(n, model=f"m{n}") for n in range(200)]
    for some in (calls[n : n + 7] for n in range(0, 200, 7)):
        rows = own(call_rows(some), claims)
        assert rows.column("team").to_pylist() == [plain_owner(one, rules)[0] for one in some]
        assert len(claims._answers) <= 10


def test_rules_are_written_as_toml_for_these_tests() -> None:
    assert 'tags = { "k.l" = "a" }' in toml_of([{"name": "r", "when": {"tags": {"k.l": "a"}}, "team": "t"}])
