"""The error catalogue: every code Homeroom gives, its title, its cause and what to do next (C5).

Codes are stable names that outsiders build on. One code, one place: here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Actor = Literal["district", "admin", "provider", "operations", "caller", "nobody"]
ACTORS: dict[Actor, str] = {
    "district": "the school district, in its SIS or at its provider",
    "admin": "whoever looks after the integration here",
    "provider": "the support of ClassLink, Clever or whoever runs the server",
    "operations": "those who run Homeroom",
    "caller": "whoever sent the request",
    "nobody": "it passes, or is settled by itself",
}
"""Who can do something about it."""


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """What an admin is told beside a code."""

    title: str
    cause: str
    next_step: str
    who: Actor


class Code(StrEnum):
    """Every stable code; `entry` gives its words."""

    # what a run ends with
    AUTH_INVALID = "AUTH_INVALID"
    AUTH_EXPIRED = "AUTH_EXPIRED"
    PROV_UNREACHABLE = "PROV_UNREACHABLE"
    PROV_TLS = "PROV_TLS"
    PROV_TIMEOUT = "PROV_TIMEOUT"
    PROV_RATE_LIMITED = "PROV_RATE_LIMITED"
    PROV_5XX = "PROV_5XX"
    PROV_SCOPE = "PROV_SCOPE"
    PROV_NOT_FOUND = "PROV_NOT_FOUND"
    PROV_BAD_PAYLOAD = "PROV_BAD_PAYLOAD"
    PROV_PAGINATION = "PROV_PAGINATION"
    GUARD_EMPTY_COLLECTION = "GUARD_EMPTY_COLLECTION"
    RECORDS_QUARANTINED = "RECORDS_QUARANTINED"
    REMOVALS_UNCONFIRMED = "REMOVALS_UNCONFIRMED"
    SECRET_UNREADABLE = "SECRET_UNREADABLE"  # noqa: S105 - the name of a code, not a secret
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    RUN_INCOMPLETE = "RUN_INCOMPLETE"
    RUN_OVERTAKEN = "RUN_OVERTAKEN"
    RUN_LOST = "RUN_LOST"
    RUN_DEADLINE = "RUN_DEADLINE"
    RUN_CANCELLED = "RUN_CANCELLED"
    RUN_INTERNAL = "RUN_INTERNAL"
    WORKER_STOPPED = "WORKER_STOPPED"
    SSRF_BLOCKED = "SSRF_BLOCKED"
    PROV_CHANGED = "PROV_CHANGED"
    PROV_PAUSED = "PROV_PAUSED"
    PROV_APP_DISABLED = "PROV_APP_DISABLED"
    DELTA_DRIFT = "DELTA_DRIFT"
    DELTA_UNSUPPORTED = "DELTA_UNSUPPORTED"
    DELTA_NOT_ENOUGH = "DELTA_NOT_ENOUGH"
    EDITED_BY_HAND = "EDITED_BY_HAND"
    CLEVER_EVENTS_GAP = "CLEVER_EVENTS_GAP"
    SCHOOL_INCOMPLETE = "SCHOOL_INCOMPLETE"
    GUARD_SCHOOL_MISSING = "GUARD_SCHOOL_MISSING"
    UPLOAD_MISSING = "UPLOAD_MISSING"
    UPLOAD_TOO_LARGE = "UPLOAD_TOO_LARGE"
    SFTP_INCOMPLETE_SET = "SFTP_INCOMPLETE_SET"
    SFTP_IO = "SFTP_IO"
    ZIP_UNSAFE = "ZIP_UNSAFE"
    CSV_MANIFEST = "CSV_MANIFEST"
    CSV_ENCODING = "CSV_ENCODING"
    CSV_HEADER = "CSV_HEADER"
    CSV_ROW = "CSV_ROW"
    CSV_DELTA_GAP = "CSV_DELTA_GAP"
    CSV_STALE = "CSV_STALE"
    OPTIONS_NEED_BULK = "OPTIONS_NEED_BULK"
    PEOPLE_UNMATCHED = "PEOPLE_UNMATCHED"
    PERSON_ERASED = "PERSON_ERASED"
    GUARD_DELETE_HOLD = "GUARD_DELETE_HOLD"
    GUARD_UPDATE_HOLD = "GUARD_UPDATE_HOLD"
    GUARD_REKEY_SUSPECTED = "GUARD_REKEY_SUSPECTED"
    GUARD_QUARANTINE_RATE = "GUARD_QUARANTINE_RATE"
    FIRST_RUN_APPROVAL = "FIRST_RUN_APPROVAL"
    HOLD_DISCARDED = "HOLD_DISCARDED"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    HOLD_REPLACED = "HOLD_REPLACED"
    HOLD_LOST = "HOLD_LOST"
    RESTORE_IMPOSSIBLE = "RESTORE_IMPOSSIBLE"
    TAKEN_OVER = "TAKEN_OVER"
    LICENSE_INACTIVE = "LICENSE_INACTIVE"
    SLOT_SKIPPED = "SLOT_SKIPPED"
    SLOT_MISSED = "SLOT_MISSED"
    SYNC_STALE = "SYNC_STALE"
    CLASS_NOT_FOUND = "CLASS_NOT_FOUND"
    CLASS_NOT_TAUGHT = "CLASS_NOT_TAUGHT"
    REFRESH_UNSUPPORTED = "REFRESH_UNSUPPORTED"
    CLASSES_AUTOMATIC = "CLASSES_AUTOMATIC"
    # why a record is quarantined or noted
    RECORD_NO_ID = "RECORD_NO_ID"
    RECORD_INVALID = "RECORD_INVALID"
    FIELD_MISSING = "FIELD_MISSING"
    FIELD_TOO_LONG = "FIELD_TOO_LONG"
    BAD_TEXT = "BAD_TEXT"
    BAD_DATE = "BAD_DATE"
    BAD_ENUM = "BAD_ENUM"
    DUP_SOURCED_ID = "DUP_SOURCED_ID"
    PAGE_SHIFT_DETECTED = "PAGE_SHIFT_DETECTED"
    REF_MISSING = "REF_MISSING"
    MANUAL_KEPT = "MANUAL_KEPT"
    ID_REUSE_SUSPECTED = "ID_REUSE_SUSPECTED"
    FIELD_MASKED = "FIELD_MASKED"
    # what an API call is answered with
    REQUEST_INVALID = "REQUEST_INVALID"
    FILTER_INVALID = "FILTER_INVALID"
    INTEGRATION_AMBIGUOUS = "INTEGRATION_AMBIGUOUS"
    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105 - the name of a code, not a secret
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 - the name of a code, not a secret
    SCOPE_MISSING = "SCOPE_MISSING"
    PRODUCT_REFUSED = "PRODUCT_REFUSED"
    PRODUCT_NEEDED = "PRODUCT_NEEDED"
    TICKET_INVALID = "TICKET_INVALID"
    LINK_SIGN_IN_OLD = "LINK_SIGN_IN_OLD"
    LINK_LAST_SIGN_IN = "LINK_LAST_SIGN_IN"
    TEACHER_REFUSED = "TEACHER_REFUSED"
    ROLE_REFUSED = "ROLE_REFUSED"
    LOCAL_ACCOUNTS_OFF = "LOCAL_ACCOUNTS_OFF"
    CLIENT_INVALID = "CLIENT_INVALID"
    GRANT_UNSUPPORTED = "GRANT_UNSUPPORTED"
    GRANT_INVALID = "GRANT_INVALID"
    LAUNCH_CLIENT_EXISTS = "LAUNCH_CLIENT_EXISTS"
    CLIENT_UNFIT = "CLIENT_UNFIT"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    SCOPE_REFUSED = "SCOPE_REFUSED"
    CLIENT_EXISTS = "CLIENT_EXISTS"
    CLIENT_DECLARED = "CLIENT_DECLARED"
    SYNC_IN_PROGRESS = "SYNC_IN_PROGRESS"
    PROVIDER_UNFIT = "PROVIDER_UNFIT"
    ANSWER_PENDING = "ANSWER_PENDING"
    INTEGRATION_DELETED = "INTEGRATION_DELETED"
    INTEGRATION_PAUSED = "INTEGRATION_PAUSED"
    SCHEDULE_IMPOSSIBLE = "SCHEDULE_IMPOSSIBLE"
    ZONE_UNKNOWN = "ZONE_UNKNOWN"
    NOTHING_HELD = "NOTHING_HELD"
    PLAN_CHANGED = "PLAN_CHANGED"
    HOLD_DECIDED = "HOLD_DECIDED"
    PLAN_GONE = "PLAN_GONE"
    REFRESH_THROTTLED = "REFRESH_THROTTLED"
    LINK_INVALID = "LINK_INVALID"
    TAKEOVER_UNFIT = "TAKEOVER_UNFIT"
    CREDENTIALS_MISSING = "CREDENTIALS_MISSING"
    SECRET_REQUIRED = "SECRET_REQUIRED"  # noqa: S105 - the name of a code, not a secret
    ENDPOINT_REFUSED = "ENDPOINT_REFUSED"
    CONFIRMATION_REQUIRED = "CONFIRMATION_REQUIRED"
    RECORD_EXISTS = "RECORD_EXISTS"
    RECORD_SYNCED = "RECORD_SYNCED"
    RECORD_IN_USE = "RECORD_IN_USE"
    VERSION_MISSING = "VERSION_MISSING"
    VERSION_CHANGED = "VERSION_CHANGED"
    CURSOR_INVALID = "CURSOR_INVALID"
    CURSOR_EXPIRED = "CURSOR_EXPIRED"
    ACCOUNT_DOUBLE = "ACCOUNT_DOUBLE"
    ACCOUNT_EXISTS = "ACCOUNT_EXISTS"
    ACCOUNT_LINKED = "ACCOUNT_LINKED"
    PERSON_LINKED = "PERSON_LINKED"
    SUBSCRIPTION_LIMIT = "SUBSCRIPTION_LIMIT"
    SUBSCRIPTION_EXISTS = "SUBSCRIPTION_EXISTS"
    SUBSCRIPTION_FAILING = "SUBSCRIPTION_FAILING"
    SUBSCRIPTION_GONE = "SUBSCRIPTION_GONE"
    BUSY = "BUSY"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
    # what a push to Canvas ends with
    CANVAS_AUTH = "CANVAS_AUTH"
    CANVAS_REFUSED = "CANVAS_REFUSED"
    CANVAS_UNREACHABLE = "CANVAS_UNREACHABLE"
    CANVAS_IMPORT_FAILED = "CANVAS_IMPORT_FAILED"
    CANVAS_MESSAGES = "CANVAS_MESSAGES"
    CANVAS_TOO_LARGE = "CANVAS_TOO_LARGE"
    CANVAS_HELD = "CANVAS_HELD"
    CANVAS_REMASTER = "CANVAS_REMASTER"
    # why a message went to the dead letters
    # why nobody is signed in (E1 to E5)
    TENANT_CONNECTED = "TENANT_CONNECTED"
    APPLICATION_IN_USE = "APPLICATION_IN_USE"
    METADATA_REFUSED = "METADATA_REFUSED"
    METADATA_CHANGE_GONE = "METADATA_CHANGE_GONE"
    METADATA_CHANGED = "METADATA_CHANGED"
    METADATA_UNREAD = "METADATA_UNREAD"
    CERTIFICATE_EXPIRES = "CERTIFICATE_EXPIRES"
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    WEAK_SIGNATURES = "WEAK_SIGNATURES"
    SEALED_TO_OLD_KEY = "SEALED_TO_OLD_KEY"
    SIGNIN_NOT_ROSTERED = "SIGNIN_NOT_ROSTERED"
    SIGNIN_REMOVED = "SIGNIN_REMOVED"
    SIGNIN_AMBIGUOUS = "SIGNIN_AMBIGUOUS"
    SIGNIN_TENANT_UNKNOWN = "SIGNIN_TENANT_UNKNOWN"
    SIGNIN_UNLICENSED = "SIGNIN_UNLICENSED"
    SIGNIN_ROSTER_OLD = "SIGNIN_ROSTER_OLD"
    SIGNIN_CONNECTION_OFF = "SIGNIN_CONNECTION_OFF"
    SIGNIN_PRODUCT_OFF = "SIGNIN_PRODUCT_OFF"
    SIGNIN_FLOW_LOST = "SIGNIN_FLOW_LOST"
    SIGNIN_LOOP = "SIGNIN_LOOP"
    SIGNIN_DENIED = "SIGNIN_DENIED"
    SIGNIN_UPSTREAM_AWAY = "SIGNIN_UPSTREAM_AWAY"
    SIGNIN_TOKEN_INVALID = "SIGNIN_TOKEN_INVALID"  # noqa: S105 - the name of a code, not a secret
    SIGNIN_ASSERTION_INVALID = "SIGNIN_ASSERTION_INVALID"
    SIGNIN_REPLAYED = "SIGNIN_REPLAYED"
    SIGNIN_STORE_AWAY = "SIGNIN_STORE_AWAY"
    SIGNIN_REQUEST_INVALID = "SIGNIN_REQUEST_INVALID"
    SIGNIN_SESSION_OVER = "SIGNIN_SESSION_OVER"
    SIGNIN_ROLE_MISSING = "SIGNIN_ROLE_MISSING"
    SIGNIN_LINKED_ELSEWHERE = "SIGNIN_LINKED_ELSEWHERE"
    SIGNIN_PASSWORD_WRONG = "SIGNIN_PASSWORD_WRONG"  # noqa: S105 - the name of a code, not a secret
    SIGNIN_INVITATION_OVER = "SIGNIN_INVITATION_OVER"
    SIGNIN_THROTTLED = "SIGNIN_THROTTLED"
    SIGNIN_FAILED = "SIGNIN_FAILED"
    MESSAGE_UNREADABLE = "MESSAGE_UNREADABLE"
    MESSAGE_FAILED = "MESSAGE_FAILED"

    @property
    def entry(self) -> CodeEntry:
        """The title, cause and next step of this code."""
        return CATALOGUE[self]


CATALOGUE: dict[Code, CodeEntry] = {
    Code.AUTH_INVALID: CodeEntry(
        "The provider refused the credentials",
        "The client id or secret is wrong, was changed at the provider, or the signature method does not fit.",
        "Ask the district for the current client id and secret, enter them and run the sync again.",
        "district",
    ),
    Code.AUTH_EXPIRED: CodeEntry(
        "The provider's token ran out and could not be renewed",
        "The provider accepted the credentials at first and refused them later in the same run.",
        "Run the sync again; if it repeats, ask the provider whether the credentials were changed.",
        "district",
    ),
    Code.PROV_UNREACHABLE: CodeEntry(
        "The provider could not be reached",
        "The host name does not resolve, or nothing answers at that address and port.",
        "Check the endpoint URL for typing errors and ask the district whether the server is up.",
        "admin",
    ),
    Code.PROV_TLS: CodeEntry(
        "The provider's certificate is not valid",
        "The certificate has expired, is self-signed or belongs to another host, so we sent nothing.",
        "Ask the district or provider to install a valid certificate; we never skip this check.",
        "district",
    ),
    Code.PROV_TIMEOUT: CodeEntry(
        "The provider did not answer in time",
        "A page was not delivered within its deadline, several times in a row.",
        "Run the sync again outside the provider's busy hours; if it repeats, ask the provider.",
        "admin",
    ),
    Code.PROV_RATE_LIMITED: CodeEntry(
        "The provider asked us to slow down for too long",
        "It kept answering 429 although we waited as it asked.",
        "Run the sync again later, or ask the provider to raise the limit.",
        "admin",
    ),
    Code.PROV_5XX: CodeEntry(
        "The provider reports an error of its own",
        "It kept answering with a 5xx status after several tries.",
        "Run the sync again later; if it repeats, give the provider the time and the path in the run's log.",
        "provider",
    ),
    Code.PROV_SCOPE: CodeEntry(
        "The provider does not share everything that is needed",
        "It refused one of the collections (403) with credentials it otherwise accepts.",
        "Ask the district to share the collection named in the run's log with this application.",
        "district",
    ),
    Code.PROV_NOT_FOUND: CodeEntry(
        "There is no OneRoster service at this endpoint",
        "The address answers 404 for a collection every OneRoster provider has.",
        "Check the endpoint URL; it may be the server's root or end in /ims/oneroster/v1p1.",
        "admin",
    ),
    Code.PROV_BAD_PAYLOAD: CodeEntry(
        "The provider's answer could not be understood",
        "A page was cut off, was not JSON, or did not hold a list of records.",
        "Run the sync again; if it repeats, give the provider the path and page in the run's log.",
        "provider",
    ),
    Code.PROV_PAGINATION: CodeEntry(
        "The provider's pages have no end",
        "It served far more pages than its own count or our limit allows, or the same page again and again.",
        "Give the provider the path in the run's log.",
        "provider",
    ),
    Code.GUARD_EMPTY_COLLECTION: CodeEntry(
        "A collection that was not empty arrived empty",
        "The provider served no records where the last sync had some. Nothing was changed.",
        "Ask the district whether its export failed; when the records are back, run the sync again.",
        "district",
    ),
    Code.RECORDS_QUARANTINED: CodeEntry(
        "Some records could not be understood",
        "They are listed with id, collection and reason; each keeps its last good value.",
        "Correct the listed records in the SIS; the next sync takes them up by itself.",
        "district",
    ),
    Code.REMOVALS_UNCONFIRMED: CodeEntry(
        "Some records were missing, but that they are gone could not be proved",
        "The provider's pages and its counts do not agree, so what was missing was kept.",
        "Nothing to do now; the next complete sync decides. If it repeats, ask the provider about its counts.",
        "nobody",
    ),
    Code.SECRET_UNREADABLE: CodeEntry(
        "The stored credentials could not be opened",
        "They were sealed to a key this gateway does not hold.",
        "Enter the secret again, or give the gateway its earlier key.",
        "admin",
    ),
    Code.STORE_UNAVAILABLE: CodeEntry(
        "The roster store did not answer",
        "What is stored could not be read, so nothing could be compared.",
        "Nothing to do; the run is tried again by itself. If it repeats, see the runbook of the roster store.",
        "nobody",
    ),
    Code.RUN_INCOMPLETE: CodeEntry(
        "Part of what was fetched did not reach the store",
        "A message was lost or could not be read, so the picture was not applied.",
        "Nothing to do; the run is tried again by itself. If it repeats, look at the dead letters.",
        "nobody",
    ),
    Code.RUN_OVERTAKEN: CodeEntry(
        "A newer run took over",
        "A newer run or attempt of the same integration was heard of first.",
        "Look at the newer run.",
        "nobody",
    ),
    Code.RUN_LOST: CodeEntry(
        "The worker of this run was lost several times",
        "It stopped reporting and every further attempt ended the same way.",
        "Run the sync again; operations should look at the gateway's logs for the run's id.",
        "operations",
    ),
    Code.RUN_DEADLINE: CodeEntry(
        "The run took longer than it may",
        "It did not finish before its deadline.",
        "Run the sync again; if the provider is that slow every time, raise the deadline.",
        "admin",
    ),
    Code.RUN_CANCELLED: CodeEntry(
        "The run was cancelled",
        "Somebody cancelled it before it was applied.",
        "Run the sync again when wanted.",
        "admin",
    ),
    Code.RUN_INTERNAL: CodeEntry(
        "The run failed for a reason of our own",
        "Something we did not foresee happened; the roster was not changed.",
        "Run the sync again; operations find the cause in the logs under the run's id.",
        "operations",
    ),
    Code.WORKER_STOPPED: CodeEntry(
        "The worker was stopped while the run was under way",
        "It was shut down or replaced, and the run did not finish within its grace period.",
        "Nothing to do; the run is tried again by itself.",
        "nobody",
    ),
    Code.SSRF_BLOCKED: CodeEntry(
        "An address led somewhere it may not",
        "The provider's address, or a redirection it sent, leads to a private network, to another host or away "
        "from https.",
        "Enter the provider's own public https address; Homeroom never follows a redirection.",
        "admin",
    ),
    Code.PROV_CHANGED: CodeEntry(
        "The provider's data changed while they were read",
        "The provider published a new version of the roster between the first and the last page, several times in "
        "a row.",
        "Run the sync again; choose an hour at which the district does not publish its roster.",
        "admin",
    ),
    Code.PROV_PAUSED: CodeEntry(
        "The provider has paused this district",
        "The provider says that the district's data are paused, being repaired or not yet shared, so nothing "
        "missing means anything.",
        "Ask the district to resume its sync at the provider; the roster stays as it is until then.",
        "district",
    ),
    Code.PROV_APP_DISABLED: CodeEntry(
        "The district has switched this application off",
        "The provider lists the application, but not as enabled for this district.",
        "Ask the district's admin to enable the application in the provider's console.",
        "district",
    ),
    Code.DELTA_DRIFT: CodeEntry(
        "Increments from this provider can't be trusted",
        "The provider's list of changes did not lead to the roster it has: changes were not stamped, or records "
        "vanished without a word.",
        "Nothing; everything was compared and put right, and is compared at every sync until the integration is "
        "reset or edited.",
        "nobody",
    ),
    Code.DELTA_UNSUPPORTED: CodeEntry(
        "This provider can't be asked for changes only",
        "It ignores the question for records modified since a date, or answers it wrongly.",
        "Nothing; everything is compared at every sync.",
        "nobody",
    ),
    Code.DELTA_NOT_ENOUGH: CodeEntry(
        "Changes alone could not answer what the options ask",
        "An option depends on today's date or on other records, so records that did not change may have to come or go.",
        "Nothing; everything is compared at every sync.",
        "nobody",
    ),
    Code.EDITED_BY_HAND: CodeEntry(
        "Synced records were edited by hand since the last sync",
        "They go back to the provider's values, which changes alone would not bring.",
        "Nothing; everything was read and compared this once.",
        "nobody",
    ),
    Code.CLEVER_EVENTS_GAP: CodeEntry(
        "Clever no longer has the events since the last sync",
        "Clever keeps events for 30 days, and the last one that was seen is not among them.",
        "Nothing; everything was compared instead.",
        "nobody",
    ),
    Code.SCHOOL_INCOMPLETE: CodeEntry(
        "The data of a school are incomplete",
        "A school has students but no classes, classes but no students, too many references that lead nowhere, or "
        "was refused by the provider.",
        "Ask the district to complete the school's data, or exclude the school; its records stay as they were and "
        "the other schools go on.",
        "district",
    ),
    Code.GUARD_SCHOOL_MISSING: CodeEntry(
        "A school is missing",
        "A school that was there before is not served any more, though people and classes belong to it.",
        "Ask the district whether the school is still shared with this application; exclude it if it is to go. "
        "Its records stay as they were.",
        "district",
    ),
    Code.UPLOAD_MISSING: CodeEntry(
        "There is no set of files to read",
        "No complete set of files was received for this integration, or the last one is older than files are kept.",
        "Have the district upload a complete set, over SFTP or by hand.",
        "district",
    ),
    Code.UPLOAD_TOO_LARGE: CodeEntry(
        "The files are larger than allowed",
        "The upload has more bytes or more files than this installation takes.",
        "Upload only the OneRoster files; ask the operator to raise the limit if the district is really that large.",
        "district",
    ),
    Code.SFTP_INCOMPLETE_SET: CodeEntry(
        "The set of files is not complete",
        "The manifest, or a file that it names, has not arrived, or is still being written.",
        "Upload what is missing; the sync begins by itself once the set is complete and at rest.",
        "district",
    ),
    Code.SFTP_IO: CodeEntry(
        "The uploaded files could not be read",
        "The storage of uploads failed, or a file is not as it was received.",
        "Run the sync again; upload the set again if it repeats.",
        "admin",
    ),
    Code.ZIP_UNSAFE: CodeEntry(
        "The archive is not safe to open",
        "It is damaged, encrypted, nested, holds links or paths that lead out of it, the same file twice, or "
        "unpacks to far more than it is.",
        "Make a plain zip with the OneRoster CSV files at its root and upload it again.",
        "district",
    ),
    Code.CSV_MANIFEST: CodeEntry(
        "The manifest can't be used",
        "manifest.csv is missing, unreadable, or names a OneRoster version that does not exist.",
        "Export the set again, with a manifest of OneRoster 1.1 or 1.2.",
        "district",
    ),
    Code.CSV_ENCODING: CodeEntry(
        "A file is not UTF-8",
        "OneRoster files are UTF-8; another encoding is refused, for guessing would put wrong letters into names.",
        "Export the file named in the run's log as UTF-8.",
        "district",
    ),
    Code.CSV_HEADER: CodeEntry(
        "A file's header row is not OneRoster's",
        "A required column is missing, one appears twice, or there is no header at all.",
        "Export the file named in the run's log with the headers of the OneRoster specification.",
        "district",
    ),
    Code.CSV_ROW: CodeEntry(
        "A row could not be read",
        "It has another number of cells than the header, a quote that is never closed, or a cell beyond all size.",
        "Correct the rows named in the run's log in the SIS; the record keeps its last good value.",
        "district",
    ),
    Code.CSV_DELTA_GAP: CodeEntry(
        "Changes were uploaded without what they build on",
        "A delta set needs every set before it; one is missing, failed, or no bulk set was ever read.",
        "Upload a bulk set.",
        "district",
    ),
    Code.CSV_STALE: CodeEntry(
        "The set of files is older than what was read before",
        "Its files were made before those of the last set that was applied.",
        "Upload the newest export; if an older state is really wanted, reset the integration first.",
        "district",
    ),
    Code.OPTIONS_NEED_BULK: CodeEntry(
        "A delta set can't be read with these options",
        "Options that depend on dates, terms or schools need the whole roster to be decided.",
        "Have the district upload bulk sets, or switch these options off.",
        "district",
    ),
    Code.PEOPLE_UNMATCHED: CodeEntry(
        "Some people could not be joined to the SIS's",
        "Their e-mail address is missing, unknown in the organization's roster, or belongs to several people there.",
        "Compare the people named in the list with the SIS; nothing is guessed.",
        "admin",
    ),
    Code.PERSON_ERASED: CodeEntry(
        "People who were erased were left out",
        "The provider still sends people who were erased here; they, their enrollments and their demographics are not "
        "taken.",
        "Have the district take them out of its SIS. If they are to be rostered again, lift the block with "
        "`DELETE /v1/privacy/erasures/{id}/block`.",
        "admin",
    ),
    Code.GUARD_DELETE_HOLD: CodeEntry(
        "An unusual number of records would be removed",
        "More records than the limits allow are missing from the provider's picture, in the whole integration or in "
        "one school. What was added or changed is applied; the removals wait.",
        "Compare the numbers with what the district knows (a closed school, a new year); approve the plan if they are"
        " right, discard it if the export was not whole.",
        "admin",
    ),
    Code.GUARD_UPDATE_HOLD: CodeEntry(
        "An unusual share of records would change",
        "More records of a collection would change than the limit allows. Nothing was applied.",
        "Look at the changes; approve the plan if the district meant them, discard it if not.",
        "admin",
    ),
    Code.GUARD_REKEY_SUSPECTED: CodeEntry(
        "The provider seems to have given everybody new ids",
        "Many people would leave and as many arrive who have the same names, addresses or numbers. Nothing was "
        "applied.",
        "Ask the district whether its ids were changed. Approve the plan only if they were: everybody then begins "
        "anew under the new id.",
        "admin",
    ),
    Code.GUARD_QUARANTINE_RATE: CodeEntry(
        "Too many records could not be understood",
        "More records of a collection were refused than the limit allows, so what is missing from it is not believed."
        " The removals wait.",
        "Correct the listed records in the SIS and sync again; or approve the plan if the removals are right.",
        "admin",
    ),
    Code.FIRST_RUN_APPROVAL: CodeEntry(
        "The first picture waits to be approved",
        "The integration is set to wait, so that somebody looks at the evaluation before the roster is made. Nothing "
        "was applied.",
        "Look at the evaluation, then approve or discard the plan.",
        "admin",
    ),
    Code.HOLD_DISCARDED: CodeEntry(
        "What was held was discarded",
        "Somebody decided against the held plan; what of it was applied before stays.",
        "Nothing; the next sync makes a new plan.",
        "nobody",
    ),
    Code.HOLD_EXPIRED: CodeEntry(
        "What was held was not decided in time",
        "Nobody approved or discarded the held plan before it expired.",
        "Run the sync again and decide about its plan.",
        "admin",
    ),
    Code.HOLD_REPLACED: CodeEntry(
        "A newer plan took the place of the held one",
        "A later run made a new plan, which counts instead.",
        "Look at the newer run.",
        "nobody",
    ),
    Code.HOLD_LOST: CodeEntry(
        "What was held is not there any more",
        "The database was restarted after a crash or restored from a backup, and the held plan was lost with it.",
        "Run the sync again; the new plan is judged anew.",
        "admin",
    ),
    Code.RESTORE_IMPOSSIBLE: CodeEntry(
        "The roster can't be brought back to that moment",
        "The run was never applied, belongs to another integration, or the history that is needed is older than it is"
        " kept.",
        "Choose a later run, or sync again to take the provider's roster.",
        "admin",
    ),
    Code.TAKEN_OVER: CodeEntry(
        "Records of an earlier integration were taken over",
        "This integration is set to take over a deleted one, and the provider names these records under the same ids.",
        "Nothing; what the provider does not name stays with the earlier integration.",
        "nobody",
    ),
    Code.LICENSE_INACTIVE: CodeEntry(
        "There is no active license",
        "The organization has no license that is valid now, so no sync starts.",
        "Renew the license; the next sync follows by itself and makes up for what was left out.",
        "admin",
    ),
    Code.SLOT_SKIPPED: CodeEntry(
        "A scheduled sync was left out",
        "The run before was still under way when the next one was due.",
        "Nothing; if it repeats, choose a schedule with more room, or look at why runs take so long.",
        "nobody",
    ),
    Code.SLOT_MISSED: CodeEntry(
        "Scheduled syncs were missed and made up for by one",
        "The scheduler was away, or the integration could not start, when they were due.",
        "Nothing; one sync was started for all of them.",
        "nobody",
    ),
    Code.SYNC_STALE: CodeEntry(
        "No sync has succeeded for longer than two slots",
        "The schedule's slots came and went without a success: runs were cancelled, skipped or never began.",
        "Look at the integration's runs and its next slots, and start a sync.",
        "admin",
    ),
    Code.CLASS_NOT_FOUND: CodeEntry(
        "The provider has no such class",
        "The class is not in the provider's roster, or is not shared with this application.",
        "Check the class's sourcedId, or ask the district to share the class.",
        "caller",
    ),
    Code.CLASS_NOT_TAUGHT: CodeEntry(
        "The teacher does not teach this class",
        "The provider does not list the teacher among the teachers of the class.",
        "Refresh or start a class of your own, or ask the district to correct the SIS.",
        "caller",
    ),
    Code.REFRESH_UNSUPPORTED: CodeEntry(
        "This provider can't be asked for one class",
        "Its data come as a whole, by file or by a feed of changes.",
        "Run a sync of the integration instead.",
        "caller",
    ),
    Code.CLASSES_AUTOMATIC: CodeEntry(
        "The product's classes don't wait for their teachers",
        "The product has all classes as soon as they are synced; there is nothing to start.",
        "Use the classes as they are, or set the product to teacher-started classes.",
        "caller",
    ),
    Code.RECORD_NO_ID: CodeEntry(
        "A record has no sourcedId", "It can't be told from others.", "Give the record an id in the SIS.", "district"
    ),
    Code.RECORD_INVALID: CodeEntry(
        "A record has the wrong shape",
        "A field holds another kind of value than OneRoster says.",
        "Correct the record in the SIS.",
        "district",
    ),
    Code.FIELD_MISSING: CodeEntry(
        "A required field is missing", "OneRoster requires it.", "Fill the field in the SIS.", "district"
    ),
    Code.FIELD_TOO_LONG: CodeEntry(
        "A field is too long", "No honest value is that long.", "Shorten the value in the SIS.", "district"
    ),
    Code.BAD_TEXT: CodeEntry(
        "A text holds characters that can't be stored",
        "NUL or half a surrogate pair.",
        "Enter the value again in the SIS.",
        "district",
    ),
    Code.BAD_DATE: CodeEntry(
        "A date does not exist", "It is no calendar date.", "Correct the date in the SIS.", "district"
    ),
    Code.BAD_ENUM: CodeEntry(
        "A field holds a word OneRoster does not know",
        "The value is none of those the specification lists.",
        "Correct the value in the SIS.",
        "district",
    ),
    Code.DUP_SOURCED_ID: CodeEntry(
        "The same sourcedId came more than once",
        "The first record was taken; usually a page moved while it was read.",
        "If it repeats every run, make the ids unique in the SIS.",
        "district",
    ),
    Code.PAGE_SHIFT_DETECTED: CodeEntry(
        "The provider's data changed while it was read",
        "Counts differed between the first and the last page, so nobody was taken for gone.",
        "Nothing to do; the next sync completes the picture.",
        "nobody",
    ),
    Code.REF_MISSING: CodeEntry(
        "A record points to one that is not there",
        "An enrollment names a person or class that was not served, was refused, or is gone.",
        "Ask the district to share what it points to, or to remove it; it is taken as soon as that is there.",
        "district",
    ),
    Code.MANUAL_KEPT: CodeEntry(
        "A record made by hand has the id of one from the provider",
        "What was made by hand stays as it is, so the provider's record was left out.",
        "Delete the record that was made by hand if the provider's is to take its place; it comes with the next sync.",
        "admin",
    ),
    Code.ID_REUSE_SUSPECTED: CodeEntry(
        "An id may have been given to somebody else",
        "A known sourcedId came back with another name, address and identifier.",
        "Ask the district whether the id was given to another person; the new values were taken.",
        "district",
    ),
    Code.FIELD_MASKED: CodeEntry(
        "A field is masked or the same for everybody",
        "The district hides the field (as ClassLink's DataGuard does), or fills it with one value for all.",
        "Ask the district to share the field if it is needed; until then it is treated as absent and nobody is "
        "matched by it.",
        "district",
    ),
    Code.REQUEST_INVALID: CodeEntry(
        "The request has unknown or wrong fields",
        "They are listed under `errors`.",
        "Correct the listed fields and send the request again.",
        "caller",
    ),
    Code.FILTER_INVALID: CodeEntry(
        "The filter could not be used",
        "It does not parse, names a field that is not there, or compares a field with what it can't be compared with. "
        "The answer says at which character.",
        "Correct the filter at the given position; its grammar is in the documentation of the OneRoster provider.",
        "caller",
    ),
    Code.INTEGRATION_AMBIGUOUS: CodeEntry(
        "It is not clear which integration is meant",
        "Ids are a district's own: what you may see has this one more than once, or there are several integrations it "
        "could belong to, or too many to look through.",
        "Say which integration is meant: add ?integration= and its id.",
        "caller",
    ),
    Code.TOKEN_MISSING: CodeEntry(
        "No access token was sent",
        "The Authorization header is missing or is no bearer token.",
        "Get a token from /oauth2/token and send it as `Authorization: Bearer …`.",
        "caller",
    ),
    Code.TOKEN_INVALID: CodeEntry(
        "The access token is not valid",
        "It has expired, was altered or was issued by somebody else.",
        "Get a new token from /oauth2/token.",
        "caller",
    ),
    Code.SCOPE_MISSING: CodeEntry(
        "The access token does not allow this",
        "It lacks the scope named in `detail`.",
        "Get a token with that scope, if your client may have it.",
        "caller",
    ),
    Code.CLIENT_INVALID: CodeEntry(
        "The client is unknown or its secret is wrong",
        "The client id and secret do not fit together.",
        "Check both; a lost secret can't be shown again, only replaced.",
        "caller",
    ),
    Code.GRANT_UNSUPPORTED: CodeEntry(
        "This way of getting a token is not offered",
        "Client credentials, authorization codes and refresh tokens are.",
        "Use grant_type=client_credentials, or for people who sign in authorization_code.",
        "caller",
    ),
    Code.GRANT_INVALID: CodeEntry(
        "The code or refresh token is not valid",
        "It was used already, is too old, belongs to another client or redirect URI, its PKCE verifier is wrong, or "
        "whoever signed in is signed out or may not open the product any more.",
        "Begin a new sign-in. A code is good for a minute and once; a refresh token is replaced with each use.",
        "caller",
    ),
    Code.CLIENT_UNFIT: CodeEntry(
        "This client can't sign people in",
        "Only a client that belongs to a product, is bound to no organization and is not disabled can.",
        "Make a client with the product's product_id and without an organization_id, and register that.",
        "admin",
    ),
    Code.LAUNCH_CLIENT_EXISTS: CodeEntry(
        "Another client opens this product already",
        "Tiles of portals open a product through one of its clients, and another one is set to do that.",
        "Set launches to false for one of them.",
        "caller",
    ),
    Code.NOT_FOUND: CodeEntry(
        "There is nothing here", "The id is unknown, or not yours to see.", "Check the id and the path.", "caller"
    ),
    Code.METHOD_NOT_ALLOWED: CodeEntry(
        "This path does not take that method", "See the OpenAPI document.", "Use a method the path offers.", "caller"
    ),
    Code.REQUEST_TOO_LARGE: CodeEntry(
        "The request is too large",
        "Its body has more bytes than this service reads.",
        "Send less at once; the limit stands in `detail`.",
        "caller",
    ),
    Code.SCOPE_REFUSED: CodeEntry(
        "The client may not have this scope",
        "A scope was asked for that the client was not given.",
        "Ask for fewer scopes, or have an admin create a client with them.",
        "caller",
    ),
    Code.CLIENT_EXISTS: CodeEntry(
        "There is a client with this id",
        "Client ids are unique and are not used again.",
        "Choose another id.",
        "caller",
    ),
    Code.CLIENT_DECLARED: CodeEntry(
        "The client is declared by the installation's settings",
        "HOMEROOM_BOOTSTRAP_CLIENTS holds again at each start of sso, so its secret can't be changed by a call.",
        "Change the secret there and start sso again, or create another client.",
        "operations",
    ),
    Code.PROVIDER_UNFIT: CodeEntry(
        "This kind of provider has no such thing",
        "The call is for integrations that are fed by files, or for those that are asked over the network.",
        "Use the call that fits the integration's provider.",
        "caller",
    ),
    Code.ANSWER_PENDING: CodeEntry(
        "The provider has not answered yet",
        "The question was put to the provider, and its answer takes longer than a request may.",
        "Ask again in a moment; the same answer is then there.",
        "caller",
    ),
    Code.SYNC_IN_PROGRESS: CodeEntry(
        "A run of this integration is under way",
        "An integration has one run at a time.",
        "Follow the run named in `run_id`; start another when it has ended.",
        "caller",
    ),
    Code.INTEGRATION_DELETED: CodeEntry(
        "The integration was deleted",
        "Its people and classes are kept, but it gets no more updates.",
        "Create a new integration.",
        "caller",
    ),
    Code.INTEGRATION_PAUSED: CodeEntry(
        "The integration is paused",
        "Somebody paused it; no sync starts until it is resumed or the pause ends.",
        "Resume the integration, or wait for the end of the pause.",
        "admin",
    ),
    Code.SCHEDULE_IMPOSSIBLE: CodeEntry(
        "This schedule never comes due",
        "It names a date that does not exist, or its times, window, blackout dates and school hours leave no moment.",
        "Change the part that `detail` names.",
        "caller",
    ),
    Code.ZONE_UNKNOWN: CodeEntry(
        "There is no such time zone",
        "The name is none of the IANA time zone database.",
        "Write it like America/Chicago.",
        "caller",
    ),
    Code.NOTHING_HELD: CodeEntry(
        "Nothing of this run is held",
        "The run is not held, or its plan was decided, replaced or has expired.",
        "Look at the run; decide about the newest one that is held.",
        "caller",
    ),
    Code.PLAN_CHANGED: CodeEntry(
        "The plan is not the one that is held",
        "The decision names another plan, or the roster changed since the plan was made.",
        "Look at the plan that is held now and decide about that.",
        "caller",
    ),
    Code.HOLD_DECIDED: CodeEntry(
        "Somebody decided already",
        "Each held plan can be decided once; the decision is in the run's log.",
        "Look at the run.",
        "caller",
    ),
    Code.PLAN_GONE: CodeEntry(
        "The details of this plan are no longer kept",
        "They are deleted some days after the plan was made or decided.",
        "Run an evaluation to see what a sync would change now.",
        "caller",
    ),
    Code.REFRESH_THROTTLED: CodeEntry(
        "This was refreshed a moment ago",
        "A class can be refreshed once in a few minutes, and an integration some times an hour.",
        "Wait as long as `Retry-After` says.",
        "caller",
    ),
    Code.LINK_INVALID: CodeEntry(
        "This link can't be used",
        "It is not known, was used already, was taken back, or is past its date.",
        "Ask whoever sent it for a new one.",
        "caller",
    ),
    Code.TAKEOVER_UNFIT: CodeEntry(
        "These records can't be taken over",
        "Only those of a deleted integration of the same organization can be, and by an integration that was never "
        "synced.",
        "Name a deleted integration of the organization, or leave it out.",
        "caller",
    ),
    Code.CREDENTIALS_MISSING: CodeEntry(
        "The credentials have not been entered yet",
        "The integration was created without them, for the district to enter them by a link.",
        "Send the district a credential link, remind it of the one it has, or enter the credentials yourself.",
        "admin",
    ),
    Code.SECRET_REQUIRED: CodeEntry(
        "The secret must be entered again",
        "Endpoint, client id or auth method changed, and a secret is only ever sent where it was entered for.",
        "Send the connection again with its secret.",
        "caller",
    ),
    Code.ENDPOINT_REFUSED: CodeEntry(
        "This endpoint is not allowed",
        "It must be https and reachable on the public internet.",
        "Enter the provider's public https address.",
        "caller",
    ),
    Code.CONFIRMATION_REQUIRED: CodeEntry(
        "This needs an explicit confirmation", "`confirm` must be true.", 'Send {"confirm": true}.', "caller"
    ),
    Code.RECORD_EXISTS: CodeEntry(
        "There is such a record already",
        "Another record of this collection and integration has the sourcedId.",
        "Leave the sourcedId out to be given a new one, or change the record that is there.",
        "caller",
    ),
    Code.RECORD_SYNCED: CodeEntry(
        "The record comes from the provider",
        "A record that is synced can't be deleted by hand: the next sync would bring it back.",
        "Remove it in the SIS, or leave it out with the integration's options.",
        "admin",
    ),
    Code.RECORD_IN_USE: CodeEntry(
        "Other records need this one",
        "They would point to something that is not there; how many, and of which collections, stands in `dependents`.",
        "Change or delete those first.",
        "caller",
    ),
    Code.VERSION_MISSING: CodeEntry(
        "The request does not say which version of the record it changes",
        "Somebody else may have changed the record since it was read.",
        "Read the record and send its ETag in If-Match; `*` changes it whatever it is by now.",
        "caller",
    ),
    Code.VERSION_CHANGED: CodeEntry(
        "The record was changed since it was read",
        "Its version is another than the one in If-Match.",
        "Read it again and decide anew; the present ETag is in the answer.",
        "caller",
    ),
    Code.CURSOR_INVALID: CodeEntry(
        "The cursor is not one of ours",
        "Cursors are opaque and come from an earlier answer.",
        "Send the cursor unchanged, or none to begin at the start.",
        "caller",
    ),
    Code.CURSOR_EXPIRED: CodeEntry(
        "The cursor is too old",
        "What was removed since then is not kept any more, so reading on from it would miss removals.",
        "Forget what you hold and begin at the start, without a cursor.",
        "caller",
    ),
    Code.SUBSCRIPTION_LIMIT: CodeEntry(
        "There are too many subscriptions",
        "The product, or the organization, has as many subscriptions as it may have.",
        "Delete one that is not needed any more, or let one take more types of events.",
        "caller",
    ),
    Code.SUBSCRIPTION_EXISTS: CodeEntry(
        "The product has its topic already",
        "A product has one topic, and one subscription that fills it.",
        "Change that subscription, or delete it first.",
        "caller",
    ),
    Code.SUBSCRIPTION_FAILING: CodeEntry(
        "The subscription was disabled: its endpoint failed for five days",
        "Every webhook of the last five days was refused, or went unanswered; the last problem stands beside it.",
        "Repair the endpoint, try it with a test, and enable the subscription: it goes on where it stopped.",
        "caller",
    ),
    Code.SUBSCRIPTION_GONE: CodeEntry(
        "The subscription was disabled: its endpoint is gone",
        "The endpoint answered 410 Gone, which asks to be told nothing more.",
        "Delete the subscription, or give it another address and enable it.",
        "caller",
    ),
    Code.ACCOUNT_DOUBLE: CodeEntry(
        "The same account stands in the request more than once",
        "Several accounts of the request have this external_id, and which of them is right can't be known.",
        "Send each account once; the others of the request were taken.",
        "caller",
    ),
    Code.ACCOUNT_EXISTS: CodeEntry(
        "Another account has this external_id",
        "Accounts of a product in an organization each have their own, deleted ones included.",
        "Send the account with its sourced_id in PUT /v1/accounts: it takes the place of the one that was made.",
        "caller",
    ),
    Code.ACCOUNT_LINKED: CodeEntry(
        "The account belongs to somebody else",
        "It was matched with another person before, or tied to them by hand.",
        "Check who it belongs to, and send `replace: true` if that is wrong.",
        "caller",
    ),
    Code.PERSON_LINKED: CodeEntry(
        "The person has another account",
        "A person has one account of a product, and this one was matched or tied to theirs before.",
        "Check which account is right, and send `replace: true` if it is this one.",
        "caller",
    ),
    Code.PRODUCT_REFUSED: CodeEntry(
        "This is not for products",
        "The token was given to a product, and products reach only what their licenses cover.",
        "Use a token of the platform or of an organization.",
        "caller",
    ),
    Code.PRODUCT_NEEDED: CodeEntry(
        "This is for products",
        "The token belongs to no product, and only a product speaks for its accounts.",
        "Use a token of one of the product's clients.",
        "caller",
    ),
    Code.TICKET_INVALID: CodeEntry(
        "The launch ticket is no good",
        "It is unknown, was redeemed before, is older than a minute, or is meant for another client.",
        "Let the person begin again from their portal; redeem each ticket once, at once.",
        "caller",
    ),
    Code.LINK_SIGN_IN_OLD: CodeEntry(
        "The product's sign-in is too long ago",
        "An account is connected only by whoever signed in to it within the last five minutes.",
        "Have the person sign in to the product again, then ask with the new auth_time.",
        "caller",
    ),
    Code.LINK_LAST_SIGN_IN: CodeEntry(
        "This is the only way into the account",
        "The product has not said that the account can be signed in to without the portal.",
        "Give the account another way in, such as a password, then say other_sign_in.",
        "caller",
    ),
    Code.TEACHER_REFUSED: CodeEntry(
        "This is not for teachers",
        "The token is a teacher's, and teachers reach only their own classes.",
        "Leave out whose classes they are, or name yourself; for anything else use the token of an admin.",
        "caller",
    ),
    Code.ROLE_REFUSED: CodeEntry(
        "This role can't be given",
        "Nobody gives more than they have, and people who come by a district's connection have roles in it only.",
        "Give a role of your own organization, or ask an admin of the platform.",
        "caller",
    ),
    Code.LOCAL_ACCOUNTS_OFF: CodeEntry(
        "There are no local accounts here",
        "This installation lets people sign in by a portal or a school's account only.",
        "Invite them without a password of our own, or have operations set HOMEROOM_LOCAL_ACCOUNTS.",
        "operations",
    ),
    Code.BUSY: CodeEntry(
        "The service is at its limit", "All connections are in use.", "Try again in a few seconds.", "caller"
    ),
    Code.UNAVAILABLE: CodeEntry(
        "Something this service needs does not answer",
        "Its database, its bus or sso is away for the moment.",
        "Try again in a few seconds; if it repeats, see /readyz.",
        "caller",
    ),
    Code.INTERNAL: CodeEntry(
        "Something went wrong on our side",
        "The cause stands in our logs under the request id.",
        "Try again; if it repeats, tell operations the request id.",
        "operations",
    ),
    Code.CANVAS_AUTH: CodeEntry(
        "Canvas refused the access token",
        "The token was deleted, has expired, or belongs to another Canvas; nothing is pushed until it is exchanged.",
        "Make a new access token in Canvas and enter it at the target.",
        "admin",
    ),
    Code.CANVAS_REFUSED: CodeEntry(
        "Canvas refused the import",
        "The account is not known or no root account, SIS imports are turned off, or the token's user may not import.",
        "Check the account id, and in Canvas that SIS imports are on and the user may manage them; then push again.",
        "admin",
    ),
    Code.CANVAS_UNREACHABLE: CodeEntry(
        "Canvas could not be reached",
        "It did not answer, answered with an error of its own, or asked us to slow down, several times in a row.",
        "Look whether Canvas is up; the next change of the roster is pushed again, or push by hand.",
        "nobody",
    ),
    Code.CANVAS_IMPORT_FAILED: CodeEntry(
        "Canvas did not finish the import",
        "Canvas took the files and ended the import as failed or aborted, or did not end it in half a day.",
        "Look at the push's messages and at SIS Imports in Canvas, then push again.",
        "admin",
    ),
    Code.CANVAS_MESSAGES: CodeEntry(
        "Canvas imported the files with messages",
        "Single rows were not taken, mostly because somebody else in Canvas has the same login.",
        "Look at the push's messages; each names the file, and the row where Canvas does.",
        "admin",
    ),
    Code.CANVAS_TOO_LARGE: CodeEntry(
        "The set is too large to be pushed",
        "The zipped files are larger than a worker may write down.",
        "Narrow the license to fewer schools, or turn guardians off; then push by hand.",
        "operations",
    ),
    Code.CANVAS_HELD: CodeEntry(
        "The set was not sent, because many would lose something",
        "It is empty, or has fewer people, classes or enrollments than the last one by more than the threshold.",
        "Look at the counts of the push; if they are right, push with confirm=true.",
        "admin",
    ),
    Code.CANVAS_REMASTER: CodeEntry(
        "Canvas could not compare the set with the one before",
        "The files differ by more than the threshold, so Canvas took them whole and ended nobody who is not in them; "
        "after five such imports in a row it takes none.",
        "Look whether the roster is right, then push with confirm=true: later sets are compared with that one.",
        "admin",
    ),
    Code.TENANT_CONNECTED: CodeEntry(
        "This tenant is connected already",
        "Another connection of the same portal application has this tenant; it says which district somebody is of.",
        "Look for the other connection and change it, or check the tenant.",
        "admin",
    ),
    Code.APPLICATION_IN_USE: CodeEntry(
        "The portal application is in use",
        "Connections of districts go through it.",
        "Delete those connections first, or disable the application.",
        "admin",
    ),
    Code.METADATA_REFUSED: CodeEntry(
        "The metadata can't be used",
        "It could not be read, or does not describe one SAML 2.0 identity provider with a certificate.",
        "Check the address or the file; the detail says what is wrong with it.",
        "admin",
    ),
    Code.METADATA_CHANGE_GONE: CodeEntry(
        "This change of metadata does not wait",
        "It was decided on, or the metadata has changed once more since it was looked at.",
        "Look at the change that waits now, and decide on that.",
        "caller",
    ),
    Code.METADATA_CHANGED: CodeEntry(
        "The identity provider's metadata has changed",
        "Its name, keys or addresses are not those that were accepted; sign-in goes on with those.",
        "Ask the district whether they changed it, compare the fingerprints, then approve or discard the change.",
        "admin",
    ),
    Code.METADATA_UNREAD: CodeEntry(
        "The identity provider's metadata can't be read",
        "Its address does not answer, or with something else. Sign-in goes on with what was accepted.",
        "Check the metadata address; without it a new certificate is not noticed.",
        "admin",
    ),
    Code.CERTIFICATE_EXPIRES: CodeEntry(
        "A certificate runs out soon",
        "The identity provider signs with a certificate that runs out within 60 days; from then on nobody gets in.",
        "Ask the district for the next certificate or new metadata, and add it before that day.",
        "district",
    ),
    Code.CERTIFICATE_EXPIRED: CodeEntry(
        "A certificate has run out",
        "Signatures with it are refused.",
        "Ask the district for the present certificate or new metadata, and enter it.",
        "district",
    ),
    Code.WEAK_SIGNATURES: CodeEntry(
        "Signatures with SHA-1 are allowed",
        "An exception is in force for this connection; SHA-1 can be forged with some effort.",
        "Ask the district to have its identity provider sign with SHA-256, then take the exception away.",
        "district",
    ),
    Code.SEALED_TO_OLD_KEY: CodeEntry(
        "A secret is sealed to an earlier key",
        "The service's key was exchanged after the secret was entered; it can't be opened once the old key is gone.",
        "Keep the old key until the worker has sealed it anew, or enter the secret again.",
        "operations",
    ),
    Code.SIGNIN_NOT_ROSTERED: CodeEntry(
        "You are not on the roster",
        "Your portal says who you are, but your school's roster does not have you, or not for this product.",
        "Ask your school's office or teacher to have you added; it can take a day until the roster is updated.",
        "district",
    ),
    Code.SIGNIN_REMOVED: CodeEntry(
        "You are not on the roster any more",
        "Your school's roster had you once, and has you no more.",
        "If that is a mistake, ask your school's office; nothing of yours is lost.",
        "district",
    ),
    Code.SIGNIN_AMBIGUOUS: CodeEntry(
        "It is not certain who you are",
        "Your portal's answer fits more than one person of the roster, or another one than before.",
        "Name the support id to whoever looks after sign-in for your school; they can settle it.",
        "admin",
    ),
    Code.SIGNIN_TENANT_UNKNOWN: CodeEntry(
        "Your school or district is not set up here",
        "You signed in to your portal, but nobody connected your district with this service, or the address is wrong.",
        "Ask your district to contact us, and name the support id.",
        "admin",
    ),
    Code.SIGNIN_UNLICENSED: CodeEntry(
        "Your school has no license for this product",
        "No license of the product is in force for your district or your school.",
        "Ask whoever looks after the product at your district.",
        "district",
    ),
    Code.SIGNIN_ROSTER_OLD: CodeEntry(
        "The roster is too old to go by",
        "Your district allows sign-in only while its roster is up to date, and it was not updated in time.",
        "Ask whoever looks after the roster at your district; you can come in once it is updated.",
        "admin",
    ),
    Code.SIGNIN_CONNECTION_OFF: CodeEntry(
        "Sign-in from your school is turned off",
        "The connection between your school's portal and this service is disabled.",
        "Ask whoever looks after sign-in for your school.",
        "admin",
    ),
    Code.SIGNIN_PRODUCT_OFF: CodeEntry(
        "This product can't be opened",
        "It is not set up for sign-in, its destination is not known, or it was turned off.",
        "Ask the product's support, and name the support id.",
        "admin",
    ),
    Code.SIGNIN_FLOW_LOST: CodeEntry(
        "This sign-in was begun elsewhere, or too long ago",
        "It is finished, older than ten minutes, or began in another browser; or the browser keeps no cookies.",
        "Begin again from your portal or the product. If it happens again, allow cookies for this site.",
        "nobody",
    ),
    Code.SIGNIN_LOOP: CodeEntry(
        "Signing in went round in circles",
        "Your browser came back from the portal again and again without what we asked for.",
        "Allow cookies for this site, close the browser, and begin again from your portal.",
        "nobody",
    ),
    Code.SIGNIN_DENIED: CodeEntry(
        "Your portal did not let you in",
        "The portal said that sign-in was cancelled, or that you may not use this product.",
        "Begin again; if it stays so, ask whoever looks after the portal at your school.",
        "district",
    ),
    Code.SIGNIN_UPSTREAM_AWAY: CodeEntry(
        "Your portal does not answer",
        "It could not be reached, took too long, or answered with something that can't be read.",
        "Try again in a few minutes.",
        "provider",
    ),
    Code.SIGNIN_TOKEN_INVALID: CodeEntry(
        "Your portal's answer could not be trusted",
        "What came back is not signed as agreed, is for somebody else, or is too old.",
        "Begin again; if it stays so, name the support id to whoever looks after sign-in for your school.",
        "admin",
    ),
    Code.SIGNIN_ASSERTION_INVALID: CodeEntry(
        "Your portal's SAML answer could not be trusted",
        "It is not signed as agreed, is for another service, is too old, or is not made as the standard wants.",
        "Begin again; if it stays so, name the support id to whoever looks after sign-in for your school.",
        "admin",
    ),
    Code.SIGNIN_REPLAYED: CodeEntry(
        "This answer of your portal was used already",
        "Each one counts once, so that nobody can use yours a second time.",
        "Begin again from your portal.",
        "nobody",
    ),
    Code.SIGNIN_STORE_AWAY: CodeEntry(
        "We can't look you up at the moment",
        "The roster does not answer, and you were not here lately.",
        "Try again in a few minutes.",
        "operations",
    ),
    Code.SIGNIN_REQUEST_INVALID: CodeEntry(
        "This address or form is not complete",
        "Something of it is missing or not as it should be.",
        "Begin again from your portal or the product.",
        "caller",
    ),
    Code.SIGNIN_SESSION_OVER: CodeEntry(
        "You are not signed in here, or not any more",
        "Sessions end after two hours of rest, after a school day, or when somebody signs out.",
        "Sign in again from your portal or the product.",
        "nobody",
    ),
    Code.SIGNIN_ROLE_MISSING: CodeEntry(
        "You have no role here",
        "You are known, but nobody gave you anything to look after.",
        "Ask an admin of your organization for a role.",
        "admin",
    ),
    Code.SIGNIN_LINKED_ELSEWHERE: CodeEntry(
        "This is connected with somebody else already",
        "The account, or the person who signed in, is connected with another one.",
        "Disconnect it there first, or ask the product's support.",
        "caller",
    ),
    Code.SIGNIN_PASSWORD_WRONG: CodeEntry(
        "The username or the password is wrong",
        "There is no local account with this name and this password that may sign in.",
        "Check both and try again; operations can set a new password.",
        "caller",
    ),
    Code.SIGNIN_INVITATION_OVER: CodeEntry(
        "This invitation can't be used",
        "It was used, taken back, replaced or is too old, or it is meant for people of another school.",
        "Ask whoever sent it for a new one.",
        "admin",
    ),
    Code.SIGNIN_THROTTLED: CodeEntry(
        "Too many attempts",
        "There were many failed attempts from here in a short time.",
        "Wait a few minutes and try again.",
        "nobody",
    ),
    Code.SIGNIN_FAILED: CodeEntry(
        "Signing in failed on our side",
        "Something we did not foresee went wrong; nobody was signed in.",
        "Try again; if it stays so, name the support id to our support.",
        "operations",
    ),
    Code.MESSAGE_UNREADABLE: CodeEntry(
        "A message could not be read",
        "It does not have the shape its topic carries.",
        "See the dead-letter runbook.",
        "operations",
    ),
    Code.MESSAGE_FAILED: CodeEntry(
        "A message failed every time it was handled",
        "The handler raised five times.",
        "See the dead-letter runbook.",
        "operations",
    ),
}
