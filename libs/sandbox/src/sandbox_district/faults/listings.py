"""Lists that are not what was asked for: filters, numbers, order and pages that are off."""

from random import Random
from typing import ClassVar, Literal

from typing_extensions import override

from sandbox_district.faults.fault import Fault, Listing
from sandbox_district.filters import list_fields

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


# Shape and numbers


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
