"""The command line: the commands of ``pipelines.commands``, and how an error ends."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Any

import click

from pipelines.commands.announcing import terms
from pipelines.commands.contracting import contracts
from pipelines.commands.decoding import decode
from pipelines.commands.invoicing import invoice
from pipelines.commands.keeping import doctor, forget, migrate, serve
from pipelines.commands.looking import audit, export, reconcile, summary
from pipelines.commands.owning import owners
from pipelines.commands.pricing import explain, prices
from pipelines.commands.repricing import reprice
from pipelines.commands.running import replay_dead, run
from pipelines.commands.trying import demo, generate
from pipelines.errors import fail


class _Piped(click.Group):
    """Commands whose reader may go away (``head``): that is no failure, and click would end with 1, which is of checks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            sys.exit(fail(error))


@click.group(cls=_Piped, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("llm-finops"))
def cli() -> None:
    """What LLM calls cost, why, and what to do about it: from the call logs you already have.

    Settings come from defaults, a TOML file, the environment and options, in this order. Exit codes: 0 it worked, 1 a
    check found something, 2 wrong usage or configuration, 3 input missing or unreadable or output file not writable,
    4 store unreachable, refusing or full, 70 a defect, 130 interrupted.
    """


_LOGS = (run, decode, replay_dead)
_READS = (summary, contracts, explain, reconcile, audit, export, invoice, prices)
_STORE = (owners, reprice, terms, serve, migrate, forget, doctor)
for command in (*_LOGS, *_READS, *_STORE, generate, demo):
    cli.add_command(command)


def main() -> None:
    """Entry point: every error is one line and an exit code."""
    # Beam logs the traceback of what it raises again; a person gets the one line that `fail` prints.
    logging.basicConfig(level=logging.CRITICAL, format="%(message)s")
    logging.getLogger().handlers[0].setLevel(logging.CRITICAL)  # some libraries lower the level of their own loggers
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(fail(KeyboardInterrupt()))
    except SystemExit:
        raise
    except BaseException as error:
        sys.exit(fail(error))
