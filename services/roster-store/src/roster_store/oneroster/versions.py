"""The two versions of OneRoster that are served, and what differs between them but for the shapes of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roster_store.oneroster.fields import Shape
from roster_store.oneroster.shapes_1p1 import SHAPES_1P1
from roster_store.oneroster.shapes_1p2 import SHAPES_1P2


@dataclass(frozen=True, eq=False)
class Version:
    """A version of OneRoster's rostering service."""

    number: str
    base: str
    shapes: Mapping[str, Shape]
    minors: Mapping[int, str]
    """HTTP status → the minor code of an error, in this version's words."""
    blank_fields: str
    """The minor code of a blank `fields`."""
    notices: bool
    """Whether a list may carry a notice beside its records (1.1's success with a warning)."""
    resources: bool
    """Whether resources are asked for below the same base."""


_COMMON_MINORS: Final = {
    400: "invaliddata",
    401: "unauthorisedrequest",
    404: "unknownobject",
    422: "invaliddata",
    429: "server_busy",
    503: "server_busy",
}

V1P1: Final = Version(
    number="1.1",
    base="/ims/oneroster/v1p1",
    shapes=SHAPES_1P1,
    minors={**_COMMON_MINORS, 403: "unauthorisedrequest", 500: "targetreadfailure"},
    blank_fields="invalid_blank_selection_field",
    notices=True,
    resources=True,
)
V1P2: Final = Version(
    number="1.2",
    base="/ims/oneroster/rostering/v1p2",
    shapes=SHAPES_1P2,
    minors={**_COMMON_MINORS, 403: "forbidden", 500: "internal_server_error"},
    blank_fields="invalid_selection_field",
    notices=False,
    resources=False,
)
VERSIONS: Final = (V1P1, V1P2)
