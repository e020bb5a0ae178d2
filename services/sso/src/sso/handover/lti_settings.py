"""How a tool that speaks LTI 1.3 is registered here: what its vendor writes down as the platform's side."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from homeroom.service import RequestModel
from sso.handover.addresses import check_address

MOST_DEPLOYMENTS: Final = 5_000

Address = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2_000),
    AfterValidator(check_address),
    Field(json_schema_extra={"format": "uri"}),
]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")]
"""An id of LTI: ASCII, 255 at most (LTI 1.3 §5.3.3)."""


class LtiSettings(RequestModel):
    """A tool, as LTI 1.3 wants it known to the platform (1EdTech Security Framework 1.0 §5.1.1)."""

    login_uri: Address = Field(
        description="the tool's OpenID Connect login initiation URL", examples=["https://tool.example/lti/login"]
    )
    redirect_uris: list[Address] = Field(
        min_length=1,
        max_length=20,
        description="where messages may be posted to; compared exactly",
        examples=[["https://tool.example/lti/launch"]],
    )
    target_link_uri: Address = Field(
        description="what a launch opens that names no destination", examples=["https://tool.example/"]
    )
    client_id: Word = Field(description="what the tool calls itself, the audience of messages", examples=["tool-1"])
    deployments: dict[UUID, Word] = Field(
        default_factory=dict,
        max_length=MOST_DEPLOYMENTS,
        description="deployment ids by organization; of those not named it is the organization's id",
    )

    def find_deployment(self, organization_id: UUID) -> str:
        """The deployment id of an organization."""
        return self.deployments.get(organization_id, str(organization_id))


def read_lti(value: Any) -> LtiSettings:
    """Settings as they were sent or stored. Raises ValueError (pydantic's) for what is none."""
    return LtiSettings.model_validate(value)
