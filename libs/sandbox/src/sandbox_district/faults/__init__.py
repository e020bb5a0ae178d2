"""Trouble on demand, each kind seen at a real provider.

A fault is data: where it strikes, how often, and the few numbers of its kind. It may answer in the face's stead, change
the listing before its page is cut, the records of the page, or the reply. As JSON it names its kind in snake case:
`{"kind": "rate_limit", "path": "/users", "times": 2, "retry_after": 1}`. How paths are written stands in `fault.py`.

Faults about offsets, filters, roles and signatures do nothing at Clever and Google, which have none of these.
"""

from sandbox_district.faults.answers import (
    ErrorEnvelope,
    Forbidden,
    HtmlLogin,
    NoNested,
    NotFoundSingles,
    RateLimit,
    RefusedCollection,
    ServerError,
    Unauthorized,
)
from sandbox_district.faults.fault import Fault, Listing
from sandbox_district.faults.listings import (
    BareArray,
    Clamp,
    Empty,
    FilterEmpty,
    FilterRefused,
    IgnoreFilter,
    IgnoreSort,
    NoCounts,
    Shift,
    ShortList,
    WrongCounts,
)
from sandbox_district.faults.register import Faults
from sandbox_district.faults.rows import BadRecords, BothRoles, FullNames, Masked, NullMetadata, StringBooleans
from sandbox_district.faults.timekeeping import (
    NewRevision,
    PurgedDeletions,
    ShiftedClock,
    TokenExpiry,
    UnstampedChanges,
)
from sandbox_district.faults.transfers import Drip, HangUp, Slow, Truncate

__all__ = [
    "AnyFault",
    "BadRecords",
    "BareArray",
    "BothRoles",
    "Clamp",
    "Drip",
    "Empty",
    "ErrorEnvelope",
    "Fault",
    "Faults",
    "FilterEmpty",
    "FilterRefused",
    "Forbidden",
    "FullNames",
    "HangUp",
    "HtmlLogin",
    "IgnoreFilter",
    "IgnoreSort",
    "Listing",
    "Masked",
    "NewRevision",
    "NoCounts",
    "NoNested",
    "NotFoundSingles",
    "NullMetadata",
    "PurgedDeletions",
    "RateLimit",
    "RefusedCollection",
    "ServerError",
    "Shift",
    "ShiftedClock",
    "ShortList",
    "Slow",
    "StringBooleans",
    "TokenExpiry",
    "Truncate",
    "Unauthorized",
    "UnstampedChanges",
    "WrongCounts",
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
"""A fault of whichever kind, as JSON names it."""
