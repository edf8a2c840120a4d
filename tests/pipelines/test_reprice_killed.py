"""``reprice apply`` and ``undo`` killed with -9, and the same command again: the end is that of commands nobody killed."""

from __future__ import annotations

from pathlib import Path

from tests.pipelines.repricing import scenario

KILLS = 2
"""How often each command is killed, each time before a write that the seed chooses, until it may end."""


def test_a_command_that_was_killed_again_and_again_ends_as_if_nobody_had(tmp_path: Path) -> None:
    said = scenario(tmp_path, seed=11, kills=KILLS)
    before, applied, undone, filled = said[:4]
    assert before == filled
    assert len({before, applied, undone}) == 3
    assert applied.startswith("([], [(2, True, True, 0)]")  # every law of reconcile holds
    assert undone.startswith("([], [(2, True, False, 0), (3, True, True, 2)]")
    assert [said[4 + KILLS], said[5 + 2 * KILLS]] == [applied, undone]
    assert [said[4], said[5 + KILLS]] == ["killed", "killed"]
