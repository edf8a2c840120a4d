"""What Grafana and its ClickHouse plugin (version 4) do to a query before the engine sees it, restated from their rules.

In the browser the plugin resolves ``$__conditionalAll``, then Grafana puts in the values of variables; on the server the
plugin expands the macros of time. A macro that is not known here is an error, so that each one in use is covered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ALL = "$__all"


@dataclass(frozen=True)
class Look:
    """What a person looks at: a time range in seconds since 1970, the width of a bar, and what is chosen."""

    start: int
    end: int
    interval_s: int = 60
    rollup: str = "minute"
    tenant: tuple[str, ...] = (ALL,)
    team: tuple[str, ...] = (ALL,)
    environment: tuple[str, ...] = (ALL,)

    def variables(self) -> dict[str, tuple[str, ...]]:
        return {"tenant": self.tenant, "team": self.team, "environment": self.environment, "rollup": (self.rollup,)}


def sent(sql: str, look: Look) -> str:
    """The statement the engine gets."""
    return _macros(_variables(_conditional_all(sql, look.variables()), look.variables()), look)


def _conditional_all(sql: str, variables: Mapping[str, tuple[str, ...]]) -> str:
    macro = "$__conditionalAll("
    while (at := sql.rfind(macro)) >= 0:
        arguments, end = _arguments(sql, at + len(macro))
        condition, variable = arguments
        name = re.fullmatch(r"\$(\w+)|\$\{(\w+)\}", variable.strip())
        assert name, f"{variable}: the plugin wants a plain variable here"
        # JavaScript's replace() gives these a meaning of their own in what is put in.
        assert not re.search(r"\$[$&`']|\$\d", condition)
        value = ",".join(variables[name[1] or name[2]])  # the plugin's toString()
        sql = sql[:at] + ("1=1" if value in ("", ALL) else condition) + sql[end:]
    return sql


def _arguments(sql: str, start: int) -> tuple[list[str], int]:
    """Arguments from the opening parenthesis on; like the plugin, blind to quotes."""
    depth, last, found = 1, start, []
    for at in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        if depth == 0:
            return [*found, sql[last:at]], at + 1
        if sql[at] == "," and depth == 1:
            found.append(sql[last:at])
            last = at + 1
    raise AssertionError(f"unbalanced: {sql[start:]}")


def _variables(sql: str, variables: Mapping[str, tuple[str, ...]]) -> str:
    assert "[[" not in sql  # an older way to write a variable

    def value(found: re.Match[str]) -> str:
        name, form = found[1] or found[3], found[2]
        if name not in variables:
            assert name.startswith("__"), f"no variable {name}"
            return found[0]
        if form == "singlequote":
            return ",".join("'" + one.replace("'", "\\'") + "'" for one in variables[name])
        assert form is None
        (one,) = variables[name]
        return one

    return re.sub(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)", value, sql)


def _macros(sql: str, look: Look) -> str:
    def one(found: re.Match[str]) -> str:
        name, argument = found[1], found[2]
        start, end = f"toDateTime({look.start})", f"toDateTime({look.end})"
        if name == "timeFilter" and argument:
            return f"{argument} >= {start} AND {argument} <= {end}"
        if name == "timeInterval" and argument:
            return f"toStartOfInterval(toDateTime({argument}), INTERVAL {max(look.interval_s, 1)} second)"
        plain = {"fromTime": start, "toTime": end, "interval_s": str(max(look.interval_s, 1))}
        assert name in plain, f"no macro {name}"
        return plain[name] + (f"({argument})" if argument is not None else "")

    return re.sub(r"\$__(\w+)(?:\(([^()]*)\))?", one, sql)
