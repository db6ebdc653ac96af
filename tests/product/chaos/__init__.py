"""Faults by the thousand: seeded trials in which AUM's work meets kills, a bad network, and a misbehaving Atlassian.

    script/chaos --trials 20                    seeds 0 to 19, or as far as they were not run before
    script/chaos --trials 1000 --minutes 60     goes on with what is missing until the time is over
    script/chaos --seed 17                      one trial again

A trial connects an organisation of its own to a running installation, starts live runs of several kinds, an undo, a
sync, notices and tickets from outside, and meanwhile strikes processes, servers, network, queue and clocks
(`menu.py`). After it an independent checker (`checker.py`) compares the plan, the outcomes, the audit rows, the
mirror, the mails and the ledger of the pretend Atlassian. Each trial is one line of `var/chaos/report.jsonl`.
"""

from tests.product.chaos.trial import Trial, trials

__all__ = ["Trial", "trials"]
