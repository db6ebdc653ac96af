"""Each promise of AUM with one line that keeps it, and the test that fails when the line is taken out.

    script/mutate --promises

`before` is taken out of the file (`after` stands in its place), the test is run, and has to fail; tests/mutation
checks in every run that the lines and the tests are still there. docs/reliability.md shows the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from tests.mutation.tracing import ROOT


@dataclass(frozen=True)
class Guard:
    """`what` completes "Without it, …"."""

    promise: str
    what: str
    path: str
    before: str
    after: str
    test: str


EXECUTION = "tests/operations/test_execution.py::"
GUARDS = (
    Guard(
        "P1",
        "people whose last login is unknown are selected by a rule",
        "apps/operations/planning.py",
        'reasons.append(When(asked.open, then=Value("unknown_activity")))',
        "pass",
        "tests/rules/test_further_actions.py::"
        "test_a_rule_of_conditions_alone_leaves_out_by_name_whose_login_is_not_known",
    ),
    Guard(
        "P2",
        "who joined a protected group since the plan was made is suspended",
        "apps/operations/planning.py",
        'When(protected_from_q(action_name, organization, selection.protected_group_ids), then=Value("protected")),',
        "",
        f"{EXECUTION}test_who_joined_a_protected_group_in_atlassian_is_skipped",
    ),
    Guard(
        "P2",
        "an undo takes access from who is protected by now",
        "apps/operations/services/rechecks.py",
        "results.update(_protected_by_now(operation, [item for item in left if item.pk not in results]))",
        "pass",
        "tests/operations/test_bulk_actions.py::test_undo_of_an_add_takes_nothing_from_who_is_protected_by_now",
    ),
    Guard(
        "P3",
        "the client of previews can send a write",
        "aum/atlassian/transport.py",
        'raise TypeError("A reader can only send reads.")',
        "pass",
        "tests/atlassian/test_safety.py::test_the_transport_of_a_reader_cannot_send_a_write",
    ),
    Guard(
        "P4",
        "a row that was added behind a frozen plan is approved and written",
        "apps/operations/services/approvals.py",
        "planning.freeze(locked)[0] != locked.plan_hash",
        "False",
        "tests/operations/test_brakes.py::test_row_changed_behind_the_plan_blocks_it",
    ),
    Guard(
        "P5",
        "a plan over the limit starts",
        "apps/operations/services/gate.py",
        "if people > brakes.max_count:",
        "if False:",
        "tests/operations/test_journey.py::test_plan_over_the_limit_is_held_and_an_approval_frees_exactly_it",
    ),
    Guard(
        "P5",
        "a loosened safeguard counts before its hour is over",
        "apps/operations/services/safeguards.py",
        "status=Status.APPROVED, effective_at__lte=timezone.now()",
        "status=Status.APPROVED",
        "tests/operations/test_safeguards.py::test_nothing_happens_before_the_hour_is_over",
    ),
    Guard(
        "P6",
        "who logged in since the plan was made is suspended",
        "apps/operations/services/rechecks.py",
        "results.update(_selected_no_more(operation, left, accounts))",
        "pass",
        "tests/operations/test_journey.py::test_who_came_back_is_skipped_at_their_turn",
    ),
    Guard(
        "P6",
        "a write goes out on a reading that is older than a minute",
        "apps/operations/services/execution.py",
        "if pauses or too_old or not",
        "if pauses or not",
        f"{EXECUTION}test_nobody_is_written_on_a_reading_that_is_too_old",
    ),
    Guard(
        "P7",
        "a write whose answer was lost counts as done without being read",
        "apps/operations/services/execution.py",
        "return Written(item, is_answered=False, ids=ids)\n    if isinstance(error, RateLimited",
        'return Written(item, result=Result(Outcome.DONE, ""), ids=ids)\n    if isinstance(error, RateLimited',
        "tests/operations/test_journey.py::test_lost_answers_are_resolved_by_reading",
    ),
    Guard(
        "P7",
        "what a dead worker wrote is written again without being read",
        "apps/operations/services/claims.py",
        "expired.filter(written_at__isnull=True).update(status=Status.PENDING",
        "expired.update(status=Status.PENDING",
        f"{EXECUTION}test_written_item_of_a_dead_worker_is_read_before_anything_else",
    ),
    Guard(
        "P8",
        "an undo overwrites what somebody else changed meanwhile",
        "apps/operations/services/rechecks.py",
        "results.update(_undo_conflicts(operation, left, accounts, reading))",
        "pass",
        f"{EXECUTION}test_undo_shows_what_somebody_else_changed_and_leaves_it",
    ),
    Guard(
        "P9",
        "an edited audit row is not named",
        "apps/audit/services/verification.py",
        "if expected is not None and original is None:",
        "if False:",
        "tests/audit/test_chain.py::test_an_edited_row_is_named",
    ),
    Guard(
        "P10",
        "somebody is acted upon whose notice was not delivered",
        "apps/rules/services/notices.py",
        "hooks.selection_gates.append(untold)",
        "pass",
        "tests/notifications/test_delivery.py::"
        "test_of_100_users_the_refused_one_is_held_and_acted_upon_full_days_after_a_later_delivery",
    ),
    Guard(
        "P11",
        "a run goes on although the data lost its trust",
        "apps/operations/services/claims.py",
        "if not trust.ok:",
        "if False:",
        f"{EXECUTION}test_data_that_lost_its_trust_holds_the_rest",
    ),
    Guard(
        "P12",
        "an error shows the key that Atlassian's answer repeats",
        "aum/atlassian/transport.py",
        "content=self._scrubbed(reply.content),",
        "content=reply.content,",
        "tests/atlassian/test_safety.py::test_no_secret_shows_in_errors_logs_or_reprs",
    ),
    Guard(
        "P13",
        "a request that waited starts although a pause began meanwhile",
        "aum/atlassian/limiter.py",
        "if self.pause_remaining(family) == 0:",
        "if True:",
        "tests/atlassian/test_limiter.py::test_a_waiter_starts_no_request_when_a_pause_begins_while_it_sleeps",
    ),
    Guard(
        "P14",
        "a run of another organisation can be opened",
        "apps/organizations/models.py",
        "return self.filter(organization=organization)",
        "return self.all()",
        "tests/operations/test_views.py::test_operation_of_another_organisation_does_not_exist",
    ),
    Guard(
        "P15",
        "people are added to a group that grants administration",
        "apps/operations/planning.py",
        "elif group.is_administrative:",
        "elif False:",
        "tests/operations/test_bulk_actions.py::test_group_that_became_administrative_after_the_plan_is_skipped",
    ),
    Guard(
        "P15",
        "a run leaves one organisation admin",
        "apps/operations/services/gate.py",
        "reasons += _admins_left(operation)",
        "",
        "tests/operations/test_brakes.py::test_fewer_than_two_admins_are_never_left",
    ),
    Guard(
        "P15",
        "an owner's removals leave one organisation admin",
        "apps/operations/services/administration.py",
        "len(left) <= MIN_ADMINS",
        "False",
        "tests/operations/test_administration.py::test_of_several_only_so_many_go_that_two_admins_stay",
    ),
    Guard(
        "P15",
        "a script of an owner gives administration",
        "apps/operations/services/administration.py",
        'if actor.kind != "operator" or operator is None:',
        "if operator is None:",
        "tests/operations/test_ways_in.py::test_bulk_actions_over_rest_add_nobody_to_an_admin_group",
    ),
    Guard(
        "P5",
        "a token's edit proposes looser limits",
        "apps/operations/services/safeguards.py",
        'if actor.kind == "token":\n        raise NotAllowed("A token cannot loosen',
        'if False:\n        raise NotAllowed("A token cannot loosen',
        "tests/operations/test_ways_in.py::test_limits_of_a_live_rule_are_loosened_at_once_by_no_way",
    ),
)


def broken(guard: Guard) -> bytes:
    """The file without the line. Raises ValueError when the line does not stand in it exactly once."""
    source = (ROOT / guard.path).read_text()
    if source.count(guard.before) != 1:
        raise ValueError(f"{guard.path} does not hold once: {guard.before}")
    return source.replace(guard.before, guard.after).encode()


def run_guards() -> int:
    """Take each line out and run its test: prints whether it noticed; returns how many did not."""
    missed = 0
    for guard in GUARDS:
        began = time.monotonic()
        with tempfile.NamedTemporaryFile(suffix=".py") as file:
            file.write(broken(guard))
            file.flush()
            environ = {**os.environ, "AUM_MUTANT_FILE": str(ROOT / guard.path), "AUM_MUTANT_SOURCE": file.name}
            command = [sys.executable, "-m", "tests.mutation.fresh", "pytest", guard.test]
            answer = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        has_noticed = f"FAILED-TEST {guard.test}" in answer.stdout
        missed += not has_noticed
        word = "noticed" if has_noticed else "NOT NOTICED"
        print(f"{guard.promise:<4} {word:<11} {time.monotonic() - began:5.1f} s  {guard.what}", flush=True)
    return missed
