"""Places of Homeroom's own REST: whose records are meant, and where a page goes on."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from uuid import UUID

import msgspec

from homeroom.auth import Caller
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from homeroom.roster import MAX_TEXT
from roster_store.sights import Rosters, Sight, list_sights
from roster_store.tables import TABLES

MOST_INTEGRATIONS = 50
"""So many are looked through for one answer."""


class PageCursor(msgspec.Struct, frozen=True, array_like=True):
    """After which record a page goes on; integrations follow one another."""

    integration_no: int = 0
    sourced_id: str = ""

    def render(self) -> str:
        """The opaque text callers keep."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str | None) -> PageCursor:
        """The place a page ended at; the beginning for None. Raises `Problem` CURSOR_INVALID."""
        if text is None:
            return cls()
        try:
            body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            cursor = msgspec.json.decode(body, type=cls)
            if "\0" in cursor.sourced_id or len(cursor.sourced_id.encode()) > 4 * MAX_TEXT:
                raise ValueError(text[:0])
        except (binascii.Error, ValueError) as error:
            raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from error
        return cursor


async def find_sights(
    database: Database, caller: Caller, organization: UUID | None, integration: UUID | None
) -> list[Sight]:
    """What a caller looks at, few enough to look through. Raises `Problem` NOT_FOUND, INTEGRATION_AMBIGUOUS."""
    sights = await list_sights(database, caller, organization=organization, integration=integration)
    if not sights:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no roster here that the token may see.")
    if len(sights) > MOST_INTEGRATIONS:
        raise ambiguous(sights, f"The token sees {len(sights):,} integrations, too many to look through.")
    return sights


async def find_owner(rosters: Rosters, sights: Sequence[Sight], collection: str, sourced_id: str) -> Sight:
    """The one integration in which there is such a record. Raises `Problem` NOT_FOUND, INTEGRATION_AMBIGUOUS."""
    check_text(sourced_id)
    owners = []
    for sight in sights:
        async with rosters.look(sight) as connection:
            statement = (
                f"SELECT EXISTS (SELECT FROM roster_served.{TABLES[collection].name} WHERE sourced_id = $1 AND active)"  # noqa: S608 - a name of our own
            )
            if await connection.fetchval(statement, sourced_id):
                owners.append(sight)
    if not owners:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no such record in {collection}.")
    if len(owners) > 1:
        raise ambiguous(owners, f"{len(owners)} integrations have a record with this id.")
    return owners[0]


def choose_only(sights: Sequence[Sight]) -> Sight:
    """The integration, where there is but one. Raises `Problem` INTEGRATION_AMBIGUOUS."""
    if len(sights) > 1:
        raise ambiguous(sights, f"The token sees {len(sights):,} integrations.")
    return sights[0]


def check_text(*texts: str | None) -> None:
    """Refuse what Postgres can't take as text, and what is longer than any field. Raises `Problem` REQUEST_INVALID."""
    for text in texts:
        if text is not None and ("\0" in text or len(text) > MAX_TEXT or not _is_unicode(text)):
            raise Problem(Code.REQUEST_INVALID, status=422, detail="An id or value is no text a record could have.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def ambiguous(sights: Sequence[Sight], detail: str) -> Problem:
    """Ask for the integration that is meant."""
    named = [str(sight.integration_id) for sight in sights[:MOST_INTEGRATIONS]]
    return Problem(Code.INTEGRATION_AMBIGUOUS, status=409, detail=detail, integrations=named)
