"""Reading collections school by school, where a server refuses them as a whole.

OneRoster 1.1 has lists below each school. They do not hold everything: people who neither learn nor teach are in none
of them, and somebody at two schools is in two. So nothing that is missing from them is taken for gone by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from homeroom.roster import Org
from provider_gateway.failures import ProviderError
from provider_gateway.providers.contract import Page
from provider_gateway.scope import Scope

NESTED: Final = {
    "academicSessions": ("terms",),
    "courses": ("courses",),
    "classes": ("classes",),
    "users": ("students", "teachers"),
    "enrollments": ("enrollments",),
}
"""The lists below a school that make up a collection."""
_REFUSALS: Final = frozenset({403, 404, 405, 501})


class ReadList(Protocol):
    """Reads the pages of a list."""

    def __call__(
        self, path: str, collection: str, scope: Scope, where: Mapping[str, str], label: str | None = None
    ) -> AsyncGenerator[Page, None]:
        """The list at `path`, of records of `collection`, called `label` in errors."""


def is_refusal(error: ProviderError) -> bool:
    """Whether a server says that a list is not to be had, which says nothing about others."""
    return error.status in _REFUSALS


def list_ids(page: Page) -> list[str]:
    """The sourcedIds of the schools among a page of orgs."""
    orgs = (msgspec.json.decode(page.canonical.encoded(number), type=Org) for number in range(len(page.canonical)))
    return [org.sourced_id for org in orgs if org.type == "school"]


async def read_by_school(
    read_list: ReadList,
    schools: Sequence[str],
    collection: str,
    scope: Scope,
    refused: MutableMapping[str, str],
    refusal: ProviderError,
) -> AsyncGenerator[Page, None]:
    """The pages of a collection, one school after the other; raises `refusal` if every school is refused.

    A school whose list is refused is told in `refused`, and the others go on.
    """
    without: set[str] = set()
    for school in schools:
        for name in NESTED[collection]:
            path, label = f"/schools/{quote(school, safe='')}/{name}", f"/schools/{{id}}/{name}"
            try:
                async with aclosing(read_list(path, collection, scope, {}, label)) as pages:
                    async for page in pages:
                        yield page
            except ProviderError as error:
                if not is_refusal(error):
                    raise
                told = f"{name} refused: {error.status}"
                refused[school] = f"{refused[school]}; {told}" if school in refused else told
                without.add(school)
    if without.issuperset(schools):
        for school in schools:
            refused.pop(school, None)
        raise refusal
