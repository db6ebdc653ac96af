"""Makes an organisation from a size and a seed: the same seed gives the same people, to the last identifier.

The first people are *specimens*, one for each combination that a client must get right (every status of the published
documents, hidden e-mail, odd names, synced accounts, direct roles); the rest follow realistic shares: about 70 % active
within 30 days, about 20 % idle, about 5 % never active.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from apps.sandbox import names
from apps.sandbox.world import DAY_MS, Directory, Group, Membership, Person, Resource, Site, World, stable_fraction

MIN_PEOPLE = 50
MAX_PEOPLE = 1_000_000
ORG_NAME = "Larkspur Robotics"
DOMAIN = "larkspur-robotics.example"
SECOND_DOMAIN = "larkspur.example"
PARTNER_DOMAINS = ("kestrel-contractors.example", "fjordworks.example", "mail.example")
MAX_GROUPS = 2_000

PRIMARY, EXTERNAL = 0, 1
# Indexes of resources, in the order in which `_add_resources` makes them.
ORG, SITE, JIRA, JSM, CONFLUENCE, BITBUCKET, PARTNER_JIRA, PARTNER_CONFLUENCE, JIRA_SANDBOX = range(9)

Grant = tuple[int, str]
USER, ADMIN, GUEST, CUSTOMER = "atlassian/user", "atlassian/admin", "atlassian/guest", "atlassian/customer"


def generate(*, people: int, seed: int, as_of: int) -> World:
    """The organisation with `people` listed accounts; ValueError outside 50 to 1,000,000. `as_of` in milliseconds."""
    if not MIN_PEOPLE <= people <= MAX_PEOPLE:
        raise ValueError(f"people must be between {MIN_PEOPLE} and {MAX_PEOPLE}")
    rng = random.Random(f"larkspur/{seed}/{people}")
    world = World(seed=seed, as_of=as_of, org_id=_org_id(rng), org_name=ORG_NAME)
    world.domains = [DOMAIN, SECOND_DOMAIN]
    _add_places(world, rng)
    _add_resources(world)
    _add_groups(world, rng, people)
    maker = _People(world, rng)
    for person in maker.make(people):
        world.add_person(person)
    for person in maker.outside_the_directory(len(world.people)):
        world.add_person(person)
    _set_capacities(world)
    _add_projects(world)
    return world


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _org_id(rng: random.Random) -> str:
    """Shaped like a UUID but with letters outside a–f, as real organisation ids are known to be."""
    letters = "0123456789abcdefghijk"
    part = ["".join(rng.choice(letters) for _ in range(n)) for n in (8, 4, 4, 4, 11)]
    return "-".join(part) + "k"


def _add_places(world: World, rng: random.Random) -> None:
    world.add_directory(Directory(PRIMARY, _uuid(rng), ORG_NAME))
    world.add_directory(Directory(EXTERNAL, _uuid(rng), f"{ORG_NAME} external collaborators"))
    # The custom field that holds the request type has another number on each site.
    for index, name in enumerate(("larkspur", "larkspur-partners", "larkspur-sandbox-731")):
        world.sites.append(Site(index, name, _uuid(rng), f"customfield_{10010 + index * 24}"))
    world.domains = [DOMAIN, SECOND_DOMAIN]


def _add_resources(world: World) -> None:
    first, partners, sandbox = world.sites
    made = world.as_of - 1500 * DAY_MS
    rows: list[tuple[str, str, str, str, str, int | None, int | None, bool, str]] = [
        (f"ari:cloud:platform::org/{world.org_id}", "platform", "platform", ORG_NAME, "", None, None, True, "NONE"),
        (f"ari:cloud:platform::site/{first.cloud_id}", "platform", "platform", first.name, "", None, 0, True, "NONE"),
        _product("jira-software", "jira-software", first, "Jira", PRIMARY),
        _product("jira-servicedesk", "jira-service-desk", first, "Jira Service Management", PRIMARY),
        _product("confluence", "confluence", first, "Confluence", PRIMARY),
        (
            f"ari:cloud:bitbucket::workspace/{first.cloud_id[::-1]}",
            "bitbucket",
            "bitbucket",
            "Bitbucket",
            "bitbucket",
            PRIMARY,
            0,
            False,
            "NONE",
        ),
        _product("jira-software", "jira-software", partners, "Jira", EXTERNAL),
        _product("confluence", "confluence", partners, "Confluence", EXTERNAL),
        _product("jira-software", "jira-software", sandbox, "Jira", PRIMARY, "CHILD"),
    ]
    for index, (ari, key, owner, name, type_key, directory, site, platform, kind) in enumerate(rows):
        world.add_resource(
            Resource(
                index,
                ari,
                key,
                owner,
                name,
                type_key,
                directory,
                site,
                platform=platform,
                sandbox=kind,
                created_at=made,
            )
        )


def _product(
    owner: str, key: str, site: Site, name: str, directory: int, sandbox: str = "NONE"
) -> tuple[str, str, str, str, str, int | None, int | None, bool, str]:
    ari = f"ari:cloud:{owner}::site/{site.cloud_id}"
    return ari, key, owner, name, owner, directory, site.index, False, sandbox


def _add_groups(world: World, rng: random.Random, people: int) -> None:
    def add(
        name: str,
        description: str,
        kind: str,
        *grants: Grant,
        directory: int = PRIMARY,
        default: tuple[int, ...] = (),
        synced: bool = False,
    ) -> None:
        group = Group(len(world.groups), _uuid(rng), name, description, directory, synced, kind, grants, default)
        world.add_group(group)

    add("org-admins", "Administers the organisation", "admin", (ORG, "atlassian/org-admin"))
    add("site-admins", "Administers the site larkspur", "admin", (SITE, "atlassian/site-admin"))
    add("jira-administrators", "Administers Jira", "admin", (JIRA, ADMIN), (JSM, ADMIN))
    add("confluence-administrators", "Administers Confluence", "admin", (CONFLUENCE, ADMIN))
    uaa = "atlassian/user-access-admin"
    add("user-access-admins", "Manages who has access", "admin", (JIRA, uaa), (CONFLUENCE, uaa))
    add("jira-users-larkspur", "Gives Jira", "default", (JIRA, USER), default=(JIRA,))
    add("confluence-users-larkspur", "Gives Confluence", "default", (CONFLUENCE, USER), default=(CONFLUENCE,))
    add("jira-servicemanagement-users-larkspur", "Gives an agent's seat", "default", (JSM, USER), default=(JSM,))
    add("jira-servicemanagement-customers-larkspur", "Customers of the help desk", "access", (JSM, CUSTOMER))
    add("bitbucket-users-larkspur", "Gives Bitbucket", "default", (BITBUCKET, USER), default=(BITBUCKET,))
    add("engineering-suite", "Gives Jira and Bitbucket", "access", (JIRA, USER), (BITBUCKET, USER))
    add("employees", "Everybody with a contract", "team")
    add("contractors", "People with an end date", "team")
    add("okta-engineering", "From the identity provider; gives Jira", "access", (JIRA, USER), synced=True)
    add("okta-finance", "From the identity provider", "team", synced=True)
    add("google-marketing", "From the identity provider; gives Confluence", "access", (CONFLUENCE, USER), synced=True)
    add("confluence-guests", "Single spaces only, no seat", "access", (CONFLUENCE, GUEST))
    add("c-level", "Executives", "team")
    add("service-accounts", "Robots and integrations", "team")
    add("jira-users-larkspur-sandbox-731", "Gives Jira on the sandbox", "default", (JIRA_SANDBOX, USER))
    add(
        "jira-users-larkspur-partners",
        "Gives Jira",
        "default",
        (PARTNER_JIRA, USER),
        default=(PARTNER_JIRA,),
        directory=EXTERNAL,
    )
    add(
        "confluence-users-larkspur-partners",
        "Gives Confluence",
        "default",
        (PARTNER_CONFLUENCE, USER),
        default=(PARTNER_CONFLUENCE,),
        directory=EXTERNAL,
    )
    add("partner-administrators", "Administers the partner site", "admin", (PARTNER_JIRA, ADMIN), directory=EXTERNAL)
    add("partners-all", "Every external collaborator", "team", directory=EXTERNAL)
    add("okta-partners", "From the identity provider", "team", synced=True, directory=EXTERNAL)
    wanted = min(MAX_GROUPS, 40 + people // 500)
    number = 0
    while len(world.groups) < wanted:
        word = names.TEAM_WORDS[number % len(names.TEAM_WORDS)]
        turn = number // len(names.TEAM_WORDS)
        add(f"team-{word}" if not turn else f"team-{word}-{turn + 1}", f"People who work on {word}", "team")
        number += 1


class _People:
    """Draws people one by one; holds what they share."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.group = {group.name: group.index for group in world.groups}
        self.teams = [group.index for group in world.groups if group.name.startswith("team-")]
        self.shared: dict[tuple[int, ...], tuple[int, ...]] = {}

    def make(self, count: int) -> Iterator[Person]:
        specimens = _SPECIMENS[: count // 2] if count < 2 * len(_SPECIMENS) else _SPECIMENS
        for index in range(count):
            yield self._specimen(index, specimens[index]) if index < len(specimens) else self._ordinary(index)

    def outside_the_directory(self, start: int) -> Iterator[Person]:
        """Apps and portal-only customers: known to Jira, never listed by the Organizations API."""
        index = start
        for name in names.APPS:
            yield Person(index, f"557058:{_uuid(self.rng)}", name, name, "", True, "app", False)
            index += 1
        for number in range(max(5, start // 100)):
            name = f"{self.rng.choice(names.FIRST)} {self.rng.choice(names.LAST)}"
            account = f"qm:{_uuid(self.rng)}:{self.rng.getrandbits(96):024x}"
            email = f"customer{number}@{PARTNER_DOMAINS[2]}"
            yield Person(index, account, name, name, email, False, "customer", False)
            index += 1

    # -- one person

    def _identity(self, index: int, domain: str) -> dict[str, Any]:
        rng = self.rng
        first, last = rng.choice(names.FIRST), rng.choice(names.LAST)
        place, zone = rng.choice(names.PLACES)
        name = f"{first} {last}"
        if rng.random() < 0.008:
            name = rng.choice(names.ODD_NAMES)
        return {
            "index": index,
            "account_id": self._account_id(),
            "name": name,
            "nickname": first,
            "email": f"{first}.{last}.{index}@{domain}".lower(),
            "department": rng.choice(names.DEPARTMENTS),
            "job_title": rng.choice(names.TITLES),
            "location": place,
            "time_zone": zone,
        }

    def _account_id(self) -> str:
        draw = self.rng.random()
        if draw < 0.72:
            return f"712020:{_uuid(self.rng)}"
        if draw < 0.92:
            return f"557058:{_uuid(self.rng)}"
        return f"{self.rng.getrandbits(96):024x}"

    def _ordinary(self, index: int) -> Person:
        rng = self.rng
        if rng.random() < 0.012:
            return self._service(index)
        where = rng.random()
        external_only = where >= 0.92
        both = 0.86 <= where < 0.92
        contractor = external_only or rng.random() < 0.08
        domain = DOMAIN if rng.random() < 0.9 else SECOND_DOMAIN
        if external_only or (contractor and rng.random() < 0.5):
            domain = rng.choice(PARTNER_DOMAINS)
        managed = domain in (DOMAIN, SECOND_DOMAIN)
        synced = managed and not external_only and rng.random() < 0.3
        identity = self._identity(index, domain)
        added = self._added_at()
        source = ("synced" if synced else "invited") if rng.random() > 0.02 else None
        directories = [EXTERNAL] if external_only else [PRIMARY, EXTERNAL] if both else [PRIMARY]
        groups = self._groups(directories, contractor=contractor, synced=synced)
        person = Person(
            **identity,
            managed=managed,
            mfa=managed and rng.random() < 0.8,
            email_verified=rng.random() > 0.03,
            email_hidden=not managed and rng.random() < 0.3,
            locked_by=("google" if rng.random() < 0.1 else "scim") if synced else None,
            memberships=tuple(
                Membership(
                    d,
                    "active",
                    source if d == PRIMARY else "invited",
                    min(added + later * DAY_MS, self.world.as_of),
                )
                for later, d in enumerate(directories)
            ),
            groups=groups,
            direct=self._direct(directories),
        )
        person.activity = self._activity(person, self._last_seen(added))
        self._vary_status(person)
        return person

    def _vary_status(self, person: Person) -> None:
        draw = self.rng.random()
        as_of = self.world.as_of
        if draw < 0.03:
            person.memberships = tuple(m._replace(status="suspended") for m in person.memberships)
        elif draw < 0.035 and len(person.memberships) > 1:
            first, *rest = person.memberships
            person.memberships = (first._replace(status="suspended"), *rest)
        elif draw < 0.06 and person.managed:
            person.account_status = "inactive"
            person.deactivated_at = as_of - self.rng.randrange(1, 400) * DAY_MS
            if draw < 0.038 and not person.locked_by:
                person.deletion_at = as_of - self.rng.randrange(1, 13) * DAY_MS
        elif draw < 0.075 and person.managed and not person.locked_by:
            person.memberships = person.groups = person.direct = person.activity = ()

    def _service(self, index: int) -> Person:
        rng = self.rng
        name, login = rng.choice(names.SERVICES)
        identity = self._identity(index, DOMAIN)
        identity |= {"name": f"{name} {index}", "nickname": login, "email": f"{login}-{index}@{DOMAIN}"}
        person = Person(
            **identity,
            kind="bot" if login.startswith("bot") else "service",
            memberships=(Membership(PRIMARY, "active", "invited", self._added_at()),),
            groups=self._share({self.group["service-accounts"], self.group["jira-users-larkspur"]}),
        )
        # Tokens and apps leave no activity (views of pages only count): many robots look as if never used.
        if rng.random() < 0.3:
            person.activity = self._activity(person, self.world.as_of - rng.randrange(200, 900) * DAY_MS)
        return person

    def _groups(self, directories: list[int], *, contractor: bool, synced: bool) -> tuple[int, ...]:
        rng, group = self.rng, self.group
        found: set[int] = set()
        if PRIMARY in directories:
            found.add(group["contractors" if contractor else "employees"])
            draw = rng.random()
            if draw < 0.05:
                pass  # no licence at all
            else:
                if draw < 0.60:
                    found.add(group["jira-users-larkspur"])
                if 0.5 < draw < 0.72:
                    found.add(group["engineering-suite"])
                if synced and draw > 0.6:
                    found.add(group["okta-engineering"])
                if rng.random() < 0.72:
                    found.add(group["confluence-users-larkspur"])
                if rng.random() < 0.13:
                    found.add(group["jira-servicemanagement-users-larkspur"])
                if rng.random() < 0.2:
                    found.add(group["bitbucket-users-larkspur"])
                if rng.random() < 0.06:
                    found.add(group["jira-users-larkspur-sandbox-731"])
            if synced and rng.random() < 0.3:
                found.add(group[rng.choice(("okta-finance", "google-marketing"))])
            if rng.random() < 0.02:
                found.add(group["confluence-guests"])
            if rng.random() < 0.1:
                found.add(group["jira-servicemanagement-customers-larkspur"])
            for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
                found.add(rng.choice(self.teams))
            self._admin_groups(found)
        if EXTERNAL in directories:
            found.add(group["partners-all"])
            if rng.random() < 0.8:
                found.add(group["confluence-users-larkspur-partners"])
            if rng.random() < 0.5:
                found.add(group["jira-users-larkspur-partners"])
        return self._share(found)

    def _admin_groups(self, found: set[int]) -> None:
        draw = self.rng.random()
        for share, name in (
            (0.002, "site-admins"),
            (0.006, "jira-administrators"),
            (0.009, "confluence-administrators"),
            (0.013, "user-access-admins"),
            (0.017, "c-level"),
        ):
            if draw < share:
                found.add(self.group[name])
                return

    def _share(self, groups: set[int]) -> tuple[int, ...]:
        """Equal sets of groups share one tuple: a million people have few different ones."""
        key = tuple(sorted(groups))
        return self.shared.setdefault(key, key)

    def _direct(self, directories: list[int]) -> tuple[tuple[int, str], ...]:
        if PRIMARY not in directories or self.rng.random() > 0.04:
            return ()
        return ((self.rng.choice((JIRA, CONFLUENCE, JSM)), USER),)

    def _added_at(self) -> int:
        as_of = self.world.as_of
        if self.rng.random() < 0.03:
            return as_of - self.rng.randrange(14 * DAY_MS)
        return as_of - self.rng.randrange(20 * DAY_MS, 1400 * DAY_MS)

    def _last_seen(self, added: int) -> int | None:
        rng, as_of = self.rng, self.world.as_of
        draw = rng.random()
        if draw < 0.05:
            return None
        if draw < 0.76:
            seen = as_of - int(rng.expovariate(1 / 5) * DAY_MS) % (30 * DAY_MS)
        elif draw < 0.80:
            seen = as_of - rng.randrange(55 * DAY_MS, 65 * DAY_MS)
        else:
            seen = as_of - rng.randrange(31 * DAY_MS, 700 * DAY_MS)
        return max(seen, added)

    def _activity(self, person: Person, seen: int | None) -> tuple[tuple[int, int], ...]:
        if seen is None:
            return ()
        mask = self.world.held_mask(person)
        floor = min((m.added_at for m in person.memberships), default=seen)
        products = [r.index for r in self.world.resources if mask >> r.index & 1 and not r.platform]
        found = []
        for position, index in enumerate(products):
            at = seen
            if position:
                if self.rng.random() < 0.15:
                    continue  # has the product, never opened it
                at = max(floor, seen - self.rng.randrange(0, 90 * DAY_MS))
            found.append((index, at // 1000 * 1000))
        return tuple(found)

    # -- specimens

    def _specimen(self, index: int, made: dict[str, Any]) -> Person:
        world, group = self.world, self.group
        as_of = world.as_of
        identity = self._identity(index, made.get("domain", DOMAIN))
        identity["name"] = made["name"]
        identity["nickname"] = made["name"].split(" ")[0][:40] or made["name"][:40]
        login = made.get("login", f"specimen.{index}")
        identity["email"] = f"{login}@{made.get('domain', DOMAIN)}"
        added = as_of - made.get("added_days", 700) * DAY_MS
        in_directories = made.get("in", {PRIMARY: "active"})
        managed = made.get("domain", DOMAIN) in (DOMAIN, SECOND_DOMAIN)
        source = made.get("source", "invited")
        person = Person(
            **identity,
            kind=made.get("kind", "person"),
            managed=managed,
            mfa=managed,
            email_hidden=made.get("email_hidden", False),
            locked_by=made.get("locked_by"),
            account_status=made.get("account_status", "active"),
            memberships=tuple(Membership(d, status, source, added) for d, status in in_directories.items()),
            groups=self._share({group[name] for name in made.get("groups", ())}),
            direct=tuple(sorted(made.get("direct", ()))),
        )
        if "deactivated_days" in made:
            person.deactivated_at = as_of - made["deactivated_days"] * DAY_MS
        if "deletion_days" in made:
            person.deletion_at = as_of - made["deletion_days"] * DAY_MS
        seen_days = made.get("seen_days", 2)
        if seen_days is not None:
            mask = world.held_mask(person)
            person.activity = tuple(
                (r.index, (as_of - seen_days * DAY_MS) // 1000 * 1000)
                for r in world.resources
                if mask >> r.index & 1 and not r.platform
            )
        return person


_EVERYDAY = ("employees", "jira-users-larkspur", "confluence-users-larkspur")
_OUT = {"in": {EXTERNAL: "active"}, "groups": ("partners-all", "confluence-users-larkspur-partners")}
_SPECIMENS: list[dict[str, Any]] = [
    # The key's owner comes first: other code finds it at index 0.
    {"name": "Robin Ashdown", "login": "robin.ashdown", "groups": ("org-admins", *_EVERYDAY), "seen_days": 0},
    {"name": "Imani Okoro", "login": "imani.okoro", "groups": ("org-admins", "employees", "c-level"), "seen_days": 90},
    {
        "name": "Jonas Feld",
        "login": "jonas.feld",
        "groups": ("jira-administrators", *_EVERYDAY),
        "direct": ((ORG, "atlassian/org-admin"),),
        "seen_days": 75,
    },
    {"name": "Priya Raman", "login": "priya.raman", "groups": ("site-admins", "jira-administrators", "employees")},
    {"name": "Idle Jira Admin", "groups": ("jira-administrators", "employees"), "seen_days": 120},
    # Statuses.
    {"name": "Active Person", "groups": _EVERYDAY},
    {"name": "Suspended Person", "groups": _EVERYDAY, "in": {PRIMARY: "suspended"}, "seen_days": 100},
    {
        "name": "Suspended In Both",
        "in": {PRIMARY: "suspended", EXTERNAL: "suspended"},
        "groups": ("employees", "jira-users-larkspur", "partners-all"),
        "seen_days": 100,
    },
    {
        "name": "Suspended In One",
        "in": {PRIMARY: "suspended", EXTERNAL: "active"},
        "groups": ("employees", "jira-users-larkspur", "partners-all", "jira-users-larkspur-partners"),
        "seen_days": 80,
    },
    {"name": "Not Invited", "in": {}, "seen_days": None},
    {"name": "Deactivated Person", "account_status": "inactive", "deactivated_days": 40, "groups": _EVERYDAY},
    {
        "name": "Deactivated And Suspended",
        "account_status": "inactive",
        "deactivated_days": 40,
        "in": {PRIMARY: "suspended"},
        "groups": _EVERYDAY,
    },
    {"name": "Deactivated Outside", "account_status": "inactive", "deactivated_days": 90, "in": {}, "seen_days": None},
    {
        "name": "Awaiting Deletion",
        "account_status": "inactive",
        "deactivated_days": 5,
        "deletion_days": 5,
        "groups": ("employees",),
        "seen_days": 200,
    },
    {"name": "Former user", "account_status": "closed", "in": {}, "seen_days": None},
    # Activity.
    {"name": "Idle Person", "groups": _EVERYDAY, "seen_days": 90},
    {"name": "Never Active", "groups": _EVERYDAY, "seen_days": None, "added_days": 200},
    {"name": "Invited Yesterday", "groups": _EVERYDAY, "seen_days": None, "added_days": 1},
    {"name": "No Licence", "groups": ("employees",), "seen_days": None},
    # Access.
    {"name": "Direct Jira Role", "groups": ("employees",), "direct": ((JIRA, USER),), "seen_days": 90},
    {
        "name": "Direct And Group",
        "groups": ("employees", "jira-users-larkspur"),
        "direct": ((JIRA, USER),),
        "seen_days": 90,
    },
    {"name": "Two Products One Group", "groups": ("employees", "engineering-suite"), "seen_days": 90},
    {"name": "Guest Without Seat", "groups": ("confluence-guests",), "seen_days": 3},
    # Where people come from.
    {
        "name": "Synced From Okta",
        "source": "synced",
        "locked_by": "scim",
        "groups": ("employees", "okta-engineering", "okta-finance"),
        "seen_days": 90,
    },
    {
        "name": "Synced From Google",
        "source": "synced",
        "locked_by": "google",
        "groups": ("employees", "google-marketing", "confluence-users-larkspur"),
        "seen_days": 90,
    },
    {"name": "Source Unknown", "source": None, "groups": _EVERYDAY},
    {"name": "Export Controlled", "locked_by": "exportControl", "account_status": "inactive", "deactivated_days": 9},
    {"name": "Unmanaged Contractor", "domain": PARTNER_DOMAINS[0], "groups": ("contractors", "jira-users-larkspur")},
    {"name": "Hidden Mail", "domain": PARTNER_DOMAINS[2], "email_hidden": True, "groups": ("contractors",)},
    {"name": "External Only", "domain": PARTNER_DOMAINS[1], "seen_days": 90, **_OUT},
    {
        "name": "In Both Directories",
        "in": {PRIMARY: "active", EXTERNAL: "active"},
        "groups": (*_EVERYDAY, "partners-all", "jira-users-larkspur-partners"),
        "seen_days": 90,
    },
    # Robots.
    {"name": "Jenkins Deploy", "kind": "service", "login": "svc-jenkins", "groups": ("service-accounts",)},
    {"name": "Build Bot", "kind": "bot", "login": "bot-build", "groups": ("service-accounts",), "seen_days": None},
    *({"name": name, "groups": _EVERYDAY, "seen_days": 90 + number} for number, name in enumerate(names.ODD_NAMES)),
]


def _set_capacities(world: World) -> None:
    """Seats a little above use; the help desk nearly full, so that the licence limit can be tried."""
    for resource in world.resources:
        if not resource.platform:
            spare = 3 if resource.index == JSM else max(25, world.usage[resource.index] // 8)
            resource.capacity = world.usage[resource.index] + spare


def _add_projects(world: World) -> None:
    rows = (
        (0, "10000", "HELP", "IT Support", "service_desk"),
        (0, "10001", "HRSD", "People Desk", "service_desk"),
        (0, "10002", "ARM", "Robot Arm", "software"),
        (0, "10003", "NAV", "Navigation", "software"),
        (0, "10004", "OPS", "Operations", "business"),
        (1, "20000", "PART", "Partner Portal", "service_desk"),
    )
    world.projects = [
        {"site": site, "id": id_, "key": key, "name": name, "type": kind} for site, id_, key, name, kind in rows
    ]
    types = (
        (0, "1", "10000", "11", "Request access", "Ask for a product or a group"),
        (0, "1", "10000", "12", "Get IT help", "Anything that does not work"),
        (0, "1", "10000", "13", "New hardware", "Order a machine"),
        (0, "2", "10001", "21", "Onboard a new colleague", "Everything for the first day"),
        (0, "2", "10001", "22", "Ask a question", "Ask People"),
        (1, "1", "20000", "31", "Partner access", "Ask for access to the partner site"),
    )
    world.request_types = [
        {"site": site, "desk": desk, "project": project, "id": id_, "name": name, "description": text}
        for site, desk, project, id_, name, text in types
    ]
    reporters = [p for p in world.people if p.kind in ("person", "customer") and not world.closed(p)]
    for number in range(6):
        kind = world.request_types[number % 5]
        reporter = reporters[int(stable_fraction(world.seed, "reporter", number) * len(reporters))]
        project = next(p for p in world.projects if p["id"] == kind["project"] and p["site"] == kind["site"])
        count = sum(1 for request in world.requests if request["project"] == project["id"])
        world.requests.append(
            {
                "id": str(30001 + number),
                "key": f"{project['key']}-{count + 1}",
                "site": kind["site"],
                "project": project["id"],
                "desk": kind["desk"],
                "type": kind["id"],
                "summary": f"{kind['name']} ({number + 1})",
                "description": "",
                "reporter": reporter.account_id,
                "creator": reporter.account_id,
                "created": world.as_of - (6 - number) * DAY_MS,
                "participants": [],
                "comments": [],
                "fields": {},
            }
        )
