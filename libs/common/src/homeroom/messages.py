"""Every message on the bus: the one place where two services meet (architecture §2).

JSON on the wire, tagged by `type`; unknown fields are ignored so that a newer sender does not stop an older reader.
A message names the run, the attempt and, where a fetch is meant, the `fetch_id` of that one execution, so that
repeats, zombies and overtaken work are recognised (fencing).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal, TypeVar

import msgspec

from homeroom.bus import Message, Outgoing, Reject, Topic
from homeroom.codes import Code
from homeroom.grants import DEFAULT_GROUPS, FieldGroup

REGIONS = ("us", "au", "uk", "nz")


def jobs_topic(region: str) -> str:
    """The topic of a region's sync jobs; its lag is what workers are scaled on (G1)."""
    return f"sync-jobs.{region}"


def inquiries_topic(region: str) -> str:
    """The topic of questions that workers of a region answer at once, beside their jobs."""
    return f"inquiries.{region}"


JOB_TOPICS = tuple(Topic(jobs_topic(region), partitions=12) for region in REGIONS)
INQUIRY_TOPICS = tuple(Topic(inquiries_topic(region), partitions=3, retention_seconds=3600) for region in REGIONS)
CANCELLATIONS = Topic("sync-cancellations", partitions=1, retention_seconds=24 * 3600)
ROSTER_CHANGES = Topic("roster-changes", partitions=12, retention_seconds=3 * 24 * 3600)
SYNC_FACTS = Topic("sync-facts", partitions=6)
ROSTER_COMMANDS = Topic("roster-commands", partitions=6)
TENANCY = Topic("tenancy", partitions=1, compacted=True)
ROSTER_EVENTS = Topic("roster-events", partitions=12)
SIGN_INS = Topic("sign-ins", partitions=6)
ERASURES = Topic("erasures", partitions=1)
TOPICS = (
    *JOB_TOPICS,
    *INQUIRY_TOPICS,
    CANCELLATIONS,
    ROSTER_CHANGES,
    SYNC_FACTS,
    ROSTER_COMMANDS,
    TENANCY,
    ROSTER_EVENTS,
    SIGN_INS,
    ERASURES,
)

MAX_CHUNK_RECORDS = 500
MAX_CHUNK_BYTES = 512 * 1024
MAX_REPORTED_ISSUES = 500


class _Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", tag_field="type"):
    """What all messages have in common on the wire."""


class _Plain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A part of a message."""


class Options(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an admin chose for an integration (C3, C4), with the defaults of the contract."""

    sync_classes: bool = True
    respect_enrollment_dates: bool = False
    respect_academic_sessions: bool = False
    sync_parents: bool = False
    sync_demographics: bool = False
    excluded_schools: tuple[str, ...] = ()


class GuardLimits(_Plain, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on a change is unusual (C14). Shares are of what is held; both a share and a number must be passed."""

    remove_share: float = 0.10
    remove_least: int = 20
    """Removals of a collection: more than the share and more than the number keep removals back."""
    remove_most: int = 500
    """More removals of a collection than this are kept back whatever their share; of enrollments, as many as so many
    people have."""
    school_remove_share: float = 0.30
    school_remove_least: int = 10
    """The same within one school, whose removals alone are then kept back."""
    change_share: float = 0.75
    """Changed records of a collection: more than this share keep everything back."""
    rekey_share: float = 0.20
    """Added and removed people: where both are more than this share, and the same people, everything is kept back."""
    quarantine_share: float = 0.05
    quarantine_least: int = 20
    """Quarantined records of a collection: more than both keep its removals back."""
    small: int = 100
    """Where fewer are held, shares mean nothing, and the numbers alone decide."""


Purpose = Literal["sync", "evaluation", "refresh", "restore"]
"""What a picture is for: to become the roster, to be looked at (C11), to refresh one class (C2), or to undo runs."""


class Terms(_Plain, frozen=True, kw_only=True):
    """What the store judges and applies a picture under; set by the scheduler, carried along by the gateway."""

    purpose: Purpose = "sync"
    guard: GuardLimits = GuardLimits()
    approve_first: bool = False
    """Whether the very first picture waits for somebody to approve it (C11)."""
    additions_only: bool = False
    """Whether nothing is ever removed."""
    takes_over: str | None = None
    """A deleted integration whose records become this one's where their sourcedIds are the same (C8)."""


class ClassRef(_Plain, frozen=True, kw_only=True):
    """The class a teacher wants refreshed; with a teacher, only one of their own (C2)."""

    class_sourced_id: str
    teacher_sourced_id: str | None = None


Mode = Literal["full", "delta"]
"""Whether everything is read and compared, or only what changed since the last sync (C6)."""


class Bookmark(_Plain, frozen=True, kw_only=True):
    """What the next fetch may go on from: made by the gateway, kept by the scheduler, given back with the next job.

    It is handed over only when the fetch that made it was applied; a reset or an edit drops it.
    """

    at: datetime
    """When the fetch began, by the gateway's clock."""
    canonical: int
    """`roster.CANONICAL_VERSION` of the fetch; a bookmark of another version is of no use."""
    state: dict[str, Any] = {}
    """The provider's own: a cursor, a revision, stated counts. Never personal data."""
    masked: tuple[str, ...] = ()
    """Fields of users that were masked or alike for everybody, and so taken for absent (C13)."""
    increments: bool = False
    """Whether the provider can be asked for changes since then."""
    distrusted: bool = False
    """Whether increments were found wrong; everything is compared until a reset or an edit."""


class UploadRef(_Plain, frozen=True, kw_only=True):
    """A complete set of files in the inbox; `number` counts an integration's sets in the order they were received."""

    id: str
    number: int
    received_at: datetime


# ── sync-jobs.<region>, inquiries.<region> and sync-cancellations: scheduler → gateway ────────────────────────────


class SyncJob(_Wire, frozen=True, kw_only=True, tag="sync-job"):
    """Fetch this integration now. `connection` is what may be seen, `sealed_secret` what only a worker can open."""

    run_id: str
    run_number: int
    """Grows with every run over all integrations; with `attempt` it says which of two fetches is newer."""
    attempt: int
    integration_id: str
    organization_id: str
    provider: str
    connection: dict[str, Any]
    sealed_secret: str
    options: Options
    deadline: datetime
    sis: str | None = None
    """The SIS behind the provider, as the admin named it (A4)."""
    today: date
    """The date in the integration's time zone when the run began: what date rules are decided by (C3)."""
    mode: Mode = "full"
    bookmark: Bookmark | None = None
    """Of the last applied fetch. With mode `full` it serves to check that increments would have been right."""
    upload: UploadRef | None = None
    """The set of files to read, for providers that are fed by files."""
    terms: Terms = Terms()
    refresh: ClassRef | None = None
    """With the purpose `refresh`: the one class to read."""
    keep_received: bool = False
    """Whether what the provider sends is kept for a while, to be downloaded."""


class Inquiry(_Wire, frozen=True, kw_only=True, tag="inquiry"):
    """A question about an integration that a worker answers with `Answered`, without a run (C4, C11)."""

    inquiry_id: str
    kind: Literal["verify", "schools"]
    integration_id: str
    organization_id: str
    provider: str
    connection: dict[str, Any]
    sealed_secret: str
    options: Options
    deadline: datetime
    sis: str | None = None
    today: date
    upload: UploadRef | None = None


class CancelRun(_Wire, frozen=True, kw_only=True, tag="cancel-run"):
    """Stop working on this run, or on attempts of it below `below_attempt`; heard by every worker."""

    run_id: str
    below_attempt: int
    reason: Code


# ── roster-changes: gateway → store ───────────────────────────────────────────────────────────────────────────────


class FetchStarted(_Wire, frozen=True, kw_only=True, tag="fetch-started"):
    """A fetch begins; older ones of the same integration are overtaken from here on."""

    run_id: str
    run_number: int
    attempt: int
    fetch_id: str
    integration_id: str
    organization_id: str
    basis: int
    """The number of the apply whose result the fetch is compared with; 0 before the first."""
    provider: str = ""
    terms: Terms = Terms()


RemovalReason = Literal["tombstone", "absent", "confirmed", "configuration", "unproved"]
"""`unproved`: not seen, and not proved gone; it goes only if a second complete run does not see it either."""


class Chunk(_Wire, frozen=True, kw_only=True, tag="chunk"):
    """Some changed records of one collection, or the keys of some that are gone."""

    fetch_id: str
    integration_id: str
    seq: int
    """0, 1, 2, ... over the whole fetch."""
    collection: str
    records: msgspec.Raw = msgspec.Raw(b"[]")
    """A JSON list of canonical records (`homeroom.roster`)."""
    fingerprints: bytes = b""
    """8 bytes, signed, big-endian, for each of `records`."""
    removed_keys: bytes = b""
    """16 bytes (`roster.record_key`) for each record that is gone."""
    removal_reason: RemovalReason = "absent"


class RecordIssue(_Plain, frozen=True, kw_only=True):
    """Something to know about a record, a school or a whole collection; without personal data."""

    collection: str
    sourced_id: str | None
    code: Code
    field: str | None = None
    detail: str | None = None
    """A few words more, where the code does not say it all ("no classes")."""


class CollectionReport(_Plain, frozen=True, kw_only=True):
    """What a fetch saw of one collection. served = added + changed + unchanged + filtered + quarantined (I9)."""

    whole: bool = True
    """Whether all of it was read; False where only changes were."""
    wanted: bool = True
    """False for a collection the integration's options switch off: it was not asked for, and what is held goes."""
    served: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    filtered: int = 0
    """Left out by the integration's options, marked as deleted by the provider, or served twice."""
    quarantined: int = 0
    removed: int = 0
    unconfirmed: int = 0
    """Known records that were not seen and not proved gone; they stay."""
    held: int = 0
    """Removals kept back: by the guard until somebody decides, or for good where the integration only adds."""
    stated: int | None = None
    """How many the provider says there are, if it says so."""
    consistent: bool = False
    """Whether the picture proves itself (architecture §2, "When is somebody gone?")."""


class FetchCompleted(_Wire, frozen=True, kw_only=True, tag="fetch-completed"):
    """The whole picture was published: `chunks` of them."""

    run_id: str
    run_number: int
    attempt: int
    fetch_id: str
    integration_id: str
    chunks: int
    collections: dict[str, CollectionReport]
    issues: tuple[RecordIssue, ...] = ()
    """At most `MAX_REPORTED_ISSUES`; the counts are exact."""
    mode: Mode = "full"
    """What the fetch came to; `full` also where changes were asked for and could not be used."""
    mode_code: Code | None = None
    """Why the mode is another than was asked for."""
    bookmark: Bookmark | None = None
    refused_schools: dict[str, str] = {}
    """Schools (sourcedId) some of whose data the provider refused, with a few words why; they stay as they were."""
    duplicates: bool = False
    """Whether a sourcedId may be staged more than once: the version with the greatest fingerprint counts."""


class FetchAbandoned(_Wire, frozen=True, kw_only=True, tag="fetch-abandoned"):
    """The fetch ended without a whole picture; whatever was staged of it is thrown away."""

    run_id: str
    fetch_id: str
    integration_id: str
    code: Code


RosterChange = FetchStarted | Chunk | FetchCompleted | FetchAbandoned

# ── sync-facts: gateway and store → scheduler ─────────────────────────────────────────────────────────────────────


class _Fact(_Wire, frozen=True, kw_only=True):
    """What all facts have."""

    run_id: str
    attempt: int
    integration_id: str
    at: datetime


class Claimed(_Fact, frozen=True, kw_only=True, tag="claimed"):
    """A worker took the job."""

    worker: str
    fetch_id: str


class Progress(_Fact, frozen=True, kw_only=True, tag="progress"):
    """A worker is alive and has come this far; also the heartbeat."""

    fetch_id: str
    served: dict[str, int] = {}
    """Records that came so far, by collection."""
    pages: int = 0
    stated: dict[str, int] = {}
    """How many there are, by collection, where the provider said so."""
    reading: tuple[str, ...] = ()
    """The collections that are being read."""


class Fetched(_Fact, frozen=True, kw_only=True, tag="fetched"):
    """Everything was fetched and published; the store has the word now."""

    fetch_id: str
    collections: dict[str, CollectionReport]
    issues: tuple[RecordIssue, ...] = ()
    mode: Mode = "full"
    mode_code: Code | None = None


class ProductMatching(_Plain, frozen=True, kw_only=True):
    """How the people of one integration stand with the accounts of one product (C5, D3)."""

    product_id: str
    matched_students: int = 0
    matched_teachers: int = 0
    created: int = 0
    """Of the matched ones, how many have an account that was created for them."""
    unmatched: int = 0
    """Students and teachers without an account, whatever the reason."""
    ambiguous: int = 0
    """Of the unmatched ones, how many might be several accounts, or share one."""


class Applied(_Fact, frozen=True, kw_only=True, tag="applied"):
    """The picture was applied (`apply` is None where nothing had changed)."""

    fetch_id: str
    apply: int | None
    collections: dict[str, CollectionReport]
    issues: tuple[RecordIssue, ...] = ()
    students: int = 0
    teachers: int = 0
    classes: int = 0
    """Active afterwards, for C5's matched and imported counts."""
    matching: tuple[ProductMatching, ...] = ()
    """How people stand with each product that keeps accounts here, afterwards (D3)."""
    mode: Mode = "full"
    mode_code: Code | None = None
    bookmark: Bookmark | None = None
    """As in `FetchCompleted`; None where the next fetch must not build on this one."""


class HoldReason(_Plain, frozen=True, kw_only=True):
    """One of the limits that were passed; without personal data."""

    code: Code
    sentence: str
    """What was found, with its numbers and the limit."""
    collection: str | None = None
    school: str | None = None
    """The sourcedId of the school it is about; None for the whole integration."""
    count: int = 0
    of: int = 0


class Held(_Fact, frozen=True, kw_only=True, tag="held"):
    """The guard keeps back what is dangerous of a plan until a person decides (C14).

    With `everything` nothing was applied, and the counts are what would happen. Otherwise only removals wait
    (`CollectionReport.held`), the rest was applied as `apply`.
    """

    fetch_id: str
    code: Code
    detail: str
    collections: dict[str, CollectionReport]
    plan: str = ""
    """The hash of what waits; an approval names it."""
    expires_at: datetime | None = None
    everything: bool = True
    reasons: tuple[HoldReason, ...] = ()
    apply: int | None = None
    issues: tuple[RecordIssue, ...] = ()
    students: int = 0
    teachers: int = 0
    classes: int = 0
    matching: tuple[ProductMatching, ...] = ()
    mode: Mode = "full"
    mode_code: Code | None = None


class Evaluated(_Fact, frozen=True, kw_only=True, tag="evaluated"):
    """What a picture would change was found out, and nothing was changed (C11)."""

    fetch_id: str
    plan: str
    collections: dict[str, CollectionReport]
    reasons: tuple[HoldReason, ...] = ()
    """Why the guard would hold it."""
    configuration: int = 0
    """How many of the removals come from the integration's options alone."""
    issues: tuple[RecordIssue, ...] = ()
    mode: Mode = "full"
    mode_code: Code | None = None


class HoldEnded(_Fact, frozen=True, kw_only=True, tag="hold-ended"):
    """What was held is thrown away: discarded, expired, or replaced by a newer plan; the code says which."""

    plan: str
    code: Code


class DecisionRefused(_Fact, frozen=True, kw_only=True, tag="decision-refused"):
    """A decision could not be carried out; what is held stays held, unless a `HoldEnded` says otherwise."""

    decision_id: str
    plan: str
    code: Code
    detail: str


class Failed(_Fact, frozen=True, kw_only=True, tag="failed"):
    """The attempt ended without a result. With `again`, another attempt may well succeed."""

    code: Code
    detail: str
    """A plain sentence without personal data or secrets."""
    again: bool = False


class School(_Plain, frozen=True, kw_only=True):
    """A school as the provider names it, for the exclusion dialog (C4)."""

    sourced_id: str
    name: str
    identifier: str | None = None


class Finding(_Plain, frozen=True, kw_only=True):
    """One line of a verification (C11)."""

    check: str
    """What was looked at: `address`, `credentials`, a collection's name, `masked fields`, ..."""
    ok: bool
    detail: str
    """A plain sentence without personal data or secrets."""
    code: Code | None = None
    count: int | None = None
    """How many records the provider says there are, or showed."""


class Answered(_Wire, frozen=True, kw_only=True, tag="answered"):
    """The answer to an `Inquiry`. With a code the question could not be answered, or the verification failed."""

    inquiry_id: str
    integration_id: str
    at: datetime
    code: Code | None = None
    detail: str | None = None
    findings: tuple[Finding, ...] = ()
    schools: tuple[School, ...] = ()


class UploadReceived(_Wire, frozen=True, kw_only=True, tag="upload-received"):
    """A complete set of files is in the inbox, whichever way it came (A2, A6)."""

    upload_id: str
    integration_id: str
    at: datetime
    via: Literal["sftp", "rest"]
    files: int
    bytes: int
    digest: str
    """SHA-256 over the files' names and contents, in hex."""


class SubscriptionDisabled(_Wire, frozen=True, kw_only=True, tag="subscription-disabled"):
    """A webhook or topic is not told anything any more, until somebody enables it again (F2)."""

    alert_id: str
    """The same however often this is said."""
    subscription_id: str
    product_id: str | None
    organization_id: str | None
    """Whose it is, if it is no product's, or what it is narrowed to."""
    code: Code
    at: datetime


class ConnectionWarning(_Wire, frozen=True, kw_only=True, tag="connection-warning"):
    """Something about an identity connection must be looked after, or nobody will get in by it any more (E1)."""

    alert_id: str
    """The same however often this is said."""
    connection_id: str
    organization_id: str
    code: Code
    at: datetime


Fact = Claimed | Progress | Fetched | Applied | Held | Evaluated | HoldEnded | DecisionRefused | Failed
"""What moves a run."""
SyncFact = Fact | Answered | UploadReceived | SubscriptionDisabled | ConnectionWarning
"""All that travels on `sync-facts`."""

# ── roster-commands: scheduler → store ────────────────────────────────────────────────────────────────────────────


class Decide(_Wire, frozen=True, kw_only=True, tag="decide"):
    """Somebody decided about a held plan. It counts once, for exactly this plan, while the roster is as it was."""

    decision_id: str
    run_id: str
    attempt: int
    integration_id: str
    plan: str
    action: Literal["approve", "additions", "discard", "expire"]
    """All of it; all but its removals; nothing of it; nothing of it because nobody decided in time."""
    by: str
    """Who decided: the subject of their access token."""
    at: datetime


class Restore(_Wire, frozen=True, kw_only=True, tag="restore"):
    """Bring the roster back to what it was before a run, as a picture of its own with guard and events."""

    run_id: str
    run_number: int
    attempt: int
    integration_id: str
    organization_id: str
    before_run_id: str
    terms: Terms


StoreCommand = Decide | Restore

# ── tenancy: scheduler → store, sso (compacted) ───────────────────────────────────────────────────────────────────


class OrganizationState(_Wire, frozen=True, kw_only=True, tag="organization"):
    """A district as it is now."""

    id: str
    name: str


class SftpAccount(_Plain, frozen=True, kw_only=True):
    """How a district signs in to the inbox: nothing here opens it by itself."""

    username: str
    password_hash: str | None = None
    """Salted scrypt, as `homeroom.secrets.hash_password` writes it."""
    public_keys: tuple[str, ...] = ()
    """OpenSSH's one-line form."""


class IntegrationState(_Wire, frozen=True, kw_only=True, tag="integration"):
    """An integration as it is now, without its connection."""

    id: str
    organization_id: str
    name: str
    provider: str
    region: str
    state: Literal["active", "deleted"]
    sftp: SftpAccount | None = None


class ProductState(_Wire, frozen=True, kw_only=True, tag="product"):
    """A product as it is now, and how it wants its classes and people."""

    id: str
    name: str
    classes: Literal["automatic", "teacher-started"] = "automatic"
    """Whether classes count at once, or wait until one of their teachers starts them (D2)."""
    unmatched: Literal["list", "create"] = "list"
    """What becomes of people without an account: listed, or an account is made for them (D3)."""


class LicenseState(_Wire, frozen=True, kw_only=True, tag="license"):
    """What a product may have of an organization, and from when to when (D5, F3)."""

    id: str
    product_id: str
    organization_id: str
    schools: tuple[str, ...] | None = None
    """The sourcedIds of the schools it covers; None for the whole organization."""
    grants: tuple[FieldGroup, ...] = DEFAULT_GROUPS
    valid_from: datetime
    valid_until: datetime | None = None
    """The first moment without it."""
    revoked_at: datetime | None = None


TenancyState = OrganizationState | IntegrationState | ProductState | LicenseState

# ── sign-ins: sso → store ─────────────────────────────────────────────────────────────────────────────────────────


class SignedIn(_Wire, frozen=True, kw_only=True, tag="signed-in"):
    """A rostered person came into a product (D2: that is when a student joins)."""

    sign_in_id: str
    integration_id: str
    organization_id: str
    product_id: str
    user_sourced_id: str
    at: datetime


# ── erasures: store → everybody ───────────────────────────────────────────────────────────────────────────────────


class Erased(_Wire, frozen=True, kw_only=True, tag="erased"):
    """A person was erased from the roster: whoever keeps anything that names them forgets it now.

    That holds what was received of the integration until `at`, too, which can't be searched record by record.
    """

    erasure_id: str
    integration_id: str
    organization_id: str
    sourced_ids: tuple[str, ...]
    """The person's, and those of records that are only about them."""
    at: datetime


# ── to and from bytes ─────────────────────────────────────────────────────────────────────────────────────────────

_encode = msgspec.json.Encoder().encode
_JOBS = msgspec.json.Decoder(SyncJob)
_CANCELLATIONS = msgspec.json.Decoder(CancelRun)
_CHANGES: msgspec.json.Decoder[RosterChange] = msgspec.json.Decoder(RosterChange)
_INQUIRIES = msgspec.json.Decoder(Inquiry)
_FACTS: msgspec.json.Decoder[SyncFact] = msgspec.json.Decoder(SyncFact)
_COMMANDS: msgspec.json.Decoder[StoreCommand] = msgspec.json.Decoder(StoreCommand)
_SIGN_INS = msgspec.json.Decoder(SignedIn)
_ERASURES = msgspec.json.Decoder(Erased)
_TENANCY: msgspec.json.Decoder[TenancyState] = msgspec.json.Decoder(TenancyState)

T = TypeVar("T")


def _decode(decoder: msgspec.json.Decoder[T], message: Message) -> T:
    try:
        return decoder.decode(message.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Reject(message, Code.MESSAGE_UNREADABLE) from error


def read_job(message: Message) -> SyncJob:
    """Decode a job; `Reject` if it can't be read."""
    return _decode(_JOBS, message)


def read_cancellation(message: Message) -> CancelRun:
    """Decode a cancellation; `Reject` if it can't be read."""
    return _decode(_CANCELLATIONS, message)


def read_change(message: Message) -> RosterChange:
    """Decode a roster change; `Reject` if it can't be read."""
    return _decode(_CHANGES, message)


def read_inquiry(message: Message) -> Inquiry:
    """Decode an inquiry; `Reject` if it can't be read."""
    return _decode(_INQUIRIES, message)


def read_fact(message: Message) -> SyncFact:
    """Decode a fact; `Reject` if it can't be read."""
    return _decode(_FACTS, message)


def read_command(message: Message) -> StoreCommand:
    """Decode a command to the store; `Reject` if it can't be read."""
    return _decode(_COMMANDS, message)


def read_tenancy(message: Message) -> TenancyState:
    """Decode a tenancy state; `Reject` if it can't be read."""
    return _decode(_TENANCY, message)


def read_sign_in(message: Message) -> SignedIn:
    """Decode a sign-in; `Reject` if it can't be read."""
    return _decode(_SIGN_INS, message)


def read_erasure(message: Message) -> Erased:
    """Decode an erasure; `Reject` if it can't be read."""
    return _decode(_ERASURES, message)


def to_jobs(job: SyncJob, region: str) -> Outgoing:
    """A job on its region's topic."""
    return Outgoing(jobs_topic(region), job.integration_id, _encode(job))


def to_inquiries(inquiry: Inquiry, region: str) -> Outgoing:
    """A question on its region's topic."""
    return Outgoing(inquiries_topic(region), inquiry.integration_id, _encode(inquiry))


def to_cancellations(cancel: CancelRun) -> Outgoing:
    """A cancellation for all workers."""
    return Outgoing(CANCELLATIONS.name, cancel.run_id, _encode(cancel))


def to_changes(change: RosterChange) -> Outgoing:
    """A roster change, in the order of its integration."""
    return Outgoing(ROSTER_CHANGES.name, change.integration_id, _encode(change))


def to_facts(fact: SyncFact) -> Outgoing:
    """A fact, in the order of what it is about."""
    match fact:
        case SubscriptionDisabled():
            key = fact.subscription_id
        case ConnectionWarning():
            key = fact.connection_id
        case _:
            key = fact.integration_id
    return Outgoing(SYNC_FACTS.name, key, _encode(fact))


def to_commands(command: StoreCommand) -> Outgoing:
    """A command to the store, in the order of its integration."""
    return Outgoing(ROSTER_COMMANDS.name, command.integration_id, _encode(command))


_KINDS: dict[type[TenancyState], str] = {
    OrganizationState: "organization",
    IntegrationState: "integration",
    ProductState: "product",
    LicenseState: "license",
}


def to_tenancy(state: TenancyState) -> Outgoing:
    """A state on the compacted topic."""
    return Outgoing(TENANCY.name, f"{_KINDS[type(state)]}:{state.id}", _encode(state))


def to_sign_ins(signed_in: SignedIn) -> Outgoing:
    """A sign-in, in the order of its integration."""
    return Outgoing(SIGN_INS.name, signed_in.integration_id, _encode(signed_in))


def to_erasures(erased: Erased) -> Outgoing:
    """An erasure, for every service."""
    return Outgoing(ERASURES.name, erased.integration_id, _encode(erased))
