"""`/k/<token>/`: the page behind a keep link. A GET shows, a POST decides; no session, no cookie, no referrer.

What it says is what the mail said already: which organisation, what is planned and when. Names and addresses stay out.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from apps.notifications import links
from apps.notifications.models import Delivery, KeepDecision
from apps.notifications.services import events
from apps.notifications.services import keep as keeping
from apps.notifications.services.messages import action_words
from apps.organizations.models import Organization
from apps.users.products import label_of
from aum.common.errors import DomainError, InvalidInput
from aum.common.rates import count_in_window

# Per address and minute: enough for a company behind one address and for its link scanners.
GETS_PER_MINUTE = 600
POSTS_PER_MINUTE = 30
POSTS_PER_LINK = 30
MISSING = "This link is not complete or no longer valid. Open it from the mail once more."


@csrf_exempt  # there is no session to ride on: whoever knows the token may act, nobody else
@require_http_methods(["GET", "HEAD", "POST"])
def keep(request: HttpRequest, token: str) -> HttpResponseBase:
    """Show what can be decided, or decide it."""
    address = request.META.get("REMOTE_ADDR") or ""
    is_post = request.method == "POST"
    if _is_too_much(f"{request.method}:{address}", POSTS_PER_MINUTE if is_post else GETS_PER_MINUTE, 60):
        return _page(request, {"title": "Too many requests", "text": "Wait a minute, then try again."}, status=429)
    delivery = _delivery(token)
    if delivery is None:
        return _page(request, {"title": "This link does not work", "text": MISSING}, status=404)
    if not is_post:
        return _show(request, delivery)
    if _is_too_much(f"link:{delivery.pk}", POSTS_PER_LINK, 3600):
        return _page(request, {"title": "Too many tries", "text": "Wait an hour, then try again."}, status=429)
    return _post(request, delivery)


def _delivery(token: str) -> Delivery | None:
    key = links.delivery_uuid(token)
    if key is None:
        return None
    found: Delivery | None = (
        Delivery.objects.select_related("organization", "account", "template")
        .filter(uuid=key, kind=Delivery.Kind.NOTICE, audience="person", account__isnull=False)
        .first()
    )
    # A link whose mail was never handed over cannot be in anybody's hands.
    return found if found is not None and found.handed_at is not None else None


def _is_too_much(key: str, limit: int, seconds: int) -> bool:
    return count_in_window(f"keep:{key}", seconds) > limit


def _show(request: HttpRequest, delivery: Delivery, *, status: int = 200, **more: Any) -> HttpResponse:
    state = keeping.link_state(delivery)
    is_over = state.is_expired or (state.decided is not None and not state.is_taken) or state.returned is not None
    context = {
        "state": state,
        "delivery": delivery,
        "organization_name": delivery.organization.name,
        "what": action_words(delivery.action, ", ".join(label_of(product) for product in delivery.products)),
        "is_over": is_over,
        **more,
    }
    return _page(request, context, status=410 if is_over and status == 200 and "done" not in more else status)


def _post(request: HttpRequest, delivery: Delivery) -> HttpResponse:
    choice, reason = request.POST.get("choice", ""), request.POST.get("reason", "")
    ip_address = request.META.get("REMOTE_ADDR") or None
    try:
        if choice == KeepDecision.Choice.KEEP:
            decision = keeping.keep(delivery=delivery, reason=reason, ip_address=ip_address)
        elif "code" in request.POST:
            decision = keeping.confirm(
                delivery=delivery, choice=choice, code=request.POST["code"], reason=reason, ip_address=ip_address
            )
        else:
            keeping.ask_code(delivery=delivery, choice=choice)
            return _show(request, delivery, code_for=choice)
    except keeping.CodeWrong as error:
        return _show(request, delivery, status=error.status, code_for=choice, error=error.detail)
    except InvalidInput as error:
        said = next(iter(error.fields.values()), [error.detail])[0]
        return _show(request, delivery, status=422, error=said, reason=reason[:500])
    except DomainError as error:
        return _show(request, delivery, status=error.status, error=error.detail)
    return _show(request, delivery, done=decision)


def _page(request: HttpRequest, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    # No request in the context: nothing of a session that the browser may have is read for this page.
    response = HttpResponse(render_to_string("notifications/keep.html", context), status=status)
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "no-store, private"
    response["X-Robots-Tag"] = "noindex, nofollow"
    return response


@csrf_exempt
@require_POST
def mail_events(request: HttpRequest, slug: str) -> HttpResponse:
    """Bounces and confirmations of the mail provider: stored when the secret is right, read by a worker."""
    address = request.META.get("REMOTE_ADDR") or ""
    if _is_too_much(f"events:{address}", 1200, 60):
        return HttpResponse("too many", status=429, content_type="text/plain")
    organization = Organization.objects.filter(slug=slug).first()
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    secret = request.headers.get("X-AUM-Secret", "") or (given.strip() if kind.lower() == "bearer" else "")
    if organization is None or events.settings_for(organization, secret) is None:
        return HttpResponse("unknown secret", status=401, content_type="text/plain")
    try:
        events.receive(organization, request.body)
    except InvalidInput as error:
        return HttpResponse(error.detail, status=400, content_type="text/plain")
    return HttpResponse("stored", status=202, content_type="text/plain")
