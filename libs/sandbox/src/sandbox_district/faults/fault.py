"""What a fault is: which requests it strikes, and what it may do to each step of an answer.

The paths of the faces other than OneRoster's begin with the face's name, and leave out what says the version or the
application: "/clever/users" is at `/clever/v3.0/users`, "/classlink/users" at
`/classlink/{id}/ims/oneroster/v1p1/users`, "/google/courses" at `/google/v1/courses`. "/" and "/users" strike OneRoster
only, "/clever" that face only, and what gives credentials has to be named: "/oauth/token", "/clever/oauth/tokens",
"/classlink/applications", "/google/token".
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from sandbox_district.district import District
from sandbox_district.records import Record
from sandbox_district.replies import Reply

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
