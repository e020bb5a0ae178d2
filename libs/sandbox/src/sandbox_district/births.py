"""When the records of the district came to be, in the order in which things happened."""

from datetime import UTC, datetime, time

from sandbox_district.district import District


class Births:
    """The age of records: 0 for those of the founding, then the number of the change that brought them."""

    def __init__(self, district: District) -> None:
        self._district = district
        self._epoch = int(datetime.combine(district.first_day, time(5), UTC).timestamp())
        self._numbers: dict[tuple[str, str], int] = {}
        self._read = 0

    def read_history(self) -> None:
        """Learn what has come since the last time. Who was gone and is back is as old as before."""
        for changes in self._district.history[self._read :]:
            self._read += 1
            for collection, difference in changes.collections.items():
                for sourced_id in difference.removed:
                    self._numbers.setdefault((collection, sourced_id), 0)
                for sourced_id in difference.added:
                    self._numbers.setdefault((collection, sourced_id), self._read)

    def tell(self, collection: str, sourced_id: str) -> int:
        """A moment for a record, in seconds since 1970, that is later for what came later."""
        return self._epoch + self._numbers.get((collection, sourced_id), 0)
