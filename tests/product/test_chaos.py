"""Three seeded trials of `script/chaos`; the full tier runs more."""

from __future__ import annotations

import sys

import pytest

from tests.product import chaos

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its processes in /proc")


def broken(seeds: list[int]) -> list[str]:
    found = []
    for trial in chaos.trials(seeds):
        print(trial.as_json())
        found += [f"seed {trial.seed}: {line}" for line in trial.broken]
    return found


@pytest.mark.timeout(600)
def test_what_is_killed_and_refused_on_the_way_ends_as_planned() -> None:
    # A runner in the middle of a call, PostgreSQL, and a network that loses answers, while all kinds of work go on.
    assert broken([27, 131, 195]) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_trials_hold() -> None:
    assert broken(list(range(100))) == []
