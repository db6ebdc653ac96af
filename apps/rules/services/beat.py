"""The one periodic task of a rule in django-celery-beat. It only says "look now"; what is due is computed on firing."""

from __future__ import annotations

import json

from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.rules.models import CleanupRule
from apps.rules.schedule import MONTHLY, WEEKLY

TASK = "rules.fire"
# Every month has these days, so its crontab needs no help.
SURE_DAYS = 28


def crontab_fields(rule: CleanupRule) -> dict[str, str]:
    """Minute, hour and days of the rule's crontab. Cron's week starts on Sunday; ours on Monday.

    The 29th and later come on the last day of shorter months, which cron cannot say: it then rings on the 28th to the
    31st, and firing finds on which of them the rule is due.
    """
    days_of_month = "*"
    if rule.recurrence == MONTHLY and rule.month_day is not None:
        days_of_month = str(rule.month_day) if rule.month_day <= SURE_DAYS else f"{SURE_DAYS}-31"
    weekdays = ",".join(str((day + 1) % 7) for day in rule.weekdays) if rule.recurrence == WEEKLY else "*"
    return {
        "minute": str(rule.run_at.minute),
        "hour": str(rule.run_at.hour),
        "day_of_month": days_of_month,
        "month_of_year": "*",
        "day_of_week": weekdays,
    }


def put_on_beat(rule: CleanupRule) -> None:
    """Create or change the rule's periodic task; saved row by row, because beat sees only changes made by `save`."""
    fields = crontab_fields(rule)
    crontab = CrontabSchedule.objects.filter(**fields, timezone=rule.timezone).first()
    if crontab is None:
        crontab = CrontabSchedule.objects.create(**fields, timezone=rule.timezone)
    task = rule.periodic_task or PeriodicTask(name=_task_name(rule.pk))
    task.task = TASK
    task.crontab = crontab
    task.kwargs = json.dumps({"rule_id": rule.pk})
    task.enabled = not rule.is_paused
    task.description = rule.name
    task.save()
    if rule.periodic_task_id != task.pk:
        rule.periodic_task = task
        rule.save(update_fields=["periodic_task"])


def take_off_beat(rule_id: int) -> None:
    """Delete the periodic task of a rule, also of one whose row is gone with its organisation."""
    for task in PeriodicTask.objects.filter(name=_task_name(rule_id)):
        task.delete()  # one by one: beat hears of it by a signal


def _task_name(rule_id: int) -> str:
    return f"{TASK} {rule_id}"
