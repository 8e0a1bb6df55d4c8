"""Reads the discovery document, which must name the directory's own hosts and issuer (OIDC Discovery §4.3)."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from azure_auth.errors import SignInFailed
from azure_auth.settings import Settings
from azure_auth.settings.clouds import origins
from azure_auth.settings.parsing import GUID, MANY_TENANTS

_LONGEST_SHOWN = 160


class Endpoints(NamedTuple):
    """The issuer and the addresses that the app uses. With `organizations` and `common`, `issuer` has `{tenantid}`."""

    issuer: str
    authorization: str
    token: str
    keys: str
    end_session: str


def read_discovery(document: Mapping[str, Any], settings: Settings) -> Endpoints:
    """Return what the discovery document of the configured directory names.

    Raises:
        SignInFailed: When the document names another issuer, or an endpoint on another host than the directory's. The
            detail has the expected and the found value.
    """
    issuer = str(document.get("issuer", ""))
    tenant = settings.tenant_id
    if tenant in MANY_TENANTS:
        tenant = "{tenantid}"
    elif not GUID.fullmatch(tenant):  # a domain: the issuer has its GUID
        found = GUID.search(issuer)
        tenant = found[0] if found else "{GUID of the tenant}"
    own = origins(settings.authority_host, tenant)
    if issuer != (expected := f"{own[0]}/{tenant}/v2.0"):
        raise SignInFailed(f"discovery names the issuer {_shown(issuer)}, not {expected}")

    def endpoint(name: str, *pages: str) -> str:
        address = str(document.get(name, ""))
        if not any(address.startswith(f"{origin}/") for origin in (*own, *pages)):
            raise SignInFailed(f"discovery names the {name} {_shown(address)}, which is not on {' or '.join(own)}")
        return address

    # The demo directory has its pages on plain http, at the app's own address.
    pages = [f"{settings.backend_url}/demo"] if settings.demo else []
    return Endpoints(
        issuer,
        authorization=endpoint("authorization_endpoint", *pages),
        token=endpoint("token_endpoint"),
        keys=endpoint("jwks_uri"),
        end_session=endpoint("end_session_endpoint", *pages),
    )


def _shown(found: str) -> str:
    return re.sub(r"[^!-~]", "?", found[:_LONGEST_SHOWN]) or "(none)"
