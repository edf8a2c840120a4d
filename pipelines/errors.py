"""What can go wrong for a person at the command line: one line of text and an exit code with a meaning."""

from __future__ import annotations

import os
import re
import sys
from enum import IntEnum
from typing import Final

from pipelines.lines import say
from pipelines.text import printable


class ExitCode(IntEnum):
    """What the exit code of ``llm-finops`` means; scripts may rely on it."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    INPUT = 3
    STORE = 4
    DEFECT = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT, as shells report it


EXIT_CODES: Final = {
    ExitCode.OK: "It worked.",
    ExitCode.CHECK_FAILED: "A check found something: differences in `reconcile`, a finding of `audit`, unexplained dollars in "
    "`invoice compare`, a failed finding in `doctor`.",
    ExitCode.USAGE: "Wrong usage or configuration; nothing was done.",
    ExitCode.INPUT: "An input is missing, unreadable or not what it claims to be; or an output file cannot be written.",
    ExitCode.STORE: "The store (or the topic of dead letters) is unreachable, refuses or is full; run the same command again "
    "once it is not.",
    ExitCode.DEFECT: "A defect of this software; please report it.",
    ExitCode.INTERRUPTED: "Interrupted (Ctrl-C); run the same command again to go on.",
}


class LlmFinopsError(Exception):
    """An error a person can act on; its text is one line."""

    exit_code: ExitCode = ExitCode.DEFECT

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class CheckFailed(LlmFinopsError):
    exit_code = ExitCode.CHECK_FAILED


class SettingsError(LlmFinopsError):
    """A wrong option, configuration file or environment variable."""

    exit_code = ExitCode.USAGE


class InputError(LlmFinopsError):
    exit_code = ExitCode.INPUT


class OutputError(LlmFinopsError):
    """A file cannot be written."""

    exit_code = ExitCode.INPUT


class StoreFailed(LlmFinopsError):
    exit_code = ExitCode.STORE


class Stopped(LlmFinopsError):
    """A run ended early, in order, because it was asked to."""

    exit_code = ExitCode.INTERRUPTED


# Errors of layers that know nothing of exit codes, by package and name, so that knowing them imports nothing.
_ELSEWHERE: Final = {
    ("sinks", "StoreError"): ExitCode.STORE,
    ("sinks", "StoreUnavailable"): ExitCode.STORE,
    ("sinks", "StoreRefused"): ExitCode.STORE,
    ("sinks", "OutletError"): ExitCode.STORE,
    ("sinks", "OutletUnavailable"): ExitCode.STORE,
    ("sinks", "ExportError"): ExitCode.USAGE,
    ("sources", "SourceError"): ExitCode.INPUT,
    ("transforms", "BookError"): ExitCode.USAGE,
    ("transforms", "RulesError"): ExitCode.USAGE,
    ("transforms", "MappingError"): ExitCode.USAGE,
    ("pipelines", "WorkerDied"): ExitCode.DEFECT,
}

# A worker hands the runner an error as the text of its traceback: the kind and the message are a line of it.
_IN_TRACEBACK: Final = re.compile(r"^(?P<package>\w+)(?:\.\w+)*\.(?P<name>\w+): (?P<text>.*)$", re.MULTILINE)
_WHILE_RUNNING: Final = re.compile(r"\s*\[while running .*$", re.DOTALL)


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for an error, also where a runner has wrapped it in one of its own."""
    return _known(error)[0]


def waiting_helps(error: BaseException) -> bool:
    """Whether it may pass by itself: a source or a topic that does not answer, a store that is away, full or read-only."""
    return _known(error)[0] == ExitCode.INPUT or _known(error)[2] in ("StoreUnavailable", "OutletUnavailable")


def one_line(error: BaseException, limit: int = 500) -> str:
    """What to tell a person: the text of the error that has an exit code of its own, else kind and text."""
    line = printable(re.sub(r"\s+", " ", _known(error)[1].strip()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _known(error: BaseException) -> tuple[ExitCode, str, str]:
    """Exit code, text and kind of an error, also where a runner has wrapped it in one of its own."""
    for cause in _causes(error):
        if isinstance(cause, LlmFinopsError):
            return cause.exit_code, str(cause), type(cause).__name__
        if isinstance(cause, KeyboardInterrupt):
            return ExitCode.INTERRUPTED, "interrupted", "KeyboardInterrupt"
        for kind in type(cause).__mro__:
            if code := _ELSEWHERE.get((kind.__module__.partition(".")[0], kind.__name__)):
                return code, _WHILE_RUNNING.sub("", str(cause)), type(cause).__name__
        for found in _IN_TRACEBACK.finditer(str(cause)):
            if code := _ELSEWHERE.get((found["package"], found["name"])):
                return code, _WHILE_RUNNING.sub("", found["text"]), found["name"]
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        files = FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError
        return (ExitCode.INPUT if isinstance(error, files) else ExitCode.DEFECT), text, type(error).__name__
    return ExitCode.DEFECT, f"{type(error).__name__}: {error}", type(error).__name__


def fail(error: BaseException) -> int:
    """Print the one line to stderr and return the exit code, for ``sys.exit``."""
    if isinstance(error, BrokenPipeError):
        # Who reads our output (``head``, a pager) has seen enough; keep the interpreter from flushing what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    code = exit_code(error)
    say(f"llm-finops: {one_line(error)}", "failed", "error", exit_code=int(code))
    return int(code)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, innermost last; each once."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
