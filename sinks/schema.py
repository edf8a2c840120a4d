"""Bring a store's tables to the version this software writes; refuse a store that is newer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.tables import AUDIT_DAYS, CALL_PRICES, CHARGES, INVOICES, MARKS, PARTS, RETENTION, TABLES, TERMS
from sinks.clickhouse import Store, StoreError
from sinks.recompute import recompute

VERSION: Final = 7
"""Version of the tables in ``schemas.tables``. A change there needs a step in ``STEPS`` and a higher version."""

_RECORDED: Final = ("team", "app", "feature", "environment", "cost_center")
_TEAM: Final = "Team that owns the call: of its record, else of a rule, else unallocated."
_COST_CENTER: Final = "Cost centre that the call is charged to."
_KEYS: Final = "team, app, feature, environment, provider, model, service_tier, status, price_status, price_run, cost_center"


def _add(name: str, kind: str, after: str, comment: str, default: str = "") -> str:
    filled = f" DEFAULT {default}" if default else ""
    return (
        f"ALTER TABLE `{{database}}`.`calls` ADD COLUMN IF NOT EXISTS `{name}` {kind}{filled} COMMENT '{comment}' AFTER `{after}`"
    )


def _ownership() -> tuple[str, ...]:
    """Version 2: who owns a call, and what its record said of that. Old calls without a team become unallocated."""
    text = "LowCardinality(String)"
    added = [
        (
            "headers",
            "Map(LowCardinality(String), String)",
            "HTTP headers that ownership rules name; no others are kept.",
            "",
        ),
        ("project", text, "The vendor\\'s project: of OpenAI, Google Cloud, watsonx, LiteLLM.", ""),
        ("account", text, "The vendor\\'s account: organization, AWS account, Azure subscription or resource.", ""),
        ("cost_center", text, _COST_CENTER, ""),
        *((f"recorded_{name}", text, f"The {name} as the record says, before any rule.", name) for name in _RECORDED),
        ("owner_rule", text, "Ownership rule that claimed the call; empty where none did.", ""),
    ]
    statements = []
    after = "tags"
    for name, kind, comment, default in added:
        statements.append(_add(name, kind, after, comment, default))
        after = name
    calls = "`{database}`.`calls`"
    statements += [
        # What the record said is written down before the team is changed, from which it would be derived otherwise.
        *(f"ALTER TABLE {calls} MATERIALIZE COLUMN recorded_{name} SETTINGS mutations_sync = 2" for name in _RECORDED),
        f"ALTER TABLE {calls} UPDATE team = 'unallocated' WHERE team = '' SETTINGS mutations_sync = 2",
        f"ALTER TABLE {calls} COMMENT COLUMN team '{_TEAM}'",
    ]
    for name, time in (("minutes", "minute"), ("hours", "hour"), ("days", "day")):
        table = f"`{{database}}`.`{name}`"
        statements += [
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS cost_center {text} COMMENT '{_COST_CENTER}' AFTER price_run,"
            f" MODIFY ORDER BY (tenant, {time}, {_KEYS})",
            # The team is part of the key, so rows get another one by being written anew. Doing it twice changes nothing.
            f"INSERT INTO {table} SELECT * REPLACE ('unallocated' AS team) FROM (SELECT * FROM {table} FINAL WHERE team = '')",
            f"ALTER TABLE {table} DELETE WHERE team = '' SETTINGS mutations_sync = 2",
            f"ALTER TABLE {table} COMMENT COLUMN team '{_TEAM}'",
        ]
    return tuple(statements)


def _retention() -> tuple[str, ...]:
    """Version 3: how long rows are kept is recorded. Until now receipts and dead letters were kept for 90 days."""
    return (
        RETENTION.ddl("{database}"),
        MARKS.ddl("{database}"),
        "INSERT INTO `{database}`.`retention` (table, days) VALUES ('receipts', 90), ('dead_letters', 90)",
    )


def _terms() -> tuple[str, ...]:
    """Version 4: prices and rules are recorded with the event time from which they hold."""
    return (TERMS.ddl("{database}"),)


def _parts() -> tuple[str, ...]:
    """Version 5: records that tell a part of a call are kept until they are joined."""
    receipts = "ALTER TABLE `{database}`.`receipts` COMMENT COLUMN"
    return (
        PARTS.ddl("{database}"),
        f"{receipts} outcome 'call, dead_letter, ignored, or joined: a part of a call.'",
        f"{receipts} call_key 'Key of the call, also of the joined one; zeros otherwise.'",
    )


def _sureness() -> tuple[str, ...]:
    """Version 6: how sure counts and dollars are, list prices beside those of contracts, and the drift audit."""
    calls = "`{database}`.`calls`"
    band = "Half-width in tokens of the band that holds nine of ten true values around"
    error = "Half-width in dollars of the band that holds nine of ten true costs around cost: 0 where usage was reported,"
    money = "Nullable(Decimal(18, 12))"
    counted, text = "Nullable(Int64)", "LowCardinality(String)"
    listed = "What it would cost at list prices; as cost where no contract is."
    statements = [
        _add("counted_input_error", counted, "counted_output", f"{band} counted_input; 0 where the count is exact."),
        _add("counted_output_error", counted, "counted_input_error", f"{band} counted_output; 0 where the count is exact."),
        _add("list_cost", money, "cost_other", listed, "cost"),
        _add("cost_error", money, "list_cost", f"{error} NULL where unknown.", "if(cost_source = 'counted', NULL, cost - cost)"),
        _add("contract", text, "cost_source", "Contract that the price comes from; empty: list price."),
        f"ALTER TABLE {calls} COMMENT COLUMN cost_source"
        " 'vendor_reported, usage (reported tokens), counted (exactly), estimated (counted with an error) or stated.'",
    ]
    added = (
        ("list_cost", " DEFAULT cost", "Dollars of priced calls at list prices."),
        ("cost_error", "", "Error bars of the calls, added up: errors of one kind point the same way, they do not cancel out."),
        ("cost_vendor_reported", "", "Of cost: dollars that the vendor itself stated."),
        (
            "cost_counted",
            " DEFAULT if(price_status = 'estimated', cost, 0)",
            "Of cost: dollars of tokens counted exactly, where no usage was reported.",
        ),
        (
            "cost_estimated",
            "",
            "Of cost: dollars of tokens counted with an error. What is left was computed from reported usage.",
        ),
    )
    for table in ("minutes", "hours", "days"):
        after = "cost_other"
        for name, default, comment in added:
            statements.append(
                f"ALTER TABLE `{{database}}`.`{table}` ADD COLUMN IF NOT EXISTS `{name}` Decimal(38, 12){default}"
                f" COMMENT '{comment}' AFTER `{after}`"
            )
            after = name
    return (*statements, AUDIT_DAYS.ddl("{database}"))


def _repricing() -> tuple[str, ...]:
    """Version 6, too: what calls cost under each pricing of history."""
    added = (
        ("since", "DateTime('UTC')", "", "First minute of the calls it is for."),
        ("until", "Nullable(DateTime('UTC'))", "", "First minute it is not for; NULL: no end."),
        ("undoes", "UInt16", "", "The run whose figures it took back; 0: none, it priced by a book."),
        ("state", "LowCardinality(String)", " DEFAULT 'live'", "live, running (or killed: do it again) or done."),
    )
    runs = "ALTER TABLE `{database}`.`price_runs`"
    statements = [CALL_PRICES.ddl("{database}")]
    after = "active"
    for name, kind, default, comment in added:
        statements.append(f"{runs} ADD COLUMN IF NOT EXISTS `{name}` {kind}{default} COMMENT '{comment}' AFTER `{after}`")
        after = name
    shown = "Figures of it are shown: it is the live one, or was applied and not undone."
    return (*statements, f"{runs} COMMENT COLUMN active '{shown}'")


def _fees() -> tuple[str, ...]:
    """Version 7: searches of files that a vendor stores."""
    return (_add("file_searches", "Nullable(Int64)", "web_searches", "Searches of stored files that the vendor charges for."),)


def _billing() -> tuple[str, ...]:
    """Version 7: what vendors charged, and pricings of some of the calls."""
    runs = "ALTER TABLE `{database}`.`price_runs`"
    statements = [
        CHARGES.ddl("{database}"),
        INVOICES.ddl("{database}"),
        f"{runs} COMMENT COLUMN state 'live, counting, running (or killed: do it again) or done.'",
        f"{runs} ADD COLUMN IF NOT EXISTS `kind` LowCardinality(String) DEFAULT 'book'"
        " COMMENT 'book: by prices; invoice: by what was billed.' AFTER `state`",
        *(
            f"ALTER TABLE `{{database}}`.`{table}` ADD COLUMN IF NOT EXISTS `cost_billed` Decimal(38, 12)"
            " COMMENT 'Of cost: dollars that an invoice bills.' AFTER `cost_error`"
            for table in ("minutes", "hours", "days")
        ),
        *(
            f"ALTER TABLE `{{database}}`.`{table}` COMMENT COLUMN cost_source 'billed, vendor_reported, usage (reported tokens),"
            " counted (exactly), estimated (counted with an error) or stated.'"
            for table in ("calls", "call_prices")
        ),
    ]
    after = "kind"
    for name in ("providers", "models", "tenants"):
        statements.append(
            f"{runs} ADD COLUMN IF NOT EXISTS `{name}` Array(LowCardinality(String))"
            f" COMMENT 'Only calls of these {name}; empty: of all.' AFTER `{after}`"
        )
        after = name
    return tuple(statements)


STEPS: Final[dict[int, tuple[str, ...]]] = {
    2: _ownership(),
    3: _retention(),
    4: _terms(),
    5: _parts(),
    6: _sureness() + _repricing(),
    7: _fees() + _billing(),
}
"""For each version after the first, the statements that lead to it from the one before; ``{database}`` is filled in.
A new store is created from ``schemas.tables`` at once; a test proves that both ways end in the same columns."""

_VERSION_TABLE: Final = "schema_version"


@dataclass(frozen=True)
class Migrated:
    """What ``migrate`` did: the version found (None: an empty store) and the version now."""

    found: int | None
    now: int


def stored_version(store: Store) -> int | None:
    """Version of the store's tables, or None if it has none of ours."""
    exists = store.rows(
        "SELECT count() FROM system.tables WHERE database = {db:String} AND name = {t:String}",
        {"db": store.database, "t": _VERSION_TABLE},
    )
    if not exists[0][0]:
        return None
    found = store.rows(f"SELECT max(version) FROM {store.table(_VERSION_TABLE)}")[0][0]
    return int(found) or None


def migrate(store: Store) -> Migrated:
    """Create or upgrade the tables; doing it again changes nothing.

    Raises:
        StoreError: the store was written by a newer version of this software.
    """
    store.command(f"CREATE DATABASE IF NOT EXISTS `{store.database}`")
    found = stored_version(store)
    refuse_newer(store, found)
    if found is None:
        for table in TABLES:
            store.command(table.ddl(store.database))
        store.command(
            f"CREATE TABLE IF NOT EXISTS {store.table(_VERSION_TABLE)} (version UInt32, applied_at DateTime DEFAULT now())"
            " ENGINE = MergeTree ORDER BY version COMMENT 'Versions of the tables that this store has had.'"
        )
        _stamp(store, VERSION)
    else:
        for version in range(found + 1, VERSION + 1):
            for statement in STEPS[version]:
                store.command(statement.format(database=store.database))
            if version == 6:
                _derive(store, "cost_source = 'vendor_reported'")
            _stamp(store, version)
    return Migrated(found, VERSION)


def _derive(store: Store, which: str) -> None:
    """Derive anew the minutes of some calls: a new column of rollups says of these what no default can."""
    sql = f"SELECT DISTINCT toUnixTimestamp(minute) FROM {store.table('calls')} FINAL WHERE {which}"
    recompute(store, [int(minute) for (minute,) in store.rows(sql)])


def require_current(store: Store) -> None:
    """Check before reading that the store has our tables, at this version.

    Raises:
        StoreError: it has none, older or newer ones.
    """
    found = stored_version(store)
    refuse_newer(store, found)
    if found is None:
        raise StoreError(f"{store.address}: no llm-finops tables here; run `llm-finops run` or `llm-finops migrate` first")
    if found < VERSION:
        raise StoreError(f"{store.address}: tables are of version {found}, this software needs {VERSION}: run migrate")


def refuse_newer(store: Store, found: int | None) -> None:
    if found is not None and found > VERSION:
        raise StoreError(
            f"{store.address}: tables are of version {found}, newer than this software's {VERSION}; upgrade llm-finops"
        )


def _stamp(store: Store, version: int) -> None:
    store.command(f"INSERT INTO {store.table(_VERSION_TABLE)} (version) VALUES ({version})")
