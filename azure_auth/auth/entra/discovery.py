"""Reads the discovery document, which must name the authority's own host and issuer (OpenID Connect Discovery §4.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure_auth.errors import SignInFailed
from azure_auth.settings.parsing import GUID, MANY_TENANTS


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the app uses of the discovery document.

    Attributes:
        issuer: The issuer of ID tokens; it contains `{tenantid}` for `organizations` and `common`.
        keys: The address of the signing keys (`jwks_uri`).
        end_session: The address for signing out.
    """

    issuer: str
    keys: str
    end_session: str


def read_discovery(document: Mapping[str, Any], host: str, tenant: str) -> Endpoints:
    """Return the endpoints that a discovery document names.

    Args:
        document: The document.
        host: The authority's origin.
        tenant: The tenant of the settings: a GUID, a domain, `organizations` or `common`.

    Raises:
        SignInFailed: When the document names another issuer, or keys on another host.
    """
    issuer, keys, end_session = (str(document.get(name, "")) for name in ("issuer", "jwks_uri", "end_session_endpoint"))
    named = issuer.removeprefix(f"{host}/").removesuffix("/v2.0")  # the issuer's tenant
    if tenant in MANY_TENANTS:
        matches = named == "{tenantid}"
    else:
        matches = named == tenant or (not GUID.fullmatch(tenant) and GUID.fullmatch(named))  # the GUID of a domain
    if issuer != f"{host}/{named}/v2.0" or not matches:
        raise SignInFailed("discovery names another issuer than the authority's")
    if not keys.startswith(f"{host}/"):
        raise SignInFailed("discovery names keys on another host than the authority's")
    return Endpoints(issuer, keys, end_session)
