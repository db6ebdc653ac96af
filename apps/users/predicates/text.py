"""Conditions on name and e-mail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from django.db.models import Q

from apps.users.predicates.meanings import SEARCH_LIMIT, Context, PredicateError, search_q
from apps.users.predicates.registry import Predicate, in_words, set_value
from apps.users.text import like_pattern

_HIDDEN_EMAIL = Q(email__isnull=True) | Q(email="")


@dataclass(frozen=True)
class SearchText(Predicate):
    name = "search"
    label = "Search"
    text: str

    def __post_init__(self) -> None:
        text = str(self.text).replace("\x00", "").strip()
        if not text:
            raise PredicateError(self.name, "Type a part of a name or e-mail address.")
        if len(text) > SEARCH_LIMIT:
            raise PredicateError(self.name, f"Search for at most {SEARCH_LIMIT} characters.")
        set_value(self, "text", text)

    def q(self, context: Context) -> Q:
        return search_q(self.text)

    def unknown_q(self, context: Context) -> Q | None:
        return _HIDDEN_EMAIL

    def sentence(self, context: Context) -> str:
        return f"Name or e-mail has “{self.text}”"


@dataclass(frozen=True)
class EmailDomain(Predicate):
    name = "domain"
    label = "E-mail domain"
    domains: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys(str(domain).strip().lower().lstrip("@") for domain in self.domains))
        if not names or any(not name or "@" in name or len(name) > 253 for name in names):
            raise PredicateError(self.name, "Enter a domain such as example.com.")
        set_value(self, "domains", names)

    def q(self, context: Context) -> Q:
        return reduce(or_, (Q(email__ilike=like_pattern("@" + domain, before="%")) for domain in self.domains))

    def unknown_q(self, context: Context) -> Q | None:
        return _HIDDEN_EMAIL

    def sentence(self, context: Context) -> str:
        return f"E-mail at {in_words(self.domains)}"
