"""Why a SAML message is not believed: a word for the trace."""

from __future__ import annotations


class Unbelieved(Exception):  # noqa: N818 - what became of a message
    """A message that does not hold. `why` is a few words of ours and nothing of the message.

    Args:
        why: for the trace.
        in_response_to: which request the message says it answers, unverified; it only finds the trace to write in.
        denied: whether the identity provider itself said that somebody may not come in.
    """

    def __init__(self, why: str, *, in_response_to: str | None = None, denied: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.in_response_to = in_response_to
        self.denied = denied


def demand(condition: object, why: str) -> None:
    """Raise Unbelieved unless something holds."""
    if not condition:
        raise Unbelieved(why)
