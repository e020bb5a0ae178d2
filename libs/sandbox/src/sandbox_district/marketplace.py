"""Where the faces besides OneRoster's are, and the credentials for them."""

from typing import Any

from sandbox_district import classlink, clever, google_classroom
from sandbox_district.classlink import ClassLinkFace
from sandbox_district.clever import CleverFace
from sandbox_district.google_access import SCOPES
from sandbox_district.google_classroom import GoogleFace


class Marketplace:
    """The addresses and credentials of Clever, ClassLink's proxy and Google Classroom."""

    url: str
    clever: CleverFace
    classlink: ClassLinkFace
    google: GoogleFace

    @property
    def clever_url(self) -> str:
        """Clever's API; v3.1 is beside it."""
        return f"{self.url}{clever.MOUNT}/v3.0"

    @property
    def clever_token_url(self) -> str:
        """Clever's list of district tokens."""
        return self.url + clever.TOKEN_PATH

    @property
    def clever_district_id(self) -> str:
        """The district's id at Clever."""
        return self.clever.district_id

    @property
    def clever_token(self) -> str:
        """The district token that is good now."""
        return self.clever.token

    @property
    def clever_client_id(self) -> str:
        """The application's id at Clever."""
        return self.clever.client_id

    @property
    def clever_client_secret(self) -> str:
        """The application's secret at Clever."""
        return self.clever.client_secret

    @property
    def classlink_proxy_url(self) -> str:
        """ClassLink's proxy."""
        return self.url + classlink.MOUNT

    @property
    def partner_key(self) -> str:
        """The partner's key at ClassLink's proxy."""
        return self.classlink.partner_key

    @property
    def classlink_application_id(self) -> str:
        """The district's application at ClassLink's proxy, percent-escaped as it belongs in paths."""
        return self.classlink.application_id

    @property
    def google_url(self) -> str:
        """Google Classroom's API, without its version."""
        return self.url + google_classroom.MOUNT

    @property
    def google_token_url(self) -> str:
        """Google's token endpoint."""
        return self.url + google_classroom.TOKEN_PATH

    @property
    def google_key(self) -> str:
        """The service account's key, a JSON text."""
        return self.google.access.write_key(self.google_token_url)

    @property
    def google_domain(self) -> str:
        """The district's Workspace domain."""
        return self.google.access.domain

    @property
    def google_admin(self) -> str:
        """The administrator to act for."""
        return self.google.access.admin


def describe_faces(faces: Marketplace, origin: str) -> dict[str, dict[str, Any]]:
    """What a client has to know of each face, for the description of the sandbox, at the address it is asked at."""
    return {
        "clever": {
            "base_url": [f"{origin}{clever.MOUNT}/{version}" for version in clever.VERSIONS],
            "token_url": origin + clever.TOKEN_PATH,
            "district_id": faces.clever_district_id,
            "district_token": faces.clever_token,
            "client_id": faces.clever_client_id,
            "client_secret": faces.clever_client_secret,
        },
        "classlink": {
            "proxy_url": origin + classlink.MOUNT,
            "partner_key": faces.partner_key,
            "application_id": faces.classlink_application_id,
        },
        "google_classroom": {
            "base_url": origin + google_classroom.MOUNT,
            "token_url": origin + google_classroom.TOKEN_PATH,
            "service_account_key": faces.google.access.write_key(origin + google_classroom.TOKEN_PATH),
            "domain": faces.google_domain,
            "admin_email": faces.google_admin,
            "scopes": sorted(SCOPES),
        },
    }
