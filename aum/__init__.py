"""AUM: Automated User Management for Atlassian Cloud."""

from aum.celery import app as celery_app

__all__ = ["celery_app"]
