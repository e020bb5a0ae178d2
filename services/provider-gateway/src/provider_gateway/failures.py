"""What can go wrong outside, in words an admin may read: never a secret, a query or anything of a record."""

from __future__ import annotations

from homeroom.codes import Code


class ProviderError(Exception):
    """The provider, or the way to it, failed; the run ends with `code`.

    Args:
        code: the stable code.
        detail: a plain sentence; it may name a path and a status, never query values, secrets or record content.
        status: the HTTP status that said so, if one did.
    """

    def __init__(self, code: Code, detail: str, *, status: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross from reading processes to the worker."""
        return _restore, (type(self), self.code, self.detail, {"status": self.status})


class StartOver(Exception):  # noqa: N818 - a turn a fetch takes, not a failure; it becomes one when it is taken too often
    """The fetch can't end as it began and has to be made again from the start.

    Args:
        code: why, as the run's log tells it.
        whole: whether everything has to be read this time, because increments would not do.
    """

    def __init__(self, code: Code, *, whole: bool) -> None:
        super().__init__(code)
        self.code = code
        self.whole = whole

    def __reduce__(self) -> tuple[object, ...]:
        """As above."""
        return _restore, (type(self), self.code, None, {"whole": self.whole})


class OwnTrouble(Exception):  # noqa: N818 - our side is at fault; the same attempt made once more may well succeed
    """The store, the bus or the worker failed the fetch, not the provider."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class RecordProblem(Exception):  # noqa: N818 - what is wrong with one record, which is set aside; nothing fails
    """A record can't be taken as it came: it is quarantined, and keeps its last good value."""

    def __init__(self, code: Code, *, field: str | None = None, sourced_id: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.field = field
        self.sourced_id = sourced_id

    def __reduce__(self) -> tuple[object, ...]:
        """As above."""
        return _restore, (type(self), self.code, None, {"field": self.field, "sourced_id": self.sourced_id})


def _restore(kind: type[Exception], code: Code, detail: str | None, rest: dict[str, object]) -> Exception:
    return kind(code, **rest) if detail is None else kind(code, detail, **rest)
