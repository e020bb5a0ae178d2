"""Who of the staff somebody is and what they may do: what an account was given, and what the roster says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.ids import new_id
from homeroom.people import RosterPerson
from sso.connections.upstreams import Upstreams
from sso.launch.identification import Door, Identification, Identified
from sso.launch.launching import Arrived
from sso.launch.people import People
from sso.launch.refusals import Refused
from sso.launch.sessions import Beginning, Session, Sessions
from sso.launch.traces import Trace
from sso.staff.accounts import Account, Accounts, read_account
from sso.staff.onward import Onward
from sso.staff.roles import Grant, Holding, choose, may_be_staff, may_hold, teaches
from sso.statements import SQL

_NO_ROLE = "no role counts for them"


@dataclass(frozen=True, slots=True)
class Standing:
    """Somebody of the staff, and what they may do at this moment.

    Args:
        name: what to call them on a page.
    """

    account: Account
    holdings: tuple[Holding, ...]
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Proof:
    """How somebody is known who came by a connection."""

    door: Door
    portal: tuple[UUID, str, str] | None
    person: RosterPerson | None
    """As the roster has them; None for whom it does not know."""

    @property
    def roster_place(self) -> tuple[UUID, str] | None:
        if self.person is None or self.door.integration_id is None:
            return None
        return self.door.integration_id, self.person.sourced_id


class Staff:
    """People who sign in to Homeroom itself; `app.state.staff`."""

    def __init__(
        self,
        database: Database,
        *,
        upstreams: Upstreams,
        identification: Identification,
        people: People,
        sessions: Sessions,
        platform_organizations: Collection[UUID],
    ) -> None:
        self.accounts = Accounts(database)
        self._database = database
        self._upstreams = upstreams
        self._identification = identification
        self._people = people
        self._sessions = sessions
        self._platform = frozenset(platform_organizations)

    # ── coming in ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def recognise(self, arrived: Arrived) -> tuple[Standing, Beginning]:
        """Who of the staff somebody is whom an upstream vouched for. Raises `Refused`, SIGNIN_ROLE_MISSING and others.

        A teacher has an account from the first time on, for their tokens to name and for an admin to disable.
        """
        door, identified, refused = await self.identify(arrived)
        arrival, person = arrived.arrival, None if identified is None else identified.person
        proof = _Proof(door, (door.id, arrival.tenant or "", arrival.subject), person)
        accounts = await self._find_accounts(proof)
        holdings = await self._gather(accounts, proof)
        if not holdings:
            raise refused or Refused(Code.SIGNIN_ROLE_MISSING, _NO_ROLE)
        account = accounts[0] if accounts else await self._register_teacher(proof)
        name = identified.name if identified is not None else (arrival.shown_as or account.label or "")
        place = proof.roster_place
        beginning = Beginning(
            person_id=None if identified is None else identified.person_id,
            organization_id=door.organization_id,
            connection_id=door.id,
            integration_id=None if place is None else place[0],
            sourced_id=None if place is None else place[1],
            staff_id=account.id,
            shown_as=None if person is not None else name,
            upstream=arrival.logout,
        )
        return Standing(account, holdings, name), beginning

    async def identify(self, arrived: Arrived) -> tuple[Door, Identified | None, Refused | None]:
        """By which connection somebody came, and who the roster says they are.

        The staff need not be in a roster, so why the roster does not know them is only told. Raises `Refused` for a
        connection that is another than the one that was chosen, or off, and for a user id that can be nobody's.
        """
        arrival, trace = arrived.arrival, arrived.trace
        door = await self._identification.find_door(arrival.upstream, arrival.tenant, None)
        trace.facts |= {"connection_id": door.id, "organization_id": door.organization_id}
        if arrived.intent.connection_id not in (None, door.id):
            raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "somebody of another district came back")
        try:
            identified = await self._identification.identify(arrival, door, None, trace)
        except Refused as refused:
            if refused.code is Code.SIGNIN_TOKEN_INVALID:
                raise
            return door, None, refused
        return door, identified, None

    async def begin_local(self, username: str) -> tuple[Standing, Beginning]:
        """The beginning of a session for whoever has just shown the password of a local account. Raises `Refused`."""
        account = await self.accounts.find_local(username)
        holdings = () if account is None else await self._gather([account], None)
        if account is None or not holdings:
            raise Refused(Code.SIGNIN_ROLE_MISSING, _NO_ROLE)
        beginning = Beginning(organization_id=account.organization_id, staff_id=account.id, shown_as=username)
        return Standing(account, holdings, username), beginning

    # ── being in ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_standing(self, session: Session) -> Standing:
        """What the person of a session may do now. Raises `Refused`, SIGNIN_ROLE_MISSING if nothing.

        Sessions of people who signed in to open a product are none of the staff, whoever they are.
        """
        account = None if session.staff_id is None else await self.accounts.find(session.staff_id)
        if account is None:
            raise Refused(Code.SIGNIN_ROLE_MISSING, "not signed in as one of the staff")
        if session.connection_id is None:
            return self._stand(account, await self._gather([account], None), session.shown_as)
        door = await self._identification.find_connection(session.connection_id, None)
        upstream = None if door is None else await self._upstreams.find(door.upstream_id)
        if door is None or upstream is None or not (door.enabled and upstream.enabled):
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection is disabled")
        person = await self._find_person(session, needed=account.kind != "portal")
        proof = _Proof(door, None, person)
        found = [one for one in await self._find_accounts(proof) if one.id != account.id]
        name = session.shown_as if person is None else f"{person.given_name} {person.family_name}"
        return self._stand(account, await self._gather([account, *found], proof), name)

    async def find_scopes(
        self, session: Session, organization_id: UUID | None = None, product_id: UUID | None = None
    ) -> Grant:
        """What an access token for the person of a session says: of several roles the highest one that fits what is
        named. Raises `Refused`.
        """
        standing = await self.find_standing(session)
        grant = choose(standing.account.id, standing.holdings, organization_id=organization_id, product_id=product_id)
        if grant is None:
            raise Refused(Code.SIGNIN_ROLE_MISSING, "no role of theirs is of what was named")
        return grant

    async def sign_in(self, request: Request, resume: str, trace: Trace, *, fresh: bool) -> Response:
        """Let somebody sign in for a request of the console, which waits under `resume`; a new trace begins there."""
        del request, trace
        onward = Onward("request", resume)
        more = {"fresh": "true"} if fresh else {}
        return RedirectResponse(onward.address("/sso/staff", **more), 303, {"Cache-Control": "no-store"})

    async def name_places(self, holdings: Sequence[Holding]) -> list[str]:
        """What each role is bound to, by its name; nothing for what is bound to nothing."""
        organizations = await self._database.fetch(
            SQL["name_organizations"], [one.organization_id for one in holdings if one.organization_id]
        )
        products = await self._database.fetch(
            SQL["name_products"], [one.product_id for one in holdings if one.product_id]
        )
        names = {row["id"]: row["name"] for row in (*organizations, *products)}
        return [names.get(one.organization_id or one.product_id, "") for one in holdings]

    async def end_sessions(self, account_id: UUID) -> None:
        """End all sessions of somebody, as when they were disabled."""
        for session_id in await self.accounts.list_sessions(account_id):
            await self._sessions.end(session_id)

    # ── what counts ───────────────────────────────────────────────────────────────────────────────────────────────

    def may_hold(self, account: Account, holding: Holding) -> bool:
        """Whether a role that was given counts for an account."""
        return holding.role != "teacher" and may_hold(
            account.kind,
            account.organization_id,
            holding.role,
            holding.organization_id,
            platform_organizations=self._platform,
        )

    async def _gather(self, accounts: Sequence[Account], proof: _Proof | None) -> tuple[Holding, ...]:
        """All roles that count; none at all for somebody of whose accounts one is disabled."""
        if any(account.disabled_at is not None for account in accounts):
            raise Refused(Code.SIGNIN_ROLE_MISSING, "the account is disabled")
        person = None if proof is None else proof.person
        counting = {
            account.id: account
            for account in accounts
            if account.kind != "rostered" or (person is not None and may_be_staff(person))
        }
        holdings: list[Holding] = []
        for given in await self.accounts.list_roles(list(counting)):
            holding = Holding(given.role, given.organization_id, given.product_id)
            if self.may_hold(counting[given.account_id], holding):
                holdings.append(holding)
        if proof is not None and person is not None and teaches(person):
            holdings.append(Holding("teacher", proof.door.organization_id, teacher=proof.roster_place))
        return tuple(holdings)

    async def _find_accounts(self, proof: _Proof) -> list[Account]:
        place, person = proof.roster_place, proof.person
        names = () if person is None else (person.sourced_id, *person.formerly)
        return await self.accounts.find_all_of(proof.portal, None if place is None else place[0], names)

    async def _find_person(self, session: Session, *, needed: bool) -> RosterPerson | None:
        """The person of a session as the roster has them now. Raises `Refused` if that is needed and nobody knows."""
        if session.integration_id is None or session.sourced_id is None:
            return None
        try:
            answer = await self._people.find(session.integration_id, "sourcedId", session.sourced_id, None)
        except Refused:
            if needed:
                raise
            return None
        return answer.person if answer.outcome == "known" else None

    async def _register_teacher(self, proof: _Proof) -> Account:
        place = proof.roster_place
        assert place is not None  # noqa: S101 - who has a role and no account is a teacher of a roster
        row = await self._database.fetchrow(
            SQL["add_rostered_staff"], new_id(), proof.door.organization_id, *place, None
        )
        return read_account(row)

    @staticmethod
    def _stand(account: Account, holdings: tuple[Holding, ...], name: str | None) -> Standing:
        if not holdings:
            raise Refused(Code.SIGNIN_ROLE_MISSING, _NO_ROLE)
        return Standing(account, holdings, name or account.username or account.label or "")


def note_role(trace: Trace, standing: Standing) -> None:
    """Write into a trace who of the staff came in, by ids and the names of roles."""
    trace.note("signed in", staff=standing.account.id, roles=",".join(sorted({one.role for one in standing.holdings})))
