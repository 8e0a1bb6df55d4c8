"""The state's handlers, driven without a browser."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import reflex as rx
from conftest import APP
from reflex_base.registry import RegistrationContext

from azure_auth.auth.core import State

pytestmark = pytest.mark.anyio
BROWSER = "b" * 43


class Tab:
    """A browser tab as Reflex sees it: a state tree, and router data that say where it is."""

    def __init__(self, root: rx.State, state: State):
        self.root, self.state = root, state

    def opens(self, address: str, cookie: str = f"azure_auth_flow={BROWSER}", token: str = "tab") -> State:
        parts = urlsplit(address)
        data = {
            "pathname": parts.path,
            "asPath": address,
            "query": {name: values[-1] for name, values in parse_qs(parts.query).items()},
            "headers": {"origin": APP, "cookie": cookie},
            "ip": "127.0.0.1",
            "token": token,
            "sid": "socket",
        }
        self.root.router_data = data
        self.root._update_router_vars(data, {})
        return self.state

    def wire(self) -> str:
        """All that the browser could be sent."""
        return json.dumps(self.root.dict(), default=str)


@pytest.fixture
async def tab(sign_in, monkeypatch) -> Tab:
    monkeypatch.setattr(State, "sign_in", sign_in, raising=False)
    RegistrationContext.ensure_context()
    root = rx.State()
    return Tab(root, await root.get_state(State))


async def sign_in_as(tab: Tab, directory, person: str, page: str = "/") -> rx.event.EventSpec | None:
    """Go through a sign-in up to and including the callback."""
    uri = await State.sign_in.begin(BROWSER, page)
    answer = directory.answer(uri, person)
    query = "&".join(f"{name}={value}" for name, value in answer.items() if name in ("code", "state", "error"))
    return await tab.opens(f"/callback?{query}").callback()


def led_to(event: rx.event.EventSpec) -> tuple[str, bool]:
    args = {str(name): json.loads(str(value)) for name, value in event.args}
    return args["path"], args["replace"]


async def test_a_stranger_is_sent_to_sign_in(tab):
    """`require_auth` names our own route and the page to come back to, with its query."""
    await tab.opens("/reports?tab=2&q=a%20b").require_auth()
    url = urlsplit(tab.state.leaving_to)
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{APP}/auth/sign-in"
    assert parse_qs(url.query) == {"return_to": ["/reports?tab=2&q=a%20b"]}
    assert not tab.state.check_auth


async def test_the_front_page_leads_to_login_redirect(tab):
    """Opening `/` asks for no page in particular."""
    await tab.opens("/").require_auth()
    assert tab.state.leaving_to == f"{APP}/auth/sign-in"


async def test_the_callback_signs_in_and_leaves(tab, directory):
    """The person is known, and the callback's entry in the history is replaced."""
    event = await sign_in_as(tab, directory, "Ada Lovelace", "/reports?tab=2")
    assert led_to(event) == ("/reports?tab=2", True)
    assert tab.state.check_auth
    assert tab.state.token == {"name": "Ada Lovelace", "username": "ada@contoso.example", "initials": "AL"}
    await tab.opens("/reports?tab=2").require_auth()
    assert tab.state.leaving_to == ""


async def test_nothing_but_the_shown_fields_reaches_the_browser(tab, directory):
    """No id, hint, code or token is in what Reflex sends; name and user name are."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    who = tab.state._identity
    wire = tab.wire()
    assert "Ada Lovelace" in wire
    for secret in (who.object_id, who.tenant_id, who.logout_hint):
        assert secret not in wire


@pytest.mark.parametrize(
    "address",
    [
        "/callback",
        "/callback?code=x",
        "/callback?code=x&state=unknown",
        "/callback?state=",
        "/callback?error=access_denied",
    ],
)
async def test_an_answer_to_no_flow_says_so(tab, address):
    """A callback that nobody waits for shows its page: heading, reference, two ways on; nothing redirects."""
    assert await tab.opens(address).callback() is None
    failure = tab.state.failure
    assert failure["heading"] == "This sign-in is over"
    assert len(failure["reference"]) == 10
    assert failure["again"] == f"{APP}/auth/sign-in"
    assert failure["other_account"] == f"{APP}/auth/sign-in?prompt=select_account"
    assert tab.state.leaving_to == ""
    assert not tab.state.check_auth


async def test_a_cancelled_sign_in_keeps_the_page(tab, directory):
    """Trying again leads to the page that was asked for."""
    assert await sign_in_as(tab, directory, "nobody", "/reports") is None
    assert tab.state.failure["heading"] == "The sign-in was cancelled"
    assert tab.state.failure["again"] == f"{APP}/auth/sign-in?return_to=%2Freports"


async def test_the_reference_is_in_the_log_and_the_code_is_not(tab, directory, caplog):
    """The page and the log share an id; the log has nothing of the exchange."""
    uri = await State.sign_in.begin(BROWSER, "")
    state = directory.answer(uri, "Ada Lovelace")["state"]
    await tab.opens(f"/callback?code=the-code&state={state}").callback()
    assert tab.state.failure["reference"] in caplog.text
    assert "AADSTS70000" in caplog.text
    for secret in ("the-code", state, BROWSER, "ada@contoso.example"):
        assert secret not in caplog.text


async def test_the_callback_opened_again_leads_on(tab, directory):
    """Back to a used callback does no harm to somebody who is signed in."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    event = await tab.opens("/callback?code=used&state=used").callback()
    assert led_to(event) == ("/", True)
    assert tab.state.check_auth


async def test_a_flow_of_another_browser_signs_nobody_in(tab, directory):
    """Without the flow's own cookie the answer is refused; with it, it is taken."""
    uri = await State.sign_in.begin(BROWSER, "")
    answer = directory.answer(uri, "Ada Lovelace")
    address = f"/callback?code={answer['code']}&state={answer['state']}"
    for cookie in ("", f"azure_auth_flow={'x' * 43}", f"azure_auth_flow={BROWSER}; azure_auth_flow={BROWSER}"):
        await tab.opens(address, cookie).callback()
        assert not tab.state.check_auth
        assert tab.state.failure["heading"] == "This sign-in was begun elsewhere"
    await tab.opens(address).callback()
    assert tab.state.check_auth


async def test_signing_out_ends_here_and_at_the_directory(tab, directory):
    """The person is forgotten, and the browser goes to the directory's sign-out with the way back."""
    await sign_in_as(tab, directory, "Ada Lovelace")
    hint = tab.state._identity.logout_hint
    await tab.opens("/logout").logout()
    assert not tab.state.check_auth
    url = urlsplit(tab.state.leaving_to)
    assert url.path.endswith("/oauth2/v2.0/logout")
    assert parse_qs(url.query) == {"post_logout_redirect_uri": [f"{APP}/logout"], "logout_hint": [hint]}


async def test_signing_out_as_nobody_starts_nothing(tab):
    """A stranger's `/logout` leads nowhere."""
    assert await tab.opens("/logout").logout() is None
    assert tab.state.leaving_to == ""


async def test_signing_out_works_while_the_directory_is_down(tab, directory, environ, make_sign_in, monkeypatch):
    """The person is signed out here, whatever the directory says."""
    from azure_auth.settings import Settings

    await sign_in_as(tab, directory, "Ada Lovelace")
    down = make_sign_in(Settings.load({**environ, "AZURE_AUTHORITY_HOST": "https://localhost:9"}))
    monkeypatch.setattr(State, "sign_in", down)
    event = await tab.opens("/").logout()
    assert not tab.state.check_auth
    assert led_to(event) == ("/logout", True)


async def test_what_breaks_unexpectedly_is_still_a_page(tab, monkeypatch, caplog):
    """Whatever goes wrong, the person reads a sentence and nobody is signed in."""

    async def broken(*_, **__):
        raise ZeroDivisionError("secret-detail")

    monkeypatch.setattr(State.sign_in, "finish", broken)
    await tab.opens("/callback?code=c&state=s").callback()
    assert tab.state.failure["heading"] == "You could not be signed in"
    assert tab.state.failure["reference"] in caplog.text
    assert "ZeroDivisionError at test_state.py" in caplog.text
    assert "secret-detail" not in caplog.text
    assert not tab.state.check_auth


def test_no_handler_takes_an_argument():
    """What a client must not choose is no handler's argument; helpers cannot be called at all."""
    import inspect

    own = {name: handler for name, handler in State.event_handlers.items() if handler.fn.__module__ == State.__module__}
    assert set(own) == {"require_auth", "callback", "logout"}
    assert all(list(inspect.signature(handler.fn).parameters) == ["self"] for handler in own.values())
