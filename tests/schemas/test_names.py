"""An id is found however a text writes it, and nowhere else; by Python and by the engine alike."""

from __future__ import annotations

import json
from unicodedata import normalize
from urllib.parse import quote

import pytest

from schemas.names import named, part, pattern
from sinks.clickhouse import Store
from sinks.search import Sought

NAMES = ["alice@example.com", 'mü"ller x', "user-7.b", "a\\b\\c", "(x|y)*z", "名前太郎", "_u_1"]


def writings(name: str) -> list[str]:
    once = json.dumps({"user": f"line\n{name}"})
    return [
        name,
        f"to {name}.",
        f"/{name}/",
        once,
        json.dumps(once),
        json.dumps([once], ensure_ascii=False),
        f"https://h/?u=%20{quote(name, safe='')}&x=1",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_however_it_is_written(module_store: Store, name: str) -> None:
    sought = Sought(name)
    for text in [*writings(name), *writings(name.upper()), *writings(normalize("NFD", name))]:
        assert named(name, text), text
        rows = module_store.rows(f"SELECT {sought.condition('t')} FROM (SELECT {{t:String}} AS t)", {**sought.parameters, "t": text})
        assert rows == [(1,)], text


@pytest.mark.parametrize("name", NAMES)
def test_not_inside_another(module_store: Store, name: str) -> None:
    sought = Sought(name)
    for text in (f"x{name}", f"{name}7", f"é{name}", name[:-1], "", name[::-1] + "?"):
        rows = module_store.rows(f"SELECT {sought.condition('t')} FROM (SELECT {{t:String}} AS t)", {**sought.parameters, "t": text})
        assert (named(name, text), rows) == (False, [(0,)]), text


def test_a_short_name_is_the_whole_text_or_not_there() -> None:
    assert named("7", "7")
    assert not named("7", "a 7 b")


def test_a_part_is_in_every_writing() -> None:
    for name in NAMES:
        assert all(part(name).lower() in text.lower() for text in writings(name))
        assert pattern(name).startswith("(?i)")
