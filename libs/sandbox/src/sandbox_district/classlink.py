"""The district behind ClassLink's partner proxy: a list of applications, and OneRoster 1.1 by long-lived bearers.

Sources: ClassLink's own client code and the partners that documented the proxy. The application id
is percent-escaped from the beginning and belongs in paths as it stands.
"""

import secrets
from base64 import b64encode
from collections import Counter
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.access import SCOPE_PREFIX, Access
from sandbox_district.district import District
from sandbox_district.exchanges import answer_with, read_bearer, split_path
from sandbox_district.faults import Fault, Faults, NewRevision, TokenExpiry
from sandbox_district.oneroster_rest import OneRosterFace
from sandbox_district.oneroster_versions import BASE_1P1, Version, list_roles
from sandbox_district.records import Record
from sandbox_district.replies import Reply, reply_error, reply_json

MOUNT: Final = "/classlink"
_ALTERNATE: Final = ("proxy", "v1p0")
_BASE: Final = BASE_1P1.strip("/").split("/")
TENANT_ID: Final = 4711
_NUMBER: Final = "7002"
"""The application's number, which the proxy's older paths have."""
_LONGEST_LIST: Final = 10_000
_COUNTS: Final = msgspec.json.Decoder(dict[str, list[msgspec.Raw]] | list[msgspec.Raw])


def show_classlink(collection: str, record: Record) -> Record:
    """A record as ClassLink has it on its 1.1 path: users carry 1.2's roles beside their role, flags are words."""
    if collection != "users":
        return record
    # The names of roles stay 1.1's, as with ClassLink: only the list is 1.2's.
    roles = [role | {"role": record["role"]} for role in list_roles(record)]
    return record | {"roles": roles, "enabledUser": "true" if record["enabledUser"] else "false"}


_CLASSLINK: Final = Version(
    number="1.1",
    base=f"{MOUNT}{BASE_1P1}",
    scope_prefix=SCOPE_PREFIX,
    signed=False,
    notices=True,
    show=show_classlink,
    reshaped=frozenset({"roles", "enabledUser"}),
)


class ClassLinkOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed about the application at ClassLink; what is left out stays.

    Args:
        enabled: whether the district lets the application read.
        rotate_bearer: make a new bearer; the old one is refused from now on, and the list has the new one.
        new_revision: a new x-perm-rev without any change of the data.
    """

    enabled: bool | None = None
    rotate_bearer: bool = False
    new_revision: bool = False


class ClassLinkFace:
    """The routes of the proxy for one partner, whose applications are this district's and some others'."""

    def __init__(self, district: District, faults: Faults, access: Access) -> None:
        digest = blake2b(f"classlink/{district.seed}".encode(), digest_size=16).hexdigest()
        self.partner_key = f"partner-{digest}"
        self.application_id = _make_application_id(digest)
        self.bearer = _make_bearer()
        self.enabled = True
        self._digest, self._permissions = digest, 0
        self._district, self._faults, self._access = district, faults, access
        self._uses: Counter[str] = Counter()
        self._roster = OneRosterFace(district, faults, access, version=_CLASSLINK)
        self.routes = [Route(f"{MOUNT}/{{path:path}}", self._serve, methods=["GET"])]

    @property
    def revision(self) -> str:
        """The x-perm-rev of answers: another one whenever the district, or what is shared of it, changes."""
        return str(1000 + len(self._district.history) + self._permissions)

    def obey(self, order: ClassLinkOrder) -> None:
        """Change what an order says."""
        if order.enabled is not None:
            self._permissions += order.enabled != self.enabled
            self.enabled = order.enabled
        if order.rotate_bearer:
            self.rotate_bearer()
        if order.new_revision:
            self._permissions += 1

    def rotate_bearer(self) -> None:
        """Make a new bearer; the old one is refused from now on, and the list of applications has the new one."""
        self.bearer = _make_bearer()
        self._uses.clear()

    async def _serve(self, request: Request) -> Response:
        parts = split_path(request, MOUNT)
        if parts[0] == "applications":
            faults = self._faults.strike(f"{MOUNT}/applications", single=len(parts) > 1)
            return await answer_with(faults, lambda: self._tell_applications(request, parts[1:]), _complain)
        application, segments = _split_data_path(parts)
        path = "/".join((MOUNT, *map(unquote, segments)))
        faults = self._faults.strike(path, single=len(segments) == 2)  # noqa: PLR2004 - a collection and an id
        self._permissions += sum(isinstance(fault, NewRevision) for fault in faults)
        return await answer_with(faults, lambda: self._read(request, application, segments, faults), _complain)

    def _tell_applications(self, request: Request, rest: list[str]) -> Reply:
        if read_bearer(request) != self.partner_key:
            return reply_json({"status": 0, "message": "Unauthorized"}, 401)
        match rest:
            case []:
                offset, limit = (
                    int(text) if (text := request.query_params.get(name, "")).isdecimal() else default
                    for name, default in (("offset", 0), ("limit", _LONGEST_LIST))
                )
                return reply_json({"status": 1, "applications": self._list_applications()[offset : offset + limit]})
            case [application, "server"] if application == self.application_id:
                server = {
                    "client_id": self._access.client_id,
                    "client_secret": self._access.client_secret,
                    "endpoint_url": f"{request.url.scheme}://{request.headers['host']}",
                }
                return reply_json({"status": 1, "message": "", "server": server})
        return reply_json({"status": 0, "message": "Application not found"}, 404)

    def _list_applications(self) -> list[Record]:
        """One row for each district and application: other districts' before and after this one's."""
        mine = {
            "id": 803,
            "name": "Homeroom",
            "tenant_name": "Lake Verity Unified School District",
            "tenant_id": TENANT_ID,
            "tenant_status": "Active",
            "application_id": _NUMBER,
            "oneroster_application_id": self.application_id,
            "bearer": self.bearer,
            "enabled": "true" if self.enabled else "false",
        }
        others = [
            mine
            | {
                "id": 801 + number,
                "name": name,
                "tenant_name": tenant,
                "tenant_id": tenant_id,
                "tenant_status": status,
                "application_id": str(7000 + number),
                "oneroster_application_id": _make_application_id(f"{self._digest}/{number}"),
                "bearer": blake2b(f"{self._digest}/{number}".encode()).hexdigest(),
                "enabled": enabled,
            }
            for number, name, tenant, tenant_id, status, enabled in (
                (0, "Homeroom", "Port Amity Schools", 4702, "Active", "true"),
                (1, "Homeroom", "Heron County Office of Education", 4703, "Inactive", "false"),
                (3, "Homeroom (test)", "Lake Verity Unified School District", TENANT_ID, "Active", "true"),
            )
        ]
        return [*others[:2], mine, *others[2:]]

    def _read(self, request: Request, application: str, segments: list[str], faults: list[Fault]) -> Reply:
        bearer = read_bearer(request)
        self._uses[bearer] += 1
        if any(isinstance(fault, TokenExpiry) and self._uses[bearer] > fault.requests for fault in faults):
            self.rotate_bearer()
        others = {row["oneroster_application_id"]: row for row in self._list_applications()}
        if application == _NUMBER:
            application = self.application_id
        if application not in others:
            return _complain(404, "There is no such application.")
        if bearer != others[application]["bearer"]:
            return _complain(401, "The bearer is not this application's.")
        if others[application]["enabled"] != "true" or application != self.application_id:
            return _complain(403, "The district does not share with this application.")
        reply = self._roster.read(request, [unquote(segment) for segment in segments], faults)
        headers = {name: value for name, value in reply.headers.items() if name != "link"}
        if "x-total-count" in headers:
            headers["x-count"] = str(_count_rows(reply.body))
        return Reply(reply.body, reply.status, headers | {"x-perm-rev": self.revision})


def _split_data_path(parts: list[str]) -> tuple[str, list[str]]:
    """The application id as it was sent, and what follows the base of OneRoster; nothing if the path is another."""
    if tuple(parts[:2]) == _ALTERNATE:
        parts = parts[2:]
    application, *rest = parts
    return (application, rest[len(_BASE) :]) if rest[: len(_BASE)] == _BASE else ("", [])


def _count_rows(body: bytes) -> int:
    found = _COUNTS.decode(body)
    return len(found if isinstance(found, list) else next(iter(found.values())))  # a notice comes after the rows


def _complain(status: int, why: str) -> Reply:
    minor = {401: "unauthorisedrequest", 403: "forbidden", 404: "unknownobject", 429: "server_busy"}
    return reply_error(status, minor.get(status, "internal_server_error"), why)


def _make_application_id(text: str) -> str:
    """An id as ClassLink makes them: base 64 that ends in an equals sign, percent-escaped."""
    return quote(b64encode(blake2b(text.encode(), digest_size=17).digest()).decode(), safe="")


def _make_bearer() -> str:
    return secrets.token_urlsafe(32)
