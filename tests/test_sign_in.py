"""A sign-in from its first request to the person it proves, against the demo directory over https."""

import asyncio
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import APP, KEYS, Clock
from jar import Jar

from azure_auth.auth.entra.client import LONGEST_WAIT_SECONDS
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.flows import FLOW_SECONDS, TICKET_SECONDS, Outcome
from azure_auth.auth.sessions.sealing import ticket_of
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import CONSUMED_SECONDS, MARK_SECONDS, OneTimeEntry
from azure_auth.auth.sessions.store.one_time import OneTimeEntries
from azure_auth.auth.sign_in import SignIn
from azure_auth.errors import AnswerIncomplete, FlowForeign, FlowUnknown, Refused, Unavailable
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
THERE_BEFORE = Identity("a tenant", "somebody else")


async def finished(jar, sign_in, answer) -> Outcome:
    """How a sign-in ended for which a ticket was handed out."""
    return await sign_in._tickets.peek(await jar.finish(sign_in, answer), jar.binding(sign_in, answer))


@pytest.fixture
def jar() -> Jar:
    return Jar()


@pytest.fixture
def other() -> Jar:
    return Jar()


async def test_ada_signs_in(sign_in, directory, jar):
    """The whole way: flow, one click, redemption, and the page that was asked for."""
    uri = await jar.begin(sign_in, "/reports?tab=2")
    done = await finished(jar, sign_in, directory.answer(uri, "Ada Lovelace"))
    assert (done.identity.name, done.identity.username) == ("Ada Lovelace", "ada@contoso.example")
    assert done.return_to == "/reports?tab=2"


@pytest.mark.parametrize("asked", ["", "//evil.example", "/logout", "https://evil.example"])
async def test_anything_but_a_page_leads_to_login_redirect(sign_in, directory, asked, jar):
    """A return target that is no page of this app is dropped, and nothing else is lost."""
    uri = await jar.begin(sign_in, asked)
    done = await finished(jar, sign_in, directory.answer(uri, "Grace Hopper"))
    assert (done.identity.name, done.return_to) == ("Grace Hopper", "/")


async def test_a_person_without_a_name_signs_in(sign_in, directory, jar):
    """The user name stands in."""
    uri = await jar.begin(sign_in, "")
    done = await finished(jar, sign_in, directory.answer(uri, "frontdesk@contoso.example"))
    assert done.identity.name == "frontdesk@contoso.example"


async def test_a_person_of_another_tenant_is_refused(sign_in, directory, jar):
    """A single-tenant app takes its own people only; the failure remembers the page that was asked for."""
    uri = await jar.begin(sign_in, "/reports")
    with pytest.raises(Refused) as caught:
        await jar.finish(sign_in, directory.answer(uri, "Charles Babbage"))
    assert "AADSTS50020" in str(caught.value)
    assert caught.value.return_to == "/reports"


async def test_another_tenant_enters_where_it_is_allowed(environ, directory, make_sign_in, jar):
    """With `organizations` and a list, a listed tenant's person enters and an unlisted one's does not."""
    from azure_auth.demo.people import OTHER_TENANT

    many = {**environ, "AZURE_TENANT_ID": "organizations", "AZURE_ALLOWED_TENANTS": OTHER_TENANT}
    settings = Settings.load(many)
    sign_in = make_sign_in(settings)
    answer = directory.answer(await jar.begin(sign_in, ""), "Charles Babbage")
    assert (await finished(jar, sign_in, answer)).identity.tenant_id == OTHER_TENANT
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    with pytest.raises(Refused, match=r"^other_tenant "):
        await jar.finish(sign_in, answer)


async def test_another_browser_cannot_finish_a_flow_nor_spoil_it(sign_in, directory, jar, other):
    """Login CSRF: a foreign answer signs nobody in, and its owner still gets in."""
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    await other.begin(sign_in)
    forged = Jar(**dict(zip(jar.cookies, other.cookies.values(), strict=True)))
    for stranger in (other, forged, Jar()):
        with pytest.raises(FlowForeign):
            await stranger.finish(sign_in, answer)
    assert (await finished(jar, sign_in, answer)).identity.name == "Ada Lovelace"


async def test_a_flow_is_used_once(sign_in, directory, jar):
    """Once its session was fetched, the same answer finds no flow, and the same ticket no session."""
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    ticket = await jar.finish(sign_in, answer)
    assert (await jar.exchange(sign_in, ticket)).session_cookie
    with pytest.raises(FlowUnknown):
        await jar.finish(sign_in, answer)
    assert (await jar.exchange(sign_in, ticket)).session_cookie is None


async def test_of_two_that_race_one_redeems(sign_in, directory, monkeypatch, jar):
    """The code is redeemed once, whoever asks at the same time; both are told of the one session."""
    redeemed = []
    redeem = sign_in._client.redeem

    async def counted(*arguments):
        redeemed.append(arguments)
        return await redeem(*arguments)

    monkeypatch.setattr(sign_in._client, "redeem", counted)
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    tickets = await asyncio.gather(*(jar.finish(sign_in, answer) for _ in range(3)))
    assert len(set(tickets)) == len(redeemed) == 1
    sessions = [(await jar.exchange(sign_in, ticket)).session_cookie for ticket in tickets]
    assert [bool(session) for session in sessions] == [True, False, False]


async def begun(jar, sign_in, answer) -> None:
    """Begin to redeem, and reload the page: the handler is cancelled."""
    first = asyncio.create_task(jar.finish(sign_in, answer))
    while not sign_in._redemptions._background.tasks:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.fixture(params=["same", "another"])
def worker(request, sign_in) -> SignIn:
    """Where the reload arrives: at the same worker, or at another one on the same store."""
    if request.param == "same":
        return sign_in
    settings, store = sign_in.settings, sign_in.sessions._store
    return SignIn(settings, sign_in._client, Sessions(store, settings, KEYS), store, KEYS)


async def test_a_reload_in_the_middle_ends_well(sign_in, worker, directory, jar, other):
    """The outcome is waited for and told, again and again, until its session is fetched; to nobody else."""
    answer = directory.answer(await jar.begin(sign_in, "/reports"), "Ada Lovelace")
    with directory.fault(endpoint="token", delay=0.5):
        await begun(jar, sign_in, answer)
        with pytest.raises(FlowForeign):
            await other.finish(worker, answer)
        tickets = [await jar.finish(worker, answer) for _ in range(2)]
    with pytest.raises(FlowForeign):
        await other.finish(worker, answer)
    with pytest.raises(FlowUnknown):
        await jar.finish(worker, answer, signed_in=THERE_BEFORE)
    ada = (await worker._tickets.peek(tickets[0], jar.binding(worker, answer))).identity
    assert await jar.finish(worker, answer, signed_in=ada) == tickets[0]
    assert (await other.exchange(worker, tickets[0])).session_cookie is None
    led = await jar.exchange(worker, tickets[1])
    assert (bool(led.session_cookie), led.address) == (True, f"{APP}/reports")
    with pytest.raises(FlowUnknown):
        await jar.finish(worker, answer)


async def test_a_reload_in_the_middle_is_told_why_it_failed(sign_in, worker, directory, jar):
    """The same failure with the same reference, and no session for its ticket."""
    answer = directory.answer(await jar.begin(sign_in, "/reports"), "Ada Lovelace")
    with directory.fault(endpoint="token", aadsts=50105, delay=0.5):
        await begun(jar, sign_in, answer)
        failures = []
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await jar.finish(worker, answer)
            failures.append((caught.value.code, caught.value.reference, caught.value.return_to))
    assert failures[0] == failures[1]
    assert failures[0][2] == "/reports"
    assert (await jar.exchange(worker, ticket_of(answer["state"], jar.binding(worker, answer)))).session_cookie is None


async def test_a_reload_while_another_person_signs_in_still_signs_them_in(sign_in, worker, directory, jar):
    """Somebody who is signed in and signs in anew waits for the outcome like a stranger; told once, it is over."""
    answer = directory.answer(await jar.begin(sign_in, ""), "Grace Hopper")
    with directory.fault(endpoint="token", delay=0.5):
        await begun(jar, sign_in, answer)
        ticket = await jar.finish(worker, answer, signed_in=THERE_BEFORE)
    with pytest.raises(FlowUnknown):
        await jar.finish(worker, answer, signed_in=THERE_BEFORE)
    assert (await jar.exchange(worker, ticket)).session_cookie


async def test_failures_of_one_address_cost_nobody_else_a_ticket(sign_in, directory, jar):
    """What a stranger leaves behind counts for their own address, which alone loses when there is too much."""
    sign_in.sessions._store._one_time["ticket"]._most = 6
    answer = directory.answer(await jar.begin(sign_in, "", address="192.0.2.1"), "Ada Lovelace")
    ticket = await jar.finish(sign_in, answer, "192.0.2.1")
    for _ in range(10):
        stranger = Jar()
        answer = directory.answer(await stranger.begin(sign_in, address="198.51.100.1"), "nobody")
        with pytest.raises(Refused):
            await stranger.finish(sign_in, answer, "198.51.100.1")
    assert (await jar.exchange(sign_in, ticket)).session_cookie


async def test_nobody_waits_for_a_worker_that_is_gone(sign_in, directory, monkeypatch, jar):
    """A redemption that died with its worker is over when the longest one would be."""
    monkeypatch.setattr("azure_auth.auth.sessions.store.contract.CONSUMED_SECONDS", 0.5)
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    await sign_in._flows.consume(answer["state"], jar.binding(sign_in, answer))
    with pytest.raises(FlowUnknown):
        await jar.finish(sign_in, answer)


async def test_whoever_waits_asks_ever_less_often(sign_in, directory, monkeypatch, jar):
    """A stranger who keeps many pages waiting for a flow that is lost makes the store little work."""
    monkeypatch.setattr("azure_auth.auth.redemption._POLL_SECONDS", 0.02)
    monkeypatch.setattr("azure_auth.auth.sessions.store.contract.CONSUMED_SECONDS", 0.6)
    looked = []
    peek = sign_in.sessions._store.peek
    monkeypatch.setattr(sign_in.sessions._store, "peek", lambda *which: looked.append(which) or peek(*which))
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    await sign_in._flows.consume(answer["state"], jar.binding(sign_in, answer))
    with pytest.raises(FlowUnknown):
        await jar.finish(sign_in, answer)
    assert 2 < len(looked) < 15


async def test_stopping_waits_for_what_is_under_way(sign_in, worker, directory, jar):
    """A worker that is told to stop finishes its redemptions, so that another has the outcome."""
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    with directory.fault(endpoint="token", delay=0.5):
        await begun(jar, sign_in, answer)
        await sign_in.settle()
    assert not sign_in._redemptions._background.tasks
    assert (await finished(jar, worker, answer)).identity.name == "Ada Lovelace"


async def test_a_wrong_code_proves_nothing(sign_in, directory, jar, other):
    """A code of another flow, or none, is refused by the directory: PKCE binds code and flow."""
    mine = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    theirs = directory.answer(await other.begin(sign_in, ""), "Grace Hopper")
    with pytest.raises(Refused) as caught:
        await jar.finish(sign_in, {**mine, "code": theirs["code"]})
    assert "AADSTS501481" in str(caught.value)
    answer = directory.answer(await jar.begin(sign_in, ""), "Ada Lovelace")
    with pytest.raises(AnswerIncomplete):
        await jar.finish(sign_in, {"state": answer["state"]})


async def test_a_directory_that_is_down_is_told_at_the_callback(environ, make_sign_in, jar):
    """The start leads to our own page, which says what happened and keeps the page that was asked for."""
    settings = Settings.load({**environ, "AZURE_AUTHORITY_HOST": "https://localhost:9"})
    sign_in = make_sign_in(settings)
    uri = await jar.begin(sign_in, "/reports")
    assert uri.startswith(f"{APP}/callback?state=")
    with pytest.raises(Unavailable) as caught:
        await jar.finish(sign_in, {"state": uri.partition("state=")[2]})
    assert caught.value.return_to == "/reports"


async def test_a_flow_ends_after_ten_minutes():
    """A flow lasts 600 s, and flows that ended are swept when new ones begin."""
    clock = Clock()
    kept = OneTimeEntries(clock=clock)
    kept.put("early", OneTimeEntry("me", "", b"early"), FLOW_SECONDS)
    kept.put("late", OneTimeEntry("me", "", b"late"), FLOW_SECONDS)
    clock.now = 599.9
    assert kept.consume("early", "me") == (b"early", 0.0)
    clock.now = 600
    with pytest.raises(FlowUnknown):
        kept.consume("late", "me")
    for number in range(100):
        clock.now += 60
        kept.put(str(number), OneTimeEntry("me", "", b""), FLOW_SECONDS)
    assert len(kept._entries) == 10


async def test_state_and_ticket_open_nothing_without_the_cookie(sign_in, directory, jar):
    """Who knows only these, and brings the binding of another flow, leaves both in place for their browser."""
    answer = directory.answer(await jar.begin(sign_in), "Ada Lovelace")
    with pytest.raises(FlowForeign):
        await sign_in._flows.consume(answer["state"], "another")
    ticket = await jar.finish(sign_in, answer)
    with pytest.raises(FlowForeign):
        await sign_in._tickets.consume(ticket, "another")
    assert (await jar.exchange(sign_in, ticket)).session_cookie


@pytest.mark.parametrize(("seconds", "good"), [(29, True), (30, False)])
async def test_a_ticket_lasts_half_a_minute(sign_in, directory, jar, seconds, good):
    """The page exchanges it at once; what lies around for 30 s starts no session."""
    clock = Clock(time.time())
    sign_in.sessions._store._one_time["ticket"] = OneTimeEntries(clock=clock)
    ticket = await jar.finish(sign_in, directory.answer(await jar.begin(sign_in), "Ada Lovelace"))
    clock.now += seconds
    assert bool((await jar.exchange(sign_in, ticket)).session_cookie) is good


def test_what_is_remembered_outlasts_what_it_is_for():
    """A sign-out stops each sign-in begun before it, and a flow is known to be taken while it is redeemed."""
    assert MARK_SECONDS > FLOW_SECONDS + LONGEST_WAIT_SECONDS + TICKET_SECONDS
    assert CONSUMED_SECONDS > LONGEST_WAIT_SECONDS


async def test_no_state_lies_in_the_store(sign_in, jar):
    """What is stored tells neither which `state` would take it, nor the verifier, nor the browser."""
    uri = await jar.begin(sign_in, "/reports")
    asked = dict(parse_qsl(urlsplit(uri).query))
    kept, binding = str(sign_in.sessions._store._one_time["flow"]._entries), jar.binding(sign_in, asked)
    for secret in (asked["state"], asked["nonce"], binding, "/reports", "code_verifier"):
        assert secret not in kept
    flow = await sign_in._flows.consume(asked["state"], binding)
    assert flow.msal["code_verifier"]
    assert flow.return_to == "/reports"
