"""Every failure of a sign-in, caused at the demo directory, and its text for the person."""

import json
import re
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from conftest import Clock
from jar import Jar
from tab import finishes, open_tab, registered, sign_in_as

from azure_auth.auth.core import services
from azure_auth.auth.entra.refusals import refusal
from azure_auth.auth.sessions.flows import FLOW_SECONDS
from azure_auth.demo.id_tokens import FORGERIES
from azure_auth.error_texts import ERROR_TEXTS
from azure_auth.errors import FlowExpired, FlowForeign, FlowTaken, FlowUnknown, Refused
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

KINDS = {
    "blocked_by_policy": {53000, 53001, 53002, 53003, 53004, 53009, 53010, 53011}
    | {530001, 530002, 530003, 530032, 530035}
    | {50002, 50005, 50097, 50129, 50131, 50155, 50187, 500021, 500022, 500212, 500213},
    "consent_missing": (65001, 90008, 90094, 90095),
    "proof_missing": (50072, 50074, 50076, 50078, 50079, 50125, 50158, 500121),
    "other_tenant": (16000, 16003, 50014, 50020, 50034, 51004, 90072, 500208),
    "password_expired": (50055, 50135, 50144),
    "account_locked": (50053,),
    "sign_in_needed": (50058, 50089, 50132, 50133, 50173),
    "credential_refused": {50012, 70002, 70021, 500133, 700024, 700025, 700027, 700030, 700211, 700212, 700213}
    | {7000215, 7000222},
    "redirect_unknown": (50011, 70004, 500112, 900971, 9002327),
    "app_unknown": (50059, 50128, 50194, 70001, 90002, 90019, 90038, 700011, 700016),
    "app_disabled": (1000031, 7000112),
    "scopes_wrong": {28002, 50001, 65005, 70011, 500011, 500014, 650052, 650053, 650054, 650056, 650057}
    | {700022, 700023},
    "request_refused": (70003, 70005, 90014, 90023, 900144),
    "cancelled": (65004,),
}
BY_OAUTH_ERROR = {
    "access_denied": "refused",
    "account_selection_required": "sign_in_needed",
    "consent_required": "consent_missing",
    "interaction_required": "sign_in_needed",
    "invalid_client": "credential_refused",
    "invalid_grant": "refused",
    "invalid_request": "request_refused",
    "invalid_resource": "scopes_wrong",
    "invalid_scope": "scopes_wrong",
    "login_required": "sign_in_needed",
    "something_new": "refused",
    "unauthorized_client": "app_unknown",
    "unsupported_response_type": "request_refused",
}
HOPELESS = {"credential_refused", "redirect_unknown", "app_unknown", "app_disabled", "scopes_wrong", "request_refused"}


@pytest.mark.parametrize(("code", "number"), [(code, number) for code, numbers in KINDS.items() for number in numbers])
def test_a_number_has_its_kind(code, number):
    """A number from Microsoft's page of error codes decides, not OAuth's code beside it."""
    for error in BY_OAUTH_ERROR:
        for said in ({"error_codes": [number]}, {"error_description": f"AADSTS{number}: text"}):
            assert refusal({"error": error, **said}).code == code


@pytest.mark.parametrize("error", BY_OAUTH_ERROR)
def test_an_unknown_number_leaves_it_to_oauth(error):
    """OAuth's code decides if no number is known; the page never guesses that the person cancelled."""
    for number in (99999, 5300, 153003):
        failure = refusal({"error": error, "error_description": f"AADSTS{number}: text"})
        assert failure.code == BY_OAUTH_ERROR[error]
        assert f"AADSTS{number}" in failure.detail


@pytest.mark.parametrize("code", [code for code, text in ERROR_TEXTS.items() if text.numbers] + ["refused"])
def test_nobody_is_asked_to_try_what_cannot_help(code):
    """If the app or its registration is faulty, "Start page" replaces "Try again"; other controls stay."""
    shown = Refused(code=code).shown("/auth/sign-in", "/auth/sign-in?prompt=select_account")
    expected = ("Start page", "/") if code in HOPELESS else ("Try again", "/auth/sign-in")
    assert (shown["way_on"], shown["again"]) == expected
    assert shown["other_account"]
    if code in HOPELESS:
        assert "ry again" not in shown["message"]
        assert ERROR_TEXTS[code].advice


def test_no_number_is_left_out():
    """Each AADSTS number with its own text has a row above or below."""
    rows = {*BY_NUMBER, *(number for numbers in KINDS.values() for number in numbers)}
    assert {number for text in ERROR_TEXTS.values() for number in text.numbers} <= rows


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


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("admin_consent=True&tenant=evil.example", "consent_answered"),
        ("admin_consent=True&state=12345&tenant=x&scope=y", "consent_answered"),
        ("admin_consent=True&tenant=x&error=consent_required&error_description=AADSTS65004: evil", "consent_answered"),
        ("error=access_denied", "answer_unasked"),
        ("error=access_denied&error_subcode=cancel", "answer_unasked"),
        ("error=server_error&error_description=AADSTS90033: evil", "answer_unasked"),
        ("error=evil&error=access_denied&state=", "answer_unasked"),
        ("error=access_denied&state=unknown", "flow_foreign"),
        ("code=evil", "flow_foreign"),
        ("code=evil&code=evil&state=a&state=b", "flow_foreign"),
        ("session_state=evil", "flow_foreign"),
        ("tenant=evil.example", "flow_foreign"),
        ("", "flow_foreign"),
    ],
)
async def test_an_answer_to_nobody_has_neutral_words(tab, directory, caplog, query, code):
    """An answer without a flow of this browser grants nothing. None of its text reaches the page or the log.

    Microsoft's page "Admin consent on the Microsoft identity platform" has the parameters; a refusal says
    `admin_consent=True` too.
    """
    await tab.opens(f"/callback?{query}", "callback")
    assert not tab.state.check_auth
    told = tab.told["failure"]
    assert told["heading"] == ERROR_TEXTS[code].heading
    assert told["reference"]
    assert told["way_on"] == "Try again"
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if record.name == "azure_auth.audit"]
    assert (line["event"], line["failure"], line["reference"]) == ("failed", code, told["reference"])
    assert "person" not in line
    assert "evil" not in f"{told}{line}"


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
    expected = {
        **dict.fromkeys(("no_token", "not_a_jwt"), "Microsoft's answer was incomplete"),
        **dict.fromkeys(("exp_wrong", "nbf_wrong", "iat_wrong"), "The clocks do not agree"),
    }
    assert tab.told["failure"]["heading"] == expected.get(forgery, "Your sign-in could not be verified")
    assert await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.state.check_auth


async def test_keys_that_roll_over_lock_nobody_out(directory, settings, make_sign_in, monkeypatch):
    """After a key roll-over, the new key is fetched at once, also right after the last fetch."""
    registered(make_sign_in(settings, Clock()))
    tab = open_tab()
    await sign_in_as(tab, directory, "Ada Lovelace")
    tab.cookies.pop("azure_auth_session")
    with directory.fault(endpoint="keys", roll_over=True):
        await sign_in_as(tab, directory, "Ada Lovelace")
    assert tab.state.check_auth


@pytest.mark.parametrize("person", ["Mary Somerville", "Joan Clarke"])
async def test_guests_and_people_in_many_groups_get_in(tab, directory, person):
    """A guest, and a person whose 300 groups are not in the token, can sign in."""
    assert await sign_in_as(tab, directory, person)
    assert tab.state.token["name"] == person
