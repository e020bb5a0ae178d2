"""Which fields of a roster a license grants: named groups, so that a product gets what it needs and no more (F3).

Whatever stands in no group is granted with every license: who there is, in which classes, when. The names of the
groups travel in licenses; which columns they cover stands here once, and the store's views follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from homeroom.roster import RECORD_TYPES

FieldGroup = Literal["grades", "identifiers", "contacts", "guardians", "demographics", "metadata"]

FIELD_GROUPS: Final[tuple[FieldGroup, ...]] = get_args(FieldGroup)
DEFAULT_GROUPS: Final[tuple[FieldGroup, ...]] = ("grades", "identifiers")
"""What a license grants unless it says otherwise."""

GROUP_WORDS: Final[Mapping[FieldGroup, str]] = {
    "grades": "grade levels of people, classes and courses (B4)",
    "identifiers": "user names and the ids people have in other systems; a user name that is an address needs contacts",
    "contacts": "e-mail addresses and telephone numbers (B2)",
    "guardians": "parents, guardians and relatives, and whose they are (B2)",
    "demographics": "demographics with program flags, and pronouns (B5); its own scope is needed besides",
    "metadata": "whatever else the provider sends, which may hold anything (B6)",
}

GROUP_FIELDS: Final[Mapping[FieldGroup, Mapping[str, tuple[str, ...]]]] = {
    "grades": {"users": ("grades",), "classes": ("grades",), "courses": ("grades",)},
    "identifiers": {"users": ("username", "identifier", "user_master_identifier", "user_ids")},
    "contacts": {"users": ("email", "sms", "phone")},
    "guardians": {"users": ("agent_sourced_ids",)},
    "demographics": {"users": ("pronouns",)},
    "metadata": dict.fromkeys(RECORD_TYPES, ("metadata",)),
}
"""Group → collection → the fields that are left out without it. `guardians` and `demographics` leave out whole
records as well: people who are nothing but guardians, and the collection of demographics."""

GUARDIAN_ROLES: Final = ("guardian", "parent", "relative")
"""Roles of people who are there for somebody else's sake."""
