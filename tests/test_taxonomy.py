"""Every failure of a sign-in, caused at the demo directory, and its text for the person."""

import re
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from conftest import Clock
from jar import Jar
from tab import finishes, open_tab, registered, sign_in_as

from azure_auth.auth.core import services
from azure_auth.auth.sessions.flows import FLOW_SECONDS
from azure_auth.demo.id_tokens import FORGERIES
from azure_auth.error_texts import ERROR_TEXTS
from azure_auth.errors import FlowExpired, FlowForeign, FlowTaken, FlowUnknown
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
HELP_DESK = "ell your help desk the reference"

BY_NUMBER = {
    500112: ("redirect_uri", "This site's address is not registered with Microsoft", "they can add the address"),
    50011: ("redirect_uri", "This site's address is not registered with Microsoft", "they can add the address"),
    50020: ("tenant", "This account belongs to another organisation", "Use your work account"),
    50034: ("tenant", "This account belongs to another organisation", "Use your work account"),
    50055: ("password", "Your password has expired", "Change it with Microsoft"),
    50057: ("disabled", "Your account is switched off", "Ask your help desk"),
    50058: ("silent", "Microsoft wants you to sign in again", "Try again, and sign in there"),
    50072: ("proof", "Microsoft asks for one more proof", "in a second way"),
    50074: ("proof", "Microsoft asks for one more proof", "in a second way"),
    50076: ("proof", "Microsoft asks for one more proof", "in a second way"),
    50079: ("proof", "Microsoft asks for one more proof", "in a second way"),
    50105: ("assigned", "You do not have access yet", "Ask your help desk for access"),
    53000: ("policy", "Your organisation's rules stopped this sign-in", "Try from your work device"),
    53001: ("policy", "Your organisation's rules stopped this sign-in", "Try from your work device"),
    53002: ("policy", "Your organisation's rules stopped this sign-in", "Try from your work device"),
    53003: ("policy", "Your organisation's rules stopped this sign-in", "Try from your work device"),
    54005: ("code", "This sign-in took too long", "for one use"),
    65001: ("consent", "An administrator has to approve this site", "Ask your help desk to do so"),
    65004: ("cancel", "The sign-in was cancelled", "whenever you are ready"),
    70008: ("code", "This sign-in took too long", "for one use"),
    90002: ("app", "Your organisation's directory does not know this site", "they have to register it"),
    90094: ("consent", "An administrator has to approve this site", "Ask your help desk to do so"),
    700016: ("app", "Your organisation's directory does not know this site", "they have to register it"),
    7000215: ("secret", "This site cannot prove itself to Microsoft", "they can mend this site"),
    7000222: ("secret", "This site cannot prove itself to Microsoft", "they can mend this site"),
    99999: ("unforeseen", "Microsoft did not sign you in", HELP_DESK),
}


def test_no_number_is_left_out():
    """Each AADSTS number with its own text has a row above."""
    assert {number for text in ERROR_TEXTS.values() for number in text.numbers} == {*BY_NUMBER} - {99999}


@pytest.mark.parametrize("endpoint", ["authorize", "token"])
@pytest.mark.parametrize("number", BY_NUMBER)
async def test_each_number_has_its_words(tab, directory, caplog, number, endpoint):
    """At both endpoints, the page shows a heading and what to do, and the log the number and the ids."""
    _, heading, words = BY_NUMBER[number]
    with directory.fault(endpoint=endpoint, aadsts=number):
        assert await sign_in_as(tab, directory, "Ada Lovelace", "/reports") is None
    failure = tab.told["failure"]
    assert failure["heading"] == heading
    assert words in failure["message"]
    assert not tab.state.check_auth
    line = caplog.records[-1].getMessage()
    assert f'"reference": "{failure["reference"]}"' in line
    assert f"AADSTS{number}" in line
    if endpoint == "token":
        assert re.search(r"trace_id=[0-9a-f-]{36} correlation_id=[0-9a-f-]{36}", line)
    assert "A fault that was switched on" not in str(failure) + line  # Microsoft's own text


FAULTS = {
    "down": ({"endpoint": "token", "status": 503}, "Microsoft cannot be reached right now", "in a few minutes"),
    "throttled": (
        {"endpoint": "token", "status": 429, "headers": {"Retry-After": "120"}},
        "Microsoft asks us to wait",
        "Try again in 2 minutes",
    ),
    "no_json": (
        {"endpoint": "token", "status": 200, "body": "<p>proxy</p>"},
        "Microsoft's answer was incomplete",
        "cut it",
    ),
    "html": (
        {"endpoint": "token", "status": 200, "headers": {"Content-Type": "text/html"}, "body": "<h1>Blocked</h1>"},
        "Microsoft's answer was incomplete",
        "cut it",
    ),
    "cut_off": (
        {"endpoint": "token", "status": 200, "headers": {"Content-Type": "application/json"}, "body": '{"id_tok'},
        "Microsoft's answer was incomplete",
        "cut it",
    ),
    "empty": ({"endpoint": "token", "status": 200}, "Microsoft's answer was incomplete", "cut it"),
    "keys_down": (
        {"endpoint": "keys", "status": 500},
        "Your sign-in cannot be verified right now",
        "Try again in a minute",
    ),
    "discovery_down": (
        {"endpoint": "discovery", "status": 500},
        "Microsoft cannot be reached right now",
        "in a few min",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_bad_day_has_its_words(directory, settings, make_sign_in, monkeypatch, name):
    """A directory that is down, throttles or is cut off has its own text; the next person signs in."""
    registered(make_sign_in(settings))
    fault, heading, words = FAULTS[name]
    tab = open_tab()
    with directory.fault(**fault):
        if fault["endpoint"] == "discovery":
            uri = await tab.jar.begin(services().sign_in)
            await tab.opens(uri[uri.index("/callback") :], "callback")
        else:
            await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.told["failure"]["heading"] == heading
    assert words in tab.told["failure"]["message"]
    assert not tab.state.check_auth
    assert await sign_in_as(open_tab(), directory, "Grace Hopper")


@pytest.mark.parametrize(
    ("why", "error"),
    [
        ("expired", FlowExpired),
        ("expired, and the store knows nothing", FlowExpired),
        ("forgotten", FlowUnknown),
        ("used", FlowTaken),
        ("unknown", FlowForeign),
        ("no state", FlowForeign),
    ],
)
async def test_a_flow_that_is_over_has_its_words(tab, directory, settings, make_sign_in, monkeypatch, why, error):
    """An expired, used or unknown flow has its own text, and "Try again" leads to the page if it is known."""
    answer = directory.answer(await tab.jar.begin(services().sign_in, "/reports"), "Ada Lovelace")
    if why == "used":
        assert await finishes(tab, f"/callback?{urlencode(answer)}")
        tab.cookies.pop("azure_auth_session")
    if why in ("forgotten", "expired, and the store knows nothing"):
        registered(make_sign_in(settings))  # a restart loses the flows
    if "expired" in why:
        now = time.time()
        monkeypatch.setattr(services().sign_in, "clock", lambda: now + FLOW_SECONDS)
    if error is FlowForeign:
        answer = {"code": answer["code"]} | ({"state": "unknown"} if why == "unknown" else {})
    await tab.opens(f"/callback?{urlencode(answer)}", "callback")
    assert not tab.state.check_auth
    told, text = tab.told["failure"], ERROR_TEXTS[error.code]
    assert (told["heading"], told["message"]) == (text.heading, text.message)
    again = parse_qs(urlsplit(told["again"]).query).get("return_to")
    assert again == (None if error in (FlowForeign, FlowTaken) else ["/reports"])


async def test_a_forged_callback_has_its_words(tab, directory):
    """The answer to another browser's flow gets a calm text, because it may be a bookmark."""
    answer = directory.answer(await Jar().begin(services().sign_in), "Grace Hopper")
    await tab.opens(f"/callback?{urlencode(answer)}", "callback")
    assert not tab.state.check_auth
    assert tab.told["failure"]["heading"] == "This sign-in cannot be finished here"
    assert "It was started in another browser" in tab.told["failure"]["message"]


async def test_a_wrong_credential_of_ours_has_its_words(directory, environ, make_sign_in, monkeypatch):
    """When the directory refuses the app's secret, the page says that the account is fine."""
    wrong = Settings.load({**environ, "AZURE_CLIENT_SECRET": "not-the-secret"})
    registered(make_sign_in(wrong))
    tab = open_tab()
    await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.told["failure"]["heading"] == "This site cannot prove itself to Microsoft"
    assert "nothing wrong with your account" in tab.told["failure"]["message"]


async def test_a_hung_redemption_ends(tab, directory, monkeypatch):
    """A redemption that hangs fails at the timeout, and delays nobody else."""
    await sign_in_as(tab, directory, "Ada Lovelace")  # discovery and keys are there
    tab.cookies.pop("azure_auth_session")
    monkeypatch.setattr("azure_auth.auth.entra.client.LONGEST_WAIT_SECONDS", 0.3)
    with directory.fault(endpoint="token", delay=2):
        await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.told["failure"]["heading"] == "Microsoft takes too long to answer"
    assert not tab.state.check_auth


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_no_forgery_signs_anybody_in(tab, directory, forgery):
    """Each kind of forged token from the directory fails; a genuine one right after succeeds."""
    with directory.fault(endpoint="token", forge=forgery):
        await sign_in_as(tab, directory, "Ada Lovelace")
    assert not tab.state.check_auth
    expected = (
        "Microsoft's answer was incomplete"
        if forgery in ("no_token", "not_a_jwt")
        else "Your sign-in could not be verified"
    )
    assert tab.told["failure"]["heading"] == expected
    assert await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.state.check_auth


async def test_keys_that_roll_over_lock_nobody_out(directory, settings, make_sign_in, monkeypatch):
    """After a key roll-over, the new key is fetched when the cool-down is over."""
    clock = Clock()
    registered(make_sign_in(settings, clock))
    tab = open_tab()
    await sign_in_as(tab, directory, "Ada Lovelace")
    tab.cookies.pop("azure_auth_session")
    with directory.fault(endpoint="keys", roll_over=True):
        clock.now += 61
        await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.state.check_auth


@pytest.mark.parametrize("person", ["Mary Somerville", "Joan Clarke"])
async def test_guests_and_people_in_many_groups_get_in(tab, directory, person):
    """A guest, and a person whose 300 groups are not in the token, can sign in."""
    assert await sign_in_as(tab, directory, person)
    assert tab.state.token["name"] == person
