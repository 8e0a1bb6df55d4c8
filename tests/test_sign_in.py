"""A sign-in from its first request to the person it proves, against the demo directory over https."""

import asyncio
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import APP, Clock

from azure_auth.auth.flows import FLOW_SECONDS
from azure_auth.auth.store import Once, OneTime
from azure_auth.errors import AnswerIncomplete, FlowForeign, FlowUnknown, Refused, Unavailable
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
BROWSER, OTHER_BROWSER = "b" * 43, "o" * 43


async def test_ada_signs_in(sign_in, directory):
    """The whole way: flow, one click, redemption, and the page that was asked for."""
    uri = await sign_in.begin(BROWSER, "/reports?tab=2")
    done = await sign_in.finish(directory.answer(uri, "Ada Lovelace"), BROWSER, "tab")
    assert (done.identity.name, done.identity.username) == ("Ada Lovelace", "ada@contoso.example")
    assert done.return_to == "/reports?tab=2"


@pytest.mark.parametrize("asked", ["", "//evil.example", "/logout", "https://evil.example"])
async def test_anything_but_a_page_leads_to_login_redirect(sign_in, directory, asked):
    """A return target that is no page of this app is dropped, and nothing else is lost."""
    uri = await sign_in.begin(BROWSER, asked)
    done = await sign_in.finish(directory.answer(uri, "Grace Hopper"), BROWSER, "tab")
    assert (done.identity.name, done.return_to) == ("Grace Hopper", "/")


async def test_a_person_without_a_name_signs_in(sign_in, directory):
    """The user name stands in."""
    uri = await sign_in.begin(BROWSER, "")
    done = await sign_in.finish(directory.answer(uri, "frontdesk@contoso.example"), BROWSER, "tab")
    assert done.identity.name == "frontdesk@contoso.example"


async def test_a_person_of_another_tenant_is_refused(sign_in, directory):
    """A single-tenant app takes its own people only; the failure remembers the page that was asked for."""
    uri = await sign_in.begin(BROWSER, "/reports")
    with pytest.raises(Refused) as caught:
        await sign_in.finish(directory.answer(uri, "Charles Babbage"), BROWSER, "tab")
    assert "AADSTS50020" in str(caught.value)
    assert caught.value.return_to == "/reports"


async def test_another_tenant_enters_where_it_is_allowed(environ, directory, make_sign_in):
    """With `organizations` and a list, a listed tenant's person enters and an unlisted one's does not."""
    from azure_auth.demo.people import OTHER_TENANT
    from azure_auth.errors import OtherTenant

    many = {**environ, "AZURE_TENANT_ID": "organizations", "AZURE_ALLOWED_TENANTS": OTHER_TENANT}
    settings = Settings.load(many)
    sign_in = make_sign_in(settings)
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Charles Babbage")
    assert (await sign_in.finish(answer, BROWSER, "tab")).identity.tenant_id == OTHER_TENANT
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    with pytest.raises(OtherTenant):
        await sign_in.finish(answer, BROWSER, "tab")


async def test_another_browser_cannot_finish_a_flow_nor_spoil_it(sign_in, directory):
    """Login CSRF: a foreign answer signs nobody in, and its owner still gets in."""
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    for stranger in (OTHER_BROWSER, None):
        with pytest.raises(FlowForeign):
            await sign_in.finish(answer, stranger, "tab")
    assert (await sign_in.finish(answer, BROWSER, "tab")).identity.name == "Ada Lovelace"


async def test_a_flow_is_used_once(sign_in, directory):
    """The same answer again finds no flow: not in another tab, and in its own not once the session was fetched."""
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    done = await sign_in.finish(answer, BROWSER, "tab")
    with pytest.raises(FlowUnknown):
        await sign_in.finish(answer, BROWSER, "another tab")
    await sign_in.start_session(await sign_in.hand_over(done), [f"azure_auth_flow={BROWSER}"])
    with pytest.raises(FlowUnknown):
        await sign_in.finish(answer, BROWSER, "tab")


async def test_of_two_tabs_that_race_one_signs_in(sign_in, directory):
    """The code is redeemed once, whoever asks at the same time."""
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    tabs = (sign_in.finish(answer, BROWSER, tab) for tab in ("one", "two"))
    outcomes = await asyncio.gather(*tabs, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["SignedIn", "FlowUnknown"]


async def test_a_reload_in_the_middle_ends_well(sign_in, directory):
    """The reload cancels the first handler; the same tab is told the outcome until its session is fetched."""
    answer = directory.answer(await sign_in.begin(BROWSER, "/reports"), "Ada Lovelace")
    first = asyncio.create_task(sign_in.finish(answer, BROWSER, "tab"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for _ in range(2):
        done = await sign_in.finish(answer, BROWSER, "tab")
        assert done.return_to == "/reports"
    with pytest.raises(FlowUnknown):
        await sign_in.finish(answer, BROWSER, "another tab")
    with pytest.raises(FlowUnknown):
        await sign_in.finish(answer, BROWSER, "tab", signed_in=True)
    assert (await sign_in.start_session(await sign_in.hand_over(done), [f"azure_auth_flow={BROWSER}"]))[0]
    with pytest.raises(FlowUnknown):
        await sign_in.finish(answer, BROWSER, "tab")


async def test_an_outcome_that_nobody_collects_is_forgotten(sign_in, directory, monkeypatch):
    """After the time for a reload has passed, the flow is as used as any."""
    monkeypatch.setattr("azure_auth.auth.sign_in._UNTOLD_SECONDS", 0.0)
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    first = asyncio.create_task(sign_in.finish(answer, BROWSER, "tab"))
    await asyncio.sleep(0)
    first.cancel()
    while sign_in._redemptions:
        await asyncio.sleep(0.01)
    with pytest.raises(FlowUnknown):
        await sign_in.finish(answer, BROWSER, "tab")


async def test_a_wrong_code_proves_nothing(sign_in, directory):
    """A code of another flow, or none, is refused by the directory: PKCE binds code and flow."""
    mine = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    theirs = directory.answer(await sign_in.begin(OTHER_BROWSER, ""), "Grace Hopper")
    with pytest.raises(Refused) as caught:
        await sign_in.finish({**mine, "code": theirs["code"]}, BROWSER, "tab")
    assert "AADSTS501481" in str(caught.value)
    answer = directory.answer(await sign_in.begin(BROWSER, ""), "Ada Lovelace")
    with pytest.raises(AnswerIncomplete):
        await sign_in.finish({"state": answer["state"]}, BROWSER, "tab")


async def test_a_directory_that_is_down_is_told_at_the_callback(environ, make_sign_in):
    """The start leads to our own page, which says what happened and keeps the page that was asked for."""
    settings = Settings.load({**environ, "AZURE_AUTHORITY_HOST": "https://localhost:9"})
    sign_in = make_sign_in(settings)
    uri = await sign_in.begin(BROWSER, "/reports")
    assert uri.startswith(f"{APP}/callback?state=")
    with pytest.raises(Unavailable) as caught:
        await sign_in.finish({"state": uri.partition("state=")[2]}, BROWSER, "tab")
    assert caught.value.return_to == "/reports"


async def test_a_flow_ends_after_ten_minutes():
    """A flow lasts 600 s, and flows that ended are swept when new ones begin."""
    clock = Clock()
    kept = OneTime(clock=clock)
    kept.put("early", Once("me", "", b"early"), FLOW_SECONDS)
    kept.put("late", Once("me", "", b"late"), FLOW_SECONDS)
    clock.now = 599.9
    assert kept.take("early", "me") == b"early"
    clock.now = 600
    with pytest.raises(FlowUnknown):
        kept.take("late", "me")
    for number in range(100):
        clock.now += 60
        kept.put(str(number), Once("me", "", b""), FLOW_SECONDS)
    assert len(kept._things) == 10


async def test_no_state_lies_in_the_store(sign_in):
    """What is stored tells neither which `state` would take it, nor the verifier, nor the browser."""
    uri = await sign_in.begin(BROWSER, "/reports")
    asked = dict(parse_qsl(urlsplit(uri).query))
    kept = str(sign_in._store._once._things)
    for secret in (asked["state"], asked["nonce"], BROWSER, "/reports", "code_verifier"):
        assert secret not in kept
    flow = await sign_in._flows.take(asked["state"], BROWSER)
    assert flow.msal["code_verifier"]
    assert flow.return_to == "/reports"
