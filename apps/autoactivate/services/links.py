"""Single-use links: made here, kept as hashes, so that whoever reads the database cannot use one."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from apps.audit.services import record
from apps.autoactivate.crypto import hash_of
from apps.autoactivate.models import AccessGrant, InboundEvent, InboundLink
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from apps.users.models import Account

CONFIRM_HOURS = 48
REQUEST_DAYS = 7


def make_link(
    *,
    organization: Organization,
    purpose: str,
    expires_in: timedelta,
    email: str = "",
    event: InboundEvent | None = None,
    grant: AccessGrant | None = None,
    account: Account | None = None,
    actor: Actor | None = None,
) -> tuple[InboundLink, str]:
    """A new link and its address. The address holds the token, which is not kept."""
    token = secrets.token_urlsafe(32)
    link = InboundLink.objects.create(
        organization=organization,
        token_hash=hash_of(token),
        purpose=purpose,
        email=email,
        event=event,
        grant=grant,
        account=account,
        created_by=actor.name[:254] if actor else "",
        expires_at=timezone.now() + expires_in,
    )
    # Written out: the process that makes a link may not serve the address itself (AUM_SURFACE).
    return link, f"{settings.AUM_PUBLIC_URL}/hooks/{purpose}/{token}/"


def make_request_link(*, organization: Organization, account: Account, actor: Actor) -> str:
    """A link by which exactly this person may ask for access once, within 7 days."""
    link, url = make_link(
        organization=organization,
        purpose=InboundLink.Purpose.REQUEST,
        expires_in=timedelta(days=REQUEST_DAYS),
        account=account,
        email=account.email or "",
        actor=actor,
    )
    record(
        organization=organization,
        actor=actor,
        action="inbound.link_made",
        target_kind="account",
        target_ref=account.account_id,
        target_name=account.name,
        target_email=account.email or "",
        after={"expires_at": link.expires_at.isoformat()},
    )
    return url
