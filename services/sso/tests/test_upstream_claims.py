"""What is read out of portals' answers, and how ids are compared."""

from __future__ import annotations

import pytest

from sso.connections.quirks import QUIRKS
from sso.connections.upstreams import OidcConfig
from sso.upstream.claims import ClaimUnusable, Told, list_info_fields, list_token_fields, normalise, read
from sso.upstream.exchange import fill_record, move_record

CONFIG = OidcConfig(issuer="https://portal.example", client_id="homeroom")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("007", "007"),
        ("7", "7"),
        (7, "7"),
        (0, "0"),
        (9007199254740993, "9007199254740993"),
        ("Ünal ", "Ünal "),
        ("A", "A"),
        ("a", "a"),
        ("", None),
        (None, None),
    ],
)
def test_attack_57_ids_are_compared_as_they_are(value: object, kept: str | None) -> None:
    """A number counts as its decimal text and a text as it is: "007" is not "7", and case counts."""
    assert normalise(value, "subject") == kept


@pytest.mark.parametrize("value", [True, 1.0, 1e3, [], ["a"], {}, " ", "\u200b", "a\x00", "a\n", "a" * 256, 10**40])
def test_attack_57_what_can_be_no_id_is_refused(value: object) -> None:
    """What is no text or whole number, or holds letters nobody sees, is refused rather than guessed at."""
    with pytest.raises(ClaimUnusable):
        normalise(value, "subject")


def test_classlinks_answer_is_read() -> None:
    """Of `my/info` the user, the tenant, the sourcedId and a name are read, and nothing else."""
    said = {
        "UserId": 123,
        "TenantId": 2284,
        "SourcedId": "or-1",
        "DisplayName": "Ada Berg",
        "Role": "Tenant Administrator",
    }
    told = read(said, list_info_fields(CONFIG, QUIRKS["classlink"], QUIRKS["classlink"].info))
    assert (told.subject, told.tenant, told.person_key, told.shown_as) == ("123", "2284", "or-1", "Ada Berg")


def test_the_connection_says_which_claims_count() -> None:
    """Claims that are named in the connection take the place of the kind's, with dots going into objects."""
    config = OidcConfig(issuer="i", client_id="c", tenant_claim="org.id", person_claim="https://x.example/person")
    fields = list_token_fields(config, QUIRKS["oidc"])
    told = read({"sub": "u", "org": {"id": 5}, "https://x.example/person": "s-1", "sourcedId": "s-2"}, fields)
    assert (told.tenant, told.person_key) == ("5", "s-1")
    assert read({"sub": "u", "org": "none"}, fields).tenant is None


def test_names_are_for_show_only() -> None:
    """A name is cut, kept on one line, and never a reason to refuse anybody."""
    fields = list_token_fields(CONFIG, QUIRKS["oidc"])
    assert read({"sub": "u", "given_name": " Ada\n", "family_name": "Berg"}, fields).shown_as == "Ada Berg"
    assert read({"sub": "u", "given_name": 7, "name": {"x": 1}}, fields).shown_as is None
    assert len(read({"sub": "u", "name": "x" * 9999}, fields).shown_as or "") == 100


def test_attack_43_answers_about_two_people_make_nobody() -> None:
    """Two answers become one only if they name the same person, and no two tenants."""
    token = Told(subject="u-1", tenant="d-1")
    assert token.fill(Told(subject="u-1", person_key="s-1")).person_key == "s-1"
    for other in (Told(subject="u-2"), Told(subject=None, person_key="s-1"), Told(subject="u-1", tenant="d-2")):
        with pytest.raises(ClaimUnusable):
            token.fill(other)


def test_claims_are_listed_by_name_only() -> None:
    """What came is listed for admins without its values, and not without end."""
    names = read(
        {"sub": "secret-1", **{f"c{n}": "secret-2" for n in range(500)}}, list_token_fields(CONFIG, QUIRKS["oidc"])
    )
    assert "sub" in names.names
    assert len(names.names) <= 60
    assert "secret" not in str(names.names)


def test_a_second_question_goes_beside_the_first() -> None:
    """Where a portal is played on another host, its second question goes there as well; ids are quoted."""
    info = QUIRKS["clever"].info
    assert info is not None
    assert info.record is not None
    moved = move_record("http://127.0.0.1:1/clever/v3.0/me", info.record, info.url)
    assert fill_record(moved, "a/../b?c") == "http://127.0.0.1:1/clever/v3.0/users/a%2F..%2Fb%3Fc"
