"""Asks the store who somebody is, and remembers its answers for when it is away.

A recent answer is used as it is, so a class that comes in together does not ask thirty times the same. An older one, up
to the cache's time, counts only while the store does not answer: whoever was known this morning can go on learning.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from uuid import UUID

import httpx2
import msgspec

from homeroom.auth import TokenSource, TokenUnavailable
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.people import LinkOrder, LinkOutcome, PersonAnswer, PersonField, PersonQuestion
from homeroom.telemetry import get_logger
from sso.launch.refusals import Refused
from sso.settings import Settings
from sso.statements import SQL

SCOPE: Final = "people.resolve"
ASK_SECONDS: Final = 4.0
_NO_PRODUCT: Final = UUID(int=0)

Answer = TypeVar("Answer", bound=msgspec.Struct)

log = get_logger(__name__)


class StoreAway(Exception):  # noqa: N818 - a state rather than a mistake
    """The store did not answer, or not as agreed."""


class People:
    """Who people are, as the store says."""

    def __init__(self, database: Database, client: httpx2.AsyncClient, tokens: TokenSource, settings: Settings) -> None:
        self._database = database
        self._client = client
        self._tokens = tokens
        self._settings = settings

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database, tokens: TokenSource, settings: Settings) -> AsyncIterator[People]:
        """With connections to the store that are kept."""
        async with httpx2.AsyncClient(
            base_url=settings.store_url, timeout=ASK_SECONDS, follow_redirects=False, trust_env=False
        ) as client:
            yield cls(database, client, tokens, settings)

    async def find(self, integration_id: UUID, field: PersonField, value: str, product_id: UUID | None) -> PersonAnswer:
        """Who has this value, as a product sees them. Raises `Refused` SIGNIN_STORE_AWAY if nobody can say."""
        where = (integration_id, field, value, product_id or _NO_PRODUCT)
        kept = await self._database.fetchrow(SQL["find_answer"], *where, self._settings.people_cache_seconds)
        if kept is not None and kept["age"] <= self._settings.people_fresh_seconds:
            return msgspec.convert(kept["answer"], PersonAnswer)
        question = PersonQuestion(
            integration_id=str(integration_id),
            field=field,
            value=value,
            product_id=None if product_id is None else str(product_id),
        )
        try:
            answer = await self._ask("/v1/people/resolve", question, PersonAnswer)
        except StoreAway as away:
            if kept is None:
                raise Refused(Code.SIGNIN_STORE_AWAY, "the store does not answer", status=503) from None
            log.warning("the store is away, an earlier answer is used", why=str(away), age_seconds=round(kept["age"]))
            return msgspec.convert(kept["answer"], PersonAnswer)
        sourced_id = None if answer.person is None else answer.person.sourced_id
        await self._database.fetch(SQL["keep_answer"], *where, sourced_id, msgspec.to_builtins(answer))
        return answer

    async def link(self, order: LinkOrder) -> LinkOutcome:
        """Tie an account to somebody, or take them apart. Raises `Refused` SIGNIN_STORE_AWAY."""
        try:
            return await self._ask("/v1/people/link", order, LinkOutcome)
        except StoreAway:
            raise Refused(Code.SIGNIN_STORE_AWAY, "the store does not answer", status=503) from None

    async def forget(self, integration_id: UUID, sourced_id: str) -> None:
        """Forget what was answered about somebody, so that it is asked anew."""
        await self._database.fetch(SQL["forget_answers"], integration_id, [sourced_id])

    async def _ask(self, path: str, body: msgspec.Struct, kind: type[Answer]) -> Answer:
        for attempt in (1, 2):
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    headers = {**await self._tokens.headers(), "Content-Type": "application/json"}
                    answer = await self._client.post(path, content=msgspec.json.encode(body), headers=headers)
            except (httpx2.HTTPError, TimeoutError, TokenUnavailable) as error:
                raise StoreAway(type(error).__name__) from None
            if answer.status_code == 401 and attempt == 1:  # noqa: PLR2004 - HTTP's Unauthorized
                self._tokens.forget()
                continue
            if answer.status_code != 200:  # noqa: PLR2004 - HTTP's OK
                raise StoreAway(f"status {answer.status_code}")
            try:
                return msgspec.json.decode(answer.content, type=kind)
            except msgspec.MsgspecError:
                raise StoreAway("unreadable") from None
        raise StoreAway("status 401")
