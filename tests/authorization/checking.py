"""Calls a route as everybody in turn, and says what went differently from its rule."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import httpx2

from authorization.districts import District, Neighbourhood, issue_token
from authorization.rules import KINDS, Call, Ids, Kind, Public, Rule
from homeroom.auth import ADMIN, FINGERPRINTS, SCOPES, TEACHER_SCOPES
from homeroom.codes import Code

DAY: Final = 86_400


class Check:
    """One route of a service, as its rule has it."""

    def __init__(self, place: Neighbourhood, service: str, rule: Rule) -> None:
        self._place, self._service, self._rule = place, service, rule
        self.calls = 0
        """How many requests it took."""
        self.problems: list[str] = []

    async def run(self) -> list[str]:
        """Everybody calls, those who may at the end; what was not as it should be."""
        ids = {kind: await self._ready(kind) for kind in sorted(self._rule.callers)}
        calls = {kind: self._rule.call(known) for kind, known in ids.items()}
        await self._call_without_right(calls)
        await self._call_as_outsiders(calls, ids)
        await self._call_as_who_may()
        return self.problems

    # ── who may not ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _call_without_right(self, calls: dict[Kind, Call]) -> None:
        now = int(time.time())
        call = next(iter(calls.values()))
        issuer, everything = self._place.issuer, SCOPES
        unfit: dict[str, tuple[str | None, Code]] = {
            "no token": (None, Code.TOKEN_MISSING),
            "expired": (issuer.token(everything, iat=now - 2 * DAY, exp=now - DAY), Code.TOKEN_INVALID),
            "wrong audience": (issuer.token(everything, aud="elsewhere"), Code.TOKEN_INVALID),
        }
        await gather(self._refuse(who, call, token, frozenset({401}), code) for who, (token, code) in unfit.items())
        missing = frozenset({403}), Code.SCOPE_MISSING
        await gather(
            self._refuse(f"{kind} with a scope missing", call, self._token(kind, scopes, self._place.ours), *missing)
            for kind, call in calls.items()
            for scopes in self._lacking()
        )

    async def _refuse(
        self, who: str, call: Call, token: str | None, statuses: frozenset[int], code: Code | None = None
    ) -> None:
        """Call as somebody who must be refused."""
        self._expect(who, call, await self._send(call, token), statuses, code)

    def _lacking(self) -> Iterator[frozenset[str]]:
        """All scopes but one that is needed, in turn; all but all of them where one is enough."""
        needs = self._rule.needs
        for missing in [set(needs)] if self._rule.either else [{one} for one in needs]:
            # Whoever is admin may do all but what is between the services.
            yield frozenset(SCOPES - missing - (set() if missing == {FINGERPRINTS} else {ADMIN}))

    async def _call_as_outsiders(self, calls: dict[Kind, Call], ids: dict[Kind, Ids]) -> None:
        rule, ours, theirs = self._rule, self._place.ours, self._place.theirs
        bound = {"product_id": ours.ids[rule.as_product], "organization_id": theirs.ids["organization_id"]}
        outsiders: dict[str, tuple[Kind, str]] = {
            "another organization": ("organization", self._token("organization", SCOPES, theirs)),
            "another product": ("product", self._token("product", SCOPES, theirs)),
            "our product for another organization": ("product", self._place.issuer.token(SCOPES, **bound)),
        }
        if "teacher" in rule.callers:
            colleague = {**ids["teacher"], "teacher_id": "somebody-else"}
            elsewhere = {**ids["teacher"], "integration_id": ours.ids["csv_integration_id"]}
            outsiders |= {
                "another organization's teacher": ("teacher", self._token("teacher", SCOPES, theirs)),
                "another teacher": ("teacher", self._token("teacher", SCOPES, ours, colleague)),
                "a teacher of another roster": ("teacher", self._token("teacher", SCOPES, ours, elsewhere)),
            }
        for kind in KINDS - rule.callers:
            outsiders[f"our {kind}"] = (kind, self._token(kind, SCOPES, ours))
        other = next(iter(calls.values()))
        await gather(
            self._call_as_outsider(who, calls[kind], token)
            if kind in rule.callers
            else self._refuse(who, other, token, frozenset({403}))
            for who, (kind, token) in outsiders.items()
        )

    async def _call_as_outsider(self, who: str, call: Call, token: str) -> None:
        rule = self._rule
        for one in self._vary(call):
            answer = await self._send(one, token)
            if rule.blind and answer.is_success:
                self._look_for_secrets(who, one, answer, everything=True)
            else:
                self._expect(who, one, answer, rule.outsiders)
        if rule.query and not rule.blind:  # without a word about whose it is: theirs is meant, or nobody's
            bare = replace(call, query={})
            self._look_for_secrets(who, bare, await self._send(bare, token))

    def _vary(self, call: Call) -> Iterator[Call]:
        """The call, and the same with each of the parameters that narrow it to the district."""
        yield call
        for name, source in self._rule.narrows.items():
            yield replace(call, query={**call.query, name: self._place.ours.ids[source]})

    # ── who may ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _call_as_who_may(self) -> None:
        rule = self._rule
        for kind in sorted(rule.callers):
            for scopes in [{one} for one in rule.needs] if rule.either else [set(rule.needs)]:
                if kind == "teacher" and not scopes <= TEACHER_SCOPES:
                    continue
                ids = await self._ready(kind)
                call = rule.call(ids)
                answer = await self._send(call, self._token(kind, frozenset(scopes), self._place.ours, ids))
                if answer.status_code not in rule.statuses:
                    self._note(f"our {kind} with {' '.join(sorted(scopes))}", call, answer)
                    continue
                text = read_text(answer)
                for shown in rule.shows:
                    if ids.get(shown, shown).lower() not in text:
                        self._note(f"our {kind}", call, answer, f"{shown} is not in it")

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ready(self, kind: Kind) -> Ids:
        """What a call is made with; what can be used once only is made for it."""
        ours, prepare = self._place.ours, self._rule.prepare
        return {**ours.ids, **(await prepare(self._place, ours, kind) if prepare else {})}

    def _token(self, kind: Kind, scopes: frozenset[str], district: District, ids: Ids | None = None) -> str:
        return issue_token(self._place, kind, scopes, district, self._rule.as_product, ids)

    async def _send(self, call: Call, token: str | None) -> httpx2.Response:
        self.calls += 1
        return await self._place.send(self._service, call, token)

    def _expect(
        self, who: str, call: Call, answer: httpx2.Response, statuses: frozenset[int], code: Code | None = None
    ) -> None:
        """A refusal that tells nothing but what was asked."""
        if answer.status_code not in statuses:
            self._note(who, call, answer, f"not {' or '.join(map(str, sorted(statuses)))}")
        elif code is not None and read_code(answer) != code:
            self._note(who, call, answer, f"not {code}")
        elif not answer.headers.get("content-type", "").startswith(("application/problem+json", "application/json")):
            self._note(who, call, answer, "no problem document")
        self._look_for_secrets(who, call, answer)

    def _look_for_secrets(self, who: str, call: Call, answer: httpx2.Response, *, everything: bool = False) -> None:
        if found := find_secrets(self._place.ours, call, answer, everything=everything):
            self._note(who, call, answer, f"{len(found)} secrets of the district are in it, such as {found[0]}")

    def _note(self, who: str, call: Call, answer: httpx2.Response, why: str = "") -> None:
        text = answer.text[:300] if answer.headers.get("content-type", "").endswith("json") else ""
        query = f"?{httpx2.QueryParams(dict(call.query))}" if call.query else ""
        self.problems.append(
            f"{self._rule.method} {self._rule.path}{query} as {who}: {answer.status_code} {why} {text}".rstrip()
        )


async def gather(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Several calls at once."""
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


async def check_public(place: Neighbourhood, service: str, rule: Public) -> list[str]:
    """What is public answers anybody, with nothing of a district."""
    call = rule.call()
    answer = await place.send(service, call, None)
    problems = [] if answer.status_code == rule.status else [f"{rule.path}: {answer.status_code}, not {rule.status}"]
    for district in (place.ours, place.theirs):
        problems += [
            f"{rule.path}: {found} is in it" for found in find_secrets(district, call, answer, everything=True)
        ]
    return problems


async def check_cursor(place: Neighbourhood, service: str, rule: Rule, name: str) -> list[str]:
    """A place in our list is of no use to others."""
    if rule.single_page:
        return []
    call = rule.call(place.ours.ids)
    answer = await place.send(service, Call("GET", call.path, {**call.query, "limit": "1"}), _own_token(place, rule))
    cursor = find_cursor(answer)
    if cursor is None:
        return [f"{rule.path}: there is no {name} to try ({answer.status_code} {answer.text[:200]})"]
    problems = []
    for kind in sorted(rule.callers - {"platform"}):
        token = issue_token(place, kind, SCOPES, place.theirs)
        for path in {call.path, rule.call(place.theirs.ids).path}:
            theirs = Call("GET", path, {**rule.call(place.theirs.ids).query, name: cursor})
            answer = await place.send(service, theirs, token)
            if answer.status_code >= 500 or find_secrets(place.ours, theirs, answer, everything=answer.is_success):
                problems.append(
                    f"{rule.path} with our {name} as another {kind}: {answer.status_code} {answer.text[:300]}"
                )
    return problems


def _own_token(place: Neighbourhood, rule: Rule) -> str:
    """The token of the most powerful who may call."""
    kind: Kind = "platform" if "platform" in rule.callers else "product"
    return issue_token(place, kind, SCOPES, place.ours)


def find_secrets(district: District, call: Call, answer: httpx2.Response, *, everything: bool) -> list[str]:
    """What of a district is in an answer, without what the question had in it.

    Where `everything` counts, the question is only its query: links to further pages repeat that.
    """
    asked = f"{dict(call.query)}".lower() if everything else f"{call.path} {dict(call.query)} {call.body}".lower()
    text = read_text(answer)
    return sorted(one for one in district.secrets if one in text and one not in asked)


def read_text(answer: httpx2.Response) -> str:
    """All of an answer as text in small letters: its headers, and what is in an archive."""
    told = " ".join(f"{name}: {value}" for name, value in answer.headers.items())
    content = answer.content
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = b"\n".join(name.encode() + archive.read(name) for name in archive.namelist())
    return f"{told} {content.decode('utf-8', 'replace')} {content.hex() if content[:6] == b'PGCOPY' else ''}".lower()


def read_code(answer: httpx2.Response) -> str | None:
    """The code of a problem document, or of OneRoster's."""
    try:
        found: str | None = answer.json().get("code")
    except (ValueError, AttributeError):
        return None
    return found


def find_cursor(answer: httpx2.Response) -> str | None:
    """The place an answer ends at, wherever it says so."""
    if (told := answer.headers.get("homeroom-cursor")) is not None:
        return str(told)
    try:
        body: Any = answer.json()
    except ValueError:
        return None
    return next((body[name] for name in ("cursor", "next_cursor") if isinstance(body, dict) and body.get(name)), None)
