"""What a setting may be: kinds of values, each with the words that an error and the documentation use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    SecretStr,
)

PREFIX: Final = "LLM_FINOPS_"
HASH_KEY_VARIABLE: Final = "LLM_FINOPS_HASH_KEY"
PASSWORD_VARIABLE: Final = "LLM_FINOPS_STORE__PASSWORD"

DEFAULT_HASH_KEY: Final = b"llm-finops: no hash key was configured"
"""Used where no key is set, so that hashes stay equal from run to run. It is public: with it anyone can test whether a
guessed text is behind a hash, so ``doctor`` warns about it."""

Runners = Literal["local", "PrismRunner", "FlinkRunner", "PortableRunner", "DataflowRunner"]


@dataclass(frozen=True)
class Allowed:
    """What a value may be, in words; for types that do not say it by themselves. ``shown``: no error hides it."""

    words: str
    shown: bool = True


def _one_is_a_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


def no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _written_time(value: object) -> object:
    """A bare number is refused: 20251120 would be taken for seconds since 1970."""
    if isinstance(value, int | float) or (isinstance(value, str) and "-" not in value[1:]):
        raise ValueError("not a time")
    return value


def _store_address(value: str) -> str:
    scheme, mark, rest = value.partition("://")
    if not mark or not rest or scheme not in ("chdb", "http", "https", "clickhouse", "clickhouses"):
        raise ValueError("not the address of a store")
    if scheme != "chdb" and ":" in rest.rpartition("@")[0]:
        raise ValueError(f"a password does not belong here; set {PASSWORD_VARIABLE}")
    return value


def _tag_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if value:
        from transforms.decode.named_tags import named_tag  # with all decoders, which reading settings does not need
    for each in value:
        named_tag(each)
    return value


def _hash_key(value: SecretStr) -> SecretStr:
    if not 16 <= len(value.get_secret_value().encode()) <= 64:
        raise ValueError("a key has 16 to 64 bytes")
    return value


def dated_keys(text: str) -> tuple[tuple[int, bytes], ...]:
    """``KEY`` or ``DATE=KEY`` between commas or spaces, in order of time."""
    found: dict[int, bytes] = {}
    for item in re.split(r"[\s,]+", text.strip()):
        dated = re.fullmatch(r"(\d{4}-\d\d-\d\d)=(.*)", item)
        at = int(datetime.fromisoformat(dated[1]).replace(tzinfo=UTC).timestamp()) * 1_000_000 if dated else 0
        key = (dated[2] if dated else item).encode()
        if not 16 <= len(key) <= 64:
            raise ValueError("a key has 16 to 64 bytes, without commas and spaces")
        if at in found:
            raise ValueError("two keys hold from the same date" if dated else "only one key may be without a date")
        found[at] = key
    return tuple(sorted(found.items()))


def _pseudonym_keys(value: SecretStr) -> SecretStr:
    dated_keys(value.get_secret_value())
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_is_a_list), Allowed("a list of texts")]
TagNames = Annotated[Texts, AfterValidator(_tag_names), Allowed("a list of KIND:NAME or KIND:NAME=TAG")]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_one_is_a_list), Allowed("a list of folders")]
Files = Annotated[tuple[Path, ...], BeforeValidator(_one_is_a_list), Allowed("a list of files")]
FilesOrFolders = Annotated[tuple[Path, ...], BeforeValidator(_one_is_a_list), Allowed("a list of files or folders")]
Whole = Annotated[int, BeforeValidator(no_bool)]
Size = Annotated[ByteSize, BeforeValidator(no_bool)]
Time = Annotated[AwareDatetime, BeforeValidator(_written_time), Allowed("a time with its zone, such as 2025-11-20T00:00:00Z")]
Address = Annotated[str, AfterValidator(_store_address), Allowed("chdb://folder or http[s]://[user@]host[:port][/database]")]
Key = Annotated[SecretStr, AfterValidator(_hash_key), Allowed("a secret of 16 to 64 bytes")]

Keys = Annotated[SecretStr, AfterValidator(_pseudonym_keys), Allowed("KEY, or KEY,DATE=KEY,… with keys of 16 to 64 bytes")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)
