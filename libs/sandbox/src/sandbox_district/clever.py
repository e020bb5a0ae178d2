"""The district at Clever: Data API and Events API, v3.0 and v3.1, with a district token.

Sources: Clever's Swagger documents and developer pages. Links are relative to the origin, and
begin with where this face is mounted.
"""

import re
import secrets
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from hashlib import blake2b
from typing import Final, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.access import read_basic
from sandbox_district.clever_events import Ledger, show_event
from sandbox_district.clever_records import KINDS, name_district, show_version
from sandbox_district.clever_relations import find_relation
from sandbox_district.district import District
from sandbox_district.exchanges import answer_with, read_bearer, split_path
from sandbox_district.faults import Fault, Faults, Listing, TokenExpiry
from sandbox_district.records import Record, format_instant
from sandbox_district.replies import Reply, reply_json

MOUNT: Final = "/clever"
TOKEN_PATH: Final = f"{MOUNT}/oauth/tokens"
VERSIONS: Final = ("v3.0", "v3.1")
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 10_000
_ROLES: Final = frozenset({"contact", "district_admin", "staff", "student", "teacher"})
_ID: Final = re.compile(r"[0-9a-f]{24}")
_MINUTE: Final = 60


class CleverOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed about the district at Clever; what is left out stays.

    Args:
        state: of the district's sync. While it is paused or in error, Clever takes up nothing new.
        error: what the district object says of an error.
        pause_start: beginning of a pause, as ISO 8601.
        pause_end: its end.
        events: the status that answers requests for events, 200 if the application has them.
        purge_events: forget all events, as if 30 days had passed.
        rotate_token: make a new district token; the old one is refused from now on.
        rate_limit: requests per minute and bearer.
    """

    state: Literal["running", "pending", "error", "paused", "success", ""] | None = None
    error: str | None = None
    pause_start: str | None = None
    pause_end: str | None = None
    events: int | None = None
    purge_events: bool = False
    rotate_token: bool = False
    rate_limit: int | None = None


class _Cut(NamedTuple):
    """Which of the rows in order are asked for."""

    offset: int
    limit: int


class CleverFace:
    """The routes of Clever for one district and one application, and what can be changed about them."""

    def __init__(self, district: District, faults: Faults) -> None:
        digest = blake2b(f"clever/{district.seed}".encode(), digest_size=10).hexdigest()
        self.client_id = f"app-{digest}"
        self.client_secret = f"{digest[::-1]}&/=+%"
        self.token = _make_token()
        self.state = "running"
        self.error = ""
        self.pause_start: str | None = None
        self.pause_end: str | None = None
        self.events_status = 200
        self.rate_limit = 1200
        self.ledger = Ledger(district)
        self._district, self._faults = district, faults
        self._uses: Counter[str] = Counter()
        self._minute, self._spent = 0, Counter[str]()
        district.watchers.append(self.ledger.note_change)
        self.routes = [
            Route(TOKEN_PATH, self._serve_tokens, methods=["GET"]),
            *(Route(f"{MOUNT}/{version}/{{path:path}}", self._serve_data, methods=["GET"]) for version in VERSIONS),
        ]

    @property
    def district_id(self) -> str:
        """The district's id."""
        return name_district(self._district)

    def rotate_token(self) -> None:
        """Make a new district token; the old one is refused from now on."""
        self.token = _make_token()
        self._uses.clear()

    def obey(self, order: CleverOrder) -> None:
        """Change what an order says."""
        for name in ("state", "error", "pause_start", "pause_end", "rate_limit"):
            if (value := getattr(order, name)) is not None:
                setattr(self, name, value)
        if order.events is not None:
            self.events_status = order.events
        self.ledger.paused = self.state in {"paused", "error"}
        if order.purge_events:
            self.ledger.purge_events()
        if order.rotate_token:
            self.rotate_token()

    async def _serve_tokens(self, request: Request) -> Response:
        faults = self._faults.strike(TOKEN_PATH)
        return await answer_with(faults, lambda: self._list_tokens(request), _complain)

    def _list_tokens(self, request: Request) -> Reply:
        if (self.client_id, self.client_secret) not in read_basic(request.headers.get("authorization", "")):
            return _complain(401, "The client id or secret is not right.")
        if request.query_params.get("owner_type") != "district":
            return _complain(400, "owner_type has to be district.")
        token = {
            "id": self.district_id[::-1],
            "created": format_instant(self._district.read_clock()),
            "owner": {"type": "district", "id": self.district_id},
            "access_token": self.token,
            "scopes": ["read:district_admins", "read:sis", "read:students", "read:teachers"],
        }
        wanted = request.query_params.get("district", self.district_id)
        return reply_json({"data": [token] if wanted == self.district_id else [], "links": _list_links(request)})

    async def _serve_data(self, request: Request) -> Response:
        version = request.url.path.split("/")[2]
        parts = split_path(request, f"{MOUNT}/{version}")
        faults = self._faults.strike("/".join((MOUNT, *parts)), single=len(parts) == 2)  # noqa: PLR2004 - kind and id
        bucket = read_bearer(request)
        remaining, headers = self._spend(bucket)

        def work() -> Reply:
            if refusal := self._refuse(bucket, remaining, faults):
                return refusal
            try:
                return self._read(request, version, parts, faults)
            except ValueError as error:
                return _complain(400, str(error))

        return await answer_with(faults, work, _complain, headers)

    def _spend(self, bucket: str) -> tuple[int, dict[str, str]]:
        """Count a request of a bearer in the current minute; what is left is negative when there were too many."""
        minute = int(time.time() // _MINUTE)
        if minute != self._minute:
            self._minute, self._spent = minute, Counter()
        self._spent[bucket] += 1
        remaining = self.rate_limit - self._spent[bucket]
        return remaining, {
            "x-ratelimit-bucket": blake2b(bucket.encode(), digest_size=8).hexdigest(),
            "x-ratelimit-limit": str(self.rate_limit),
            "x-ratelimit-remaining": str(max(0, remaining)),
            "x-ratelimit-reset": str((minute + 1) * _MINUTE),
        }

    def _refuse(self, bucket: str, remaining: int, faults: list[Fault]) -> Reply | None:
        if remaining < 0:
            return _complain(429, "Too many requests in this minute.")
        self._uses[bucket] += 1
        if any(isinstance(fault, TokenExpiry) and self._uses[bucket] > fault.requests for fault in faults):
            self.rotate_token()
        if bucket != self.token:
            return _complain(401, "The bearer token is not good.")
        return None

    def _read(self, request: Request, version: str, parts: list[str], faults: list[Fault]) -> Reply:
        match parts:
            case ["events", *_] if self.events_status != 200:  # noqa: PLR2004 - that of an answer
                return _complain(self.events_status, "This application has no events.")
            case ["events", *rest] if len(rest) <= 1:
                return self._read_events(request, version, rest, faults)
            case [kind] if kind in (*KINDS, "resources"):
                return self._list(request, version, kind, self._find(kind), faults)
            case [kind, key] if found := self._find_one(kind, key):
                return self._tell(request, version, kind, found, faults)
            case [kind, key, name] if found := self._find_one(kind, key):
                return self._relate(request, version, (kind, found, name), faults)
        return _complain(404, "Resource not found.")

    def _relate(self, request: Request, version: str, way: tuple[str, Record, str], faults: list[Fault]) -> Reply:
        """What belongs to an object: its kind, itself, and the last part of the path."""
        kind, found, name = way
        primary = request.query_params.get("primary") == "true"
        related = find_relation(self.ledger.objects(), kind, found, name, primary=primary)
        if related and not related.single:
            return self._list(request, version, related.kind, related.rows, faults)
        if related and related.rows:
            row = self._describe_district(related.rows[0]) if related.kind == "districts" else related.rows[0]
            return self._tell(request, version, related.kind, row, faults)
        return _complain(404, "Resource not found.")

    def _find(self, kind: str) -> list[Record]:
        if kind == "districts":
            return [self._describe_district(each) for each in self.ledger.objects()[kind].values()]
        return list(self.ledger.objects().get(kind, {}).values())

    def _find_one(self, kind: str, key: str) -> Record | None:
        found = self.ledger.objects().get(kind, {}).get(key)
        return self._describe_district(found) if found and kind == "districts" else found

    def _describe_district(self, district: Record) -> Record:
        """The district with the state of its sync, which changes without any event."""
        return district | {
            "state": self.state,
            "error": self.error,
            "pause_start": self.pause_start,
            "pause_end": self.pause_end,
            "last_sync": format_instant(self.ledger.last_sync),
        }

    def _tell(self, request: Request, version: str, kind: str, found: Record, faults: list[Fault]) -> Reply:
        rows = [show_version(version, found)]
        for fault in faults:
            rows = fault.reshape(rows, self.ledger.objects().get(kind, {}))
        return reply_json({"data": rows[0], "links": _list_links(request)})

    def _list(self, request: Request, version: str, kind: str, rows: list[Record], faults: list[Fault]) -> Reply:
        role = request.query_params.get("role")
        if kind == "users" and role:
            if role not in _ROLES:
                raise ValueError(f"role has to be one of {', '.join(sorted(_ROLES))}.")
            rows = [row for row in rows if role in row["roles"]]
        for name in ("starting_after", "ending_before"):
            cursor = request.query_params.get(name, "last")
            if cursor != "last" and not _ID.fullmatch(cursor):
                raise ValueError(f"{name} is not an id.")
        return self._cut(request, version, kind, rows, faults)

    def _read_events(self, request: Request, version: str, rest: list[str], faults: list[Fault]) -> Reply:
        events = self.ledger.events()
        keys = [event.id for event in events]
        query = request.query_params
        cursors = {*rest, query.get("starting_after"), query.get("ending_before")} - {None, "last"}
        if not cursors <= set(keys):
            return _complain(404, "There is no such event, or not any more.")
        if rest:
            found = show_event(version, events[bisect_left(keys, rest[0])])
            return reply_json({"data": found, "links": _list_links(request)}) if found else _complain(404, "Not found.")
        kinds = {*query.getlist("record_type"), *query.getlist("record_type[]")}
        events = [event for event in events if not kinds or event.kind in kinds]
        if school := query.get("school"):
            events = [event for event in events if event.concerns(school)]
        rows = [shown for event in events if (shown := show_event(version, event))]
        return self._cut(request, version, "events", rows, faults)

    def _cut(self, request: Request, version: str, kind: str, rows: list[Record], faults: list[Fault]) -> Reply:
        """One page of rows in the order of their ids."""
        limit = _read_limit(request)
        if limit > MAX_LIMIT:
            return _complain(413, f"limit is {MAX_LIMIT} at most.")
        cut = _find_cut(request, [row["id"] for row in rows], limit)
        listing = Listing(self._district, kind, "data", rows, len(rows), cut.offset, cut.limit)
        for fault in faults:
            fault.arrange(listing)
        end = listing.offset + listing.limit
        page = listing.rows[listing.offset : end]
        more = end < len(listing.rows)
        shown = [show_version(version, row) for row in page]
        for fault in faults:
            shown = fault.reshape(shown, self.ledger.objects().get(kind, {}))
        if listing.wrapper is None:
            return reply_json(shown)
        base = "/".join((*request.url.path.split("/")[:3], kind))
        data = [{"data": row, "uri": f"{base}/{whole['id']}"} for row, whole in zip(shown, page, strict=True)]
        links = _list_links(request, page if more else [], page if listing.offset else [])
        wanted = request.query_params.get("count") in {"true", ""} and listing.counted
        return reply_json({listing.wrapper: data, "links": links} | ({"count": listing.total} if wanted else {}))


def _find_cut(request: Request, keys: list[str], limit: int) -> _Cut:
    """Where a page is: by comparing ids, so that one that has gone since is as good as any."""
    after, before = (request.query_params.get(name) for name in ("starting_after", "ending_before"))
    if before:
        end = len(keys) if before == "last" else bisect_left(keys, before)
        return _Cut(max(0, end - limit), min(limit, end))
    return _Cut(bisect_right(keys, after) if after else 0, limit)


def _list_links(request: Request, then: list[Record] | None = None, back: list[Record] | None = None) -> list[Record]:
    """Links to the page itself, the next one after some rows and the one before; relative to the origin."""
    path = request.scope["raw_path"].decode().partition("?")[0]
    query = [pair for pair in request.query_params.multi_items() if pair[0] not in {"starting_after", "ending_before"}]
    links = [{"rel": "self", "uri": path + (f"?{request.url.query}" if request.url.query else "")}]
    if then:
        links.append({"rel": "next", "uri": f"{path}?{urlencode([*query, ('starting_after', then[-1]['id'])])}"})
    if back:
        links.append({"rel": "prev", "uri": f"{path}?{urlencode([*query, ('ending_before', back[0]['id'])])}"})
    return links


def _read_limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("limit has to be a whole number, 1 or more.")
    return int(text)


def _complain(status: int, why: str) -> Reply:
    return reply_json({"message": why}, status)


def _make_token() -> str:
    return secrets.token_hex(20)
