"""pysaml2 as an identity provider, in a process of its own: commands as lines of JSON in, answers as lines out.

It reads our metadata and our requests, and writes its own metadata, responses and logout messages. Run it with a
folder that holds `key.pem`, `certificate.pem` and `sp.xml`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT, entity, sigver
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server
from saml2.sigver import get_xmlsec_binary

ENTITY = "https://idp.test/metadata"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"


def open_server(folder: Path) -> Server:
    """An identity provider that knows us by our metadata."""
    config = IdPConfig().load(
        {
            "entityid": ENTITY,
            "xmlsec_binary": get_xmlsec_binary(),
            "key_file": str(folder / "key.pem"),
            "cert_file": str(folder / "certificate.pem"),
            "metadata": {"local": [str(folder / "sp.xml")]},
            "service": {
                "idp": {
                    "endpoints": {
                        "single_sign_on_service": [("https://idp.test/sso", BINDING_HTTP_REDIRECT)],
                        "single_logout_service": [("https://idp.test/slo", BINDING_HTTP_REDIRECT)],
                    },
                    "policy": {
                        "default": {
                            "lifetime": {"minutes": 5},
                            "name_form": "urn:oasis:names:tc:SAML:2.0:attrname-format:basic",
                        }
                    },
                }
            },
        }
    )
    return Server(config=config)


def prefer_gcm() -> None:
    """Have it encrypt as we want it: it would take triple DES by itself, which it can't be told otherwise."""
    prepare, encrypt = sigver.pre_encryption_part, sigver.SecurityContext.encrypt_assertion

    def prepare_gcm(**said: Any) -> Any:
        return prepare(**(said | {"msg_enc": GCM}))

    def encrypt_gcm(
        self: Any, statement: Any, enc_key: Any, template: Any, key_type: str = "aes-256", **more: Any
    ) -> Any:
        _ = key_type
        return encrypt(self, statement, enc_key, template, key_type="aes-256", **more)

    sigver.pre_encryption_part = entity.pre_encryption_part = prepare_gcm
    sigver.SecurityContext.encrypt_assertion = encrypt_gcm


def get_parameter(url: str, name: str) -> str | None:
    """A parameter of a URL."""
    found = parse_qs(urlsplit(url).query).get(name)
    return None if found is None else found[0]


class Counterpart:
    """The commands."""

    def __init__(self, folder: Path) -> None:
        self.server = open_server(folder)
        self.sp = next(iter(self.server.metadata.keys()))

    def describe(self) -> dict[str, str]:
        """Its metadata."""
        return {"metadata": str(entity_descriptor(self.server.config))}

    def answer(self, url: str | None, name_id: str, *, sign: list[str], encrypt: bool) -> dict[str, str]:
        """A response to a request of ours; to none if there is no URL."""
        in_response_to = None
        if url is not None:
            asked = self.server.parse_authn_request(get_parameter(url, "SAMLRequest"), BINDING_HTTP_REDIRECT)
            in_response_to = asked.message.id
        binding, destination = self.server.pick_binding(
            "assertion_consumer_service", [BINDING_HTTP_POST], entity_id=self.sp
        )
        response = self.server.create_authn_response(
            {"givenName": ["Ada"], "displayName": ["Ada Berg"]},
            in_response_to,
            destination,
            self.sp,
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=name_id),
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"},
            sign_assertion="assertion" in sign,
            sign_response="response" in sign,
            encrypt_assertion=encrypt,
            sign_alg=RSA_SHA256,
            digest_alg=SHA256,
        )
        form = self.server.apply_binding(binding, str(response), destination, response=True)
        value = "".join(form["data"]).partition('name="SAMLResponse" value="')[2].partition('"')[0]
        return {"destination": destination, "SAMLResponse": value}

    def log_out(self, name_id: str, sessions: list[str]) -> dict[str, str]:
        """A signed LogoutRequest, as a URL."""
        binding, destination = self.server.pick_binding(
            "single_logout_service", [BINDING_HTTP_REDIRECT], "spsso", entity_id=self.sp
        )
        _, request = self.server.create_logout_request(
            destination,
            self.sp,
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=name_id),
            session_indexes=sessions,
            sign=False,
        )
        bound = self.server.apply_binding(binding, str(request), destination, "state", sign=True, sigalg=RSA_SHA256)
        return {"url": dict(bound["headers"])["Location"]}

    def read_logout_answer(self, url: str) -> dict[str, str]:
        """What our LogoutResponse says, its signature checked."""
        found = self.server.parse_logout_request_response(get_parameter(url, "SAMLResponse"), BINDING_HTTP_REDIRECT)
        return {"status": found.response.status.status_code.value, "issuer": found.response.issuer.text}

    def obey(self, url: str) -> dict[str, str]:
        """Our LogoutRequest, its signature checked over the query, answered."""
        asked = self.server.parse_logout_request(
            get_parameter(url, "SAMLRequest"),
            BINDING_HTTP_REDIRECT,
            relay_state=get_parameter(url, "RelayState"),
            sigalg=get_parameter(url, "SigAlg"),
            signature=get_parameter(url, "Signature"),
        )
        response = self.server.create_logout_response(asked.message, [BINDING_HTTP_REDIRECT])
        destination = self.server.pick_binding(
            "single_logout_service", [BINDING_HTTP_REDIRECT], "spsso", entity_id=self.sp
        )[1]
        bound = self.server.apply_binding(
            BINDING_HTTP_REDIRECT, str(response), destination, response=True, sign=True, sigalg=RSA_SHA256
        )
        return {"url": dict(bound["headers"])["Location"], "name_id": asked.message.name_id.text}


def main() -> None:
    """Answer commands until there are no more."""
    prefer_gcm()
    counterpart = Counterpart(Path(sys.argv[1]))
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(counterpart, command.pop("do"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
