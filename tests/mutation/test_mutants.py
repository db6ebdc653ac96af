"""The mutants of a snippet, putting one into a living function, and the lines that keep AUM's promises."""

from __future__ import annotations

import ast
import re

import pytest

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.promises import GUARDS, Guard, broken
from tests.mutation.tracing import ROOT
from tests.mutation.trials import codes_of

SNIPPET = b'''"""Words."""
LIMIT = 20

def due(rows, days: int = 3):
    """Words: 7."""
    if not rows:
        return []
    logger.info("due", extra={"n": 5})
    found = [
        row for row in rows
        if row.age >= days and (
            row.kind == "person"
        )
    ]
    return Account.objects.filter(active=True, age__gt=days).exclude(pk=0)
'''


def changes() -> list[tuple[int, str, str]]:
    return [(mutant.line, mutant.operator, mutant.after) for mutant in mutants_of("apps/x.py", SNIPPET)]


def test_conditions_boundaries_guards_and_filters_are_broken() -> None:
    found = changes()

    assert (2, "constant", "21") in found
    assert (2, "constant", "19") in found
    assert (4, "constant", "4") in found
    assert (6, "guard", "if False") in found
    assert (6, "not", "rows") in found
    assert (11, "comparison", "row.age > days") in found
    assert (11, "comparison", "row.age < days") in found
    assert (11, "boolean", "row.age >= days or row.kind == 'person'") in found
    assert (15, "keyword", "Account.objects.filter(active=True)") in found
    assert (15, "return", "return None") in found
    assert any(operator == "method" and ".exclude(active=True" in after for _, operator, after in found)


def test_words_logs_and_annotations_are_left_alone() -> None:
    assert {line for line, _, _ in changes()}.isdisjoint({1, 3, 5, 8})


@pytest.mark.parametrize("mutant", mutants_of("apps/x.py", SNIPPET), ids=str)
def test_every_mutant_differs_compiles_and_keeps_the_lines(mutant: Mutant) -> None:
    mutated = mutant.apply(SNIPPET)

    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(SNIPPET))
    assert mutated.count(b"\n") == SNIPPET.count(b"\n")


def test_keys_survive_a_move_in_the_file_and_differ_from_each_other() -> None:
    here = [mutant.key for mutant in mutants_of("apps/x.py", SNIPPET)]
    moved = [mutant.key for mutant in mutants_of("apps/x.py", b"import os\n\n" + SNIPPET)]

    assert here == moved
    assert len(set(here)) == len(here)


def test_code_of_a_mutant_takes_the_place_of_the_living_one() -> None:
    source = b"def older(age):\n    return age > 3\n"
    names: dict[str, object] = {}
    exec(compile(source, "x.py", "exec"), names)
    older = names["older"]
    mutant = next(one for one in mutants_of("x.py", source) if one.after == "age >= 3")
    assert not older(3)  # type: ignore[operator]

    older.__code__ = codes_of(compile(mutant.apply(source), "x.py", "exec"))["older", 1][0]  # type: ignore[attr-defined]

    assert older(3)  # type: ignore[operator]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.promise} {guard.what}")
def test_line_that_keeps_a_promise_and_its_test_are_there(guard: Guard) -> None:
    ast.parse(broken(guard))
    path, _, name = guard.test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_promise_has_a_line_and_stands_in_the_table() -> None:
    assert {guard.promise for guard in GUARDS} == {f"P{number}" for number in range(1, 16)}
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert [guard.what for guard in GUARDS if f"| {guard.promise} | {guard.what} |" not in page] == []
