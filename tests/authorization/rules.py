"""What a rule about a route says: which scopes it takes, who may call it, and what a valid call looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from authorization.districts import District, Neighbourhood

Kind = Literal["platform", "organization", "product", "teacher"]
"""Whose tokens there are: of the platform (bound to nothing), of an organization, of a product, of a teacher."""
Ids = Mapping[str, str]
"""What a call is made with: ids and made-up names of a district."""

PLATFORM: Final[frozenset[Kind]] = frozenset({"platform"})
DISTRICTS: Final[frozenset[Kind]] = frozenset({"platform", "organization"})
EVERYBODY: Final[frozenset[Kind]] = frozenset({"platform", "organization", "product"})
"""Whom rosters are for, but for teachers, who see their own classes only."""
TEACHERS: Final[frozenset[Kind]] = frozenset({"teacher"})
KINDS: Final[frozenset[Kind]] = EVERYBODY | TEACHERS
FINE: Final = frozenset({200, 201, 202, 204})
REFUSED: Final = frozenset({403, 404})


@dataclass(frozen=True, slots=True)
class Call:
    """A request, but for its token."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may call a route that takes a token.

    Path parameters are filled from the district's ids by their names. `ids` says where a call takes another one, and
    `prepare` makes what can be used once only.
    """

    method: str
    path: str
    needs: tuple[str, ...]
    callers: frozenset[Kind]
    either: bool = False
    """Whether one of the scopes is enough."""
    blind: bool = False
    """Whether outsiders get an answer, too: one that holds nothing of the district."""
    shows: tuple[str, ...] = ()
    """What the right answer holds: names of ids, or texts."""
    statuses: frozenset[int] = FINE
    """How the right call may be answered."""
    outsiders: frozenset[int] = REFUSED
    """How others are refused."""
    ids: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters, their values being names of ids, or texts."""
    narrows: Mapping[str, str] = field(default_factory=dict)
    """Parameters outsiders try besides, each for itself, to get at the district."""
    body: Callable[[Ids], Any] | None = None
    content: Callable[[Ids], bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Neighbourhood, District, Kind], Awaitable[Ids]] | None = None
    """Makes what can be used once only, for a caller of that kind."""
    single_page: str = ""
    """Why nothing can be said of its second page."""
    as_product: str = "product_id"
    """Which of the district's products calls."""

    @property
    def name(self) -> tuple[str, str]:
        """The route."""
        return self.method, self.path

    def call(self, ids: Ids, **more: str) -> Call:
        """The request with these ids, and with further parameters."""
        known = {**ids, **{name: ids.get(source, source) for name, source in self.ids.items()}}
        query = {name: known.get(source, source) for name, source in self.query.items()}
        return Call(
            self.method,
            self.path.replace(":path}", "}").format_map(known),
            query | more,
            self.body(known) if self.body else None,
            self.content(known) if self.content else None,
            self.headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A route that takes no token, and why."""

    method: str
    path: str
    reason: str
    status: int = 200
    """How a call without anything is answered."""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, str]:
        """The route."""
        return self.method, self.path

    def call(self) -> Call:
        """A request with nothing in it."""
        return Call(self.method, self.path.format_map(self.parameters))


AnyRule = Rule | Public
