"""Secrets that one side can lock away and only another can open: libsodium sealed boxes.

The scheduler holds a public key and seals what an admin enters; only a gateway worker holds the private key. A
sealed secret names the key it was sealed to, so that keys can be exchanged one by one, and it is bound to a context
(the integration's id): copied to another integration it does not open.

`python -m homeroom.secrets` makes a key pair.

Passwords are another thing: nobody needs to read them again, so only a salted scrypt hash of them is kept (RFC 7914).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

KEY_BYTES = 32

_SCRYPT_COST, _SCRYPT_BLOCK, _SCRYPT_LANES = 2**14, 8, 1
_SALT_BYTES, _HASH_BYTES = 16, 32
_MAX_SCRYPT_MEMORY = 64 * 1024 * 1024
"""What a hash may ask for to be checked, in bytes."""


class SecretUnreadable(Exception):  # noqa: N818 - a state callers catch by name; it becomes the code SECRET_UNREADABLE
    """What was sealed can't be opened here; the text says why and holds nothing of the secret."""


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is inside the box. Sealed boxes have no place for associated data, so the context is locked in."""

    context: str
    secret: str


def generate_key() -> tuple[str, str]:
    """A new key pair: the private key as `key id:private`, and the public key."""
    key = PrivateKey.generate()
    public = bytes(key.public_key)
    return f"{_key_id(public)}:{_to_text(bytes(key))}", _to_text(public)


def seal(public_key: str, context: str, secret: str | bytes) -> str:
    """Lock a secret away for the holder of the private key, bound to a context. Raises ValueError for a bad key."""
    public = _to_key(public_key)
    text = secret if isinstance(secret, str) else secret.decode()
    box = SealedBox(PublicKey(public)).encrypt(msgspec.json.encode(_Envelope(context, text)))
    return f"{_key_id(public)}.{_to_text(box)}"


class SealingKeys:
    """The private keys a process holds, each as `key id:private`; the first one is the current one."""

    def __init__(self, private_keys: Iterable[str]) -> None:
        """Take the keys; a single text with commas counts as several. Raises ValueError for keys that are none."""
        texts = private_keys.split(",") if isinstance(private_keys, str) else private_keys
        self._keys: dict[str, PrivateKey] = {}
        for text in filter(None, map(str.strip, texts)):
            name, _, private = text.partition(":")
            key = PrivateKey(_to_key(private))
            if name != _key_id(bytes(key.public_key)):
                msg = f"the private key named {name[:16]!r} does not have that id; it may have been cut off"
                raise ValueError(msg)
            self._keys[name] = key
        if not self._keys:
            msg = "at least one private key is needed; `python -m homeroom.secrets` makes one"
            raise ValueError(msg)

    @property
    def public_key(self) -> str:
        """The public key to seal to from now on."""
        return _to_text(bytes(next(iter(self._keys.values())).public_key))

    def open(self, context: str, sealed: str) -> str:
        """The secret that was sealed for this context. Raises `SecretUnreadable`."""
        name, _, box = sealed.partition(".")
        key = self._keys.get(name)
        if key is None:
            held = ", ".join(self._keys)
            msg = f"the secret was sealed to the key {name[:16]!r}, this process holds {held}"
            raise SecretUnreadable(msg)
        try:
            envelope = msgspec.json.decode(SealedBox(key).decrypt(_from_text(box)), type=_Envelope)
        except (CryptoError, msgspec.MsgspecError, ValueError):
            msg = "the sealed secret was altered or cut off"
            raise SecretUnreadable(msg) from None
        if envelope.context != context:
            msg = "the secret was sealed for something else"
            raise SecretUnreadable(msg)
        return envelope.secret


def hash_password(password: str) -> str:
    """A text a password can be checked against and not be read from: `scrypt$n$r$p$salt$hash`.

    Takes some 50 ms and 16 MB on purpose: call it in a thread where others wait.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    found = _scrypt(password, salt, _SCRYPT_COST, _SCRYPT_BLOCK, _SCRYPT_LANES)
    return "$".join(
        ("scrypt", str(_SCRYPT_COST), str(_SCRYPT_BLOCK), str(_SCRYPT_LANES), _to_text(salt), _to_text(found))
    )


def verify_password(password: str, hashed: str) -> bool:
    """Whether it is the password that was hashed; False also for a text that is no hash. As slow as hashing."""
    try:
        kind, cost, block, lanes, salt, expected = hashed.split("$")
        if kind != "scrypt":
            return False
        found = _scrypt(password, _from_text(salt), int(cost), int(block), int(lanes))
        return hmac.compare_digest(found, _from_text(expected))
    except (ValueError, TypeError, OverflowError):  # the last two are scrypt's for costs that are no sizes
        return False


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    """Raises ValueError, TypeError or OverflowError for costs that make no sense or ask for too much."""
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=cost,
        r=block,
        p=lanes,
        maxmem=_MAX_SCRYPT_MEMORY,
        dklen=_HASH_BYTES,
    )


def _key_id(public: bytes) -> str:
    """A short name for a key, which tells nothing about it but which one it is."""
    return hashlib.sha256(public).hexdigest()[:12]


def _to_text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()


def _from_text(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError) as error:
        msg = "it is no base64 text"
        raise ValueError(msg) from error


def _to_key(text: str) -> bytes:
    try:
        key = _from_text(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"a key is {KEY_BYTES} bytes in base64; `python -m homeroom.secrets` makes a pair"
        raise ValueError(msg)
    return key


if __name__ == "__main__":
    _private, _public = generate_key()
    sys.stdout.write(f"private: {_private}\npublic:  {_public}\n")
