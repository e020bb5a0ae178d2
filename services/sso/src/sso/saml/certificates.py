"""Certificates of identity providers: the only place keys come from. They are pinned; no chain is looked at."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

LEAST_RSA_BITS: Final = 2048
CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
MOST_CHARACTERS: Final = 16_000
"""Of one certificate, as text."""
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


class CertificateError(ValueError):
    """A certificate that is not usable; the text says why, for an admin."""


@lru_cache(maxsize=4096)
def read_certificate(text: str) -> x509.Certificate:
    """A certificate, from PEM or from the bare base64 that metadata holds. Raises CertificateError.

    Its key must be RSA with at least 2048 bits or on one of NIST's curves. That it has expired is no error here.
    """
    if len(text) > MOST_CHARACTERS:
        raise CertificateError("the certificate is too large")
    bare = text.strip()
    if bare.startswith(_BEGIN):
        bare = bare.removeprefix(_BEGIN).strip()
        if not bare.endswith(_END):
            raise CertificateError("the text is not one certificate in PEM")
        bare = bare.removesuffix(_END)
    try:
        certificate = x509.load_der_x509_certificate(b64decode("".join(bare.split()), validate=True))
        key = certificate.public_key()
    except (Base64Error, ValueError, TypeError, x509.InvalidVersion):
        raise CertificateError("the text is not a certificate") from None
    except Exception as error:
        # An algorithm the library does not know has an exception of its own.
        raise CertificateError("the certificate's key is of a kind that is not supported") from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            raise CertificateError(f"the certificate's RSA key has {key.key_size} bits; {LEAST_RSA_BITS} are the least")
    elif not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES)):
        raise CertificateError("the certificate's key is neither RSA nor on P-256, P-384 or P-521")
    return certificate


def write_certificate(certificate: x509.Certificate) -> str:
    """PEM, as configurations keep it."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in hexadecimal with colons, as portals show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def find_expiry(certificate: x509.Certificate) -> datetime:
    """From when on signatures with it are refused."""
    return certificate.not_valid_after_utc


def holds_at(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is valid at a moment."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
