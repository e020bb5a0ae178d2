"""Districts in which anything may happen to what products see: days at school, hands at work, licenses, sign-ins."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from licensed import SINCE, announce
from played_gateway import Gateway, as_message, school, section, student
from undoing import ANYTHING_GOES, read_rows

from homeroom.db import Database
from homeroom.grants import FIELD_GROUPS
from homeroom.messages import LicenseState, ProductState, SignedIn, TenancyState, to_sign_ins
from homeroom.problems import Problem
from homeroom.roster import Demographics, Enrollment, Org, Role
from roster_store.activation import start_class
from roster_store.records import Place, create_record, delete_record, edit_record
from roster_store.sights import Rosters, list_product_sights
from roster_store.sign_ins import SignInConsumer
from roster_store.tables import TABLES

SCHOOLS = ("North", "South")
KINDS: tuple[tuple[str, ...], ...] = (("student",), ("student",), ("teacher",), ("teacher", "guardian"), ("guardian",))


@dataclass
class World:
    """One organization with two integrations, and some products."""

    database: Database
    rosters: Rosters
    gateways: list[Gateway]
    chance: random.Random
    products: dict[str, ProductState] = field(default_factory=dict)
    licenses: dict[str, LicenseState] = field(default_factory=dict)
    pictures: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def add_product(self, classes: str = "automatic") -> UUID:
        """A product without a license yet."""
        product = ProductState(id=str(uuid4()), name="Reader", classes=classes)  # type: ignore[arg-type]  # one of its words
        self.products[product.id] = product
        return UUID(product.id)

    async def happen(self) -> None:
        """Let something happen."""
        things: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self.sync),
            (2, self.work_by_hand),
            (1, self.license),
            (4, self.start),
            (4, self.sign_in),
        ]
        (thing,) = self.chance.choices([one for _, one in things], [weight for weight, _ in things])
        await thing()

    # ── days at school ────────────────────────────────────────────────────────────────────────────────────────────

    async def sync(self) -> None:
        """Another day at one of the districts."""
        gateway = self.chance.choice(self.gateways)
        picture = self.pictures.setdefault(gateway.integration_id, {})
        self._go_on(picture)
        held: dict[str, dict[str, Any]] = {collection: {} for collection in TABLES}
        for (collection, sourced_id), row in (await read_rows(self.database, gateway.integration_id)).items():
            if row["active"] and row["origin"] == "synced":
                held[collection][sourced_id] = TABLES[collection].record(row)
        changed = {
            name: [one for key, one in records.items() if held[name].get(key) != one]
            for name, records in picture.items()
        }
        gone = {name: [key for key in held[name] if key not in records] for name, records in picture.items()}
        gateway.terms = ANYTHING_GOES
        await gateway.sync(
            {name: records for name, records in changed.items() if records},
            {name: keys for name, keys in gone.items() if keys},
            served={name: len(records) for name, records in picture.items()},
        )

    def _go_on(self, picture: dict[str, dict[str, Any]]) -> None:
        chance = self.chance
        for name in TABLES:
            picture.setdefault(name, {})
        center = Org(sourced_id="org-Center", name="Center", type=chance.choice(("department", "department", "school")))
        picture["orgs"] = {one.sourced_id: one for one in (*map(school, SCHOOLS), center)}
        for number in chance.sample(range(7), 3):
            person = student(number, chance.choice(("Ana", "Bea")), chance.choice(SCHOOLS))
            roles = [{"role": kind, "orgSourcedId": f"org-{chance.choice(SCHOOLS)}"} for kind in chance.choice(KINDS)]
            agents = tuple(f"user-{other}" for other in chance.sample(range(7), chance.choice((0, 0, 1, 2))))
            picture["users"][person.sourced_id] = _replace(person, roles=_roles(roles), agent_sourced_ids=agents)
            if chance.random() < 0.4:
                mark = Demographics(sourced_id=person.sourced_id, sex=chance.choice(("female", "male")))
                picture["demographics"][person.sourced_id] = mark
        for number in chance.sample(range(3), 1):
            picture["classes"][f"class-{number}"] = section(number, chance.choice(SCHOOLS))
        people, classes = list(picture["users"]), list(picture["classes"])
        for number in chance.sample(range(8), 3):
            user = chance.choice(people)
            role = picture["users"][user].roles[0].role
            one = Enrollment(
                sourced_id=f"enrollment-{number}",
                user_sourced_id=user,
                class_sourced_id=chance.choice(classes),
                role="teacher" if role == "teacher" else "student",
            )
            picture["enrollments"][one.sourced_id] = one
        for name in ("users", "classes", "enrollments", "demographics"):
            if picture[name] and chance.random() < 0.3:
                picture[name].pop(chance.choice(list(picture[name])))

    async def work_by_hand(self) -> None:
        """Somebody makes, changes or deletes a class or a title by hand."""
        gateway, number = self.chance.choice(self.gateways), self.chance.randrange(2)
        place = Place(UUID(gateway.integration_id), "classes", f"manual-{number}", "admin")
        fields = {
            "title": self.chance.choice(("Chess", "Choir")),
            "schoolSourcedId": f"org-{self.chance.choice(SCHOOLS)}",
        }
        synced = Place(UUID(gateway.integration_id), "users", f"user-{self.chance.randrange(7)}", "admin")
        try:
            match self.chance.randrange(4):
                case 0:
                    await create_record(self.database, place, fields)
                case 1:
                    await edit_record(self.database, place, fields, None)
                case 2:
                    await delete_record(self.database, place, None)
                case 3:
                    await edit_record(self.database, synced, {"familyName": self.chance.choice(("Ek", "Alm"))}, None)
        except Problem:
            return

    # ── products ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def license(self) -> None:
        """A product's license begins, changes or ends; or its classes wait from now on, or not any more."""
        product = self.chance.choice(list(self.products.values()))
        states: list[TenancyState] = [product]
        held = self.licenses.get(product.id)
        if held is not None and self.chance.random() < 0.3:
            states.append(_replace(held, revoked_at=datetime.now(UTC)))
            del self.licenses[product.id]
        elif held is not None and self.chance.random() < 0.2:
            classes = self.chance.choice(("automatic", "teacher-started"))
            states[0] = self.products[product.id] = _replace(product, classes=classes)
        else:
            schools = self.chance.choice((None, ("org-North",), ("org-South",), ("org-North", "org-South")))
            grants = tuple(group for group in FIELD_GROUPS if self.chance.random() < 0.5)
            terms = LicenseState(
                id=str(uuid4()) if held is None else held.id,
                product_id=product.id,
                organization_id=self.gateways[0].organization_id,
                schools=schools,
                grants=grants,
                valid_from=SINCE,
            )
            self.licenses[product.id] = terms
            states.append(terms)
        await announce(self.database, *states)

    async def start(self) -> None:
        """Teachers start some of their classes for a product."""
        sights = await list_product_sights(self.database, self._choose_product())
        for sight in sights:
            picture = self.pictures.get(str(sight.integration_id), {"enrollments": {}})
            taught = [one for one in picture["enrollments"].values() if one.role == "teacher"]
            for one in self.chance.sample(taught, min(2, len(taught))):
                with suppress(Problem):
                    await start_class(self.database, self.rosters, sights, one.class_sourced_id, one.user_sourced_id)

    async def sign_in(self) -> None:
        """Some people come into a product, perhaps again, perhaps unknown."""
        gateway, product = self.chance.choice(self.gateways), self._choose_product()
        come = [
            SignedIn(
                sign_in_id=str(uuid4()),
                integration_id=gateway.integration_id,
                organization_id=gateway.organization_id,
                product_id=str(product),
                user_sourced_id=f"user-{number}",
                at=datetime.now(UTC),
            )
            for number in self.chance.choices(range(8), k=3)
        ]
        await SignInConsumer(self.database).handle([as_message(to_sign_ins(one), 0) for one in come])

    def _choose_product(self) -> UUID:
        """One of those whose classes wait, rather."""
        waiting = [one.id for one in self.products.values() if one.classes == "teacher-started"]
        return UUID(self.chance.choice((waiting if self.chance.random() < 0.9 else []) or list(self.products)))


def _replace(state: Any, **changed: Any) -> Any:
    return msgspec.structs.replace(state, **changed)


def _roles(roles: list[dict[str, str]]) -> Any:
    return msgspec.convert(roles, tuple[Role, ...])
