"""The state's handlers, driven without a browser."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import APP
from tab import finishes, sign_in_as

from azure_auth.auth.core import State, services

pytestmark = pytest.mark.anyio


def started(address: str) -> dict[str, str]:
    """What our route for starting is asked, besides the tab."""
    url = urlsplit(address)
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{APP}/auth/sign-in"
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert len(asked.pop("tab")) == 43
    return asked


async def test_a_stranger_is_sent_to_sign_in(tab):
    """`require_auth` names our own route and the page to come back to, with its query."""
    await tab.opens("/reports?tab=2&q=a%20b", "require_auth")
    assert started(tab.told["leaving_to"]) == {"return_to": "/reports?tab=2&q=a%20b"}
    assert not tab.state.check_auth


async def test_the_front_page_leads_to_login_redirect(tab):
    """Opening `/` asks for no page in particular."""
    await tab.opens("/", "require_auth")
    assert started(tab.told["leaving_to"]) == {}


async def test_the_callback_signs_in_and_leaves(tab, directory):
    """The ticket becomes a session, and the page that was asked for is let through."""
    assert await sign_in_as(tab, directory, "Ada Lovelace", "/reports?tab=2") == "/reports?tab=2"
    assert tab.state.check_auth
    assert tab.state.token == {"name": "Ada Lovelace", "username": "ada@contoso.example", "initials": "AL"}
    await tab.opens("/reports?tab=2", "require_auth")
    assert tab.told == {}


async def test_nothing_but_the_shown_fields_reaches_the_browser(tab, directory):
    """No id, hint, code or token is in what Reflex sends; name and user name are."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    who = tab.state._who()
    wire = tab.wire()
    assert "Ada Lovelace" in wire
    for secret in (who.object_id, who.tenant_id, who.logout_hint):
        assert secret not in wire


@pytest.mark.parametrize(
    ("address", "heading"),
    [
        ("/callback", "This sign-in cannot be finished here"),
        ("/callback?code=x", "This sign-in cannot be finished here"),
        ("/callback?code=x&state=unknown", "This sign-in cannot be finished here"),
        ("/callback?state=", "This sign-in cannot be finished here"),
        ("/callback?error=access_denied", "No sign-in of this browser was answered"),
        ("/callback?admin_consent=True&tenant=x", "An administrator was asked to approve this site"),
    ],
)
async def test_an_answer_to_no_flow_says_so(tab, address, heading):
    """A callback that nobody waits for shows its page: heading, reference, two ways on; nothing redirects."""
    await tab.opens(address, "callback")
    failure = tab.told["failure"]
    assert failure["heading"] == heading
    assert len(failure["reference"]) == 10
    assert started(failure["again"]) == {}
    assert started(failure["other_account"]) == {"prompt": "select_account"}
    assert set(tab.told) == {"failure"}
    assert not tab.state.check_auth


async def test_a_cancelled_sign_in_keeps_the_page(tab, directory):
    """Trying again leads to the page that was asked for."""
    assert await sign_in_as(tab, directory, "nobody", "/reports") is None
    assert tab.told["failure"]["heading"] == "The sign-in was cancelled"
    assert started(tab.told["failure"]["again"]) == {"return_to": "/reports"}


async def test_the_reference_is_in_the_log_and_the_code_is_not(tab, directory, caplog):
    """The page and the log share an id; the log has nothing of the exchange."""
    uri = await tab.jar.begin(services().sign_in, "")
    state = directory.answer(uri, "Ada Lovelace")["state"]
    await tab.opens(f"/callback?code=the-code&state={state}", "callback")
    assert tab.told["failure"]["reference"] in caplog.text
    assert "AADSTS70000" in caplog.text
    for secret in ("the-code", state, *tab.cookies.values(), "ada@contoso.example"):
        assert secret not in caplog.text


async def test_no_repr_shows_a_secret_or_a_person(tab, directory):
    """What a log line or a traceback would print of flow, sign-in, tab and session names none of what they hold."""
    answer = directory.answer(await tab.jar.begin(services().sign_in, ""), "Ada Lovelace")
    done = await services().sign_in._tickets.peek(
        await tab.jar.finish(services().sign_in, answer), tab.jar.binding(services().sign_in, answer)
    )
    assert await sign_in_as(tab, directory, "Ada Lovelace")
    shown = (
        f"{services().sign_in._redemptions._background.tasks} {done!r} {tab.connection!r} {tab.connection.session!r}"
    )
    for secret in (*tab.cookies.values(), answer["code"], tab.connection.state_key, "Lovelace"):
        assert secret not in shown


async def test_nothing_computed_of_the_person_is_pickled(tab, directory):
    """Reflex's own pickle of a state that a page has shown holds nothing that was computed, least of all a name."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    tab.state.leaving_to = "canary"
    assert "Ada Lovelace" in str(await tab.state._get_resolved_delta())
    pickled = tab.state._serialize()
    assert b"canary" in pickled
    for computed in (tab.state.sign_in_url, "Lovelace", "ada@contoso.example"):
        assert computed.encode() not in pickled


async def test_the_callback_opened_again_leads_on(tab, directory):
    """Back to a used callback does no harm to somebody who is signed in."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    event = await tab.opens("/callback?code=used&state=used", "callback")
    assert {str(name): json.loads(str(value)) for name, value in event.args}.items() >= {
        "path": "/",
        "replace": True,
    }.items()
    assert tab.state.check_auth


async def test_a_flow_of_another_browser_signs_nobody_in(tab, directory):
    """Without the flow's own cookie the answer is refused; with it, it is taken."""
    uri = await tab.jar.begin(services().sign_in, "")
    answer = directory.answer(uri, "Ada Lovelace")
    address = f"/callback?code={answer['code']}&state={answer['state']}"
    own = next(name for name in tab.cookies if "flow" in name)
    for cookie in ("", f"{own}={'x' * 150}", f"{own}={tab.cookies[own][:-1]}", f"{own}x={tab.cookies[own]}"):
        await tab.opens(address, "callback", cookie)
        assert "ticket" not in tab.told
        assert tab.told["failure"]["heading"] == "This sign-in cannot be finished here"
    assert await finishes(tab, address) == "/"
    assert tab.state.check_auth


async def test_signing_out_ends_here_and_at_the_directory(tab, directory):
    """The person is forgotten, and the browser goes to the directory's sign-out with the way back."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    hint = tab.state._who().logout_hint
    await tab.opens("/logout", "logout")
    assert not tab.state.check_auth
    url = urlsplit(tab.told["leaving_to"])
    assert url.path.endswith("/oauth2/v2.0/logout")
    client_id = services().sign_in.settings.client_id
    asked = {"client_id": [client_id], "post_logout_redirect_uri": [f"{APP}/logout"], "logout_hint": [hint]}
    assert parse_qs(url.query) == asked


async def test_signing_out_as_nobody_starts_nothing(tab):
    """A stranger's `/logout` leads nowhere."""
    await tab.opens("/logout", "logout")
    assert tab.told == {}


async def test_signing_out_works_while_the_directory_is_down(tab, directory, environ, make_sign_in, monkeypatch):
    """The person is signed out here, whatever the directory says."""
    from azure_auth.settings import Settings

    await sign_in_as(tab, directory, "Ada Lovelace")
    down = make_sign_in(Settings.load({**environ, "AZURE_AUTHORITY_HOST": "https://localhost:9"}))
    monkeypatch.setattr(services().sign_in, "sign_out_url", down.sign_out_url)
    await tab.opens("/", "logout")
    assert not tab.state.check_auth
    await tab.opens(tab.told["leaving_to"])
    assert "you may still be signed in there" in tab.state.notice


async def go_round(tab, directory):
    """Open a page as a stranger, and sign in."""
    await tab.opens("/", "require_auth")
    query = parse_qs(urlsplit(tab.told["leaving_to"]).query)
    uri = await tab.jar.begin(services().sign_in, "", tab=query["tab"][0])
    answer = directory.answer(uri, "Ada Lovelace")
    await finishes(tab, f"/callback?code={answer['code']}&state={answer['state']}")
    return query["tab"][0]


async def test_a_tab_that_goes_in_circles_is_stopped(tab, directory):
    """A session that never shows does not count as success: the third start within a minute leads to a page."""
    for _ in range(2):
        name = await go_round(tab, directory)
        del tab.cookies["azure_auth_session"]  # as if the browser did not keep it
    uri = await tab.jar.begin(services().sign_in, "/reports", tab=name)
    assert uri.startswith(f"{APP}/callback?state=")
    await tab.opens(uri.removeprefix(APP), "callback")
    assert tab.told["failure"]["heading"] == "We stopped trying"
    assert started(tab.told["failure"]["again"]) == {"return_to": "/reports"}
    other = await tab.jar.begin(services().sign_in, "", tab="o" * 43)
    assert "/oauth2/" in other  # another tab of the browser may start


async def test_a_session_that_holds_is_a_success(tab, directory):
    """Whoever is let through may start again as often as anybody."""
    for _ in range(5):
        await go_round(tab, directory)
        await tab.opens("/", "require_auth")
        assert tab.told == {}
        del tab.cookies["azure_auth_session"]


async def test_what_breaks_unexpectedly_is_still_a_page(tab, monkeypatch, caplog):
    """Whatever goes wrong, the person reads a sentence and nobody is signed in."""

    async def broken(*_, **__):
        raise ZeroDivisionError("secret-detail")

    monkeypatch.setattr(services().sign_in, "finish", broken)
    await tab.opens("/callback?code=c&state=s", "callback")
    assert tab.told["failure"]["heading"] == "You could not be signed in"
    assert tab.told["failure"]["reference"] in caplog.text
    assert "ZeroDivisionError at test_state.py" in caplog.text
    assert "secret-detail" not in caplog.text
    assert not tab.state.check_auth


def test_no_handler_takes_an_argument():
    """What a client must not choose is no handler's argument; helpers cannot be called at all."""
    import inspect

    own = {name: handler for name, handler in State.event_handlers.items() if handler.fn.__module__ == State.__module__}
    assert set(own) == {"require_auth", "callback", "logout", "logout_everywhere"}
    assert all(list(inspect.signature(handler.fn).parameters) == ["self"] for handler in own.values())
