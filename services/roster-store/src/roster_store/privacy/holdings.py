"""Where something about a person may lie in the store: table by table, what it is, how to find it, how long it stays.

The export, the erasure, the documents and the retention all go by this one list. A test compares it with the tables
of the database, so that a new table can't be forgotten here.

A condition finds a person's rows. It knows the row as `held`, and the person as `person`, with `integration_no`,
`organization_id`, `sourced_id`, `records` (the sourcedIds of the person's enrollments, text[]), `keys` (what the
gateway calls the person's records, uuid[]) and `accounts` (products' accounts that are theirs, bigint[]).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

OnErasure = Literal["blanked", "deleted", "cleaned", "kept"]
"""`blanked`: emptied, and deleted once products were told. `cleaned`: the mention goes, the row stays."""

_OWN: Final = "held.integration_no = person.integration_no"
_ISSUES: Final = (
    """jsonb_path_query_array({facts}, '$.**.issues[*] ? (@.sourcedId == $id || @.sourcedId == $records[*])', """
    """jsonb_build_object('id', person.sourced_id, 'records', to_jsonb(person.records)))"""
)
_OUTCOME: Final = "convert_from(held.outcome, 'UTF8')::jsonb"


@dataclass(frozen=True, slots=True)
class Holding:
    """A table in which something about a person may stand."""

    table: str
    what: str
    """What it says about them."""
    where: str
    """Which rows are theirs; SQL, see above."""
    erasure: OnErasure
    kept: str
    """How long it stays if nobody is erased; settings by their names."""
    shown: str = "to_jsonb(held)"
    """What of such a row is theirs; SQL that gives jsonb."""


def _mentions(facts: str) -> str:
    return f"jsonb_array_length({_ISSUES.format(facts=facts)}) > 0"


HOLDINGS: Final = (
    Holding(
        "users",
        "the person's record; records of others that name them as guardian or as the one guarded",
        f"{_OWN} AND (held.sourced_id = person.sourced_id OR person.sourced_id = ANY (held.agent_sourced_ids))",
        "blanked",
        "while the district has it; removed ones for `tombstone_days`",
        shown="CASE WHEN held.sourced_id = person.sourced_id THEN to_jsonb(held)"
        " ELSE jsonb_build_object('sourced_id', held.sourced_id,"
        " 'agent_sourced_ids', to_jsonb(ARRAY[person.sourced_id])) END",
    ),
    Holding(
        "enrollments",
        "which classes they are or were in",
        f"{_OWN} AND held.user_sourced_id = person.sourced_id",
        "blanked",
        "while the district has it; removed ones for `tombstone_days`",
    ),
    Holding(
        "demographics",
        "their demographics",
        f"{_OWN} AND held.sourced_id = person.sourced_id",
        "blanked",
        "while the district has it; removed ones for `tombstone_days`",
    ),
    Holding(
        "belonging",
        "which schools their records belong to",
        f"{_OWN} AND (held.collection IN ('users', 'demographics') AND held.sourced_id = person.sourced_id"
        " OR held.collection = 'enrollments' AND held.sourced_id = ANY (person.records))",
        "blanked",
        "as long as the record",
    ),
    Holding(
        "history",
        "what these records were before they were changed",
        f"{_OWN} AND (held.collection IN ('users', 'demographics') AND held.sourced_id = person.sourced_id"
        " OR held.collection = 'enrollments' AND (held.sourced_id = ANY (person.records)"
        " OR held.before ->> 'user_sourced_id' = person.sourced_id)"
        " OR held.collection = 'users' AND held.before -> 'agent_sourced_ids' ? person.sourced_id)",
        "deleted",
        "`history_days`",
        shown="CASE WHEN held.sourced_id = person.sourced_id OR held.collection = 'enrollments' THEN to_jsonb(held)"
        " ELSE jsonb_build_object('sourced_id', held.sourced_id, 'until_apply', held.until_apply,"
        " 'agent_sourced_ids', to_jsonb(ARRAY[person.sourced_id])) END",
    ),
    Holding(
        "missing",
        "that a sync did not see them once",
        f"{_OWN} AND held.key = ANY (person.keys)",
        "deleted",
        "until they are seen again, or removed",
    ),
    Holding(
        "person_link",
        "who they are in the SIS, or in Google Classroom",
        f"{_OWN} AND held.sourced_id = person.sourced_id"
        " OR held.sis_integration_no = person.integration_no AND held.sis_sourced_id = person.sourced_id",
        "deleted",
        "as long as the record is active",
    ),
    Holding(
        "former",
        "whose and where their records were, if they changed that",
        f"{_OWN} AND (held.collection = 'users' AND held.sourced_id = person.sourced_id"
        " OR held.collection = 'enrollments' AND (held.sourced_id = ANY (person.records)"
        " OR held.user_sourced_id = person.sourced_id))",
        "blanked",
        "as long as the record",
    ),
    Holding(
        "activation",
        "that they came into a product, or started a class there",
        f"{_OWN} AND (held.collection = 'users' AND held.sourced_id = person.sourced_id"
        " OR held.by = person.sourced_id)",
        "blanked",
        "as long as the record",
    ),
    Holding(
        "apply",
        "when they came into a product for the first time",
        f"{_OWN} AND held.kind IN ('signed-in', 'class-started')"
        " AND person.sourced_id IN (held.detail ->> 'user', held.detail ->> 'by')",
        "cleaned",
        "for good, as the order of the feed",
    ),
    Holding(
        "rostered_person",
        "how they are matched with accounts: a hash of their address, their roles",
        f"{_OWN} AND held.sourced_id = person.sourced_id"
        " OR held.joined_integration_no = person.integration_no AND held.joined_sourced_id = person.sourced_id",
        "deleted",
        "as long as the record is active",
    ),
    Holding(
        "account_link",
        "which account of a product is theirs",
        f"{_OWN} AND held.sourced_id = person.sourced_id OR held.account_no = ANY (person.accounts)",
        "deleted",
        "until the account goes, or somebody unlinks it",
    ),
    Holding(
        "barred_link",
        "which account of a product is not theirs",
        f"{_OWN} AND held.sourced_id = person.sourced_id OR held.account_no = ANY (person.accounts)",
        "deleted",
        "until the account goes",
    ),
    Holding(
        "link_event",
        "when accounts were linked with them",
        f"{_OWN} AND held.sourced_id = person.sourced_id OR held.account_no = ANY (person.accounts)",
        "deleted",
        "`link_days`",
    ),
    Holding(
        "unmatched_person",
        "that they have no account of a product, and why",
        f"{_OWN} AND held.sourced_id = person.sourced_id",
        "deleted",
        "until they have one, or the record is removed",
    ),
    Holding(
        "account",
        "the accounts of products that are theirs, or that have their address or id and are nobody's",
        "held.no = ANY (person.accounts)",
        "deleted",
        "until the product deletes it; what stays of it then, its id, for `link_days`",
    ),
    Holding(
        "search_text",
        "what their record is found by",
        f"{_OWN} AND held.collection = 'users' AND held.sourced_id = person.sourced_id",
        "deleted",
        "as long as the record",
    ),
    Holding(
        "plan_report",
        "that they are an example in the report of an evaluated or held plan",
        "held.integration_no IN (SELECT no FROM integration WHERE organization_id = person.organization_id)"
        " AND held.report IS NOT NULL AND strpos(held.report::text, to_json(person.sourced_id)::text) > 0",
        "deleted",
        "`plan_days`",
        shown="jsonb_build_object('run_id', held.run_id, 'made_at', held.made_at)",
    ),
    Holding(
        "staged_fetch",
        "what was to be said about their records at a sync",
        f"{_OWN} AND held.outcome IS NOT NULL AND {_mentions(_OUTCOME)}",
        "cleaned",
        "`history_days`, a week at least",
        shown=f"jsonb_build_object('run_id', held.run_id, 'issues', {_ISSUES.format(facts=_OUTCOME)})",
    ),
    Holding(
        "decision",
        "the same, told when somebody decided about a held plan",
        f"{_OWN} AND {_mentions(_OUTCOME)}",
        "cleaned",
        "`history_days`, a week at least",
        shown=f"jsonb_build_object('run_id', held.run_id, 'issues', {_ISSUES.format(facts=_OUTCOME)})",
    ),
    Holding(
        "hold",
        "the same, of a plan that is or was held",
        f"{_OWN} AND {_mentions('held.rest')}",
        "cleaned",
        "`hold_days`; its traces as long as the fetch",
        shown=f"jsonb_build_object('run_id', held.run_id, 'issues', {_ISSUES.format(facts='held.rest')})",
    ),
    Holding(
        "audit_entry",
        "who looked at or erased what is held of them",
        "held.organization = person.organization_id"
        " AND held.detail ->> 'person' = hide_id(person.organization_id, person.sourced_id)::text",
        "kept",
        "`audit_days`; ids and codes only",
    ),
    Holding(
        "erasure",
        "that they were erased",
        f"{_OWN} AND held.key = hide_id(person.organization_id, person.sourced_id)",
        "kept",
        "for good; a hash, no id",
        shown="to_jsonb(held) - 'outbox'",
    ),
    Holding(
        "erased",
        "that they are not to be let in again",
        f"{_OWN} AND held.key = hide_id(person.organization_id, person.sourced_id)",
        "kept",
        "until the block is lifted; a hash, no id",
    ),
)
"""Tables with something about people."""

NOBODY: Final = {
    **{
        f"{name}_fields": "the shape of other tables; nobody writes to it"
        for name in (
            *("orgs", "academic_sessions", "courses", "classes", "users", "enrollments", "demographics"),
            *("removals", "gone", "taken", "plan_change"),
        )
    },
    "orgs": "schools and districts",
    "academic_sessions": "terms",
    "courses": "courses",
    "classes": "classes; who is in them stands in enrollments",
    "integration": "districts' sources, and numbers",
    "staged_chunk": "numbers of messages",
    "relay": "places in the feed",
    "incomplete_school": "schools",
    "history_horizon": "places in the feed",
    "feed_horizon": "places in the feed",
    "school_keeping": "places in the feed",
    "beginning": "places in the feed",
    "organization": "districts",
    "product": "products",
    "license": "what products may see",
    "access": "what products may see",
    "matched_organization": "districts",
    "search_progress": "places in the feed",
    "subscription": "products' endpoints, and places in the feed",
    "subscription_test": "answers of products' endpoints",
    "canvas_target": "Canvas accounts, and places in the feed",
    "canvas_push": "numbers, and messages of Canvas without what they quote",
    "audit_chain": "the ends of the audit log",
    "migration": "the version of the tables",
}
"""Tables without anything about people, and what they hold."""
