"""Lines of invoices in ``charges``, and their imports in ``invoices``.

An import is made known, its lines are written, then it is said to be there, with all others of one command at once: what was
killed on the way is not in force, and is finished by doing it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final

import pyarrow as pa

from schemas.invoice import CATEGORIES, Charge, Import
from schemas.tables import CHARGES, INVOICES
from sinks.clickhouse import Store

_ROWS: Final = 50_000
_WIDE: Final = Context(prec=60)
_MONEY: Final = ("billed", "list_cost", "contracted", "effective")
_TIMES: Final = ("start", "end")
_SAME: Final = ("provider", "account", "project", "model", "kind", "tokens", "quantity", "currency", "category", "description")


def imports(store: Store) -> list[Import]:
    """Every import there was, in order."""
    rows = store.rows(
        "SELECT invoice, provider, account, toUInt32(since), toUInt32(until), fingerprint, lines, unreadable, source, state,"
        f" toInt64(toUnixTimestamp64Milli(ingested_at) / 1000) FROM {store.table(INVOICES.name)} FINAL ORDER BY invoice"
    )
    return [Import(*row) for row in rows]


def record(store: Store, some: Iterable[Import]) -> None:
    """Write down what imports are, all at once."""
    rows = [
        {
            "invoice": one.number,
            **{name: getattr(one, name) for name in ("provider", "account", "fingerprint", "lines", "unreadable", "source")},
            "state": one.state,
            "since": datetime.fromtimestamp(one.since, UTC),
            "until": datetime.fromtimestamp(one.until, UTC),
            "ingested_at": datetime.fromtimestamp(one.at, UTC),
        }
        for one in some
    ]
    store.insert(INVOICES.name, pa.Table.from_pylist(rows, INVOICES.arrow))


def put(store: Store, number: int, charges: Sequence[Charge]) -> None:
    """Write the lines of an import. The same ones again change nothing."""
    for at in range(0, len(charges), _ROWS):
        rows = [_row(number, at + line, c) for line, c in enumerate(charges[at : at + _ROWS])]
        store.insert(CHARGES.name, pa.Table.from_pylist(rows, CHARGES.arrow))


def in_force(store: Store) -> str:
    """The lines that stand, as a subquery with the columns of ``charges``: for each provider, account and day that lines start
    on, those of its latest import."""
    standing = (
        "SELECT provider, account, arrayJoin(range(intDiv(toUInt32(since), 86400), intDiv(toUInt32(until), 86400))) AS day,"
        f" max(invoice) FROM {store.table(INVOICES.name)} FINAL WHERE state = 'imported' GROUP BY provider, account, day"
    )
    key = "provider, account, toUInt32(intDiv(toUInt32(start), 86400)), invoice"
    return f"(SELECT * FROM {store.table(CHARGES.name)} FINAL WHERE ({key}) IN ({standing}))"


def lines(
    store: Store, providers: Sequence[str] = (), account: str | None = None, since: int = 0, until: int = 2**32
) -> list[Charge]:
    """The lines in force whose period touches that time (UTC seconds), of some providers (none: all) and of one account."""
    where = "toUInt32(`end`) > {since:Int64} AND toUInt32(start) < {until:Int64}"
    where += " AND provider IN {providers:Array(String)}" if providers else ""
    where += " AND account = {account:String}" if account is not None else ""
    names = ", ".join((*_SAME, *_MONEY, "source", "row", "places"))
    rows = store.named_rows(
        f"SELECT toUInt32(start) AS start_, toUInt32(`end`) AS end_, {names} FROM {in_force(store)}"
        f" WHERE {where} ORDER BY invoice, line",
        {"providers": list(providers), "account": account or "", "since": since, "until": until},
    )
    return [_charge(row) for row in rows]


def sums(store: Store, every: bool = False) -> list[dict[str, Any]]:
    """Lines and dollars by import and currency; ``every``: also of lines that are not in force."""
    table = f"{store.table(CHARGES.name)} FINAL" if every else in_force(store)
    by = ", ".join(f"sumIf(billed, category = '{name}') AS {name}" for name in CATEGORIES)
    return store.named_rows(
        f"SELECT invoice, currency, toInt64(count()) AS lines, sum(billed) AS billed_, {by} FROM {table}"
        " GROUP BY invoice, currency ORDER BY invoice, currency"
    )


def _row(number: int, line: int, c: Charge) -> dict[str, Any]:
    return {
        "invoice": number,
        "line": line,
        **{name: getattr(c, name) for name in _SAME},
        **{name: datetime.fromtimestamp(getattr(c, name), UTC) for name in _TIMES},
        **{name: _dollars(getattr(c, name)) for name in _MONEY},
        "places": min(c.places, 255),
        "source": c.file,
        "row": c.row,
    }


def _charge(row: dict[str, Any]) -> Charge:
    money = {name: _pico(row[name]) for name in _MONEY}
    times = {"start": row["start_"], "end": row["end_"]}
    return Charge(file=row["source"], row=row["row"], places=row["places"], **{n: row[n] for n in _SAME}, **times, **money)


def _dollars(pico: int | None) -> Decimal | None:
    return None if pico is None else Decimal(pico).scaleb(-12, _WIDE)


def _pico(amount: Decimal | None) -> Any:
    return None if amount is None else int(amount.scaleb(12, _WIDE))
