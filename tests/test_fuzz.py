"""Five hundred damaged files, each read or refused by one message; benchmarks/fuzz.py does the same at any length."""

from __future__ import annotations

import os

from benchmarks.fuzz import command_line, run

CASES = 500
SEED = int(os.environ.get("FUZZ_SEED", 0))


def test_damaged_files_are_read_or_refused_in_words() -> None:
    tally = run(CASES, SEED)
    assert tally.faults == []
    assert {kind for kind, _ in tally.outcomes} == {"photograph", "table", "json", "arrays", "checkpoint"}
    assert sum(n for (_, how), n in tally.outcomes.items() if how == "refused") > CASES / 2


def test_damaged_files_end_the_command_line_in_words() -> None:
    assert command_line(6, SEED) == []
