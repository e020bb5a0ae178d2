"""Assertions that are encrypted to us (XML Encryption 1.1, SAML core §6).

The key is wrapped by RSA-OAEP, never by PKCS #1 v1.5. AES-GCM is what we want. AES-CBC protects nothing from being
changed, so whoever may try texts learns from our answers what is inside; it is decrypted only if a signature around the
whole response was verified before. Whatever fails in here fails in the same words.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sso.saml.documents import DocumentError, Element, parse, text_of
from sso.saml.names import DS, XENC, XENC11, tag
from sso.saml.refusals import Unbelieved, demand

FAILED: Final = "the assertion can't be decrypted"

_GCM_BYTES: Final = {f"{XENC11}aes128-gcm": 16, f"{XENC11}aes192-gcm": 24, f"{XENC11}aes256-gcm": 32}
_CBC_BYTES: Final = {f"{XENC}aes128-cbc": 16, f"{XENC}aes192-cbc": 24, f"{XENC}aes256-cbc": 32}
_OAEP: Final = f"{XENC}rsa-oaep-mgf1p"
_OAEP11: Final = f"{XENC11}rsa-oaep"
_DIGESTS: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    f"{DS}sha1": hashes.SHA1,
    f"{XENC}sha256": hashes.SHA256,
    "http://www.w3.org/2001/04/xmldsig-more#sha384": hashes.SHA384,
    f"{XENC}sha512": hashes.SHA512,
}
_MASKS: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    f"{XENC11}mgf1sha1": hashes.SHA1,
    f"{XENC11}mgf1sha256": hashes.SHA256,
    f"{XENC11}mgf1sha384": hashes.SHA384,
    f"{XENC11}mgf1sha512": hashes.SHA512,
}
_NONCE: Final = 12
_TAG: Final = 16
_BLOCK: Final = 16


@lru_cache(maxsize=256)
def read_key(pem: str) -> rsa.RSAPrivateKey:
    """Our private key of a connection. Raises ValueError for any but RSA."""
    key = load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the key is not RSA")  # noqa: TRY004 - a wrong text, not a wrong type
    return key


def decrypt_assertion(encrypted: Element, private_key: str, *, authenticated: bool) -> Element:
    """The assertion inside an EncryptedAssertion, parsed like every document of strangers. Raises Unbelieved.

    Args:
        encrypted: the element `saml:EncryptedAssertion`.
        private_key: ours, PEM.
        authenticated: whether a verified signature covers the element.
    """
    data = encrypted.findall(tag("xenc:EncryptedData"))
    demand(len(data) == 1, FAILED)
    method = _algorithm(data[0])
    demand(method in _GCM_BYTES or method in _CBC_BYTES, "the encryption's algorithm is not allowed")
    if method in _CBC_BYTES:
        demand(authenticated, "an assertion in CBC is not signed around")
    try:
        content_key = _unwrap(_find_wrapped_key(encrypted, data[0]), read_key(private_key))
        return parse(_decrypt(method, content_key, _cipher_value(data[0])))
    except Unbelieved:
        raise
    except (DocumentError, ValueError, InvalidTag, Base64Error):
        raise Unbelieved(FAILED) from None


def _find_wrapped_key(encrypted: Element, data: Element) -> Element:
    """The one EncryptedKey: within the data's KeyInfo, or beside the data."""
    keys = list(encrypted.iter(tag("xenc:EncryptedKey")))
    demand(len(keys) == 1, FAILED)
    parent = keys[0].getparent()
    beside = parent is encrypted
    within = parent is not None and parent.tag == tag("ds:KeyInfo") and parent.getparent() is data
    demand(beside or within, FAILED)
    return keys[0]


def _algorithm(element: Element) -> str:
    methods = element.findall(tag("xenc:EncryptionMethod"))
    demand(len(methods) == 1, FAILED)
    return methods[0].get("Algorithm", "")


def _unwrap(wrapped: Element, key: rsa.RSAPrivateKey) -> bytes:
    algorithm = _algorithm(wrapped)
    demand(algorithm in (_OAEP, _OAEP11), "the encryption's algorithm is not allowed")
    method = wrapped.find(tag("xenc:EncryptionMethod"))
    assert method is not None  # noqa: S101 - its algorithm was read
    known = {tag("ds:DigestMethod"), tag("xenc11:MGF")}
    demand({child.tag for child in method} <= known, "the encryption's algorithm is not allowed")
    digest = _DIGESTS.get(_parameter(method, "ds:DigestMethod") or f"{DS}sha1")
    mask = _MASKS.get((_parameter(method, "xenc11:MGF") if algorithm == _OAEP11 else None) or f"{XENC11}mgf1sha1")
    if digest is None or mask is None:
        raise Unbelieved("the encryption's algorithm is not allowed")
    oaep = padding.OAEP(mgf=padding.MGF1(mask()), algorithm=digest(), label=None)
    return key.decrypt(_cipher_value(wrapped), oaep)


def _parameter(method: Element, name: str) -> str | None:
    found = method.find(tag(name))
    return None if found is None else found.get("Algorithm")


def _cipher_value(element: Element) -> bytes:
    values = element.findall(f"{tag('xenc:CipherData')}/{tag('xenc:CipherValue')}")
    demand(len(values) == 1, FAILED)
    return b64decode("".join(text_of(values[0]).split()), validate=True)


def _decrypt(method: str, key: bytes, data: bytes) -> bytes:
    if len(key) != (_GCM_BYTES | _CBC_BYTES)[method]:
        raise ValueError("the key has another length")
    if method in _GCM_BYTES:
        if len(data) < _NONCE + _TAG:
            raise ValueError("the data are too short")
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], None)
    if len(data) < 2 * _BLOCK or len(data) % _BLOCK:
        raise ValueError("the data are not whole blocks")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(data[:_BLOCK])).decryptor()
    plain = decryptor.update(data[_BLOCK:]) + decryptor.finalize()
    if not 1 <= plain[-1] <= _BLOCK:
        raise ValueError("the padding is wrong")
    return plain[: -plain[-1]]
