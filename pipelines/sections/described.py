"""What is known of each setting, for errors, options of commands and the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ByteSize,
    SecretStr,
)
from pydantic.fields import FieldInfo

from pipelines.sections.kinds import HASH_KEY_VARIABLE, PREFIX, Allowed
from pipelines.sections.whole import Settings


def fields() -> dict[str, FieldInfo]:
    """Every setting by its key, such as ``store.to``."""
    return {
        f"{section}.{field.alias or name}": field
        for section, holder in Settings.model_fields.items()
        for name, field in section_of(holder).model_fields.items()
    }


def section_of(field: FieldInfo) -> type[BaseModel]:
    """The model of a section."""
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, BaseModel)
    return field.annotation


def variable(key: str) -> str:
    """The environment variable of a key."""
    return HASH_KEY_VARIABLE if key == "count.hash_key" else PREFIX + key.replace(".", "__").upper()


def is_secret(field: FieldInfo) -> bool:
    """It comes only from the environment and is never shown."""
    return SecretStr in {kind for kind, _ in types(field.annotation, ())}


def types(annotation: Any, marks: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The types an annotation is made of, each with its marks, without ``Annotated``, ``None`` and unions."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from types(inner, (*marks, *more))
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from types(part, marks)
    elif annotation is not type(None):
        yield annotation, marks


def allowed(field: FieldInfo) -> str:
    """What a value may be, in words."""
    kind, marks = next(types(field.annotation, tuple(field.metadata)))
    if words := _words(field):
        return words.words
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if kind is str:
        return "a text"
    low = next(mark.ge for mark in marks if hasattr(mark, "ge"))
    high = next(mark.le for mark in marks if hasattr(mark, "le"))
    if kind is ByteSize:
        return f"a size from {_size(low)} to {_size(high)}"
    return f"a whole number from {low:,} to {high:,}"


def is_shown(field: FieldInfo) -> bool:
    """Its value may be in an error: it holds no secret, nor the hash of one."""
    words = _words(field)
    return not is_secret(field) and (words is None or words.shown)


def is_table(field: FieldInfo) -> bool:
    """It is a list of tables, which has its place in the file (or a variable, as JSON) and not on a command line."""
    return field.annotation is not None and "ServeUser" in str(field.annotation)


def _words(field: FieldInfo) -> Allowed | None:
    _, marks = next(types(field.annotation, tuple(field.metadata)))
    return next((mark for mark in marks if isinstance(mark, Allowed)), None)


def default_text(field: FieldInfo) -> str:
    """The default as a person would write it."""
    value = field.default
    if value in (None, (), ""):
        return "none"
    if isinstance(value, ByteSize):
        return _size(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else str(value)


def _size(number: Any) -> str:
    return ByteSize(int(number)).human_readable(separator=" ").replace(".0 ", " ")
