"""Terms: own prices, contracts and ownership rules, and the event time from which they hold for calls.

A call goes by the newest terms that begin at or before its own time, whenever it is read: so a record that is read again
comes to the same row after terms have changed. The first terms stand for all time before them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transforms.own.rules import NO_RULES, Rule
from transforms.price.contracts import Written
from transforms.price.entries import Folder
from transforms.price.fields import EVER


@dataclass(frozen=True)
class Terms:
    """``books``: folders of own prices, over the book that comes along; ``owners``: rules in their order of precedence.
    ``contracts``: what is written of them, compiled over the prices.

    ``since``: the event time from which they hold, in UTC microseconds.
    """

    books: tuple[Folder, ...] = ()
    owners: tuple[Rule, ...] = NO_RULES
    since: int = EVER
    contracts: tuple[Written, ...] = ()


Timeline = tuple[Terms, ...]
"""Terms in order of time, one at least."""

ALWAYS: Timeline = (Terms(),)

TermsNow = Callable[[], Timeline]
"""Asks for the terms as they are known now. Can be pickled."""


def in_order(terms: Iterable[Terms]) -> Timeline:
    """Terms in order of time."""
    return tuple(sorted(terms, key=lambda one: one.since))


def which(timeline: Timeline, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number of the terms that each call goes by, from its event time (UTC microseconds)."""
    begins = np.array([one.since for one in timeline[1:]], np.int64)
    return begins.searchsorted(times, side="right").astype(np.int64)
