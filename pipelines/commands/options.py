"""Options that commands share: how to print, and those of settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from pipelines.lines import as_json
from pipelines.sections import fields, is_secret, is_table
from pipelines.settings import load, option_help
from pipelines.show import Format

FORMAT: Final = click.option(
    "--format",
    "fmt",
    type=click.Choice([str(f) for f in Format]),
    default="table",
    show_default=True,
    help="How to print.",
)
_FLAGS: Final = {"source.from": "--from", "store.to": "--to", "serve.host": "--host", "serve.port": "--port"}


def flag(key: str) -> str:
    """The option of a setting: ``--from`` and ``--to`` are short, others are ``--section-key``."""
    return _FLAGS.get(key) or "--" + key.replace(".", "-").replace("_", "-")


def takes_settings(*sections: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of these sections, and pass what they add up to as ``settings``."""
    shown = {key: field for key, field in fields().items() if not is_secret(field) and not is_table(field)}
    keys = [key for key in shown if key.partition(".")[0] in sections]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(config: Path | None, **given: Any) -> Any:
            flags = {key: given.pop(_parameter(key)) for key in keys}
            flags = {key: value or None if isinstance(value, tuple) else value for key, value in flags.items()}
            settings = load(config, flags=flags)
            if settings.log.format == "json":
                as_json()
            return command(settings=settings, **given)

        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        for key in reversed(keys):
            annotation = str(fields()[key].annotation)
            many = "tuple" in annotation
            option = click.option(flag(key), _parameter(key), default=None, multiple=many, help=option_help(key))
            wrapped = option(wrapped)
        return click.option("--config", type=click.Path(path_type=Path), help="Configuration file (TOML).")(wrapped)

    return decorate


def _parameter(key: str) -> str:
    return key.replace(".", "__")
