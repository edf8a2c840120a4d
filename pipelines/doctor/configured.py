"""What is configured beside inputs and stores: prices, keys, mappings, rules of ownership."""

from __future__ import annotations

from datetime import UTC, datetime

from pipelines.doctor.findings import Finding, Status
from pipelines.errors import one_line
from pipelines.sections import HASH_KEY_VARIABLE, Settings, variable


def price_book(settings: Settings) -> Finding:
    """The price book, and the folders and contracts over it, load."""
    from transforms.price import book_rows, load_book

    book = load_book(settings.price.books, settings.price.contracts)
    own = f", with {len(settings.price.books)} own folders" if settings.price.books else ""
    under = f", contracts {', '.join(contract.name for contract in book.contracts)}"[:200] if book.contracts else ""
    return Finding("prices", Status.OK, f"book {book.book_version}, {len(book_rows(book)):,} rates{own}{under}")


def hash_key(settings: Settings) -> Finding:
    """Hashes that stand in for texts are made with a key nobody else knows."""
    if settings.count.hash_key is not None:
        return Finding("hash key", Status.OK, f"set by {HASH_KEY_VARIABLE}")
    detail = "none: hashes of texts use a public key, so who reads them can test guesses"
    return Finding("hash key", Status.WARN, detail, f"set {HASH_KEY_VARIABLE} to 16 to 64 secret bytes, for good")


def user_keys(settings: Settings) -> Finding:
    """End users are hashed with keys of their own, which can be replaced."""
    keys = settings.privacy.keys
    if not keys:
        detail = "none: end users are hashed with the hash key, which cannot be replaced"
        return Finding("user keys", Status.ABSENT, detail, f"set {variable('privacy.pseudonym_keys')} before the first run")
    since = datetime.fromtimestamp(keys[-1][0] / 1e6, UTC)
    latest = f", the latest since {since:%Y-%m-%d}" if keys[-1][0] else ""
    return Finding("user keys", Status.OK, f"{len(keys)} for end users{latest}")


def mappings(settings: Settings) -> Finding:
    """Mappings of the operator's own logs can be read and are right."""
    if not settings.decode.mappings:
        return Finding("mappings", Status.ABSENT, "none: logs of known formats alone are read", "see docs/mapping.md")
    from pipelines.mappings import read_mappings

    try:
        names = ", ".join(mapping.name for mapping in read_mappings(settings.decode.mappings))
    except ValueError as error:
        return Finding("mappings", Status.FAIL, one_line(error, 300), "mend the file; see docs/mapping.md")
    return Finding("mappings", Status.OK, f"{len(settings.decode.mappings):,} files: {names[:200]}")


def owners(settings: Settings) -> Finding:
    """Rules of ownership can be read and are right."""
    if not settings.owners.rules:
        return Finding("owners", Status.ABSENT, "none: calls belong to the teams that records name", "see docs/ownership.md")
    from transforms.own.files import read_rules

    try:
        rules = read_rules(settings.owners.rules)
    except ValueError as error:
        return Finding("owners", Status.FAIL, one_line(error, 300), "mend the file; see docs/ownership.md")
    return Finding("owners", Status.OK, f"{len(rules):,} rules of {len(settings.owners.rules):,} files")
