"""Questions about a district that are answered at once, without a run: is it reachable and sound, which schools has it?

A verification reads the first page of everything the integration wants and changes nothing (C11). It tells what a sync
would stumble over: an address, credentials, a collection that is not shared, damaged records, masked fields (C13).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import msgspec

from homeroom.bus import BusError, Message, Outgoing
from homeroom.codes import Code
from homeroom.messages import Answered, Finding, Inquiry, School, read_inquiry, to_facts
from homeroom.roster import Org
from homeroom.secrets import SecretUnreadable
from homeroom.telemetry import get_logger, inject_headers, span
from provider_gateway import masking
from provider_gateway.failures import OwnTrouble, ProviderError, StartOver
from provider_gateway.providers.contract import Page, Source
from provider_gateway.scope import Scope, wanted_collections
from provider_gateway.workshop import Workshop

log = get_logger(__name__)

_AT_ONCE = 8
_MOST_SCHOOLS = 5_000
_ENDING = frozenset({Code.AUTH_INVALID, Code.AUTH_EXPIRED, Code.PROV_UNREACHABLE, Code.PROV_TLS, Code.SSRF_BLOCKED})
"""What would be the same for every further collection."""


class Inquiries:
    """The handler of inquiries: each is answered by a task of its own, a few at a time."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, messages: Sequence[Message]) -> None:
        """Begin to answer; the bus commits when this returns, and an answer that is lost is asked for again."""
        for message in messages:
            inquiry = read_inquiry(message)
            await self._turn.acquire()
            task = asyncio.create_task(self._answer(inquiry), name=f"inquiry {inquiry.inquiry_id}")
            self._tasks.add(task)
            task.add_done_callback(self._end)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._turn.release()

    async def _answer(self, inquiry: Inquiry) -> None:
        with span("answer inquiry", homeroom_inquiry=inquiry.kind):
            answer = await answer_inquiry(self._workshop, inquiry)
        message = to_facts(answer)
        try:
            await self._workshop.bus.publish(Outgoing(message.topic, message.key, message.value, inject_headers()))
        except BusError:
            log.warning("an answer could not be sent", inquiry_id=inquiry.inquiry_id)


async def answer_inquiry(workshop: Workshop, inquiry: Inquiry) -> Answered:
    """The answer to a question, whatever happens on the way; at the latest at its deadline."""
    now = workshop.clock.now()
    answer = Answered(inquiry_id=inquiry.inquiry_id, integration_id=inquiry.integration_id, at=now)
    try:
        async with (
            asyncio.timeout(max((inquiry.deadline - now).total_seconds(), 0)),
            workshop.open_source(inquiry, mode="full", bookmark=None, began=now) as source,
        ):
            scope = Scope(inquiry.options, inquiry.today)
            if inquiry.kind == "schools":
                return msgspec.structs.replace(answer, schools=await list_schools(source, scope))
            findings = await verify(source, scope)
            worst = next((one for one in findings if not one.ok), None)
            if worst is None:
                return msgspec.structs.replace(answer, findings=findings)
            return msgspec.structs.replace(answer, findings=findings, code=worst.code, detail=worst.detail)
    except (ProviderError, OwnTrouble) as error:
        code, detail = error.code, error.detail
    except StartOver as turn:
        code, detail = turn.code, turn.code.entry.cause
    except SecretUnreadable:
        code, detail = Code.SECRET_UNREADABLE, "The stored credentials could not be opened."
    except TimeoutError:
        code, detail = Code.PROV_TIMEOUT, "The provider did not answer everything in time."
    except Exception:
        log.exception("an inquiry failed unexpectedly", inquiry_id=inquiry.inquiry_id)
        code, detail = Code.RUN_INTERNAL, "Something unforeseen happened in the gateway."
    finding = Finding(check="connection", ok=False, code=code, detail=detail)
    return msgspec.structs.replace(answer, code=code, detail=detail, findings=(finding,))


async def list_schools(source: Source, scope: Scope) -> tuple[School, ...]:
    """The schools the provider names, by name (C4)."""
    schools: list[School] = []
    async with aclosing(source.pages("orgs", scope)) as pages:
        async for page in pages:
            for number in range(len(page.canonical)):
                org = msgspec.json.decode(page.canonical.encoded(number), type=Org)
                if org.type == "school" and len(schools) < _MOST_SCHOOLS:
                    schools.append(School(sourced_id=org.sourced_id, name=org.name, identifier=org.identifier))
    return tuple(sorted(schools, key=lambda school: (school.name.casefold(), school.sourced_id)))


async def verify(source: Source, scope: Scope) -> tuple[Finding, ...]:
    """What a first look at a district shows, line by line."""
    findings = list(await source.remark())
    for collection in wanted_collections(scope.options):
        if collection not in source.collections:
            findings.append(Finding(check=collection, ok=True, detail="This provider has none.", count=0))
            continue
        try:
            page = await _read_first_page(source, collection, scope)
        except ProviderError as error:
            findings.append(Finding(check=collection, ok=False, code=error.code, detail=error.detail))
            if error.code in _ENDING:
                break
            continue
        if page is None:
            findings.append(Finding(check=collection, ok=True, detail="There are none.", count=0))
            continue
        findings += judge_page(collection, page)
        if collection == "users":
            findings += judge_masks(page)
            scope = replace(scope, masked=page.masked)
    return tuple(findings)


async def _read_first_page(source: Source, collection: str, scope: Scope) -> Page | None:
    """The first page that holds something."""
    async with aclosing(source.pages(collection, scope)) as pages:
        async for page in pages:
            if page.received:
                return page
    return None


def judge_page(collection: str, page: Page) -> list[Finding]:
    """What the first page of a collection tells."""
    shown = f"{page.received:,} were read"
    if page.stated is not None:
        shown += f" of {page.stated:,}"
    count = page.stated if page.stated is not None else page.received
    if not page.refused:
        return [Finding(check=collection, ok=True, detail=f"{shown}.", count=count)]
    first = page.refused[0]
    where = f" in {first.field}" if first.field else ""
    return [
        Finding(
            check=collection,
            ok=len(page.refused) < page.received,
            code=first.code,
            detail=f"{shown}, {len(page.refused):,} of them can't be taken: the first because of {first.code}{where}.",
            count=count,
        )
    ]


def judge_masks(page: Page) -> list[Finding]:
    """Which fields of users hold no real values."""
    findings = [
        Finding(
            check="masked fields",
            ok=True,
            code=Code.FIELD_MASKED,
            detail=f"{masking.FIELDS[name]} is the same for everybody; it is treated as absent.",
        )
        for name in sorted(page.masked or ())
    ]
    findings += [
        Finding(
            check="masked fields",
            ok=True,
            code=Code.FIELD_MASKED,
            detail=f"{masking.FIELDS[name]} is masked; it is treated as absent.",
            count=count,
        )
        for name, count in sorted(page.masked_values.items())
    ]
    return findings or [Finding(check="masked fields", ok=True, detail="No field is masked.")]
