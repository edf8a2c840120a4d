"""Imports of invoices: which lines they are made of, and which of several is in force.

No line of an invoice has an identity: FOCUS gives rows none, and a corrected export is written anew. So lines are replaced
whole, for all days of a provider and account that files are whole for, and the latest import of a day is in force.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from schemas.invoice import Charge, Import

DAY: Final = 86_400

Set = tuple[str, str]
"""Provider and billing account."""


class Part(NamedTuple):
    """Lines of one provider and account, in an order that is theirs whatever files they came from, and the days that they are
    whole for."""

    provider: str
    account: str
    since: int
    until: int
    fingerprint: str
    charges: tuple[Charge, ...]


def parts(charges: Iterable[Charge], since: int | None = None, until: int | None = None) -> list[Part]:
    """The lines by provider and account. They are whole for the days from the first that is charged for to the last, or for
    those that are given (UTC midnights)."""
    sets: dict[Set, list[Charge]] = defaultdict(list)
    for c in charges:
        sets[c.provider, c.account].append(c)
    made = []
    for (provider, account), some in sorted(sets.items()):
        lines = tuple(sorted(some, key=lambda c: (c.start, repr(content(c)))))
        first = min(c.start for c in lines) // DAY * DAY if since is None else since
        end = max(-(-c.end // DAY) * DAY for c in lines) if until is None else until
        said = repr((provider, account, first, end, [content(c) for c in lines]))
        made.append(Part(provider, account, first, end, hashlib.blake2b(said.encode(), digest_size=16).hexdigest(), lines))
    return made


def content(charge: Charge) -> tuple[object, ...]:
    """A line without where it was read."""
    return charge[2:]


def outside(charges: Iterable[Charge], since: int | None, until: int | None) -> Charge | None:
    """A line that is not of these days, if there is one."""
    return next((c for c in charges if (since or 0) > c.start or (until is not None and c.end > until)), None)


def doubled(charges: Sequence[Charge], buckets: frozenset[str]) -> str:
    """Why files of one import seem to hold the same charges; empty if they do not.

    ``buckets``: files in which a charge has an identity, its account, project, item and period, as OpenAI's costs do. Of the
    others two may hold equal lines, but not most of them.
    """
    first: dict[tuple[object, ...], Charge] = {}
    for c in charges:
        if c.file in buckets:
            other = first.setdefault((c.provider, c.account, c.project, c.description, c.start), c)
            if other.file != c.file:
                return f"{other.file} and {c.file} both have {c.description!r} of {day(c.start)}"
    lines: dict[str, Counter[tuple[object, ...]]] = defaultdict(Counter)
    for c in charges:
        if c.file not in buckets:
            lines[c.file][content(c)] += 1
    files = sorted(lines, key=lambda file: lines[file].total())
    holders: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for file in files:
        for line in lines[file]:
            holders[line].append(file)
    for file in files:
        shared = Counter(other for line in lines[file] for other in holders[line] if other != file)
        for beside, count in shared.items():
            if 2 * count > len(lines[file]):
                return f"{count:,} of {len(lines[file]):,} lines of {file} are in {beside}, too"
    return ""


def in_force(imports: Iterable[Import]) -> dict[tuple[str, str, int], int]:
    """By provider, account and day (its first second): the number of the import whose lines that start on it stand."""
    found: dict[tuple[str, str, int], int] = {}
    for one in sorted(imports):
        if one.state == "imported":
            found |= {(one.provider, one.account, at): one.number for at in range(one.since, one.until, DAY)}
    return found


def days_in_force(imports: Sequence[Import]) -> Mapping[int, int]:
    """How many days each import is in force for."""
    return Counter(in_force(imports).values())


def unlike(part: Part, standing: Sequence[Charge]) -> str:
    """Why the lines of a part may not be all there is for its days, by lines in force that touch them; empty if they may."""
    over = next((c for c in standing if c.start < part.since or c.end > part.until), None)
    if over is not None:
        said = f"a line in force is for {day(over.start)} to {day(over.end - 1)}, these files for"
        return f"{said} {day(part.since)} to {day(part.until - 1)}: import all of its days, or remove that import first"
    days = {c.start // DAY for c in standing} - {c.start // DAY for c in part.charges}
    if days:
        more = f" and {len(days) - 1:,} more days" if len(days) > 1 else ""
        return f"lines of {day(min(days) * DAY)}{more} are in force, and these files have none"
    projects = {c.project for c in standing if c.project} - {c.project for c in part.charges}
    if projects and any(c.project for c in part.charges):
        more = f" and {len(projects) - 1:,} more" if len(projects) > 1 else ""
        return f"lines of project {min(projects)}{more} are in force, and these files have none"
    categories = {c.category for c in standing} - {c.category for c in part.charges}
    if categories:
        return f"lines of {' and '.join(sorted(categories))} are in force, and these files have none"
    currencies = {c.currency for c in standing} - {c.currency for c in part.charges}
    if currencies and {c.currency for c in part.charges} <= {c.currency for c in standing}:
        return f"lines in {' and '.join(sorted(currencies))} are in force, and these files have none"
    return ""


def unlike_currency(part: Part, standing: Sequence[Charge], allowed: Collection[str]) -> str:
    """Why lines of a part may not stand for those in force for its days: they are in another currency, which is not one of
    ``allowed``. Empty if they may, or none are in force."""
    before = sorted({c.currency for c in standing})
    first = next((c for c in part.charges if c.currency not in before and c.currency not in allowed), None)
    if first is None or not before:
        return ""
    lines = lines_are(sum(c.currency == first.currency for c in part.charges))
    return f"{first.file}: {lines} in {first.currency}, those in force for these days in {' and '.join(before)}"


def lines_are(count: int) -> str:
    """So many lines, and the verb."""
    return "1 line is" if count == 1 else f"{count:,} lines are"


def day(second: int) -> str:
    """Its UTC day."""
    return datetime.fromtimestamp(second, UTC).date().isoformat()
