"""Files of ownership rules: what may stand there, and what a person is told when it may not."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.own.files import RulesError, read_rules
from transforms.own.rules import EVER, FOREVER, Condition, Rule, headers_of


def rules(folder: Path, *texts: str) -> tuple[Rule, ...]:
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"owners{number}.toml")
        paths[-1].write_text(text, encoding="utf-8")
    return read_rules(paths)


def micros(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type, misc]


def test_a_rule_is_read(tmp_path: Path) -> None:
    text = """
        [[rule]]
        name = "checkout"
        when.api_key_alias = "checkout-*"
        when.team = ["pay", "payments"]
        when.tags = { "cost.team" = "x" }
        when.headers = { X-Team = "checkout" }
        priority = 3
        override = true
        history = [
          { team = "checkout", cost_center = "100", until = 2026-03-01 },
          { team = "payments", from = 2026-03-01, until = 2026-04-01T00:00:00.000001Z },
          { team = "money", environment = "prod" },
        ]
    """
    (rule,) = rules(tmp_path, text)
    assert {c.field: c.values for c in rule.conditions} == {
        "api_key_alias": ("checkout-*",),
        "recorded_team": ("pay", "payments"),
        "tags.cost.team": ("x",),
        "headers.x-team": ("checkout",),
    }
    assert (rule.priority, rule.override, headers_of([rule])) == (3, True, {"x-team"})
    first, second = micros(2026, 3, 1), micros(2026, 4, 1) + 1
    assert [(o.team, o.cost_center, o.environment, o.start, o.end) for o in rule.owners] == [
        ("checkout", "100", "", EVER, first),
        ("payments", "", "", first, second),
        ("money", "", "prod", second, FOREVER),
    ]
    for at, team in ((first - 1, "checkout"), (first, "payments"), (second - 1, "payments"), (second, "money")):
        owner = rule.owner_at(at)
        assert owner is not None
        assert owner.team == team
    assert pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("search", ["search", "Search", "SEARCH"], ["search-1", "research", ""]),
        ("search-*", ["search-", "search-1", "SEARCH-X\nY"], ["search", "x-search-", ""]),
        ("*-prod-*", ["a-prod-b", "-prod-"], ["prod", "a-prod"]),
        ("*", ["a", " "], [""]),
        ("**", ["a"], [""]),
        ("", [""], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a[1]", ["a[1]"], ["a1"]),
        ("Straße", ["STRASSE"], []),
    ],
)
def test_values_and_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    condition = Condition("model", (pattern, "never-this"))
    assert [value for value in yes if not condition.holds(value)] == []
    assert [value for value in no if condition.holds(value)] == []


@settings(deadline=None)
@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_are_what_a_plain_search_says(pattern: str, value: str) -> None:
    def fits(pattern: str, value: str) -> bool:
        if not pattern:
            return not value
        if pattern[0] == "*":
            return any(fits(pattern[1:], value[n:]) for n in range(len(value) + 1))
        return bool(value) and value[0] == pattern[0] and fits(pattern[1:], value[1:])

    wanted = fits(pattern, value) and (bool(value) or not pattern)
    assert Condition("model", (pattern,)).holds(value) == wanted


R = '[[rule]]\nname = "r"\n'
W = R + 'when.model = "m"\n'
T = W + 'team = "t"\n'

WRONG = {
    "misspelt condition": (
        R + 'when.api_key_alais = "x"\nteam = "t"',
        "rule 'r': unknown key when.api_key_alais; did you mean api_key_alias?",
    ),
    "misspelt key": (W + 'taem = "t"', "rule 'r': unknown key taem; did you mean team?"),
    "misspelt table": ('[[rules]]\nname = "r"', "unknown key rules; did you mean rule?"),
    "misspelt in history": (
        W + 'history = [{ team = "a", until = 2026-01-01 }, { tem = "b" }]',
        "rule 'r': history: period 2: unknown key tem; did you mean team?",
    ),
    "far from any key": (W + 'team = "t"\nzzz = 1', "unknown key zzz; it may be one of team, app, "),
    "no name": ('[[rule]]\nwhen = {}\nteam = "t"', "rule 1: name is missing"),
    "no when": (R + 'team = "t"', "rule 'r': when is missing"),
    "when is no table": (R + 'when = "x"\nteam = "t"', "rule 'r': when must be a table, such as"),
    "an empty condition": (R + 'when.tags = {}\nteam = "t"', "rule 'r': when: names no condition"),
    "no rule": ("", "no rule here: write [[rule]]"),
    "no owner": (W, "rule 'r': names no owner"),
    "no team": (W + 'app = "a"', "rule 'r': team is missing: state it, or match on the team"),
    "a blank team": (W + 'team = " "', "rule 'r': team: ' ' is not a text"),
    "unallocated": (W + 'team = "Unallocated"', "stands for what nobody claims"),
    "a number": (R + 'when.model = 4\nteam = "t"', "rule 'r': when.model: 4 is neither a text nor a list"),
    "no values": (R + 'when.model = []\nteam = "t"', "rule 'r': when.model: [] is neither"),
    "many stars": (R + 'when.model = "*a*a*a*a*a*a*a*a*a"\nteam = "t"', "8 of *"),
    "a secret": (R + 'when.headers.Authorization = "x"\nteam = "t"', "when.headers.Authorization: holds a secret"),
    "a header twice": (R + 'when.headers = { X-A = "x", x-a = "y" }\nteam = "t"', "one header is named twice"),
    "a text as a date": (T + 'from = "2026-01-01"', "rule 'r': from: '2026-01-01' is not a date; write it without quotes"),
    "a number as a date": (T + "from = 20260101", "rule 'r': from: 20260101 is not a date"),
    "a local time": (T + "from = 2026-01-01T00:00:00", "has no time zone"),
    "backwards": (T + "from = 2026-02-01\nuntil = 2026-01-01", "until 2026-01-01 must be later than from 2026-02-01"),
    "never": (T + "from = 2026-02-01\nuntil = 2026-02-01", "must be later"),
    "priority": (T + 'priority = "high"', "rule 'r': priority: Input should be a valid integer"),
    "override": (T + 'override = "no"', "rule 'r': override: Input should be a valid boolean"),
    "beside a history": (T + 'history = [{ team = "a" }]', "rule 'r': team stands beside history"),
    "an empty history": (W + "history = []", "rule 'r': history: is empty"),
    "no bound": (W + 'history = [{ team = "a" }, { team = "b" }]', "say when period 2 begins (from): period 1 has no until"),
    "a gap": (
        W + 'history = [{ team = "a", until = 2026-01-01 }, { team = "b", from = 2026-01-01T00:00:00.000001Z }]',
        "period 1 and period 2 leave a gap: until 2026-01-01, from 2026-01-01T00:00:00.000001Z",
    ),
    "an overlap": (
        W + 'history = [{ team = "a", until = 2026-01-02 }, { team = "b", from = 2026-01-01 }]',
        "period 1 and period 2 overlap",
    ),
    "out of order": (
        W + 'history = [{ team = "b", from = 2026-02-01 }, { team = "a", until = 2026-02-01 }]',
        "say when period 2 begins",
    ),
    "two of a name": (T + T, "two rules are named 'r', in "),
    "no TOML": ("[[rule", "not valid TOML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(case: str, tmp_path: Path) -> None:
    text, says = WRONG[case]
    with pytest.raises(RulesError) as caught:
        rules(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert "owners0.toml" in message
    assert "\n" not in message


def test_one_name_in_two_files_names_both(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"owners0\.toml and .*owners1\.toml"):
        rules(tmp_path, T, T)
    with pytest.raises(RulesError, match="No such file"):
        read_rules([tmp_path / "nowhere.toml"])
    with pytest.raises(RulesError, match="directory"):
        read_rules([tmp_path])


def test_precedence_is_priority_conditions_exactness_length_then_name(tmp_path: Path) -> None:
    def rule(name: str, when: str, more: str = "") -> str:
        return f'[[rule]]\nname = "{name}"\nwhen = {{ {when} }}\nteam = "t"\n{more}\n'

    low = "priority = -1"
    wanted = [
        rule("high", "", "priority = 1"),
        rule("two", 'model = "*", project = "*"'),
        rule("exact", 'model = "m"'),
        rule("long", 'model = "long-*"'),
        rule("either", 'model = ["longer-*", "lo-*"]'),
        rule("short-a", 'model = "l*"'),
        rule("short-b", 'project = "l*"'),
        rule("any", ""),
        rule("low", 'model = "m", project = "p", account = "a"', low),
    ]
    names = [text.split('"')[1] for text in wanted]
    assert [r.name for r in rules(tmp_path, *wanted)] == names
    assert [r.name for r in rules(tmp_path, *reversed(wanted))] == names
    assert [r.name for r in rules(tmp_path, "".join(wanted[1::2]), "".join(wanted[::2]))] == names
