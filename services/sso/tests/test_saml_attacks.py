"""Hostile SAML responses: none is believed, each is refused for what it is, and quickly."""

from __future__ import annotations

import time

import hostile_signatures
import hostile_statements
import hostile_texts
import pytest
from hostile import CLASSES, EXPECTED, IDP, Hostile, matches
from played_idp import NOW

from sso.saml.profile import check_response
from sso.saml.refusals import Unbelieved

SOURCES = (hostile_signatures, hostile_statements, hostile_texts)
"""What enters documents into `CLASSES`."""
made: dict[int, list[Hostile]] = {}


def refuse(number: int) -> None:
    """Every document of a class is refused, for its own reason, within a second."""
    made[number] = list(CLASSES[number]())
    for hostile in made[number]:
        began = time.perf_counter()
        with pytest.raises(Unbelieved) as refused:
            check_response(hostile.document, hostile.expected, NOW)
        assert time.perf_counter() - began < 1, hostile.name
        assert matches(hostile, refused.value.why), f"{hostile.name}: {refused.value.why}"


def test_the_base_is_believed() -> None:
    """What all of them are made from is believed, so each is refused for what was done to it."""
    assert check_response(IDP.respond(), EXPECTED, NOW).name_id == "user-1"


def test_attack_01_unsigned() -> None:
    """Without a signature, or with one that was taken apart, nothing is believed."""
    refuse(1)


def test_attack_02_unsigned_assertion() -> None:
    """An unsigned assertion in a signed response counts only if allowed, and only as it was signed."""
    refuse(2)


def test_attack_03_foreign_keys() -> None:
    """A signature by any key but the connection's is refused, whatever KeyInfo says."""
    refuse(3)


def test_attack_04_hmac_with_the_public_key() -> None:
    """A signature with a shared secret is refused, whatever the secret is."""
    refuse(4)


def test_attack_05_weak_algorithms() -> None:
    """SHA-1, MD5 and short keys are refused."""
    refuse(5)


def test_attack_06_wrapping() -> None:
    """A forged assertion is refused wherever the genuine one is put."""
    refuse(6)


def test_attack_07_polluted_ids() -> None:
    """Ids with a prefix, in other spellings or twice are refused."""
    refuse(7)


def test_attack_08_void_canonicalization() -> None:
    """A digest of nothing is refused, and so is what makes canonicalization fail."""
    refuse(8)


def test_attack_09_split_texts() -> None:
    """A text that something stands in is refused, and never cut off."""
    refuse(9)


def test_attack_10_doubled_signature_parts() -> None:
    """A signature with comments or with a part twice is refused."""
    refuse(10)


def test_attack_11_document_types_and_other_parsers() -> None:
    """A document type or text that parsers could differ about is refused."""
    refuse(11)


def test_attack_12_external_entities() -> None:
    """Entities are refused before anything is parsed."""
    refuse(12)


def test_attack_13_bombs() -> None:
    """Documents that would take long or much are refused at once."""
    refuse(13)


def test_attack_14_encodings() -> None:
    """Only UTF-8 is read."""
    refuse(14)


def test_attack_15_transforms_and_references() -> None:
    """Other transforms, canonicalizations and references are refused."""
    refuse(15)


def test_attack_16_times() -> None:
    """What is too early, too late or too long is refused."""
    refuse(16)


def test_attack_17_audience() -> None:
    """What is for another audience is refused."""
    refuse(17)


def test_attack_18_recipient() -> None:
    """What was sent to another recipient is refused."""
    refuse(18)


def test_attack_19_destination() -> None:
    """A response for another destination is refused."""
    refuse(19)


def test_attack_20_issuer() -> None:
    """What another issuer says is refused."""
    refuse(20)


def test_attack_21_in_response_to_differs() -> None:
    """Response and assertion must answer the same request."""
    refuse(21)


def test_attack_23_other_profiles() -> None:
    """Whatever is not a bearer assertion about one visible person is refused."""
    refuse(23)


def test_attack_24_encrypted() -> None:
    """An encrypted assertion counts only with a signature inside, and failures look alike."""
    refuse(24)


def test_there_are_hundreds_of_them() -> None:
    """At least two hundred different hostile documents were tried."""
    documents = {hostile.document for number in CLASSES for hostile in made.get(number) or CLASSES[number]()}
    assert len(documents) >= 200
