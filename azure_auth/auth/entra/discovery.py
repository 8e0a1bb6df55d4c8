"""Reads the discovery document, which must name the authority's own host and issuer (OpenID Connect Discovery §4.3)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from azure_auth.errors import SignInFailed
from azure_auth.settings.parsing import GUID, MANY_TENANTS


class Endpoints(NamedTuple):
    """The issuer, which contains `{tenantid}` for `organizations` and `common`, and the addresses that the app uses."""

    issuer: str
    keys: str
    end_session: str


def read_discovery(document: Mapping[str, Any], host: str, tenant: str) -> Endpoints:
    """Return what the discovery document of a tenant (a GUID, a domain, `organizations` or `common`) names.

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
