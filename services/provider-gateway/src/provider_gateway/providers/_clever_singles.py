"""Single records of Clever by their ids, as they are now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.providers import _clever_pages as read
from provider_gateway.providers._clever_client import CleverApi, decode_listing, unwrap
from provider_gateway.providers._clever_records import READERS, Links, View, pick_demographics, read_demographics
from provider_gateway.providers.contract import Page, RawPage, make_page
from provider_gateway.scope import Scope

_KINDS: Final = {"academicSessions": "terms", "courses": "courses", "classes": "sections", "users": "users"}
_AT_ONCE: Final = 4


async def fetch_single(api: CleverApi, kind: str, sourced_id: str) -> Any:
    """An object by its kind and id; raises `ProviderError` PROV_NOT_FOUND where there is none (any more)."""
    return await api.single(f"/{kind}/{quote(sourced_id, safe='')}", name=f"/{kind}/{{id}}")


async def find_contacts(api: CleverApi, students: Sequence[str]) -> dict[str, list[str]]:
    """The contacts of each student, a few asked for at once; who is not there any more has none."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(student: str) -> list[str]:
        async with turn:
            return [one["id"] for one in await _related(api, student, "mycontacts")]

    try:
        async with asyncio.TaskGroup() as group:
            asked = {student: group.create_task(ask(student)) for student in students}
    except* ProviderError as failures:
        raise failures.exceptions[0] from None
    return {student: task.result() for student, task in asked.items()}


async def find_record(api: CleverApi, view: View, collection: str, sourced_id: str, scope: Scope) -> Page:
    """One record as a page; raises `ProviderError` PROV_NOT_FOUND where there is none."""
    page = RawPage(received=1, suspicious=True)
    if collection == "enrollments":
        return await _find_enrollment(api, sourced_id, scope)
    if collection == "orgs":
        kind = "districts" if sourced_id == view.district_id else "schools"
    else:
        kind = _KINDS.get(collection, "users")
    found = await fetch_single(api, kind, sourced_id)
    if collection == "demographics":
        marks = pick_demographics(found) or {"id": sourced_id}
        read.take(page, marks, lambda marks: read_demographics(marks, page.notes))
    else:
        if kind == "users" and view.parents:
            view = replace(view, links=await _find_links(api, view, found, sourced_id))
        read.take(page, found, lambda found: READERS[kind](found, view, page.notes))
    if not page.records and not page.refused:
        page.tombstones.append(sourced_id)
    return make_page(collection, page, scope)


async def _find_enrollment(api: CleverApi, sourced_id: str, scope: Scope) -> Page:
    """Enrollments are part of their section."""
    section = sourced_id.partition("_")[0]
    page = RawPage(received=1, suspicious=True)
    roster = read.try_roster(await fetch_single(api, "sections", section), page)
    found = [one for one in roster.enrollments() if one.sourced_id == sourced_id] if roster is not None else []
    page.records += found
    if roster is not None and not found:
        page.tombstones.append(sourced_id)
    return make_page("enrollments", page, scope)


async def _find_links(api: CleverApi, view: View, found: Any, sourced_id: str) -> Links:
    roles = view.roles(found)
    contacts = await find_contacts(api, [sourced_id]) if "student" in roles else {}
    schools: dict[str, list[str]] = {}
    if "contact" in roles:
        for student in await _related(api, sourced_id, "mystudents"):
            for key, school in read.list_schools(student):
                schools.setdefault(key, []).append(school)
    return Links(contacts=contacts, schools=schools)


async def _related(api: CleverApi, user: str, what: str) -> list[Any]:
    """The contacts or students of a user."""
    found: list[Any] = []
    path = f"/users/{quote(user, safe='')}/{what}"
    try:
        async with aclosing(api.bodies(path, name=f"/users/{{id}}/{what}")) as bodies:
            async for body in bodies:
                found += [unwrap(raw)[0] for raw in decode_listing(body, what).data]
    except ProviderError as error:
        if error.code is not Code.PROV_NOT_FOUND:
            raise
    return [one for one in found if isinstance(one.get("id"), str)]
