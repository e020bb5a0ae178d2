"""Why nobody is signed in: a code for everybody, and a finer word for whoever looks into it."""

from __future__ import annotations

from homeroom.codes import Code


class Refused(Exception):  # noqa: N818 - what happened to the launch
    """A launch ends here, with no session and no link; the page shows the code's words and a support id.

    Args:
        code: one of `SIGNIN_…`.
        why: for the trace, a few words of ours (`audience`, `nonce`); never anything that was received.
        status: HTTP's.
    """

    def __init__(self, code: Code, why: str = "", *, status: int = 403) -> None:
        super().__init__(f"{code}: {why}" if why else str(code))
        self.code = code
        self.why = why
        self.status = status
