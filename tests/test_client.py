"""The directory's client, against mocked HTTP for what the demo directory cannot do."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import jwt
import msal
import pytest
import respx
from certificates import certificate, pem_of
from conftest import Clock
from cryptography.hazmat.primitives import serialization
from forge import CLIENT, HOST, ISSUER, KEY, OBJECT, OTHER_KEY, TENANT, id_token, jwk
from jar import Jar

from azure_auth.auth.entra.client import LONGEST_WAIT_SECONDS, Client
from azure_auth.auth.entra.http import DirectoryHttp
from azure_auth.errors import (
    AnswerIncomplete,
    AuthError,
    KeysUnreachable,
    Refused,
    SignInFailed,
    Slow,
    Throttled,
    TokenInvalid,
    Unavailable,
)
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
DISCOVERY = f"{HOST}/{TENANT}/v2.0/.well-known/openid-configuration"
TOKEN = f"{HOST}/{TENANT}/oauth2/v2.0/token"
KEYS = f"{HOST}/{TENANT}/discovery/v2.0/keys"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{HOST}/{TENANT}/oauth2/v2.0/authorize",
    "token_endpoint": TOKEN,
    "end_session_endpoint": f"{HOST}/{TENANT}/oauth2/v2.0/logout",
    "jwks_uri": KEYS,
}


@pytest.fixture
def settings() -> Settings:
    return Settings.load({"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "hush-hush"})


@pytest.fixture
def entra() -> Iterator[respx.MockRouter]:
    """Mocked Entra: discovery and keys answer; each test adds its token endpoint."""
    with respx.mock(assert_all_called=False) as router:
        router.get(DISCOVERY, name="discovery").respond(json=DOCUMENT)
        router.get(KEYS, name="keys").respond(json={"keys": [jwk()]})
        yield router


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    client = Client(settings)
    yield client
    client.close()


def tokens(flow: dict, **changed: object) -> dict[str, object]:
    """The token endpoint's answer to a redemption."""
    info = "eyJ1aWQiOiJ1IiwidXRpZCI6InQifQ"
    answer = {"token_type": "Bearer", "access_token": "at", "expires_in": 3600, "client_info": info}
    answer["id_token"] = id_token(nonce=flow["nonce"])
    return {name: value for name, value in {**answer, **changed}.items() if value is not None}


async def redeem(client: Client, flow: dict):
    return await client.redeem(flow, {"code": "the-code", "state": flow["state"]})


async def test_a_redemption_proves_a_person(client, entra):
    """A redemption returns the person; verifier and secret go to the token endpoint alone."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(flow))
    who = await redeem(client, flow)
    assert (who.name, who.tenant_id) == ("Ada Lovelace", TENANT)
    sent = dict(httpx.QueryParams(entra["token"].calls.last.request.content.decode()))
    assert sent["code_verifier"] == flow["code_verifier"]
    assert sent["client_secret"] == "hush-hush"
    asked = dict(httpx.URL(flow["auth_uri"]).params)
    assert (asked["response_type"], asked["response_mode"]) == ("code", "query")
    assert asked["code_challenge_method"] == "S256"
    assert "code_verifier" not in flow["auth_uri"]


async def test_nothing_is_asked_before_somebody_signs_in(settings, entra):
    """Building the client needs no network, so the app starts while Entra is down."""
    Client(settings)
    assert not entra.calls


async def test_fifty_people_at_once_cause_one_discovery(client, entra):
    """Fifty concurrent flows share one discovery."""
    flows = await asyncio.gather(*(client.begin("http://localhost:3000/callback", None) for _ in range(50)))
    assert len({flow["state"] for flow in flows}) == 50
    assert entra["discovery"].call_count == 2  # ours, and MSAL's own


async def test_a_failed_build_is_built_anew(client, entra):
    """After a failed discovery, the next person's flow fetches it again."""
    entra["discovery"].side_effect = httpx.ConnectError
    with pytest.raises(Unavailable):
        await client.begin("http://localhost:3000/callback", None)
    entra["discovery"].side_effect = None
    entra["discovery"].respond(json=DOCUMENT)
    assert await client.begin("http://localhost:3000/callback", None)


@pytest.mark.parametrize(
    "first",
    [
        {"status_code": 500},
        {"status_code": 503, "headers": {"Retry-After": "3600"}},
        {"status_code": 429, "headers": {"Retry-After": "3600"}},
        {"status_code": 400, "json": {"error": "invalid_grant", "error_codes": [70008]}},
        {"status_code": 400, "json": {"error": "invalid_grant"}, "headers": {"Retry-After": "3600"}},
        {"status_code": 200, "html": "<p>proxy</p>"},
    ],
)
async def test_one_persons_failure_is_not_the_next_ones(client, entra, first):
    """After any failed redemption, the next is sent and succeeds."""
    ours = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(**first)
    with pytest.raises(AuthError):
        await redeem(client, ours)
    theirs = await client.begin("http://localhost:3000/callback", None)
    entra["token"].respond(json=tokens(theirs))
    assert (await redeem(client, theirs)).name == "Ada Lovelace"
    assert entra["token"].call_count == 2


def in_two_minutes() -> str:
    """An HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=125), usegmt=True)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"side_effect": httpx.ConnectError}, "unavailable"),
        ({"side_effect": httpx.ConnectTimeout}, "slow"),
        ({"side_effect": httpx.ReadTimeout}, "slow"),
        ({"side_effect": httpx.PoolTimeout}, "slow"),
        ({"side_effect": httpx.RemoteProtocolError}, "unavailable"),
        ({"status_code": 500, "json": {"error": "server_error"}}, "unavailable"),
        ({"status_code": 502, "html": "<p>bad gateway</p>"}, "unavailable"),
        ({"status_code": 429, "json": {}}, "throttled"),
        ({"status_code": 429, "headers": {"Retry-After": "90"}}, "throttled"),
        ({"status_code": 429, "headers": {"Retry-After": "soon"}}, "throttled"),
        ({"status_code": 200, "html": "<p>proxy</p>"}, "answer_incomplete"),
        ({"status_code": 302, "headers": {"Location": "https://proxy.example/login"}}, "answer_incomplete"),
        ({"status_code": 407, "html": "<p>proxy</p>"}, "answer_incomplete"),
        ({"status_code": 200, "json": []}, "answer_incomplete"),
        ({"status_code": 200, "json": {}}, "answer_incomplete"),
        ({"status_code": 200, "content": b""}, "answer_incomplete"),
        ({"status_code": 400, "json": {"error": "temporarily_unavailable"}}, "unavailable"),
        ({"status_code": 401, "json": {"error": "invalid_client", "error_codes": [7000215]}}, "credential_refused"),
        ({"status_code": 400, "json": {"error": "invalid_grant", "error_codes": "x"}}, "refused"),
    ],
)
async def test_each_failure_of_the_token_endpoint_has_its_error(client, entra, answer, code):
    """Each failure has its own error code, and its log line has no secret of the exchange."""
    flow = await client.begin("http://localhost:3000/callback", None)
    route = entra.post(TOKEN)
    if "side_effect" in answer:
        route.side_effect = answer["side_effect"]
    else:
        route.respond(**answer)
    with pytest.raises(AuthError) as caught:
        await redeem(client, flow)
    assert caught.value.code == code
    for secret in ("the-code", flow["state"], flow["nonce"], flow["code_verifier"], "hush-hush", "<p>"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("retry_after", "words"),
    [
        ("90", "in 2 minutes"),
        ("20", "in 20 seconds"),
        ("60", "in 1 minute."),
        ("9" * 5_000, "in 16667 minutes"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "in 16667 minutes"),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", ""),
        ("date", "in 2 minutes"),
        ("", ""),
    ],
)
async def test_throttling_says_how_long(client, entra, retry_after, words):
    """The page says how long to wait, from seconds or a date; without either, a minute."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN).respond(429, headers={"Retry-After": in_two_minutes() if retry_after == "date" else retry_after})
    with pytest.raises(Throttled) as caught:
        await redeem(client, flow)
    assert (words or "in a minute") in caught.value.message


@pytest.mark.parametrize("credential", ["certificate", "federated"])
async def test_an_assertion_reaches_the_directory_as_text(entra, tmp_path, monkeypatch, credential):
    """A certificate's assertion and a federated token are both sent as text; no request parses a key anew."""
    environ = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT}
    path = tmp_path / "credential"
    if credential == "certificate":
        path.write_bytes(pem_of(certificate()))
        environ["AZURE_CLIENT_CERTIFICATE_PATH"] = str(path)
    else:
        path.write_text("the.federated.token")
        environ["AZURE_FEDERATED_TOKEN_FILE"] = str(path)
    client = Client(Settings.load(environ))
    # It takes 36 to 88 ms, in which no other thread runs; signing takes 0.3 ms.
    monkeypatch.delattr(jwt.algorithms, "load_pem_private_key")
    monkeypatch.delattr(serialization, "load_pem_private_key")
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(flow))
    assert await redeem(client, flow)
    client.close()
    sent = dict(httpx.QueryParams(entra["token"].calls.last.request.content.decode()))["client_assertion"]
    if credential == "federated":
        assert sent == "the.federated.token"
    else:
        assert jwt.decode(sent, KEY.public_key(), ["PS256"], audience=TOKEN)["sub"] == CLIENT


async def test_two_people_who_meet_one_failure_share_nothing_of_it(settings, entra, make_sign_in):
    """When one fetch fails for two people, each failure has its own reference and page."""
    entra["discovery"].respond(503)
    sign_in = make_sign_in(settings)
    browsers = {"/alice?x=1": Jar(), "/bob": Jar()}
    uris = await asyncio.gather(*(browser.begin(sign_in, page) for page, browser in browsers.items()))
    failures = []
    for uri, browser in zip(uris, browsers.values(), strict=True):
        with pytest.raises(Unavailable) as caught:
            await browser.finish(sign_in, {"state": uri.partition("state=")[2]})
        failures.append(caught.value)
    assert [failure.return_to for failure in failures] == [*browsers]
    assert failures[0].reference != failures[1].reference


@pytest.mark.parametrize(
    ("error", "sent"), [(httpx.ConnectError, 2), (httpx.ConnectTimeout, 2), (httpx.ReadTimeout, 1)]
)
async def test_only_what_was_not_sent_is_tried_again(client, entra, error, sent):
    """Only a failed connection is retried; a sent request is not, because the code may be used."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").side_effect = error
    with pytest.raises(Unavailable):
        await redeem(client, flow)
    assert entra["token"].call_count == sent
    again = await client.begin("http://localhost:3000/callback", None)
    entra["token"].side_effect = [httpx.ConnectError, httpx.Response(200, json=tokens(again))]
    assert await redeem(client, again)


def test_nothing_is_tried_again_after_the_deadline():
    """A host with many addresses that drop packets takes long; a second round would hold the thread for as long."""
    asked = []

    def drops(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        time.sleep(0.06)
        raise httpx.ConnectTimeout("dropped")

    for seconds, times in ((0.05, 1), (5, 2)):
        asked.clear()
        with DirectoryHttp(1, {HOST: httpx.MockTransport(drops)}, seconds) as http, pytest.raises(Slow):
            http.get(KEYS)
        assert len(asked) == times


@pytest.mark.parametrize(
    "answer",
    [
        {"status_code": 500},
        {"status_code": 404},
        {"status_code": 404, "json": {"keys": [jwk()]}},
        {"html": "<p>proxy</p>"},
        {"json": {"keys": []}},
        {"json": []},
    ],
)
async def test_without_keys_nobody_enters(client, entra, answer):
    """Missing keys are a failure of their own, and the next sign-in fetches them again."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(flow))
    entra["keys"].respond(**answer)
    with pytest.raises(KeysUnreachable):
        await redeem(client, flow)
    entra["keys"].respond(json={"keys": [jwk()]})
    flow = await client.begin("http://localhost:3000/callback", None)
    entra["token"].respond(json=tokens(flow))
    assert await redeem(client, flow)


async def test_no_token_outlives_its_redemption(client, entra):
    """No MSAL cache holds a token of an earlier sign-in."""
    for _ in range(2):
        flow = await client.begin("http://localhost:3000/callback", None)
        entra.post(TOKEN).respond(json=tokens(flow, refresh_token="rt"))
        assert await redeem(client, flow)
    gc.collect()
    caches = [found for found in gc.get_objects() if isinstance(found, msal.TokenCache)]
    kinds = msal.TokenCache.CredentialType
    kept = [
        token
        for cache in caches
        for kind in (kinds.ACCESS_TOKEN, kinds.REFRESH_TOKEN, kinds.ID_TOKEN)
        for token in cache.search(kind)
    ]
    assert caches  # that of the application which begins flows
    assert kept == []


@pytest.mark.parametrize("missing", ["id_token", "client_info"])
async def test_an_incomplete_answer_proves_nothing(client, entra, missing):
    """An answer without an ID token fails."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN).respond(json=tokens(flow, **{missing: None}))
    if missing == "id_token":
        with pytest.raises(AnswerIncomplete):
            await redeem(client, flow)
    else:
        assert await redeem(client, flow)


async def test_a_forged_token_is_refused_end_to_end(client, entra):
    """An ID token that MSAL accepts without checking its signature is refused."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN).respond(json=tokens(flow, id_token=id_token(key=OTHER_KEY, nonce=flow["nonce"])))
    with pytest.raises(TokenInvalid):
        await redeem(client, flow)


async def test_rolled_over_keys_are_fetched_once(settings, entra):
    """A new `kid` renews the keys, also right after a fetch; unknown ones do so a few times a minute at most."""
    clock = Clock()
    client = Client(settings, clock=clock)
    first = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(first))
    assert await redeem(client, first)
    assert entra["keys"].call_count == 1
    entra["keys"].respond(json={"keys": [jwk(OTHER_KEY, "key-2")]})
    for _ in range(2):
        flow = await client.begin("http://localhost:3000/callback", None)
        entra["token"].respond(json=tokens(flow, id_token=id_token(key=OTHER_KEY, kid="key-2", nonce=flow["nonce"])))
        assert await redeem(client, flow)
    assert entra["keys"].call_count == 2
    for _ in range(10):
        flow = await client.begin("http://localhost:3000/callback", None)
        entra["token"].respond(json=tokens(flow, id_token=id_token(kid="key-3", nonce=flow["nonce"])))
        with pytest.raises(TokenInvalid):
            await redeem(client, flow)
    assert entra["keys"].call_count == 6
    client.close()


async def test_keys_that_cannot_be_renewed_are_no_forgery(client, entra):
    """If new keys cannot be fetched, the error says so, and tokens with an old key stay valid."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(flow))
    assert await redeem(client, flow)
    entra["keys"].respond(503)
    for _ in range(8):
        flow = await client.begin("http://localhost:3000/callback", None)
        entra["token"].respond(json=tokens(flow, id_token=id_token(key=OTHER_KEY, kid="key-2", nonce=flow["nonce"])))
        with pytest.raises(KeysUnreachable):
            await redeem(client, flow)
    assert entra["keys"].call_count == 6
    flow = await client.begin("http://localhost:3000/callback", None)
    entra["token"].respond(json=tokens(flow))
    assert await redeem(client, flow)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": f"{HOST}/99999999-9999-9999-9999-999999999999/v2.0"},
        {"issuer": f"https://evil.example/{TENANT}/v2.0"},
        {"issuer": f"{HOST}/{{tenantid}}/v2.0"},
        {"issuer": TENANT},
        {"issuer": f"{HOST}/{TENANT}"},
        {"issuer": None},
        {"jwks_uri": "https://evil.example/keys"},
        {"jwks_uri": KEYS.replace("https", "http")},
        {"jwks_uri": f"{HOST}.evil.example/keys"},
        {"token_endpoint": f"https://evil.example/{TENANT}/token"},
        {"token_endpoint": TOKEN.replace("https", "http")},
        {"token_endpoint": TOKEN.replace(HOST, f"{HOST}.evil.example")},
    ],
)
async def test_discovery_is_held_to_the_authority(client, entra, changed):
    """Another issuer, and keys or tokens from another host or http, are refused (OIDC Discovery §4.3)."""
    entra["discovery"].respond(json={**DOCUMENT, **changed})
    with pytest.raises(SignInFailed):
        await client.begin("http://localhost:3000/callback", None)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("organizations", TENANT),
        ("contoso.onmicrosoft.com", "{tenantid}"),
        ("contoso.onmicrosoft.com", "fabrikam.onmicrosoft.com"),
    ],
)
async def test_the_issuer_is_of_the_kind_that_was_asked_for(entra, asked, named):
    """`organizations` requires the issuer template, and a domain the GUID of a tenant."""
    environ = {"AZURE_TENANT_ID": asked, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "s"}
    client = Client(Settings.load({**environ, "AZURE_ALLOWED_TENANTS": TENANT}))
    entra.get(DISCOVERY.replace(TENANT, asked)).respond(json={**DOCUMENT, "issuer": ISSUER.replace(TENANT, named)})
    with pytest.raises(SignInFailed):
        await client.begin("http://localhost:3000/callback", None)
    client.close()


async def test_a_running_request_keeps_its_connection_when_the_client_closes(client, entra):
    """Closing leaves a running request its connection: another thread's may have the same file descriptor at once."""
    asked, go_on = threading.Event(), threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        asked.set()
        go_on.wait(5)
        return httpx.Response(200, json=DOCUMENT)

    entra["discovery"].mock(side_effect=answer)
    running = asyncio.create_task(client.begin("http://localhost:3000/callback", None))
    assert await asyncio.to_thread(asked.wait, 5)
    client.close()
    go_on.set()
    assert (await running)["auth_uri"]
    async with asyncio.timeout(5):
        while not client._http.is_closed:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("endpoint", ["discovery", "token", "keys"])
async def test_a_redirect_is_not_followed(client, entra, endpoint, status):
    """A redirect is not followed: neither with code and secret, nor for a document."""
    elsewhere = {"discovery": DOCUMENT, "keys": {"keys": [jwk()]}}
    entra.post(TOKEN, name="token")
    entra[endpoint].respond(status, headers={"Location": "https://elsewhere.example/"})
    entra.route(host="elsewhere.example", name="elsewhere").mock(
        side_effect=lambda _: httpx.Response(200, json=elsewhere[endpoint])
    )

    async def signs_in() -> None:
        flow = await client.begin("http://localhost:3000/callback", None)
        elsewhere["token"] = tokens(flow)
        if endpoint == "keys":
            entra["token"].respond(json=elsewhere["token"])
        await redeem(client, flow)

    with pytest.raises(AuthError):
        await signs_in()
    assert entra[endpoint].called
    assert not entra["elsewhere"].called


async def test_a_domain_learns_its_tenant_from_discovery(entra):
    """AZURE_TENANT_ID may be a domain; the issuer then tells the GUID that `tid` must be."""
    environ = {"AZURE_TENANT_ID": "contoso.onmicrosoft.com", "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "s"}
    client = Client(Settings.load(environ))
    entra.get(DISCOVERY.replace(TENANT, "contoso.onmicrosoft.com")).respond(json=DOCUMENT)
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(flow))
    assert await redeem(client, flow)
    client.close()


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ({"error": "access_denied", "error_description": "AADSTS65004: declined"}, "cancelled", "cancelled"),
        ({"error": "access_denied"}, "cancelled", "cancelled"),
        ({"error": "access_denied", "error_description": "AADSTS50105: not assigned"}, "not_assigned", "AADSTS50105"),
        ({"error": "consent_required"}, "consent_missing", "consent_missing"),
        ({"error": "interaction_required"}, "sign_in_needed", "sign_in_needed"),
        ({"error": "login_required"}, "sign_in_needed", "sign_in_needed"),
        ({"error": "invalid_client"}, "credential_refused", "credential_refused"),
        ({"error": "server_error"}, "unavailable", "error=server_error"),
        ({"error": "temporarily_unavailable"}, "unavailable", "error=temporarily_unavailable"),
        ({"error": "x\nsign-in succeeded"}, "refused", "error=other"),
        ({}, "answer_incomplete", "answer_incomplete"),
    ],
)
async def test_what_the_browser_brings_back_is_read_carefully(client, entra, query, code, said):
    """The number of an error in the query decides; its text is dropped."""
    flow = await client.begin("http://localhost:3000/callback", None)
    with pytest.raises(AuthError) as caught:
        await client.redeem(flow, {"state": flow["state"], **query})
    assert caught.value.code == code
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["trace_id", "correlation_id"])
@pytest.mark.parametrize("id_", ["x\nsign-in succeeded", f"{OBJECT}\n", ["the-code"], "the-code"])
async def test_an_id_that_is_none_goes_to_no_log(client, entra, name, id_):
    """The detail of a refusal contains only ids in Entra's form."""
    flow = await client.begin("http://localhost:3000/callback", None)
    route = entra.post(TOKEN)
    route.respond(400, json={"error": "invalid_grant", name: id_})
    with pytest.raises(Refused) as caught:
        await redeem(client, flow)
    assert name not in str(caught.value)
    flow = await client.begin("http://localhost:3000/callback", None)
    route.respond(400, json={"error": "invalid_grant", name: OBJECT})
    with pytest.raises(Refused, match=f"{name}={OBJECT}$"):
        await redeem(client, flow)


async def test_the_address_for_signing_out(client, entra):
    """The address contains the return address and, if Entra gave one, the logout hint."""
    flow = await client.begin("http://localhost:3000/callback", None)
    hinted = id_token(nonce=flow["nonce"], login_hint="O.hint")
    entra.post(TOKEN).respond(json=tokens(flow, id_token=hinted))
    url = httpx.URL(await client.sign_out_url(await redeem(client, flow), "http://localhost:3000/logout"))
    assert url.copy_with(query=None) == DOCUMENT["end_session_endpoint"]
    asked = {"client_id": CLIENT, "post_logout_redirect_uri": "http://localhost:3000/logout"}
    assert dict(url.params) == {**asked, "logout_hint": "O.hint"}
    entra.post(TOKEN).respond(json=tokens(flow))
    url = httpx.URL(await client.sign_out_url(await redeem(client, flow), "http://localhost:3000/logout"))
    assert dict(url.params) == asked  # RP-Initiated Logout 1.0 §2: the id tells whose return address it is


async def test_a_sign_in_asks_for_no_refresh_token(client, entra):
    """Neither the address nor the redemption names `offline_access`; `openid` and `profile` stay."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN, name="token").respond(json=tokens(flow))
    await redeem(client, flow)
    sent = httpx.QueryParams(entra["token"].calls.last.request.content.decode())
    for scope in (httpx.URL(flow["auth_uri"]).params["scope"], sent["scope"]):
        assert sorted(scope.split()) == ["User.Read", "openid", "profile"]


async def test_the_environment_sends_msal_nowhere_else(client, entra, monkeypatch):
    """With MSAL_FORCE_REGION set, MSAL would ask the machine's metadata service and a regional host."""
    monkeypatch.setenv("MSAL_FORCE_REGION", "westus2")
    monkeypatch.setenv("REGION_NAME", "westus2")
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN).respond(json=tokens(flow))
    assert await redeem(client, flow)
    assert {call.request.url.host for call in entra.calls} == {"login.microsoftonline.com"}


async def test_the_context_goes_along_into_the_thread(client, entra):
    """A request to the directory sees the context variables of its caller, as a trace needs, and changes none."""
    trace = ContextVar("trace", default="none")
    seen = []

    def answer(_: httpx.Request) -> httpx.Response:
        seen.append(trace.get())
        trace.set("of the thread")
        return httpx.Response(200, json=DOCUMENT)

    entra["discovery"].side_effect = answer
    trace.set("of the caller")
    await client.begin("http://localhost:3000/callback", None)
    assert seen[0] == "of the caller"
    assert trace.get() == "of the caller"


async def test_a_slow_directory_holds_up_nobody_else(client, entra):
    """While one redemption waits, the event loop and other redemptions continue."""
    from threading import Event

    release = Event()
    slow, quick = [await client.begin("http://localhost:3000/callback", None) for _ in range(2)]

    def answer(request: httpx.Request) -> httpx.Response:
        mine = slow if slow["code_verifier"] in request.content.decode() else quick
        if mine is slow:
            release.wait(20)
        return httpx.Response(200, json=tokens(mine))

    entra.post(TOKEN).mock(side_effect=answer)
    waiting = asyncio.create_task(redeem(client, slow))
    try:
        assert (await asyncio.wait_for(redeem(client, quick), 5)).name == "Ada Lovelace"
        assert not waiting.done()
    finally:
        release.set()
    assert (await waiting).name == "Ada Lovelace"


async def test_every_request_has_its_limits(client, entra):
    """Each step of each request, MSAL's included and a retry counted, has a timeout below the caller's."""
    flow = await client.begin("http://localhost:3000/callback", None)
    entra.post(TOKEN).respond(json=tokens(flow))
    assert await redeem(client, flow)
    limits = [call.request.extensions["timeout"] for call in entra.calls]
    assert len(limits) == 4  # discovery twice, token, keys
    for limit in limits:
        for seconds in (limit["read"], limit["write"], 2 * (limit["pool"] + limit["connect"])):
            assert 0 < seconds < LONGEST_WAIT_SECONDS


async def test_waiting_ends(client, entra, monkeypatch):
    """When the directory never answers, the call ends at the timeout."""
    from threading import Event

    monkeypatch.setattr("azure_auth.auth.entra.client.LONGEST_WAIT_SECONDS", 0.2)
    release = Event()
    entra["discovery"].mock(side_effect=lambda _: release.wait(20) and httpx.Response(500))
    try:
        with pytest.raises(Unavailable):
            await client.begin("http://localhost:3000/callback", None)
    finally:
        release.set()
