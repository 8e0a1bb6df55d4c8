"""Each cloud of Microsoft, by the values that its discovery documents have.

Sources: Microsoft's "National clouds: Microsoft Entra authentication endpoints"; the tables of endpoints and aliases
that MSAL for JavaScript, Java, Go and Python have built in (`AuthorityMetadata.ts`, `authority.py`); azure-identity's
`AzureAuthorityHosts`; MSAL.js issues 8592 and 8595 and Microsoft's "External ID: custom URL domains" for the issuer of
External ID.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import httpx
import pytest
import respx
from conftest import Clock
from forge import CLIENT, OTHER_TENANT, TENANT, id_token, jwk

from azure_auth.auth.entra.client import Client
from azure_auth.auth.entra.discovery import read_discovery
from azure_auth.auth.identity import Identity
from azure_auth.errors import AuthError, NotConfigured, SignInFailed
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
CALLBACK = "http://localhost:3000/callback"
CLOUDS = [
    # the host that is configured, the host of the issuer, the host of the endpoints
    ("login.microsoftonline.com", "login.microsoftonline.com", "login.microsoftonline.com"),
    ("login.windows.net", "login.microsoftonline.com", "login.windows.net"),
    ("login.microsoft.com", "login.microsoftonline.com", "login.microsoft.com"),
    ("sts.windows.net", "login.microsoftonline.com", "login.microsoftonline.com"),
    ("login.microsoftonline.us", "login.microsoftonline.us", "login.microsoftonline.us"),
    ("login.usgovcloudapi.net", "login.microsoftonline.us", "login.microsoftonline.us"),
    ("login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn"),
    ("login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn", "login.chinacloudapi.cn"),
    ("login.chinacloudapi.cn", "login.partner.microsoftonline.cn", "login.chinacloudapi.cn"),
    ("login.chinacloudapi.cn", "login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn"),
    ("login.sovcloud-identity.fr", "login.sovcloud-identity.fr", "login.sovcloud-identity.fr"),
    ("login.sovcloud-identity.de", "login.sovcloud-identity.de", "login.sovcloud-identity.de"),
    ("login.sovcloud-identity.sg", "login.sovcloud-identity.sg", "login.sovcloud-identity.sg"),
    ("contoso.ciamlogin.com", f"{TENANT}.ciamlogin.com", "contoso.ciamlogin.com"),
    ("contoso.ciamlogin.com", f"{TENANT}.ciamlogin.com", f"{TENANT}.ciamlogin.com"),
    (f"{TENANT}.ciamlogin.com", f"{TENANT}.ciamlogin.com", f"{TENANT}.ciamlogin.com"),
]
ENDPOINTS = {
    "authorization_endpoint": "oauth2/v2.0/authorize",
    "token_endpoint": "oauth2/v2.0/token",
    "end_session_endpoint": "oauth2/v2.0/logout",
    "jwks_uri": "discovery/v2.0/keys",
}


def document(host: str, endpoints: str, **changed: str) -> dict[str, str]:
    named = {name: f"https://{endpoints}/{TENANT}/{path}" for name, path in ENDPOINTS.items()}
    return {"issuer": f"https://{host}/{TENANT}/v2.0", **named, **changed}


@pytest.fixture
def entra() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


def settings(host: str, tenant: str = TENANT, **more: str) -> Settings:
    app = {"AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "hush-hush"}
    return Settings.load({"AZURE_AUTHORITY_HOST": f"https://{host}/", "AZURE_TENANT_ID": tenant, **app, **more})


@contextmanager
def directory(entra: respx.MockRouter, host: str, found: dict[str, str], tenant: str = TENANT) -> Iterator[Client]:
    """A client of a directory whose discovery document is `found`."""
    entra.get(f"https://{host}/{tenant}/v2.0/.well-known/openid-configuration").respond(json=found)
    entra.get(found["jwks_uri"]).respond(json={"keys": [jwk(issuer=found["issuer"])]})
    client = Client(settings(host, tenant))
    yield client
    client.close()


async def sign_in(client: Client, entra: respx.MockRouter, found: dict[str, str], iss: str) -> Identity:
    """Sign in with a token that says `iss`."""
    flow = await client.begin(CALLBACK, None)
    assert flow["auth_uri"].startswith(f"{found['authorization_endpoint']}?")
    signed = id_token(iss=iss, nonce=flow["nonce"])
    answer = {"token_type": "Bearer", "access_token": "at", "expires_in": 3600, "id_token": signed}
    entra.post(found["token_endpoint"]).respond(json=answer)
    return await client.redeem(flow, {"code": "the-code", "state": flow["state"]})


@pytest.mark.parametrize(("host", "issuer", "endpoints"), CLOUDS)
async def test_people_of_every_cloud_sign_in(entra, host, issuer, endpoints):
    """The configured host may be a documented alias, and the issuer may be on another host."""
    found = document(issuer, endpoints)
    with directory(entra, host, found) as client:
        who = await sign_in(client, entra, found, found["issuer"])
        assert who.tenant_id == TENANT
        assert (await client.sign_out_url(who, "https://app.example/")).startswith(found["end_session_endpoint"])


@pytest.mark.parametrize("host", ["contoso.ciamlogin.com", "login.chinacloudapi.cn"])
async def test_a_domain_learns_its_tenant_from_the_issuer(entra, host):
    """AZURE_TENANT_ID may be a domain in these clouds too."""
    issuer = next(issuer for one, issuer, _ in CLOUDS if one == host)
    found = document(issuer, host)
    with directory(entra, host, found, "contoso.onmicrosoft.com") as client:
        assert (await sign_in(client, entra, found, found["issuer"])).tenant_id == TENANT


def strangers(host: str, issuer: str) -> Iterator[str]:
    """Issuers that are not the host's."""
    yield from (f"https://evil.example/{TENANT}/v2.0", f"https://{issuer}.evil.example/{TENANT}/v2.0")
    yield from (f"https://evil{issuer}/{TENANT}/v2.0", f"https://{issuer}/{OTHER_TENANT}/v2.0")
    yield from (f"http://{issuer}/{TENANT}/v2.0", f"https://{issuer}/{TENANT}", f"https://{issuer}/{TENANT}/v2.0/")
    yield from (f"https://{issuer}:8443/{TENANT}/v2.0", f"https://a@{issuer}/{TENANT}/v2.0", f"https://{issuer}/v2.0")
    yield f"https://{OTHER_TENANT}.ciamlogin.com/{TENANT}/v2.0"
    yield f"https://{OTHER_TENANT}.ciamlogin.com/{OTHER_TENANT}/v2.0"
    others = {other for _, other, _ in CLOUDS} | {host}
    yield from (f"https://{other}/{TENANT}/v2.0" for other in others if other != issuer)


@pytest.mark.parametrize(("host", "issuer", "endpoints"), CLOUDS)
def test_a_strangers_issuer_is_refused(host, issuer, endpoints):
    """Issuers of other clouds and tenants, and look-alikes, are refused. The log has the expected and the found one."""
    for stranger in strangers(host, issuer):
        with pytest.raises(SignInFailed) as caught:
            read_discovery(document(issuer, endpoints, issuer=stranger), settings(host))
        assert f"https://{issuer}/{TENANT}/v2.0" in caught.value.detail
        assert stranger in caught.value.detail


@pytest.mark.parametrize(("host", "issuer", "endpoints"), CLOUDS)
async def test_a_token_of_another_issuer_is_refused(entra, host, issuer, endpoints):
    """A token must have exactly the issuer of its directory."""
    found = document(issuer, endpoints)
    with directory(entra, host, found) as client:
        for stranger in strangers(host, issuer):
            with pytest.raises(AuthError):
                await sign_in(client, entra, found, stranger)


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(("host", "issuer", "endpoints"), CLOUDS)
def test_an_endpoint_elsewhere_is_refused(host, issuer, endpoints, name):
    """No login hint, code or secret goes to another host, port or scheme. The log has the endpoint and its address."""
    path, configured = f"/{TENANT}/{ENDPOINTS[name]}", settings(host)
    of_others = {other for _, other, _ in CLOUDS if other.split(".")[-2:] != issuer.split(".")[-2:]}
    places = ["evil.example", f"{host}.evil.example", f"{host}:8443", f"{host}@evil.example", f"a@{host}", *of_others]
    for address in [
        *(f"https://{place}{path}" for place in places),
        *(f"http://{host}{path}", f"//{host}{path}", path, f"javascript://{host}{path}", f"https://{host}"),
    ]:
        with pytest.raises(SignInFailed) as caught:
            read_discovery(document(issuer, endpoints, **{name: address}), configured)
        assert name in caught.value.detail
        assert address in caught.value.detail
    for missing in (None, "", 7, []):
        with pytest.raises(SignInFailed):
            read_discovery({**document(issuer, endpoints), name: missing}, configured)


def test_what_was_found_is_cut_and_cleaned_for_the_log():
    """A foreign document cannot add lines to the log, or long ones."""
    host = CLOUDS[0][0]
    with pytest.raises(SignInFailed) as caught:
        read_discovery(document(host, host, issuer="https://x\r\n\x1b[31mforged " + "y" * 10_000), settings(host))
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 400


async def test_msal_uses_the_endpoints_that_were_checked(entra):
    """If the document changes between the app's request and MSAL's, no sign-in starts. The next one works."""
    host = CLOUDS[0][0]
    good = document(host, host)
    bad = good | {"authorization_endpoint": f"https://evil.example/{TENANT}/oauth2/v2.0/authorize"}
    documents = entra.get(f"https://{host}/{TENANT}/v2.0/.well-known/openid-configuration")
    documents.side_effect = [httpx.Response(200, json=one) for one in (good, bad, good, good)]
    client = Client(settings(host))
    with pytest.raises(SignInFailed):
        await client.begin(CALLBACK, None)
    assert (await client.begin(CALLBACK, None))["auth_uri"].startswith(good["authorization_endpoint"])
    client.close()


@pytest.mark.parametrize("turned", [86_400 + 1, -3600], ids=["a day later", "a clock that was set back"])
async def test_msal_sends_the_secret_to_no_endpoint_that_was_not_checked(entra, monkeypatch, turned):
    """MSAL fetches the document again when its cache is a day old or younger than now; nothing goes to a stranger."""
    host, clock, began = CLOUDS[0][0], Clock(), time.time()
    good, stranger = document(host, host), f"https://evil.example/{TENANT}/oauth2/v2.0/token"
    documents = entra.get(f"https://{host}/{TENANT}/v2.0/.well-known/openid-configuration").respond(json=good)
    entra.get(good["jwks_uri"]).respond(json={"keys": [jwk(issuer=good["issuer"])]})
    evil = entra.post(stranger).respond(json={})
    client = Client(settings(host), clock=clock)
    assert await sign_in(client, entra, good, good["issuer"])
    monkeypatch.setattr("msal.individual_cache.time", SimpleNamespace(time=lambda: began + turned))
    clock.now += max(turned, 0)
    documents.respond(json=good | {"token_endpoint": stranger})
    with suppress(SignInFailed):  # the old document may also be used
        await sign_in(client, entra, good, good["issuer"])
    assert not evil.called
    documents.respond(json=good)
    clock.now += 61
    assert await sign_in(client, entra, good, good["issuer"])
    client.close()


@pytest.mark.parametrize(
    ("host", "tenant", "says"),
    [
        ("login.microsoftonline.de", TENANT, "AZURE_AUTHORITY_HOST is the German cloud that closed in 2021"),
        ("contoso.b2clogin.com", TENANT, "AZURE_AUTHORITY_HOST is a host of Azure AD B2C"),
        ("contoso.b2clogin.cn", TENANT, "AZURE_AUTHORITY_HOST is a host of Azure AD B2C"),
        ("contoso.ciamlogin.com", "organizations", "AZURE_TENANT_ID"),
        ("contoso.ciamlogin.com", "common", "AZURE_TENANT_ID"),
        ("ciamlogin.com", TENANT, "AZURE_AUTHORITY_HOST"),
    ],
)
def test_a_directory_that_cannot_work_stops_the_start(host, tenant, says):
    """One sentence names the setting and what to write."""
    with pytest.raises(NotConfigured) as caught:
        settings(host, tenant, AZURE_ALLOWED_TENANTS=TENANT)
    (fault,) = caught.value.faults
    assert says in fault
