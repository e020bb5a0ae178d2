"""Forgeries of ID tokens, each made from a genuine one, and genuine tokens that look unusual.

A forgery carries the number of its class of attack; everything but the one thing it changes is as it should be.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import msgspec
from joserfc.jwk import ECKey, RSAKey
from played_provider import hash_half, make_ec, make_rsa, sign

from sso.upstream.id_tokens import Expected

ISSUER: Final = "https://portal.example"
CLIENT: Final = "homeroom"
NONCE: Final = "nonce-of-this-flow"
ACCESS: Final = "access-token-of-this-exchange"
CODE: Final = "code-of-this-exchange"
SECRET: Final = "client-secret-of-thirty-two-bytes"
NOW: Final = datetime(2026, 9, 1, 6, tzinfo=UTC)
AT: Final = int(NOW.timestamp())


@dataclass(frozen=True)
class Case:
    """A token, with what a provider publishes beside it."""

    name: str
    token: str = field(repr=False)
    number: int = 0
    """Its class of attack."""
    more_keys: tuple[Mapping[str, Any], ...] = ()
    algorithms: tuple[str, ...] = ("RS256",)
    keys: tuple[Mapping[str, Any], ...] | None = None
    """What is published instead of the one key."""
    signed_in_after: datetime | None = None

    @property
    def key_set(self) -> dict[str, Any]:
        """The provider's key set."""
        own = [make_rsa("first").as_dict(private=False)] if self.keys is None else self.keys
        return {"keys": [*own, *self.more_keys]}

    @property
    def expected(self) -> Expected:
        """What our flow expects."""
        return Expected(ISSUER, CLIENT, NONCE, self.algorithms, ACCESS, CODE, self.signed_in_after)


def make_claims(**changed: Any) -> dict[str, Any]:
    """Genuine claims; what is given replaces or adds, None leaves out."""
    claims = {"iss": ISSUER, "aud": CLIENT, "sub": "u-1", "iat": AT, "exp": AT + 3600, "nonce": NONCE}
    return {name: value for name, value in (claims | changed).items() if value is not None}


def make_token(claims: object = None, key: RSAKey | ECKey | None = None, **header: Any) -> str:
    """A token signed with the provider's own key; None leaves a header member out."""
    key = key or make_rsa("first")
    whole = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid, "typ": "JWT"} | header
    return sign({n: v for n, v in whole.items() if v is not None}, make_claims() if claims is None else claims, key)


def encode(value: object) -> str:
    """A segment of a token."""
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge_hmac(secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    """A token "signed" with something everybody knows, as if it were a shared secret."""
    signed = f"{encode({'alg': algorithm, 'typ': 'JWT', 'kid': 'first'} | header)}.{encode(make_claims())}"
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), 'sha' + algorithm[2:]))}"


def _forge_signatures() -> Iterator[Case]:
    """Class 36: the signature, and what the header says about it."""
    genuine, mallory = make_token(), make_rsa("mallory")
    head, body, signature = genuine.split(".")
    for name in ("none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "RSA", "HS256", "EdDSA", "RS1"):
        changed = encode({"alg": name, "kid": "first", "typ": "JWT"})
        yield Case(f"algorithm {name!r} with the old signature", f"{changed}.{body}.{signature}", 36)
    for name in ("none", "None", "NONE"):
        changed = encode({"alg": name, "typ": "JWT"})
        yield Case(f"algorithm {name!r}, unsigned", f"{changed}.{body}.", 36)
        yield Case(f"algorithm {name!r}, signature of zeros", f"{changed}.{body}.AAAA", 36)
    for value in (None, 1, ["RS256"], {"RS256": 1}, True):
        yield Case(f"algorithm {value!r}", f"{encode({'alg': value, 'kid': 'first'})}.{body}.{signature}", 36)
    yield Case("no algorithm", f"{encode({'kid': 'first'})}.{body}.{signature}", 36)
    public = make_rsa("first")
    for name, secret in {
        "PEM": public.as_pem(private=False),
        "PEM without its last line": public.as_pem(private=False).strip(),
        "DER": public.as_der(private=False),
        "JWK": msgspec.json.encode(public.as_dict(private=False)),
        "modulus": str(public.as_dict(private=False)["n"]).encode(),
        "client secret": SECRET.encode(),
        "client id": CLIENT.encode(),
        "empty": b"",
    }.items():
        yield Case(f"HMAC with {name}", forge_hmac(secret), 36)
    yield Case("HS384 with the client secret", forge_hmac(SECRET.encode(), "HS384"), 36)
    yield Case("HS512 with the PEM", forge_hmac(public.as_pem(private=False), "HS512"), 36)
    own = mallory.as_dict(private=False)
    bring: dict[str, dict[str, Any]] = {
        "jwk": {"jwk": own},
        "jwk without kid": {"jwk": own, "kid": None},
        "jku": {"jku": "https://evil.example/jwks"},
        "x5u": {"x5u": "https://evil.example/cert"},
        "x5c": {"x5c": ["MIIB"]},
    }
    for name, header in bring.items():
        yield Case(f"its own key by {name}", make_token(key=mallory, **({"kid": "first"} | header)), 36)
    yield Case("genuine, but with a jwk header", make_token(jwk=public.as_dict(private=False)), 36)
    yield Case("another key under our key's id", make_token(key=mallory, kid="first"), 36)
    for kid in ("mallory", "FIRST", "first ", "", "../first", "first\x00", "' OR 1=1 --"):
        yield Case(f"key id {kid!r}", make_token(key=mallory, kid=kid), 36)
    yield Case("no key id, another key", make_token(key=mallory, kid=None), 36)
    for crit in (["exp"], ["b64"], ["urn:x"], [], "exp", None):
        header = {"alg": "RS256", "kid": "first", "crit": crit, "exp": 1, "urn:x": 1}
        yield Case(f"critical header {crit!r}", _sign_raw(header, msgspec.json.encode(make_claims())), 36)
    yield Case("payload not encoded", _sign_raw({"alg": "RS256", "kid": "first", "b64": False}, b"{}"), 36)
    yield from _break_signatures(head, body, signature)


def _break_signatures(head: str, body: str, signature: str) -> Iterator[Case]:
    flipped = ("B" if signature[10] == "A" else "A").join((signature[:10], signature[11:]))
    other = make_token(make_claims(sub="u-2"))
    for name, token in {
        "one letter of the signature": f"{head}.{body}.{flipped}",
        "the signature cut": f"{head}.{body}.{signature[:-4]}",
        "no signature": f"{head}.{body}.",
        "no signature and no dot": f"{head}.{body}",
        "another token's claims": f"{head}.{other.split('.')[1]}.{signature}",
        "claims changed": f"{head}.{encode(make_claims(sub='u-2'))}.{signature}",
        "two signatures": f"{head}.{body}.{signature}.{signature}",
        "padding": f"{head}.{body}.{signature}==",
        "a line end": f"{head}.{body}.{signature}\n",
        "a blank before": f" {head}.{body}.{signature}",
        "letters of another alphabet": f"{head}.{body}.{signature[:-1]}é",
        "nothing": "",
        "dots": "..",
        "JSON": msgspec.json.encode({"payload": body, "protected": head, "signature": signature}).decode(),
        "encrypted": f"{head}.{body}.{signature}.{body}.{signature}",
        "far too long": f"{head}.{body}.{'A' * 20_000}",
        "header no object": f"{encode([])}.{body}.{signature}",
        "header no JSON": f"{encode(b'{')}.{body}.{signature}",
    }.items():
        yield Case(f"signature: {name}", token, 36)
    for name, claims in {"a list": [], "a text": "u-1", "a number": 7, "null": None}.items():
        raw = _sign_raw({"alg": "RS256", "kid": "first"}, msgspec.json.encode(claims))
        yield Case(f"claims are {name}", raw, 36)
    yield Case("claims nested without end", _sign_raw({"alg": "RS256", "kid": "first"}, b'{"a":' * 2_000), 36)


def _sign_raw(header: dict[str, Any], payload: bytes) -> str:
    """A token over any bytes, signed with the provider's own key but by no library's rules."""
    from cryptography.hazmat.primitives import hashes  # used by few cases only
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    signed = f"{encode(header)}.{encode(payload)}"
    key = make_rsa("first").private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    return f"{signed}.{encode(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _forge_key_sets() -> Iterator[Case]:
    """Class 37: what is published lends a forgery a key."""
    shared = {"kty": "oct", "kid": "shared", "k": encode(SECRET.encode())}
    yield Case("a shared secret is published", forge_hmac(SECRET.encode(), kid="shared"), 37, (shared,))
    allowed = ("RS256", "HS256")
    token = forge_hmac(SECRET.encode(), kid="shared")
    yield Case("HS256 entered by mistake", token, 37, (shared,), allowed)
    unsigned = f"{encode({'alg': 'none'})}.{encode(make_claims())}.AAAA"
    yield Case("none entered by mistake", unsigned, 37, (), ("RS256", "none"))
    yield Case("nothing allowed at all", make_token(), 37, (), ())
    mallory, weak = make_rsa("mallory"), _make_weak()
    public = mallory.as_dict(private=False)
    unfit: dict[str, dict[str, Any]] = {
        "for encryption": {"use": "enc"},
        "for something else": {"use": "SIG"},
        "for wrapping": {"use": None, "key_ops": ["wrapKey"]},
        "for signing only": {"use": None, "key_ops": ["sign"]},
        "with odd operations": {"use": None, "key_ops": "verify"},
        "for another algorithm": {"alg": "RS512"},
        "for RSA-OAEP": {"alg": "RSA-OAEP"},
        "with an odd algorithm": {"alg": ["RS256"]},
        "with an odd id": {"kid": 7},
    }
    for name, changed in unfit.items():
        jwk = {member: value for member, value in (public | changed).items() if value is not None}
        yield Case(f"a key {name}", make_token(key=mallory), 37, (jwk,))
    yield Case("a private key is published", make_token(key=mallory), 37, (mallory.as_dict(private=True),))
    yield Case("a weak key", weak[0], 37, (weak[1],))
    ec = make_ec("curve")
    yield Case("an algorithm that is not allowed", make_token(key=ec), 37, (ec.as_dict(private=False),))
    yield Case("RSA by the name of ES256", make_token(alg="RS256", kid="curve"), 37, (ec.as_dict(private=False),))
    yield Case("two keys, no id", make_token(kid=None), 37, (public,))
    yield Case("two keys of one id", make_token(), 37, ({**public, "kid": "first"},))
    for name, keys in {
        "empty": (),
        "of texts": ("first",),
        "without numbers": ({"kty": "RSA", "kid": "first"},),
    }.items():
        yield Case(f"a key set {name}", make_token(), 37, keys=keys)  # type: ignore[arg-type]  # hostile on purpose


@cache
def _make_weak() -> tuple[str, dict[str, Any]]:
    """A token signed with RSA of 1024 bits, which no library of ours would make, and its key."""
    from cryptography.hazmat.primitives import hashes  # used by this case only
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
    numbers = key.public_key().public_numbers()
    n = encode(numbers.n.to_bytes(128, "big"))
    signed = f"{encode({'alg': 'RS256', 'kid': 'weak'})}.{encode(make_claims())}"
    token = f"{signed}.{encode(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"
    return token, {"kty": "RSA", "kid": "weak", "n": n, "e": "AQAB"}


_CLAIMS: Final[Mapping[int, Mapping[str, Mapping[str, Any]]]] = {
    34: {
        "no nonce": {"nonce": None},
        "another nonce": {"nonce": "nonce-of-another-flow"},
        "empty nonce": {"nonce": ""},
        "nonce in a list": {"nonce": [NONCE]},
        "nonce in capitals": {"nonce": NONCE.upper()},
        "nonce with a blank": {"nonce": f"{NONCE} "},
        "nonce cut": {"nonce": NONCE[:-1]},
        "nonce a number": {"nonce": 0},
    },
    38: {
        "no issuer": {"iss": None},
        "a trailing slash": {"iss": f"{ISSUER}/"},
        "http": {"iss": ISSUER.replace("https", "http")},
        "capitals": {"iss": ISSUER.upper()},
        "a path": {"iss": f"{ISSUER}/tenant"},
        "a port": {"iss": f"{ISSUER}:443"},
        "Clever": {"iss": "https://clever.com"},
        "issuers in a list": {"iss": [ISSUER]},
        "empty issuer": {"iss": ""},
        "a longer host": {"iss": f"{ISSUER}.evil.example"},
    },
    39: {
        "no audience": {"aud": None},
        "another client": {"aud": "other"},
        "another client, we as authorized party": {"aud": "other", "azp": CLIENT},
        "other in a list, we as authorized party": {"aud": ["other"], "azp": CLIENT},
        "two audiences": {"aud": [CLIENT, "other"]},
        "two audiences, we second": {"aud": ["other", CLIENT]},
        "two audiences, authorized party other": {"aud": [CLIENT, "other"], "azp": "other"},
        "two audiences, authorized party we": {"aud": [CLIENT, "other"], "azp": CLIENT},
        "we twice": {"aud": [CLIENT, CLIENT]},
        "authorized party other": {"azp": "other"},
        "authorized party empty": {"azp": ""},
        "authorized party in a list": {"azp": [CLIENT]},
        "empty audience": {"aud": ""},
        "no audience in the list": {"aud": []},
        "audience in capitals": {"aud": CLIENT.upper()},
        "audience longer": {"aud": f"{CLIENT}-test"},
        "audience an object": {"aud": {CLIENT: True}},
        "audience a list in a list": {"aud": [[CLIENT]]},
    },
    40: {
        "no expiry": {"exp": None},
        "expired": {"exp": AT - 121},
        "expired long ago": {"exp": 1},
        "expiry a text": {"exp": str(AT + 3600)},
        "expiry zero": {"exp": 0},
        "expiry true": {"exp": True},
        "expiry negative": {"exp": -1},
        "expiry without end": {"exp": 10**300},
        "expiry in milliseconds": {"exp": (AT + 3600) * 1000},
        "expiry an object": {"exp": {}},
        "no time of issue": {"iat": None},
        "issued in the future": {"iat": AT + 121, "exp": AT + 7200},
        "issued far in the future": {"iat": AT + 10**6, "exp": AT + 10**7},
        "issued long ago": {"iat": AT - 721},
        "issued in another century": {"iat": 1},
        "issue a text": {"iat": str(AT)},
        "issue false": {"iat": False},
        "expired before it was issued": {"iat": AT + 60, "exp": AT},
        "not valid yet": {"nbf": AT + 121},
        "validity a text": {"nbf": "soon"},
        "validity null-like": {"nbf": []},
    },
    41: {
        "no subject": {"sub": None},
        "empty subject": {"sub": ""},
        "blank subject": {"sub": "   "},
        "subject a number": {"sub": 7},
        "subject in a list": {"sub": ["u-1"]},
        "subject an object": {"sub": {"id": "u-1"}},
        "subject true": {"sub": True},
        "subject very long": {"sub": "u" * 256},
        "subject with a zero byte": {"sub": "u-1\x00"},
        "subject of zero-width letters": {"sub": "\u200b\u200b"},
        "subject with a zero-width letter": {"sub": "u-1\u200b"},
        "subject with a line end": {"sub": "u-1\n"},
        "subject turned around": {"sub": "\u202eu-1"},
    },
    42: {
        "another access token's hash": {"at_hash": hash_half("another")},
        "hash empty": {"at_hash": ""},
        "hash whole": {"at_hash": encode(hmac.digest(b"", ACCESS.encode(), "sha256"))},
        "hash padded": {"at_hash": hash_half(ACCESS) + "=="},
        "hash in a list": {"at_hash": [hash_half(ACCESS)]},
        "hash a number": {"at_hash": 0},
        "the token for its hash": {"at_hash": ACCESS},
        "another code's hash": {"c_hash": hash_half("another")},
    },
    44: {
        "events of a logout token": {
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            "sid": "s",
        },
        "events of a logout token, empty": {"events": {}},
        "a bearer token of Keycloak": {"typ": "Bearer"},
        "a logout token of Keycloak": {"typ": "Logout"},
        "an access token of Cognito": {"token_use": "access"},
    },
}


@cache
def list_forgeries() -> tuple[Case, ...]:
    """Every forgery."""
    made = [*_forge_signatures(), *_forge_key_sets()]
    for number, changes in _CLAIMS.items():
        made += [Case(name, make_token(make_claims(**changed)), number) for name, changed in changes.items()]
    for kind in ("logout+jwt", "at+jwt", "application/at+jwt", "secevent+jwt", "JWE", ""):
        made.append(Case(f"type {kind}", make_token(typ=kind), 44))
    odd = _sign_raw({"alg": "RS256", "kid": "first", "typ": 7}, msgspec.json.encode(make_claims()))
    made.append(Case("type 7", odd, 36))
    made.append(Case("another token inside", make_token(cty="JWT"), 44))
    recently, long_ago = make_claims(auth_time=AT - 121), make_claims(auth_time=str(AT))
    for name, claims in {"not signed in anew": recently, "time of sign-in a text": long_ago, "no time": None}.items():
        made.append(Case(name, make_token(claims), 40, signed_in_after=NOW))
    return tuple(made)


@cache
def list_genuine() -> tuple[Case, ...]:
    """Genuine tokens, however unusual."""
    claims: Mapping[str, Mapping[str, Any]] = {
        "as usual": {},
        "audience in a list": {"aud": [CLIENT]},
        "we as authorized party": {"azp": CLIENT},
        "access token's hash": {"at_hash": hash_half(ACCESS)},
        "code's hash": {"c_hash": hash_half(CODE)},
        "many other claims": {f"claim-{number}": {"deep": [number]} for number in range(200)},
        "a clock ahead": {"iat": AT + 119},
        "a clock behind": {"iat": AT - 700, "exp": AT - 100},
        "valid for a day": {"exp": AT + 86_400},
        "times with fractions": {"iat": AT + 0.25, "exp": AT + 3600.5},
        "not before": {"nbf": AT},
        "digits as a subject": {"sub": "0077"},
        "a long subject": {"sub": "u" * 255},
        "a subject with umlauts": {"sub": "Jürgen Ünal"},
        "a subject with a blank": {"sub": "u 1"},
        "Keycloak's own type": {"typ": "ID", "sid": "s-1", "acr": "1"},
        "a time of sign-in": {"auth_time": AT - 7200},
    }
    made = [Case(name, make_token(make_claims(**changed))) for name, changed in claims.items()]
    first, ec = make_rsa("first").as_dict(private=False), make_ec("curve")
    other = make_rsa("mallory").as_dict(private=False)
    plain = {name: value for name, value in first.items() if name not in {"use", "kid"}}
    made += [
        Case("no type", make_token(typ=None)),
        Case("type in small letters", make_token(typ="jwt")),
        Case("an unknown header", make_token(x5t="abc", origin="portal")),
        Case("one key and no id", make_token(kid=None), keys=(plain,)),
        Case("among other keys", make_token(), more_keys=(other, ec.as_dict(private=False))),
        Case("a key for one algorithm", make_token(), keys=({**first, "alg": "RS256"},)),
        Case("a key with a certificate", make_token(), keys=({**first, "x5c": ["MIIB"], "x5t": "abc"},)),
        Case("a key for verification", make_token(), keys=({**first, "key_ops": ["verify"]},)),
        Case("beside unusable keys", make_token(), more_keys=({"kty": "OKP"}, {"kty": "oct", "k": "AAAA"})),
        Case("no id, a key of another kind beside", make_token(kid=None), more_keys=(ec.as_dict(private=False),)),
        Case("ES256", make_token(key=ec), 0, (ec.as_dict(private=False),), ("RS256", "ES256")),
        Case("PS256", make_token(alg="PS256"), 0, (), ("PS256",)),
        Case("RS512", make_token(make_claims(), alg="RS512"), 0, (), ("RS512",)),
        Case("signed in anew", make_token(make_claims(auth_time=AT)), signed_in_after=NOW),
    ]
    return tuple(made)
