"""The demo directory, over HTTP: strict where Entra is strict, and there for this machine only."""

import socket
import ssl
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import certifi
import httpx
import jwt
import pytest
from conftest import APP, ROOT

from azure_auth.demo.people import PEOPLE

VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ADA = PEOPLE[0]


@pytest.fixture
def host(directory):
    return directory.environ["AZURE_AUTHORITY_HOST"]


@pytest.fixture
def tenant(directory, host):
    return f"{host}/{directory.environ['AZURE_TENANT_ID']}"


@pytest.fixture
def http(directory):
    with httpx.Client() as client:
        yield client


@pytest.fixture
def asked(directory):
    return {
        "client_id": directory.environ["AZURE_CLIENT_ID"],
        "response_type": "code",
        "redirect_uri": f"{APP}/callback",
        "scope": "openid profile offline_access User.Read",
        "state": "the-state",
        "nonce": "the-nonce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }


def choose(http, tenant, asked, oid=ADA.oid):
    back = http.post(f"{tenant}/oauth2/v2.0/authorize", params=asked, data={"person": oid})
    assert back.status_code == 303
    return {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}


@pytest.fixture
def exchange(http, tenant, directory, asked):
    code = choose(http, tenant, asked)["code"]
    form = {
        "client_id": asked["client_id"],
        "client_secret": directory.environ["AZURE_CLIENT_SECRET"],
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": asked["redirect_uri"],
        "code_verifier": VERIFIER,
        "client_info": "1",
    }
    return lambda **changed: http.post(
        f"{tenant}/oauth2/v2.0/token", data={k: v for k, v in {**form, **changed}.items() if v is not None}
    )


def test_a_code_becomes_a_signed_token(exchange, http, tenant, asked):
    """The control: asked properly, the directory answers as Entra does."""
    answer = exchange().json()
    keys = {key["kid"]: key for key in http.get(f"{tenant}/discovery/v2.0/keys").json()["keys"]}
    key = jwt.PyJWK(keys[jwt.get_unverified_header(answer["id_token"])["kid"]], "RS256")
    claims = jwt.decode(answer["id_token"], key, ["RS256"], audience=asked["client_id"])
    assert (claims["name"], claims["oid"], claims["roles"]) == ("Ada Lovelace", ADA.oid, ["Admin"])
    assert (claims["nonce"], claims["ver"]) == ("the-nonce", "2.0")
    assert claims["iss"] == f"{tenant}/v2.0"
    assert {"access_token", "refresh_token", "expires_in"} <= set(answer)
    info = answer["client_info"]
    assert ADA.oid in urlsafe_b64decode(info + "=" * (-len(info) % 4)).decode()


@pytest.mark.parametrize(
    ("person", "said", "unsaid"),
    [("Mary Somerville", {"idp", "acct"}, {"groups"}), ("Joan Clarke", {"_claim_names", "_claim_sources"}, {"groups"})],
)
def test_a_guest_and_somebody_in_many_groups_look_as_in_entra(exchange, http, tenant, asked, person, said, unsaid):
    """A guest's token names where they come from; three hundred groups are left out, and it says where to ask."""
    oid = next(who.oid for who in PEOPLE if who.name == person)
    token = exchange(code=choose(http, tenant, asked, oid)["code"]).json()["id_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert said <= set(claims)
    assert not unsaid & set(claims)
    assert claims["tid"] == tenant.rpartition("/")[2]


def test_faults_are_switched_on_and_off_over_http(http, host, tenant):
    """Status, headers, body and delay of one endpoint, until all are ended; others answer as before."""
    keys = f"{tenant}/discovery/v2.0/keys"
    fault = {"endpoint": "keys", "status": 503, "headers": {"Retry-After": "9"}, "body": "broken", "delay": 0.2}
    assert http.post(f"{host}/faults", json=fault).json()["keys"]["status"] == 503
    answer = http.get(keys)
    assert (answer.status_code, answer.headers["retry-after"], answer.text) == (503, "9", "broken")
    assert answer.elapsed.total_seconds() >= 0.2
    assert http.get(f"{tenant}/v2.0/.well-known/openid-configuration").status_code == 200
    assert http.delete(f"{host}/faults").json() == {}
    assert http.get(keys).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"json": {"endpoint": "elsewhere"}},
        {"json": {"endpoint": "token", "forge": "unheard_of"}},
        {"json": {"endpoint": "token", "typo": 1}},
        {"json": {}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"data": {"endpoint": "token", "status": "503"}},
    ],
)
def test_no_fault_comes_about_by_mistake(http, host, wrong):
    """What is misspelled is refused, and so is a form, which a foreign page could send."""
    assert http.post(f"{host}/faults", **wrong).status_code == 400
    assert http.get(f"{host}/faults").json() == {}


@pytest.mark.parametrize(
    ("changed", "number", "status"),
    [
        ({"code": "unknown"}, 70000, 400),
        ({"code_verifier": "w" * 43}, 501481, 400),
        ({"code_verifier": None}, 501481, 400),
        ({"redirect_uri": f"{APP}/logout"}, 500112, 400),
        ({"client_secret": "wrong"}, 7000215, 401),
        ({"client_secret": None}, 7000218, 401),
        ({"client_id": "33333333-3333-3333-3333-333333333333"}, 700016, 400),
        ({"grant_type": "password"}, 70003, 400),
    ],
)
def test_a_wrong_exchange_is_refused_as_entra_refuses(exchange, changed, number, status):
    """OAuth's error, the AADSTS number, trace and correlation ids."""
    answer = exchange(**changed)
    said = answer.json()
    assert (answer.status_code, said["error_codes"]) == (status, [number])
    assert said["error_description"].startswith(f"AADSTS{number}: ")
    assert {"trace_id", "correlation_id", "timestamp"} <= set(said)


def test_a_code_is_redeemed_once(exchange):
    """The second time it is AADSTS54005."""
    assert exchange().status_code == 200
    assert exchange().json()["error_codes"] == [54005]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"scope": "User.Read"}, "invalid_scope"),
        ({"scope": ""}, "invalid_request"),
        ({"nonce": ""}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "unsupported_response_type"),
        ({"prompt": "whatever"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_a_wrong_question_leads_back_with_an_error(http, tenant, asked, changed, error):
    """What the app may hear of goes back to it, with its state."""
    back = http.get(f"{tenant}/oauth2/v2.0/authorize", params={**asked, **changed})
    said = parse_qs(urlsplit(back.headers["location"]).query)
    assert (back.status_code, said["error"], said["state"]) == (303, [error], ["the-state"])
    assert back.headers["location"].startswith(f"{APP}/callback?")


@pytest.mark.parametrize("changed", [{"redirect_uri": "https://evil.example"}, {"client_id": "x"}])
def test_an_unknown_app_or_address_leads_nowhere(http, tenant, asked, changed):
    """An unregistered redirect URI is never redirected to."""
    page = http.get(f"{tenant}/oauth2/v2.0/authorize", params={**asked, **changed})
    assert page.status_code == 400
    assert "AADSTS" in page.text
    assert "location" not in page.headers


def test_the_hint_comes_first(http, tenant, asked):
    """`login_hint` puts that person on top."""
    page = http.get(f"{tenant}/oauth2/v2.0/authorize", params={**asked, "login_hint": "grace@contoso.example"}).text
    assert page.index("Grace Hopper") < page.index("Ada Lovelace")


def test_every_page_says_that_nobody_is_signed_in(http, tenant, asked):
    """The people, the error and the sign-out page alike."""
    for path, params in (("authorize", asked), ("authorize", {}), ("logout", {})):
        assert "Nobody is really signed in" in http.get(f"{tenant}/oauth2/v2.0/{path}", params=params).text


def test_cancelling_declines(http, tenant, asked):
    """Cancel leads back with access_denied and AADSTS65004."""
    said = choose(http, tenant, asked, oid="")
    assert (said["error"], said["error_description"][:11]) == ("access_denied", "AADSTS65004")


def test_another_tenants_person_needs_an_authority_for_many(http, host, tenant, asked):
    """At the tenant's own authority AADSTS50020, at `organizations` a code."""
    charles = PEOPLE[3].oid
    assert "AADSTS50020" in choose(http, tenant, asked, charles)["error_description"]
    assert "code" in choose(http, f"{host}/organizations", asked, charles)


def test_signing_out_leads_back_to_registered_addresses_only(http, tenant):
    """The app's sign-out page is led to, another site is not."""
    logout = f"{tenant}/oauth2/v2.0/logout"
    back = http.get(logout, params={"post_logout_redirect_uri": f"{APP}/logout", "state": "s"})
    assert (back.status_code, back.headers["location"]) == (303, f"{APP}/logout?state=s")
    assert http.get(logout, params={"post_logout_redirect_uri": "https://evil.example"}).status_code == 200


def test_an_unknown_tenant_is_not_found(http, host):
    """AADSTS90002, as JSON."""
    said = http.get(f"{host}/{'0' * 8}/v2.0/.well-known/openid-configuration")
    assert (said.status_code, said.json()["error_codes"]) == (400, [90002])


def test_its_certificate_is_verified(host):
    """Whoever was not told to trust the directory does not."""
    others = ssl.create_default_context(cafile=certifi.where())
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{host}/common/discovery/v2.0/keys", verify=others, trust_env=False)


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "localhost:1@evil"]
)
def test_a_foreign_host_header_is_refused(http, tenant, asked, name):
    """DNS rebinding: a foreign name that leads to this machine is no way in."""
    refused = http.get(f"{tenant}/oauth2/v2.0/authorize", params=asked, headers={"Host": name})
    assert refused.status_code in (400, 403)
    assert "Ada" not in refused.text
    assert http.get(f"{tenant}/oauth2/v2.0/authorize", params=asked).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("peer", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("::ffff:10.0.0.7", 403)]
)
async def test_a_peer_elsewhere_is_refused(peer, status):
    """Only this machine's own connections are answered."""
    from azure_auth.demo.loopback import LoopbackOnly

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(LoopbackOnly(app), client=(peer, 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/")).status_code == status


def test_it_listens_on_loopback_only(host):
    """Its socket is bound to 127.0.0.1."""
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, urlsplit(host).port), timeout=2)


def test_it_imports_nothing_of_ours():
    """The demo directory stands for Microsoft: it shares no code with the app."""
    for path in (ROOT / "azure_auth/demo").glob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("from azure_auth", "import azure_auth")):
                assert line.startswith("from azure_auth.demo"), f"{path.name}: {line}"
