"""What a standard client looks up before anything else (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

from typing import Any

from sso.clients import KNOWN_SCOPES
from sso.keys import ALGORITHM
from sso.provider.claims import SCOPE_CLAIMS, SCOPES
from sso.provider.requests import PROMPTS, RESPONSE_MODES
from sso.tokens import GRANTS

PROTOCOL_CLAIMS = frozenset({"iss", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid"})
CLIENT_METHODS = ("client_secret_basic", "client_secret_post", "none")


def describe(issuer: str) -> dict[str, Any]:
    """The metadata of this installation; each line is what the endpoints do."""
    claims = PROTOCOL_CLAIMS.union(*SCOPE_CLAIMS.values())
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth2/authorize",
        "token_endpoint": f"{issuer}/oauth2/token",
        "userinfo_endpoint": f"{issuer}/oauth2/userinfo",
        "jwks_uri": f"{issuer}/oauth2/jwks",
        "end_session_endpoint": f"{issuer}/oauth2/logout",
        "revocation_endpoint": f"{issuer}/oauth2/revoke",
        "introspection_endpoint": f"{issuer}/oauth2/introspect",
        "scopes_supported": sorted(KNOWN_SCOPES | SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": list(RESPONSE_MODES),
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "token_endpoint_auth_methods_supported": list(CLIENT_METHODS),
        "revocation_endpoint_auth_methods_supported": list(CLIENT_METHODS),
        "introspection_endpoint_auth_methods_supported": list(CLIENT_METHODS),
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": list(PROMPTS),
        "claim_types_supported": ["normal"],
        "claims_supported": sorted(claims),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
    }
