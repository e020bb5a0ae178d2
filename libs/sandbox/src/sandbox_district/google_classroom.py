"""The district's secondary schools in Google Classroom, by a service account with domain-wide delegation.

Source: Google's reference of the Classroom API. Lists without entries lack their array, pages may
be shorter than asked for, and a page token is good only beside the parameters it was given for.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.district import District
from sandbox_district.exchanges import answer_with, read_bearer, split_path
from sandbox_district.faults import Fault, Faults, Listing, TokenExpiry
from sandbox_district.google_access import COURSES, EMAILS, GUARDIANS, PHOTOS, ROSTERS, GoogleAccess, Grant
from sandbox_district.google_records import Classroom, classroom_snapshot
from sandbox_district.records import Record
from sandbox_district.replies import Reply, reply_json

MOUNT: Final = "/google"
TOKEN_PATH: Final = f"{MOUNT}/token"
_DEFAULT_SIZE: Final = 30
_LARGEST_SIZE: Final = 100
_STATES: Final = ("ACTIVE", "ARCHIVED", "PROVISIONED", "DECLINED")
_STATUSES: Final = {
    400: "invalid argument",
    401: "unauthenticated",
    403: "permission denied",
    404: "not found",
    429: "resource exhausted",
    503: "unavailable",
    504: "deadline exceeded",
}
"""Google's canonical codes as words: some look like codes of Homeroom's own, of which none may stand elsewhere."""
_ADMIN: Final = {"givenName": "Workspace", "familyName": "Administrator", "fullName": "Workspace Administrator"}


class GoogleFace:
    """The routes of the token endpoint and of the API."""

    def __init__(self, district: District, faults: Faults) -> None:
        self.access = GoogleAccess(district.seed)
        self._district, self._faults = district, faults
        self._seen: tuple[int, ...] = ()
        self._classroom = Classroom()
        self.routes = [
            Route(TOKEN_PATH, self._serve_token, methods=["POST"]),
            Route(f"{MOUNT}/v1/{{path:path}}", self._serve_data, methods=["GET"]),
        ]

    def read(self) -> Classroom:
        """What there is now; read anew only when the district has changed."""
        district = self._district
        state = (len(district.history), *(len(records) for records in district.collections.values()))
        if state != self._seen:
            self._classroom, self._seen = classroom_snapshot(district), state
        return self._classroom

    async def _serve_token(self, request: Request) -> Response:
        body = await request.body()
        faults = self._faults.strike(TOKEN_PATH)
        token_url = str(request.url).partition("?")[0]

        def work() -> Reply:
            people = frozenset(profile["emailAddress"].lower() for profile in self.read().profiles.values())
            return self.access.grant(body, token_url, people)

        return await answer_with(faults, work, _complain)

    async def _serve_data(self, request: Request) -> Response:
        parts = [unquote(part) for part in split_path(request, f"{MOUNT}/v1")]
        faults = self._faults.strike("/".join((MOUNT, *parts)), single=len(parts) == 2)  # noqa: PLR2004 - kind and id

        def work() -> Reply:
            grant = self.access.find(read_bearer(request))
            if grant is None or any(isinstance(each, TokenExpiry) and grant.uses > each.requests for each in faults):
                return _complain(401, "Request had invalid authentication credentials.")
            try:
                return self._answer(request, parts, grant, faults)
            except ValueError as error:
                return _complain(400, str(error))

        return await answer_with(faults, work, _complain)

    def _answer(self, request: Request, parts: list[str], grant: Grant, faults: list[Fault]) -> Reply:
        match parts:
            case ["courses", *rest]:
                scope, reader = COURSES if len(rest) < 2 else ROSTERS, self._answer_courses  # noqa: PLR2004 - id, name
            case ["userProfiles", _, "guardians"]:
                scope, reader = GUARDIANS, self._answer_people
            case _:
                scope, reader = ROSTERS, self._answer_people
        if scope not in grant.scopes:
            return _complain(403, "Request had insufficient authentication scopes.")
        return reader(request, parts[1:], grant, faults) or _complain(404, "Requested entity was not found.")

    def _answer_courses(self, request: Request, parts: list[str], grant: Grant, faults: list[Fault]) -> Reply | None:
        room = self.read()
        if not parts:
            return self._cut(request, "courses", self._find_courses(request, grant), _age, faults)
        key = parts[0]
        if key not in room.courses or not self._may_see(grant, key):
            return None
        match parts[1:]:
            case []:
                return _show(room.courses[key], faults, room.courses)
            case ["students" | "teachers" as name]:
                members = room.students[key] if name == "students" else room.teachers[key]
                rows = [_write_member(key, profile, grant) for profile in members.values()]
                return self._cut(request, name, rows, _user_id, faults)
        return None

    def _answer_people(self, request: Request, parts: list[str], grant: Grant, faults: list[Fault]) -> Reply | None:
        match parts:
            case [key, "guardians"] if (found := self._find_guardians(key)) is not None:
                rows = [each | {"guardianProfile": _cover(each["guardianProfile"], grant)} for each in found]
                return self._cut(request, "guardians", rows, _guardian_id, faults)
            case [key] if profile := self._find_profile(key, grant):
                return _show(_cover(profile, grant), faults, self.read().profiles)
        return None

    def _find_courses(self, request: Request, grant: Grant) -> list[Record]:
        """The courses asked for. The administrator sees all of the domain's, anybody else their own."""
        query = request.query_params
        states = query.getlist("courseStates") or _STATES
        room = self.read()
        rows = [each for key, each in room.courses.items() if self._may_see(grant, key)]
        for name, members in (("studentId", room.students), ("teacherId", room.teachers)):
            if (wanted := query.get(name)) is not None:
                found = self._find_profile(wanted, grant)
                rows = [row for row in rows if found and found["id"] in members[row["id"]]]
        return [row for row in rows if row["courseState"] in states]

    def _may_see(self, grant: Grant, course: str) -> bool:
        if grant.subject == self.access.admin:
            return True
        room = self.read()
        people = [*room.students[course].values(), *room.teachers[course].values()]
        return any(profile["emailAddress"].lower() == grant.subject for profile in people)

    def _find_profile(self, key: str, grant: Grant) -> Record | None:
        """Somebody by id, by e-mail address, or the one the token is for as "me"."""
        key = grant.subject if key == "me" else key
        if key == self.access.admin:
            return {"id": "1" + "0" * 20, "name": _ADMIN, "emailAddress": key, "photoUrl": "//photos.example/admin"}
        profiles = self.read().profiles
        return profiles.get(key) or next(
            (profile for profile in profiles.values() if profile["emailAddress"].lower() == key.lower()), None
        )

    def _find_guardians(self, student: str) -> list[Record] | None:
        """The guardians of a student, or of all with "-"; None if there is no such person."""
        room = self.read()
        if student == "-":
            return [each for found in room.guardians.values() for each in found]
        return room.guardians.get(student, []) if student in room.profiles else None

    def _cut(
        self,
        request: Request,
        name: str,
        rows: list[Record],
        order: Callable[[Record], Sequence[str]],
        faults: list[Fault],
    ) -> Reply:
        """One page. All but the first are one shorter than asked for, as a server may have it."""
        size = _read_size(request)
        start = _find_start(request, rows, order)
        listing = Listing(self._district, name, name, rows, len(rows), start, max(1, size - 1) if start else size)
        for fault in faults:
            fault.arrange(listing)
        end = listing.offset + listing.limit
        page = listing.rows[listing.offset : end]
        token = _write_token(request, order(page[-1])) if page and end < len(listing.rows) else None
        for fault in faults:
            page = fault.reshape(page, {str(row.get("id", row.get("userId", ""))): row for row in rows})
        if listing.wrapper is None:
            return reply_json(page)
        return reply_json(({listing.wrapper: page} if page else {}) | ({"nextPageToken": token} if token else {}))


def _show(record: Record, faults: list[Fault], books: dict[str, Record]) -> Reply:
    rows = [record]
    for fault in faults:
        rows = fault.reshape(rows, books)
    return reply_json(rows[0])


def _write_member(course: str, profile: Record, grant: Grant) -> Record:
    return {"courseId": course, "userId": profile["id"], "profile": _cover(profile, grant)}


def _cover(profile: Record, grant: Grant) -> Record:
    """A profile without what the token has no scope for."""
    hidden = {name for name, scope in (("emailAddress", EMAILS), ("photoUrl", PHOTOS)) if scope not in grant.scopes}
    return {name: value for name, value in profile.items() if name not in hidden}


def _age(course: Record) -> list[str]:
    return [course["creationTime"], course["id"]]


def _user_id(member: Record) -> list[str]:
    return [member["userId"]]


def _guardian_id(guardian: Record) -> list[str]:
    return [guardian["studentId"], guardian["guardianId"]]


def _read_size(request: Request) -> int:
    text = request.query_params.get("pageSize", "0")
    if not text.isdecimal():
        raise ValueError("pageSize must be a whole number, 0 or more.")
    return min(int(text) or _DEFAULT_SIZE, _LARGEST_SIZE)


def _digest_query(request: Request) -> str:
    """What a page token is tied to: the path and every parameter but the token."""
    pairs = sorted(pair for pair in request.query_params.multi_items() if pair[0] != "pageToken")
    return blake2b(repr((request.url.path, pairs)).encode(), digest_size=8).hexdigest()


def _write_token(request: Request, last: Sequence[str]) -> str:
    content = msgspec.json.encode([_digest_query(request), *last])
    return urlsafe_b64encode(content).decode()


def _find_start(request: Request, rows: list[Record], order: Callable[[Record], Sequence[str]]) -> int:
    """Where the page after a token begins, whatever has come or gone since the token was given."""
    token = request.query_params.get("pageToken")
    if not token:
        return 0
    try:
        digest, *last = msgspec.json.decode(urlsafe_b64decode(token), type=list[str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError("Invalid page token.") from error
    if digest != _digest_query(request):
        raise ValueError("The page token is not for these parameters.")
    keys = [list(order(row)) for row in rows]
    if last in keys:
        return keys.index(last) + 1
    newest_first = len(keys) > 1 and keys[0] > keys[-1]
    return sum(key > last if newest_first else key < last for key in keys)


def _complain(status: int, why: str) -> Reply:
    name = _STATUSES.get(status, "internal").replace(" ", "_").upper()
    return reply_json({"error": {"code": status, "message": why, "status": name}}, status)
