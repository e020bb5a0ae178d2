"""Where something about a person may lie in sso: table by table, what it is, how long it stays, what an erasure does.

The documents go by this list, and a test compares it with the tables of the database, so that a new one can't be
forgotten. What an erasure does stands in `sso.launch.erasures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Holding:
    """A table in which something about a person may stand.

    Args:
        table: its name.
        what: what it says of them.
        kept: how long, if nobody is erased; settings by their names.
        erasure: `cleaned`: the mention goes, the row stays; `runs out`: it is over within minutes.
    """

    table: str
    what: str
    kept: str
    erasure: Literal["deleted", "cleaned", "runs out", "kept"]


HOLDINGS: Final = (
    Holding("person", "that somebody came in: a random id", "400 days after they last came", "deleted"),
    Holding("person_name", "their sourcedIds, present and past", "as long as the person", "deleted"),
    Holding("identity", "their portal's own user id", "400 days after they last came", "deleted"),
    Holding(
        "person_answer",
        "what the roster last said of them, as a product sees them",
        "`people_cache_seconds`",
        "deleted",
    ),
    Holding(
        "session",
        "that they are signed in; a name only of whom no roster knows",
        "ten hours, or two of rest",
        "deleted",
    ),
    Holding(
        "participation", "what products call them in a session", "until the product was told of its end", "cleaned"
    ),
    Holding("sign_in", "that they came into a product", "until the store was told", "deleted"),
    Holding("launch", "when they came, by what, to which product, by their sourcedId", "`trace_days`", "cleaned"),
    Holding(
        "staff_account",
        "people who sign in to Homeroom itself: their portal's id, sourcedId or username, and a label",
        "until an admin deletes it",
        "deleted",
    ),
    Holding("staff_role", "what they may do", "as long as the account", "deleted"),
    Holding("staff_browser", "browsers a local account signed in from: hashes", "as long as the account", "deleted"),
    Holding("staff_invitation", "who was asked in, in the words of who asked", "until an admin deletes it", "kept"),
    Holding("linked_account", "accounts of products they connected", "as long as the person", "deleted"),
    Holding("link_request", "that they wanted to connect one", "seven days", "deleted"),
    Holding("authorization_code", "what a product is about to be told of them", "a minute", "runs out"),
    Holding(
        "product_grant", "what a product calls them, with what it was let have", "as long as its tokens", "runs out"
    ),
    Holding("saml_arrival", "what a portal has just said of them", "a minute", "runs out"),
    Holding("audit_entry", "who changed what: ids and codes", "`audit_days`", "kept"),
)
NOBODYS: Final = frozenset(
    {
        "audit_chain",
        "authorization_request",
        "client",
        "connection",
        "flow",
        "handed_over",
        "integration",
        "launch_count",
        "launch_day",
        "license",
        "login_hint",
        "metadata_change",
        "metadata_reading",
        "organization",
        "presented",
        "product",
        "product_token",
        "relying_party",
        "saml_logout",
        "signing_key",
        "test_sign_in",
        "upstream",
        "warning_told",
    }
)
"""Tables with nothing about people: random tokens, hashes, numbers, names of claims, and what admins set up."""
