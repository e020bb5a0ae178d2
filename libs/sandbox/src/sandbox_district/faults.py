"""Trouble on demand, each kind seen at a real provider.

A fault is data: where it strikes, how often, and the few numbers of its kind. It may answer in the face's stead, change
the listing before its page is cut, the records of the page, or the reply. As JSON it names its kind in snake case:
`{"kind": "rate_limit", "path": "/users", "times": 2, "retry_after": 1}`.

The paths of the other faces begin with the face's name, and leave out what says the version or the application:
"/clever/users" is at `/clever/v3.0/users`, "/classlink/users" at `/classlink/{id}/ims/oneroster/v1p1/users`,
"/google/courses" at `/google/v1/courses`. "/" and "/users" strike OneRoster only, "/clever" that face only, and what
gives credentials has to be named: "/oauth/token", "/clever/oauth/tokens", "/classlink/applications", "/google/token".
Faults about offsets, filters, roles and signatures do nothing at Clever and Google, which have none of these.
"""

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any, ClassVar, Literal

import msgspec
from typing_extensions import override

from sandbox_district.district import District
from sandbox_district.filters import list_fields
from sandbox_district.records import Record, format_instant, is_active
from sandbox_district.replies import Reply, describe_status, reply_error, reply_json

_PLACES = (
    "/clever/oauth/",
    "/clever/",
    "/classlink/applications/",
    "/classlink/",
    "/google/token/",
    "/google/",
    "/oauth/",
    "/",
)
"""The parts of the sandbox, the narrower before the wider: a fault strikes in its own only."""
_LEVELS_UNNESTED = 2


@dataclass(slots=True)
class Listing:
    """A collection as it is asked for: the matching rows in order, which of them, and what is said of their number."""

    district: District
    collection: str
    wrapper: str | None
    rows: list[Record]
    total: int
    offset: int
    limit: int
    counted: bool = True


def _find_place(path: str) -> str:
    return next((place for place in _PLACES if f"{path}/".startswith(place)), "")


def _name_kind(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=_name_kind, forbid_unknown_fields=True):
    """Trouble that strikes requests.

    Args:
        path: which requests, as the beginning of the path below the base: "/users", "/users/stu-1", "/oauth/token".
            "/" is every request of OneRoster's but those for tokens. Of the other faces see above.
        after: how many such requests pass first.
        every: it strikes each k-th request from then on.
        times: how often it strikes at all; without end if None.
    """

    lists: ClassVar[bool] = True
    singles: ClassVar[bool] = True

    path: str = "/"
    after: int = 0
    every: int = 1
    times: int | None = None

    def covers(self, path: str, *, single: bool) -> bool:
        """Whether a request is of the kind this fault strikes."""
        if _find_place(path) != _find_place(self.path):
            return False
        return path.startswith(self.path) and (self.singles if single else self.lists)

    def delay(self) -> float:
        """Seconds to wait before anything else."""
        return 0.0

    def answer(self) -> Reply | None:
        """What to say instead of an answer."""
        return None

    def show(self, collection: str, record: Record, district: District) -> Record | None:
        """A record of the books as this provider has it, None if it has it no more; asked before any filter."""
        del collection, district
        return record

    def judge_filter(self, filter_: str) -> Literal["honour", "ignore", "empty", "refuse"]:
        """What becomes of a filter."""
        del filter_
        return "honour"

    def arrange(self, listing: Listing) -> None:
        """Change a listing before its page is cut."""

    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        """Change the records that are sent; `books` is the whole collection."""
        del books
        return rows

    def send(self, reply: Reply) -> Reply:
        """Change the reply."""
        return reply


# Instead of an answer


class RateLimit(Fault, frozen=True, kw_only=True):
    """429, with Retry-After as seconds or as an HTTP date, or with none."""

    retry_after: float | None = 1
    as_date: bool = False

    @override
    def answer(self) -> Reply:
        headers = {}
        if self.retry_after is not None:
            moment = datetime.now(UTC) + timedelta(seconds=self.retry_after)
            headers["retry-after"] = format_datetime(moment, usegmt=True) if self.as_date else f"{self.retry_after:g}"
        return reply_error(429, "server_busy", "Too many requests. Slow down.", headers)


class ServerError(Fault, frozen=True, kw_only=True):
    """500, 502, 503 or whatever else is wished for."""

    status: int = 500

    @override
    def answer(self) -> Reply:
        return reply_error(self.status, "internal_server_error", "Something broke here.")


class HtmlLogin(Fault, frozen=True, kw_only=True):
    """200 with a sign-in page for people."""

    @override
    def answer(self) -> Reply:
        page = b"<!doctype html><title>Sign in</title><form><input name=user></form>"
        return Reply(page, headers={"content-type": "text/html; charset=utf-8"})


class ErrorEnvelope(Fault, frozen=True, kw_only=True):
    """200 with OneRoster's error body."""

    @override
    def answer(self) -> Reply:
        return reply_json(describe_status("failure", "error", "internal_server_error", "Not today."))


class Unauthorized(Fault, frozen=True, kw_only=True):
    """401, whatever the credentials."""

    @override
    def answer(self) -> Reply:
        return reply_error(401, "unauthorisedrequest", "Who are you?")


class Forbidden(Fault, frozen=True, kw_only=True):
    """403, as for a collection that is not shared."""

    @override
    def answer(self) -> Reply:
        return reply_error(403, "forbidden", "This is not shared with you.")


class NotFoundSingles(Fault, frozen=True, kw_only=True):
    """404 for every record that is asked for by its sourcedId, though the list has it."""

    lists: ClassVar[bool] = False

    @override
    def answer(self) -> Reply:
        return reply_error(404, "unknownobject", "There is no such object.")


class RefusedCollection(Fault, frozen=True, kw_only=True):
    """403 for a top-level collection and its records, while the schools' own lists of it are served.

    Args:
        schools: the sourcedIds of schools whose own list is refused, too.
    """

    path: str = "/classes"
    schools: tuple[str, ...] = ()

    @override
    def covers(self, path: str, *, single: bool) -> bool:
        name = self.path.strip("/")
        refused = {f"/schools/{school}/{name}" for school in self.schools}
        return path == f"/{name}" or path.startswith(f"/{name}/") or path in refused

    @override
    def answer(self) -> Reply:
        return reply_error(403, "forbidden", "This is not shared with you.")


class NoNested(Fault, frozen=True, kw_only=True):
    """404 for every nested path: only whole collections and their single records are served."""

    singles: ClassVar[bool] = False

    @override
    def covers(self, path: str, *, single: bool) -> bool:
        return path.count("/") > _LEVELS_UNNESTED and super().covers(path, single=single)

    @override
    def answer(self) -> Reply:
        return reply_error(404, "unknownobject", "There is no such path.")


# Filters


class _OddFilter(Fault, frozen=True, kw_only=True):
    """A filter is not dealt with as it should be: each one, or only those that name one of some fields."""

    singles: ClassVar[bool] = False
    fields: tuple[str, ...] = ()

    def _is_odd(self, filter_: str) -> bool:
        return not self.fields or not list_fields(filter_).isdisjoint(self.fields)


class IgnoreFilter(_OddFilter, frozen=True, kw_only=True):
    """All rows come, whatever the filter."""

    @override
    def judge_filter(self, filter_: str) -> Literal["honour", "ignore"]:
        return "ignore" if self._is_odd(filter_) else "honour"


class FilterEmpty(_OddFilter, frozen=True, kw_only=True):
    """200 without any rows, as if the filter were known and nothing matched."""

    @override
    def judge_filter(self, filter_: str) -> Literal["honour", "empty"]:
        return "empty" if self._is_odd(filter_) else "honour"


class FilterRefused(_OddFilter, frozen=True, kw_only=True):
    """400, as for a field that can't be filtered by."""

    @override
    def judge_filter(self, filter_: str) -> Literal["honour", "refuse"]:
        return "refuse" if self._is_odd(filter_) else "honour"


# What the provider knows of time


class UnstampedChanges(Fault, frozen=True, kw_only=True):
    """A share of the edits leaves dateLastModified as it was before; which ones is chance, and the same every time."""

    share: float = 0.05

    @override
    def show(self, collection: str, record: Record, district: District) -> Record:
        before = district.stamps_before[collection].get(record["sourcedId"])
        edit = f"{collection}/{record['sourcedId']}/{record['dateLastModified']}"
        if before is None or Random(edit).random() >= self.share:
            return record
        return record | {"dateLastModified": before}


class PurgedDeletions(Fault, frozen=True, kw_only=True):
    """What is deleted is gone, without any tombstone."""

    @override
    def show(self, collection: str, record: Record, district: District) -> Record | None:
        return record if is_active(record) else None


class ShiftedClock(Fault, frozen=True, kw_only=True):
    """The provider's clock is ahead, or behind with a minus: its Date header, and every dateLastModified."""

    seconds: float = 3600.0

    @override
    def show(self, collection: str, record: Record, district: District) -> Record:
        stamp = datetime.fromisoformat(record["dateLastModified"]) + timedelta(seconds=self.seconds)
        return record | {"dateLastModified": format_instant(stamp)}

    @override
    def send(self, reply: Reply) -> Reply:
        moment = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return replace(reply, headers=reply.headers | {"date": format_datetime(moment, usegmt=True)})


# Time


class Slow(Fault, frozen=True, kw_only=True):
    """Silence for some seconds before the answer."""

    seconds: float = 1.0

    @override
    def delay(self) -> float:
        return self.seconds


class Drip(Fault, frozen=True, kw_only=True):
    """A body that comes a few bytes at a time, with a pause before each."""

    size: int = 64
    seconds: float = 0.05

    @override
    def send(self, reply: Reply) -> Reply:
        return replace(reply, pace=(self.size, self.seconds))


class TokenExpiry(Fault, frozen=True, kw_only=True):
    """A bearer token is good for a number of requests, whatever its expires_in said."""

    requests: int = 3


class NewRevision(Fault, frozen=True, kw_only=True):
    """ClassLink's x-perm-rev is a new one from this request on, as when somebody changes what is shared.

    By default it strikes the second request it meets: the next page.
    """

    path: str = "/classlink"
    after: int = 1
    times: int | None = 1


# Bodies and headers


class Truncate(Fault, frozen=True, kw_only=True):
    """200 with JSON that ends in the middle, as a well-formed HTTP answer."""

    @override
    def send(self, reply: Reply) -> Reply:
        return replace(reply, body=reply.body[: len(reply.body) // 2])


class HangUp(Fault, frozen=True, kw_only=True):
    """The connection closes in the middle of the body."""

    @override
    def send(self, reply: Reply) -> Reply:
        return replace(reply, dropped=True)


class BareArray(Fault, frozen=True, kw_only=True):
    """The array without the object around it."""

    singles: ClassVar[bool] = False

    @override
    def arrange(self, listing: Listing) -> None:
        listing.wrapper = None


class NoCounts(Fault, frozen=True, kw_only=True):
    """Neither X-Total-Count nor Link."""

    singles: ClassVar[bool] = False

    @override
    def arrange(self, listing: Listing) -> None:
        listing.counted = False


class WrongCounts(Fault, frozen=True, kw_only=True):
    """An X-Total-Count, and a last page, that are off."""

    singles: ClassVar[bool] = False
    by: int = 7

    @override
    def arrange(self, listing: Listing) -> None:
        listing.total = max(0, listing.total + self.by)


# Paging


class ShortList(Fault, frozen=True, kw_only=True):
    """The list ends after some rows, though X-Total-Count says there are more."""

    singles: ClassVar[bool] = False
    rows: int = 10

    @override
    def arrange(self, listing: Listing) -> None:
        listing.rows = listing.rows[: self.rows]


class Empty(Fault, frozen=True, kw_only=True):
    """An empty list, and an X-Total-Count of 0 to go with it."""

    singles: ClassVar[bool] = False

    @override
    def arrange(self, listing: Listing) -> None:
        listing.rows, listing.total = [], 0


class Clamp(Fault, frozen=True, kw_only=True):
    """Pages are never longer than this, whatever the limit asked for, and nothing says so."""

    singles: ClassVar[bool] = False
    limit: int = 50

    @override
    def arrange(self, listing: Listing) -> None:
        listing.limit = min(listing.limit, self.limit)


class IgnoreSort(Fault, frozen=True, kw_only=True):
    """No order is kept to; when restless not even from one page to the next, so that pages repeat and skip rows."""

    singles: ClassVar[bool] = False
    restless: bool = False

    @override
    def arrange(self, listing: Listing) -> None:
        Random(listing.offset if self.restless else 0).shuffle(listing.rows)


class Shift(Fault, frozen=True, kw_only=True):
    """Before a page that is not the first, a record that was already served is really deleted, or one inserted there.

    Everything after it moves by one row: the client skips a record, or gets one twice. The district's truth changes.
    By default it strikes the second request it meets.
    """

    singles: ClassVar[bool] = False
    after: int = 1
    times: int | None = 1
    change: Literal["delete", "insert"] = "delete"

    @override
    def arrange(self, listing: Listing) -> None:
        if not listing.offset or not listing.rows or "sourcedId" not in listing.rows[0]:
            return
        books, first = listing.district.collections[listing.collection], listing.rows[0]
        if self.change == "delete":
            listing.district.change(lambda: books.pop(first["sourcedId"]))
            listing.rows = listing.rows[1:]
        else:
            twin = first | {"sourcedId": f"!{first['sourcedId']}"}
            listing.district.change(lambda: books.update({twin["sourcedId"]: twin}))
            listing.rows = [twin, *listing.rows]
        listing.total = len(listing.rows)


# Records


class NullMetadata(Fault, frozen=True, kw_only=True):
    """metadata is null."""

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [row | {"metadata": None} if isinstance(row, dict) else row for row in rows]


class StringBooleans(Fault, frozen=True, kw_only=True):
    """Booleans are the strings "true" and "false"."""

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [_spell_booleans(row) for row in rows]


class BothRoles(Fault, frozen=True, kw_only=True):
    """Users have OneRoster 1.2's roles beside 1.1's role and orgs."""

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [row | {"roles": _list_roles(row)} if isinstance(row, dict) and "orgs" in row else row for row in rows]


class Masked(Fault, frozen=True, kw_only=True):
    """Some fields are masked at the source, or withheld if there is no mask."""

    fields: tuple[str, ...] = ("email",)
    mask: str | None = "*****"

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [self._cover(row) if isinstance(row, dict) else row for row in rows]

    def _cover(self, row: Record) -> Record:
        shown = {name: self.mask if name in self.fields else value for name, value in row.items()}
        return {name: value for name, value in shown.items() if name not in self.fields or value is not None}


class FullNames(Fault, frozen=True, kw_only=True):
    """Clever's contacts have their whole name in the last name, and no first name."""

    path: str = "/clever/users"

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        return [self._join(row) if isinstance(row, dict) and "contact" in row.get("roles", ()) else row for row in rows]

    def _join(self, row: Record) -> Record:
        return row | {"name": {"first": "", "last": f"{row['name']['first']} {row['name']['last']}"}}


class BadRecords(Fault, frozen=True, kw_only=True):
    """The first records of a collection, by sourcedId, cannot be understood; in turn in each of four ways if mixed."""

    rows: int = 3
    how: Literal["mixed", "no_id", "unknown_role", "null_reference", "no_object"] = "mixed"

    @override
    def reshape(self, rows: list[Any], books: dict[str, Record]) -> list[Any]:
        ways = list(_WAYS) if self.how == "mixed" else [self.how]
        chosen = {key: ways[number % len(ways)] for number, key in enumerate(heapq.nsmallest(self.rows, books))}
        return [
            _WAYS[chosen[_name_row(row)]](row) if isinstance(row, dict) and _name_row(row) in chosen else row
            for row in rows
        ]


AnyFault = (
    RateLimit
    | ServerError
    | HtmlLogin
    | ErrorEnvelope
    | Unauthorized
    | Forbidden
    | RefusedCollection
    | NoNested
    | IgnoreFilter
    | FilterEmpty
    | FilterRefused
    | UnstampedChanges
    | PurgedDeletions
    | ShiftedClock
    | NotFoundSingles
    | Slow
    | Drip
    | TokenExpiry
    | NewRevision
    | Truncate
    | HangUp
    | BareArray
    | NoCounts
    | WrongCounts
    | ShortList
    | Empty
    | Clamp
    | IgnoreSort
    | Shift
    | NullMetadata
    | StringBooleans
    | BothRoles
    | Masked
    | FullNames
    | BadRecords
)


class Faults:
    """The faults that are in force, and how often each has been met and has struck."""

    def __init__(self, *faults: Fault) -> None:
        self.replace(*faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def replace(self, *faults: Fault) -> None:
        """Put these in force instead of all others, counting anew."""
        self._faults = faults
        self._met: Counter[int] = Counter()
        self._struck: Counter[int] = Counter()

    def strike(self, path: str, *, single: bool = False) -> list[Fault]:
        """Count a request; return the faults that strike it, in the order they were given."""
        striking = []
        for number, fault in enumerate(self._faults):
            if not fault.covers(path, single=single):
                continue
            self._met[number] += 1
            due = self._met[number] > fault.after and (self._met[number] - fault.after) % fault.every == 0
            if due and (fault.times is None or self._struck[number] < fault.times):
                self._struck[number] += 1
                striking.append(fault)
        return striking


def _spell_booleans(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return {name: _spell_booleans(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_spell_booleans(inner) for inner in value]
    return value


def _list_roles(user: Record) -> list[Record]:
    return [
        {"roleType": "primary" if number == 0 else "secondary", "role": user["role"], "org": org}
        for number, org in enumerate(user["orgs"])
    ]


def _name_row(row: Record) -> Any:
    return row.get("sourcedId", row.get("id"))


def _drop_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in {"sourcedId", "id"}}


def _confuse_role(record: Record) -> Record:
    name = next((name for name in ("role", "type") if name in record), None)
    return record | {name: "wizard"} if name else _drop_id(record)


def _null_reference(record: Record) -> Record:
    name = next((name for name in ("user", "course", "orgs", "school", "org", "parent") if name in record), None)
    return record | {name: None} if name else _drop_id(record)


_WAYS: dict[str, Callable[[Record], Any]] = {
    "no_id": _drop_id,
    "unknown_role": _confuse_role,
    "null_reference": _null_reference,
    "no_object": lambda record: f"{_name_row(record)} is not an object",
}
