"""Products: how Atlassian's keys map to ours, and which roles and resources mean a seat.

Source of the keys: API.md §6 (`jira-software`, `jira-service-desk`, `confluence`, …; v2 texts also say
`jira`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from apps.users.models import OTHER_PRODUCT_BIT, PRODUCT_BITS, Product

_KEYS = {
    "jira": Product.JIRA,
    "jira-software": Product.JIRA,
    "jira-service-desk": Product.JSM,
    "jira-servicedesk": Product.JSM,
    "jira-servicemanagement": Product.JSM,
    "jira-service-management": Product.JSM,
    "confluence": Product.CONFLUENCE,
    "bitbucket": Product.BITBUCKET,
}
# A role takes no seat when it is one of these (API.md §2, "group's product access").
SEATLESS_ROLES = frozenset(
    {"guest", "customer", "contributor", "basic", "stakeholder", "user-access-admin"}
    | {"org-admin", "site-admin", "ai-access"}
)
ORG_ADMIN_ROLES = frozenset({"org-admin"})
SITE_ADMIN_ROLES = frozenset({"site-admin"})
# Roles that administer something: a group with one of them is never the target of an add by automation (P15).
ADMIN_ROLES = frozenset({"org-admin", "site-admin", "admin", "user-access-admin", "trusted-user"})


def role_name(role: str) -> str:
    """`atlassian/org-admin` → `org-admin`."""
    return role.rpartition("/")[2].lower()


def product_of(key: str) -> str:
    """Our name of Atlassian's product key; a key that we have no column for stays as it comes, in lower case."""
    plain = key.strip().lower()
    return str(_KEYS.get(plain, plain))


def bit_of(product: str) -> int:
    """The product's bit in `Account.products`."""
    return PRODUCT_BITS[Product(product)] if product in Product.values else OTHER_PRODUCT_BIT


def bits_of(products: Iterable[str]) -> int:
    """The union of the products' bits."""
    bits = 0
    for product in products:
        bits |= bit_of(product)
    return bits


@lru_cache(maxsize=1024)
def label_of(product: str) -> str:
    """The product in words; other keys with their hyphens as spaces."""
    return Product(product).label if product in Product.values else product.replace("-", " ").capitalize()


def _tail(resource: str) -> str:
    return resource.rpartition("/")[2].lower()


def _ari_product(resource: str) -> str:
    """The product that an ARI names: `ari:cloud:confluence::site/1` → `confluence`; empty for the platform."""
    parts = resource.split(":")
    owner = parts[2] if len(parts) > 2 and parts[0] == "ari" else ""
    return "" if owner in ("", "platform", "identity") else owner


@dataclass(frozen=True)
class Resources:
    """The products on the sites of an organisation: (product, last part of the ARI) → (ARI, site).

    Atlassian names one product instance with different ARIs in different calls, so they are matched by their last part.
    """

    known: Mapping[tuple[str, str], tuple[str, str]]

    def canonical(self, key: str, resource: str) -> tuple[str, str, str]:
        """(product, resource, site) for a key and an ARI as they came; an unknown instance keeps its ARI."""
        product = product_of(key or _ari_product(resource))
        found = self.known.get((product, _tail(resource)))
        return (product, *found) if found else (product, resource, "")

    def of_resource(self, resource: str, owner: str) -> tuple[str, str, str] | None:
        """The same for a role's resource; None when it is the platform (an organisation or a site), not a product."""
        tail = _tail(resource)
        key = _ari_product(resource)
        if key:
            return self.canonical(key, resource)
        matches = [product for product, known_tail in self.known if known_tail == tail and product == product_of(owner)]
        return self.canonical(matches[0], resource) if matches else None
