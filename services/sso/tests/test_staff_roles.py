"""What people of the staff may do: decided without input or output."""

from __future__ import annotations

from itertools import product
from uuid import UUID, uuid4

import pytest

from homeroom.auth import PRODUCT_SCOPES, SCOPES, TEACHER_SCOPES, Caller, include
from homeroom.people import PersonRole, RosterPerson
from sso.staff.onward import Onward, read_next, read_onward, recall_onward
from sso.staff.passwords import object_to, read_username
from sso.staff.roles import (
    SCOPES_OF,
    GivenRole,
    Holding,
    Kind,
    check_shape,
    choose,
    may_be_staff,
    may_grant,
    may_hold,
    teaches,
)

OURS, THEIRS, PLATFORM, READER, ME = uuid4(), uuid4(), uuid4(), uuid4(), uuid4()
ADMIN = Holding("platform-admin")
DISTRICT = Holding("district-admin", OURS)
PRODUCT = Holding("product-admin", product_id=READER)
SUPPORT = Holding("support")
TEACHER = Holding("teacher", OURS, teacher=(ME, "teacher-1"))


def test_each_role_has_its_scopes() -> None:
    """Admins have `admin`, a product's admin what products have, support reads, a teacher refreshes and starts."""
    assert SCOPES_OF["platform-admin"] == SCOPES_OF["district-admin"] == {"admin"}
    assert SCOPES_OF["product-admin"] == PRODUCT_SCOPES
    assert SCOPES_OF["teacher"] == TEACHER_SCOPES == {"classes.refresh", "classes.start"}
    assert all(scope.endswith(".read") for scope in SCOPES_OF["support"])
    assert not SCOPES_OF["support"] & {"roster.read", "demographics.read"}
    assert set().union(*SCOPES_OF.values()) <= SCOPES


@pytest.mark.parametrize(
    ("holdings", "named", "expected"),
    [
        ([], {}, None),
        ([TEACHER, DISTRICT, ADMIN], {}, ("platform-admin", None, None)),
        ([TEACHER, DISTRICT], {}, ("district-admin", OURS, None)),
        ([TEACHER], {}, ("teacher", OURS, None)),
        ([TEACHER, DISTRICT], {"organization_id": THEIRS}, None),
        ([ADMIN], {"organization_id": OURS}, ("platform-admin", OURS, None)),
        ([ADMIN, PRODUCT], {"product_id": READER}, ("product-admin", None, READER)),
        ([ADMIN], {"product_id": READER}, None),
        ([PRODUCT], {"organization_id": OURS}, ("product-admin", OURS, READER)),
        ([PRODUCT], {"product_id": THEIRS}, None),
        ([SUPPORT, Holding("support", OURS)], {"organization_id": THEIRS}, ("support", THEIRS, None)),
    ],
)
def test_the_highest_role_that_fits(
    holdings: list[Holding], named: dict[str, UUID], expected: tuple[object, ...] | None
) -> None:
    """Of several roles the highest counts, or the highest of what is named; naming never adds to what there is."""
    grant = choose(ME, holdings, **named)
    assert (grant and (grant.role, grant.organization_id, grant.product_id)) == expected


def test_a_teachers_grant_says_which_teacher() -> None:
    """A teacher's token names the integration and who they are in it, and no person."""
    grant = choose(ME, [TEACHER])
    assert grant is not None
    assert (grant.teacher, grant.scopes, grant.subject) == ((ME, "teacher-1"), TEACHER_SCOPES, f"staff:{ME}")


def _caller(*scopes: str, **bound: object) -> Caller:
    return Caller("somebody", include(scopes), **bound)  # type: ignore[arg-type]  # each case names its own bounds


def test_attack_74_nobody_gives_more_than_they_have() -> None:
    """Only an organization's roles are its admin's to give, and only those in it; products and teachers give none."""
    platform, ours = _caller("admin"), _caller("admin", organization_id=str(OURS))
    given: list[tuple[GivenRole, UUID | None]] = [
        ("platform-admin", None),
        ("product-admin", None),
        ("support", None),
        ("support", OURS),
        ("support", THEIRS),
        ("district-admin", OURS),
        ("district-admin", THEIRS),
    ]
    assert all(may_grant(platform, *one) for one in given)
    assert [one for one in given if may_grant(ours, *one)] == [("support", OURS), ("district-admin", OURS)]
    nobodies = [
        _caller("connections.write"),
        _caller("admin", product_id=str(READER)),
        _caller("admin", organization_id=str(OURS), teacher=(str(ME), "teacher-1")),
    ]
    assert not [one for nobody, one in product(nobodies, given) if may_grant(nobody, *one)]


@pytest.mark.parametrize(
    ("kind", "home", "role", "organization", "expected"),
    [
        ("local", None, "platform-admin", None, True),
        ("local", OURS, "platform-admin", None, False),
        ("local", OURS, "district-admin", OURS, True),
        ("portal", OURS, "district-admin", OURS, True),
        ("portal", OURS, "district-admin", THEIRS, False),
        ("portal", OURS, "platform-admin", None, False),
        ("portal", OURS, "product-admin", None, False),
        ("portal", OURS, "support", None, False),
        ("portal", PLATFORM, "platform-admin", None, True),
        ("portal", PLATFORM, "district-admin", THEIRS, True),
        ("rostered", PLATFORM, "platform-admin", None, False),
        ("rostered", OURS, "support", OURS, True),
    ],
)
def test_a_district_vouches_for_itself_only(
    kind: Kind, home: UUID | None, role: GivenRole, organization: UUID | None, *, expected: bool
) -> None:
    """Who comes by a district's connection, which its admins look after, has no role that reaches beyond it."""
    assert may_hold(kind, home, role, organization, platform_organizations=[PLATFORM]) == expected


def test_what_a_role_is_bound_to() -> None:
    """A district-admin is one of an organization, a product-admin of a product, and others of none."""
    good = [("platform-admin", None, None), ("district-admin", OURS, None), ("product-admin", None, READER)]
    good += [("support", None, None), ("support", OURS, None)]
    bad = [("platform-admin", OURS, None), ("district-admin", None, None), ("product-admin", None, None)]
    bad += [("product-admin", OURS, READER), ("support", None, READER), ("district-admin", OURS, READER)]
    assert [check_shape(*one) for one in good] == [None] * len(good)  # type: ignore[arg-type]  # roles all of them
    assert None not in [check_shape(*one) for one in bad]  # type: ignore[arg-type]  # likewise


def test_attack_56_students_are_never_staff() -> None:
    """Who the roster has as a student or a relative only is none of the staff, whatever a portal says of them."""

    def person(*roles: str) -> RosterPerson:
        having = tuple(PersonRole(role=role, org_sourced_id="school-1") for role in roles)
        return RosterPerson(sourced_id="one", given_name="A", family_name="B", roles=having)

    assert [may_be_staff(person(one)) for one in ("student", "parent", "guardian", "relative")] == [False] * 4
    assert not may_be_staff(person())
    assert may_be_staff(person("student", "aide"))
    assert [teaches(person("aide")), teaches(person("student", "teacher"))] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.test/",
        "//evil.test/console",
        "/\\evil.test",
        "/console\\..\\evil",
        "javascript:alert(1)",
        "/console/../../evil",
        "/console//evil.test",
        "/console/%2f%2fevil.test",
        "/console/%2e%2e/x",
        "/console\r\nLocation: x",
        "/consoles",
        "/v1/clients",
        "/sso/sign-out",
        "/console/" + "a" * 4_000,
        "",
        None,
    ],
)
def test_attack_70_next_is_a_place_of_ours(text: str | None) -> None:
    """Whatever could lead elsewhere is no place to go on to."""
    assert read_next(text) is None


def test_what_comes_next_is_kept() -> None:
    """A path of ours, a request that waits and an invitation come through a flow as they were; nothing else does."""
    for text in ("/console", "/console/runs?state=held&x=%2Fy", "/oauth2/authorize?client_id=homeroom-console"):
        assert recall_onward(read_onward(text).text) == Onward("place", text)
    waiting = read_onward(None, "a" * 43)
    assert recall_onward(waiting.text) == waiting == Onward("request", "a" * 43)
    assert waiting.address("/sso/staff", fresh="true") == f"/sso/staff?request={'a' * 43}&fresh=true"
    assert recall_onward("invitation:x") == Onward("invitation", "x")
    assert [recall_onward(one) for one in (None, "", "place://evil", "other:x")] == [Onward()] * 4


def test_names_and_passwords_to_be() -> None:
    """Usernames are plain and in small letters; passwords are long, and neither the username nor a few characters."""
    assert [read_username(one) for one in (" Admin ", "a.b-c_1", "é", "a", "-ab", "a b")] == [
        "admin",
        "a.b-c_1",
        None,
        None,
        None,
        None,
    ]
    assert object_to("admin", "correct horse battery") is None
    assert None not in [object_to("admin", one) for one in ("short", "x" * 201, "admin-admin-admin", "abababababab")]
