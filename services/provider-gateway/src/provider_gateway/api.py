"""What can be asked of the gateway over HTTP: which kinds of providers there are, and what each needs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from homeroom.auth import require
from homeroom.codes import Code
from homeroom.problems import Problem
from provider_gateway.providers import PROVIDERS
from provider_gateway.providers.contract import Provider

router = APIRouter(tags=["providers"], dependencies=[Depends(require("integrations.read"))])


class ProviderKind(BaseModel):
    """A kind of provider."""

    kind: str
    title: str
    connection_schema: dict[str, Any] = Field(
        description="JSON schema of an integration's `connection`; fields with writeOnly are secrets"
    )
    capabilities: dict[str, Any]


class ProviderKinds(BaseModel):
    """All kinds of providers."""

    providers: list[ProviderKind]


@router.get("/v1/providers")
async def list_providers() -> ProviderKinds:
    """Every kind of provider, with what a connection to it needs and what it can do."""
    return ProviderKinds(providers=[_describe(provider) for provider in PROVIDERS.values()])


@router.get("/v1/providers/{kind}")
async def read_provider(kind: str) -> ProviderKind:
    """One kind of provider."""
    provider = PROVIDERS.get(kind)
    if provider is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such kind of provider.")
    return _describe(provider)


def _describe(provider: Provider) -> ProviderKind:
    return ProviderKind(
        kind=provider.kind,
        title=provider.title,
        connection_schema=provider.connection_model.model_json_schema(),
        capabilities=dict(provider.capabilities),
    )
