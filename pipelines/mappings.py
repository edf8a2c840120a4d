"""Files of mappings, read and checked: how logs of an operator's own are understood."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transforms.decode import FORMATS
from transforms.decode.mapping import Mapping
from transforms.decode.mapping_files import MappingError, mappings_in


def read_mappings(paths: Iterable[Path]) -> tuple[Mapping, ...]:
    """The mappings of all files, in their order: the first that recognises a record reads it.

    Raises:
        MappingError: a file cannot be read, or says something that is wrong; file, mapping and field are named.
    """
    found = mappings_in((str(path), _text(path)) for path in paths)
    taken = {form.name for form in FORMATS}
    for one in found:
        if one.name in taken:
            raise MappingError(f"mapping {one.name!r}: a format that comes along has this name: choose another")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise MappingError(f"{path}: not valid TOML: {error}") from None
