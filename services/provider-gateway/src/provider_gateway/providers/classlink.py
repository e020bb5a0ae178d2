"""ClassLink: a district's own Roster Server, or any of a partner's districts by proxy (docs/providers/classlink.md).

Both speak OneRoster, and are read by the same code. What ClassLink has beyond it: a revision that tells whether the
roster changed while it was read, or at all; counts of each page; and a word where fields are masked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import httpx2

from homeroom.codes import Code
from homeroom.connections import ClassLinkConnection
from homeroom.messages import Finding
from provider_gateway.failures import ProviderError, RecordProblem, StartOver
from provider_gateway.providers._classlink_proxy import find_application
from provider_gateway.providers._oneroster_bases import find_bases
from provider_gateway.providers._oneroster_district import District
from provider_gateway.providers._oneroster_pages import read_count
from provider_gateway.providers._oneroster_schools import is_refusal
from provider_gateway.providers._oneroster_shapes import ROW_TYPES
from provider_gateway.providers.contract import Opening, Page, Proof, Seen, Source
from provider_gateway.providers.oneroster import authorise
from provider_gateway.quirks import CLASSLINK
from provider_gateway.scope import Scope, wanted_collections
from provider_gateway.signing import Bearer

_DATA_PATH: Final = "/ims/oneroster/v1p1"
_NO: Final = frozenset({"", "0", "false", "no"})


class ClassLink:
    """Declares the provider and opens connections to it."""

    kind = "classlink"
    title = "ClassLink Roster Server"
    connection_model = ClassLinkConnection
    capabilities: Mapping[str, Any] = {
        "collections": list(ROW_TYPES),
        "modes": ["full", "delta"],
        "states_counts": True,
        "states_revision": True,
        "single_records": True,
        "single_classes": True,
    }

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """Get ready to read one district, directly or by the proxy."""
        values, client = opening.connection.values, opening.client
        if values["auth"] == "proxy":
            yield await _open_proxy(opening)
            return
        endpoint = client.address(values["endpoint_url"])
        remembered = opening.bookmark.state.get("base") if opening.bookmark else None
        yield RosterServer(opening, find_bases(endpoint, remembered), authorise(opening, CLASSLINK))


async def _open_proxy(opening: Opening) -> Source:
    values, secrets, client = opening.connection.values, opening.connection.secrets, opening.client
    proxy = client.address(values["proxy_url"])

    async def look_up() -> str:
        return (await find_application(client, proxy, secrets["partner_key"], values["application_id"])).bearer

    found = await find_application(client, proxy, secrets["partner_key"], values["application_id"])
    bearer = Bearer(found.bearer, look_up)
    base = proxy.copy_with(raw_path=proxy.raw_path.rstrip(b"/") + f"/{found.path}{_DATA_PATH}".encode())
    listed = Finding(check="application", ok=True, detail="ClassLink lists the application as enabled there.")
    return RosterServer(opening, (base,), lambda _base: bearer, findings=(listed,))


class RosterServer(District):
    """One district at a Roster Server, or behind the proxy.

    Args:
        opening: what the source is opened with.
        bases: where the collections may be.
        auth_of: how to sign requests to a base.
        findings: what a verification should tell of the way there.
    """

    def __init__(
        self,
        opening: Opening,
        bases: Sequence[httpx2.URL],
        auth_of: Callable[[httpx2.URL], httpx2.Auth],
        *,
        findings: Sequence[Finding] = (),
    ) -> None:
        super().__init__(opening, bases, auth_of, CLASSLINK)
        self._findings = findings
        before = opening.bookmark.state.get("revision") if opening.bookmark and opening.mode == "delta" else None
        self._revision_before: str | None = before if isinstance(before, str) else None
        self._revision: str | None = None
        self._steady = True
        """Whether every page said its revision, the same one."""
        self._pages_seen = 0
        self._asking = asyncio.Lock()
        self._unchanged = False
        self._miscounted: set[str] = set()
        self._obfuscated = False
        self._told_masked = False
        self._may_change = False
        """Whether everything was read, so that a new revision is the next fetch's business."""

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection, of what changed in it, or none if nothing changed at all."""
        if self._revision_before is not None and await self._is_unchanged(collection):
            return
        async with aclosing(super().pages(collection, scope)) as pages:
            async for page in pages:
                yield page

    def proof(self, collection: str) -> Proof:
        """The revision, where it and the counts say that nothing was skipped; else as for OneRoster."""
        if self._unchanged:
            return Proof.CHANGES
        proof = super().proof(collection)
        tally = self._lists.get(collection)
        if proof is not Proof.COUNTS or tally is None or tally.by_school:
            return proof
        counts_agree = collection not in self._miscounted and all(
            stated in {None, tally.received} for stated in (tally.first_stated, tally.last_stated)
        )
        return Proof.WHOLE if self._revision is not None and self._steady and counts_agree else proof

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:
        """As for OneRoster; and keep the revision, by which the next fetch may know that there is nothing to do."""
        bookmark = self._opening.bookmark
        if self._unchanged and bookmark is not None:
            self.increments = True
            return dict(bookmark.state)
        self._may_change = self.mode == "full"
        state = await super().finish(seen)
        if self._revision is not None and self._steady:
            state["revision"] = self._revision
            self.increments = True
        return state

    async def remark(self) -> Sequence[Finding]:
        """Whether the application is enabled, whether fields are masked, and whether anything is shared at all."""
        findings = list(self._findings)
        for collection in wanted_collections(self._opening.options):
            try:
                peek = await self._peek(collection, None)
            except ProviderError:
                continue  # told where the collection itself is looked at
            if peek.stated == 0 or (peek.stated is None and not peek.rows):
                detail = (
                    f"ClassLink shares no {collection} with this application. Its sharing is set in Roster Server "
                    "under Apps: None, Basic (only people in shared classes) or Full."
                )
                findings.append(Finding(check="sharing", ok=False, detail=detail, count=0))
        if self._obfuscated:
            detail = "ClassLink says that it masks fields for this application (DataGuard)."
            findings.append(Finding(check="masked fields", ok=False, detail=detail, code=Code.FIELD_MASKED))
        return findings

    async def _is_unchanged(self, collection: str) -> bool:
        """Whether the roster still has the revision of the last fetch; asked once, with one row."""
        async with self._asking:
            if not self._pages_seen:
                try:
                    await self._peek(collection, None)
                except ProviderError as error:
                    if is_refusal(error):
                        return False  # of this collection; others may be asked
                    raise
                self._unchanged = self._revision == self._revision_before
                if self._unchanged:
                    self.mode, self.mode_code = "delta", None
            return self._unchanged

    def _observe(self, collection: str, headers: httpx2.Headers, page: Page, limit: int) -> Page:
        self._look(headers)
        count = read_count(headers, "x-count")
        if count is not None and page.received < count <= limit:
            detail = f"A page of {collection} has {page.received:,} rows and says that it has {count:,}."
            raise ProviderError(Code.PROV_BAD_PAYLOAD, detail)
        if count is not None and count != page.received:
            self._miscounted.add(collection)
        if self._obfuscated and not self._told_masked:
            self._told_masked = True
            return replace(page, notes=[*page.notes, RecordProblem(Code.FIELD_MASKED, field="x-obfuscated")])
        return page

    def _look(self, headers: httpx2.Headers) -> None:
        """Remember the revision; another one in the middle of a fetch is reason to begin again."""
        self._obfuscated |= headers.get("x-obfuscated", "").strip().lower() not in _NO
        revision = headers.get("x-perm-rev", "").strip() or None
        self._pages_seen += 1
        if self._pages_seen == 1:
            self._revision = revision
        elif self._may_change:
            return
        elif revision is None or self._revision is None:
            self._steady = False
        elif revision != self._revision:
            raise StartOver(Code.PROV_CHANGED, whole=False)
