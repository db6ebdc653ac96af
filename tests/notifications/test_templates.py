"""Templates: what an author may write, what becomes of the rest, and what pages and REST make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from apps.notifications import content, services
from apps.notifications.models import Delivery, EmailTemplate, MailSettings
from apps.operators.models import Operator
from apps.organizations.models import Organization
from apps.rules.models import CleanupRule
from apps.users.models import Account
from aum.common.errors import InvalidInput
from tests.notifications.conftest import ACTOR, Mailbox
from tests.notifications.test_ladder import make_live, tell  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db
TAGS = ["h1", "h2", "h3", "p", "br", "strong", "em", "ul", "ol", "li"]


def values(**fields: Any) -> services.TemplateInput:
    smallest = {"name": "Warning", "days_inactive": 23, "subject": "Hello", "body": "<p>Hello</p>"}
    return services.TemplateInput(**(smallest | fields))


@pytest.mark.parametrize("tag", TAGS)
def test_each_allowed_tag_stays(tag: str) -> None:
    body = f"a<{tag}>b" if tag == "br" else f"<{tag}>b</{tag}>"

    assert f"<{tag}>" in content.sanitise(body).html


@pytest.mark.parametrize(
    ("body", "gone", "named"),
    [
        ("<p>x<script>alert(1)</script></p>", "alert", "<script>"),
        ("<p onclick=alert(1) style='x'>x</p>", "alert", "onclick"),
        ("<p>x<img src=x onerror=alert(1)></p>", "alert", "<img>"),
        ("<style>p{}</style><p>x</p>", "p{}", "<style>"),
        ("<p>x<a href='javascript:alert(1)'>y</a></p>", "javascript", "<a>"),
        ("<p>x<iframe src=//evil></iframe></p>", "evil", "<iframe>"),
        ("<p>x<!-- secret --></p>", "secret", "comment"),
        ("<p>x<svg><script>alert(1)</script></svg></p>", "alert", "<svg>"),
        ("<p>x<form action=//evil><input></form></p>", "evil", "<form>"),
        ("<h1>x<scr<script>ipt>alert(1)</h1>", "<script", "<scr<script>"),
    ],
)
def test_everything_else_is_taken_out_and_named(body: str, gone: str, named: str, organization: Organization) -> None:
    saved = services.create_template(organization=organization, values=values(body=body), actor=ACTOR)

    assert gone not in saved.template.body
    assert any(named in word for word in saved.removed)
    rendered = content.render(subject="s", body=body, values={}, keep_url="https://aum.example/k/x/")
    assert gone not in rendered.html


@given(st.text(max_size=300), st.text(max_size=80))
def test_no_text_of_an_author_or_a_name_becomes_markup_or_a_header(body: str, name: str) -> None:
    hostile = f"<p>{{{{username}}}}{body}</p>"
    made = content.render(
        subject="Hi {{username}}",
        body=content.sanitise(hostile).html,
        values={"username": f"<b>{name}\r\nBcc: x"},
        keep_url=None,
    )
    fragment = made.html.partition('<div class="mail">')[2]

    assert "\n" not in made.subject
    assert "\r" not in made.subject
    assert "<b" not in fragment.lower()
    assert "<script" not in fragment.lower()


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"body": "<p>{{user_name}}</p>"}, "body", "Did you mean {{username}}?"),
        ({"subject": "{{inactivity_dais}}"}, "subject", "Did you mean {{inactivity_days}}?"),
        ({"body": "<p>{{config.SECRET_KEY}}</p>"}, "body", "There is no placeholder"),
        ({"body": "<p>{% include 'x' %}</p>"}, "body", "Commands"),
        ({"body": "<p>{{username</p>"}, "body", "not closed"),
        ({"body": "<p>{username}</p>"}, "body", "single braces"),
        ({"subject": "{{keep_access_link}}"}, "subject", "does not work in a subject"),
        ({"subject": "Hello\r\nBcc: everybody@example.com"}, "subject", "one line"),
        ({"bcc": "a@example.com\r\nX-Header: 1"}, "bcc", "not an email address"),
        ({"bcc": ["not an address"]}, "bcc", "not an email address"),
        ({"body": "x" * 60_000}, "body", "at most 50,000"),
        ({"body": "<em>" * 100}, "body", "nested"),
        ({"body": "<script>only</script>"}, "body", "Write what the mail says"),
        ({"days_inactive": "soon"}, "days_inactive", "whole number"),
        ({"name": ""}, "name", "Give the template a name"),
    ],
)
def test_a_wrong_field_is_refused_with_what_to_do(
    fields: dict[str, Any], field: str, said: str, organization: Organization
) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.create_template(organization=organization, values=values(**fields), actor=ACTOR)

    assert said in " ".join(refused.value.fields[field])
    assert not EmailTemplate.objects.exists()


def test_a_hostile_name_reaches_the_mail_as_text(
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    make_account("mallory", idle_days=24, name="<script>x</script>\r\nBcc: all@example.com\u202e {{email}}")
    make_live(f"{make_template().pk}:7:person")

    tell(organization)

    (message,) = mailbox.mails()
    html = message.get_body(("html",))
    assert html is not None
    assert message["Bcc"] is None
    assert message["Subject"] == "Hello <script>x</script> Bcc: all@example.com {{email}}"
    assert "<script" not in html.get_content()


def test_the_days_of_a_template_are_those_of_its_rule_seen_from_the_other_side(
    organization: Organization,
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
    operator: Operator,
) -> None:
    template = make_template()
    rule = make_live(f"{template.pk}:5:person")
    template.refresh_from_db()
    at_first = template.days_inactive

    def save(days: int) -> None:
        changed = dataclasses.replace(services.TemplateInput.of(template), days_inactive=days)
        services.update_template(template=template, values=changed, actor=ACTOR, operator=operator)

    save(23)
    rule.refresh_from_db()

    assert at_first == 25
    assert (rule.notices, rule.version) == ([f"{template.pk}:7:person"], 2)
    # Fewer days of warning need a reason and another person: that is done in the rule.
    with pytest.raises(InvalidInput) as refused:
        save(28)
    assert "Change the days in the rule" in refused.value.fields["days_inactive"][0]
    with pytest.raises(services.TemplateInUse, match="Idle"):
        services.delete_template(template=template, actor=ACTOR)


@pytest.fixture
def admin(organization: Organization, operators: Callable[..., Operator], client: Client) -> Client:
    client.force_login(operators(organization, "admin@aum.example", "owner"))
    return client


def test_every_page_opens_and_the_frame_of_a_mail_is_sandboxed(
    admin: Client,
    organization: Organization,
    mail: MailSettings,
    mailbox: Mailbox,
    make_account: Callable[..., Account],
    make_live: Callable[..., CleanupRule],  # noqa: F811
    make_template: Callable[..., EmailTemplate],
) -> None:
    make_account("john", idle_days=24)
    make_account("hidden", idle_days=24, email=None)
    template = make_template()
    make_live(f"{template.pk}:7:person")
    tell(organization)
    row = Delivery.objects.get(kind="notice", status="accepted")
    failed = Delivery.objects.get(status="undeliverable")
    base = f"/o/{organization.slug}/emails/"
    pages = [
        base,
        f"{base}new/",
        f"{base}{template.pk}/",
        f"{base}{template.pk}/preview/",
        f"{base}{template.pk}/delete/",
        f"{base}deliveries/",
        f"{base}deliveries/?status=undeliverable&q=hid",
        f"{base}deliveries/{row.pk}/",
        f"{base}deliveries/{failed.pk}/",
        f"{base}undeliverable/",
        f"{base}answers/",
        f"{base}people/",
        f"/o/{organization.slug}/settings/mail/",
        f"/o/{organization.slug}/settings/channels/",
    ]
    found = {path: admin.get(path).status_code for path in pages}
    frame = admin.get(f"{base}{template.pk}/frame/")
    listed = admin.get(base).content.decode()

    assert set(found.values()) == {200}, found
    assert frame["Content-Security-Policy"] == (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
    )
    assert frame["X-Frame-Options"] == "SAMEORIGIN"
    assert "Dear John Doe" in frame.content.decode()
    assert "23 days since inactivity" in listed
    assert "UTC</time>" in listed


def test_a_page_saves_a_template_and_says_what_was_taken_out(admin: Client, organization: Organization) -> None:
    base = f"/o/{organization.slug}/emails/"
    typed = {
        "name": "New",
        "event": "other",
        "days_inactive": "5",
        "subject": "S",
        "body": "<p>x</p><b>y</b>",
        "bcc": "",
    }
    refused = admin.post(f"{base}new/", typed | {"subject": "{{nam}}"})
    saved = admin.post(f"{base}new/", typed, follow=True)
    template = EmailTemplate.objects.get(name="New")

    assert refused.status_code == 422
    assert "Did you mean {{username}}?" in refused.content.decode()
    assert "Taken out, because mails may not hold it: &lt;b&gt;" in saved.content.decode()
    assert template.body == "<p>x</p>y"
    assert not template.is_enabled
