"""Logs and the audit trail: what they must contain, and what they must not."""

import io
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from urllib.parse import urlencode

import httpx
import pytest
from conftest import APP, ROOT, Clock
from jar import Jar

from azure_auth import audit
from azure_auth.error_texts import ERROR_TEXTS
from azure_auth.errors import AuthError, FlowForeign, TooManyRequests
from azure_auth.logs import clean, install_redaction
from azure_auth.reflex_build import keep_lines_whole

pytestmark = pytest.mark.anyio
ADA = ("c0ffee00-0000-4000-8000-00000000cafe", "ada00000-0000-4000-8000-000000000001")
CANARIES = {
    "code": "1.AXoAcanary-code." + "Ab9_-" * 60,
    "state": "canaryStateOf16c",
    "ticket": "canaryticket" + "t7_" * 10 + "x",
    "cookie": "canarycookie" + "c-5" * 10 + "y",
    "id_token": "eyJ0eXAiOiJKV1QifQ.eyJjYW5hcnkiOjF9.canary-signature_",
    "access_token": "canaryaccess" + "aA1-_" * 20,
    "refresh_token": "0.ARcanary." + "rR2_" * 50,
    "client_secret": "canary~secret.8Q-_value",
    "email": "canary.person+x@contoso.example",
    "guest": "canary_fabrikam.example#EXT#@contoso.example",
}
assert all(len(CANARIES[name]) == 43 for name in ("ticket", "cookie"))


def shapes() -> dict[str, tuple[object, ...]]:
    """Messages and arguments with canary secrets, as this app, Reflex, httpx and MSAL would log them."""
    secrets = {name: value for name, value in CANARIES.items() if name not in ("email", "guest", "cookie")}
    callback = urlencode({"code": CANARIES["code"], "state": CANARIES["state"], "session_state": "canary-session"})
    return {
        "url": (f"GET {APP}/callback?{callback} 200",),
        "form": ("POST %s", urlencode(secrets)),
        "json": ("answer %s", json.dumps(secrets)),
        "dict": ("answer %r", secrets),
        "mapping": ("%(code)s is not it: code=%(code)s", {"code": "code=" + CANARIES["code"]}),
        "cookie": (
            f"Cookie: a=b; azure_auth_session={CANARIES['cookie']}; __Host-azure_auth_flow={CANARIES['cookie']}",
        ),
        "bare": (f"ticket {CANARIES['ticket']}, cookie ({CANARIES['cookie']}), {CANARIES['id_token']}",),
        "bearer": (f"Authorization: Bearer {CANARIES['access_token']}",),
        "headers": ("%s", [(b"authorization", b"Bearer " + CANARIES["access_token"].encode())]),
        "long": (f"redeeming {CANARIES['code']} and {CANARIES['refresh_token']}",),
        "person": (f"{CANARIES['email']} and {CANARIES['guest']} came",),
        "event": ({"name": "x", "router_data": {"asPath": f"/callback?{callback}", "token": CANARIES["ticket"]}},),
        "broken": ("%d code=%s", "not a number", CANARIES["code"]),
        "lines": ("code=%s\r\nERROR forged\nWARNING forged\x1b[31m\x0bforged\u2028forged\x85forged", CANARIES["code"]),
    }


@pytest.fixture
def written(monkeypatch):
    """Everything that any logger writes during the test, with redaction installed."""
    before = logging.getLogRecordFactory()
    keep_lines_whole()
    install_redaction()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    yield stream
    root.removeHandler(handler)
    logging.setLogRecordFactory(before)


def fail(logger: str, text: str) -> None:
    """Log an exception with this text."""
    try:
        json.loads(text, cls=Raising)
    except ValueError:
        logging.getLogger(logger).exception("it failed")


class Raising(json.JSONDecoder):
    def decode(self, s: str):
        raise ValueError(s)


@pytest.fixture
def trail():
    """Returns the audit lines that were recorded so far."""
    stream = io.StringIO()
    with audit.writing(stream):

        def lines() -> list[dict[str, object]]:
            end = time.monotonic() + 2
            audit.record("started", address="last")
            while '"last"' not in stream.getvalue().rpartition("\n{")[2] and time.monotonic() < end:
                time.sleep(0.005)
            return [line for line in map(json.loads, stream.getvalue().splitlines()) if line.get("address") != "last"]

        yield lines


@pytest.mark.parametrize(
    "name", ["", "azure_auth.auth.core", "reflex", "reflex.app", "httpx", "httpcore", "msal.oauth2cli"]
)
@pytest.mark.parametrize("shape", shapes())
def test_no_logger_lets_a_secret_through(written, name, shape):
    """A secret is redacted in every logger's message, argument and exception; the rest of the line stays."""
    message, *arguments = shapes()[shape]
    logging.getLogger(name).error(message, *arguments)
    fail(name, str(message) + str(arguments))
    text = written.getvalue()
    assert "canary" not in text, text
    assert "ValueError" in text
    assert shape == "lines" or "[redacted]" in text


WORDS = [
    "a",
    "a.",
    "a@",
    "@",
    "a@a.",
    "@a-",
    "azure_auth_",
    "_code",
    "code ",
    "code=",
    "eyJ",
    "-eyJ",
    "A1a~",
    "bearer ",
    "=",
]


@pytest.mark.parametrize("word", [*WORDS, *(f"{word} " for word in WORDS), "code" + " " * 1000, "a@" + "b" * 1000])
def test_cleaning_takes_time_in_proportion(word):
    """Redaction of 256 kB of near-secrets is fast, and its time is linear in the length."""
    text = word * (262_144 // len(word))
    took = []
    for part in (text[: len(text) // 4], text):
        began = time.perf_counter()
        clean(part)
        took.append(time.perf_counter() - began)
    assert took[1] < 1, took
    assert took[1] < 10 * took[0] + 0.1, took


@pytest.mark.parametrize("name", ["", "azure_auth.auth.core", "reflex", "httpx"])
def test_what_is_logged_is_cut(written, name):
    """The end of a long text, and a secret at the cut, is replaced by the number of missing characters."""
    began = time.perf_counter()
    for _ in range(10):
        logging.getLogger(name).error("%s", "x" * 262_144)
        fail(name, "y" * 262_144)
    assert time.perf_counter() - began < 2
    assert len(written.getvalue()) < 10 * 70_000
    assert "characters more)" in written.getvalue()
    logging.getLogger(name).error("%s %s", "word " * 1598, CANARIES["ticket"])
    assert "canary" not in written.getvalue()
    assert re.search(r"word +… \(\d+ characters more\)", written.getvalue())


def test_what_is_logged_stays_readable(written):
    """Addresses, references, event names and numbers are not redacted."""
    line = "failed reference=0123456789 AADSTS50105 http://localhost:3000/auth/sign-in?return_to=%2Freports"
    logging.getLogger("azure_auth").warning("%s", line)
    names = "reflex___state____state.azure_auth___pages___reports____reports.load"
    logging.getLogger("azure_auth").warning("%s", names)
    assert line in written.getvalue()
    assert names in written.getvalue()


def test_no_line_from_outside_begins_a_line(written):
    """Line ends and terminal controls are escaped; a traceback is indented."""
    message, *arguments = shapes()["lines"]
    logging.getLogger("azure_auth").error(message, *arguments)
    fail("reflex", "first\nERROR:azure_auth:forged\r\nWARNING:root:forged\x85forged\x1b[2J")
    for line in written.getvalue().splitlines():
        assert line.startswith(("ERROR:azure_auth:code", "ERROR:reflex:it failed", "  ")), line
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", written.getvalue())


def test_no_advice_looks_like_a_secret():
    """What the log advises reaches the operator word for word."""
    assert [text.advice for text in ERROR_TEXTS.values() if clean(text.advice) != text.advice] == []


def test_the_audit_trail_lets_no_secret_through(trail):
    """Secrets in an event's fields are redacted, and no value starts a new line."""
    for shape, (message, *arguments) in shapes().items():
        detail = f"{message} {arguments}"
        audit.record("failed", person=ADA, code="flow_unknown", detail=detail, reference="0123456789", address=shape)
    lines = trail()
    assert len(lines) == len(shapes())
    assert "canary" not in json.dumps(lines)
    for line in lines:
        assert (line["v"], line["event"], line["code"]) == (1, "failed", "flow_unknown")
        assert line["person"] == {"tid": ADA[0], "oid": ADA[1]}


def test_the_audit_line_survives_the_guard(written, trail):
    """With redaction installed, a line is still JSON with its code and ids."""
    audit.record("failed", person=ADA, code="flow_unknown", reference="0123456789", detail="a\r\nb", address="::1")
    (line,) = trail()
    assert line.pop("time")[:2] == "20"
    assert line == {
        "v": 1,
        "event": "failed",
        "person": {"tid": ADA[0], "oid": ADA[1]},
        "code": "flow_unknown",
        "reference": "0123456789",
        "detail": "a\r\nb",
        "address": "::1",
    }


async def test_a_sign_in_is_told_from_start_to_end(sign_in, directory, trail):
    """The trail has start, success with tid and oid, and sign-out with reason; no name, code, state or cookie."""
    jar = Jar()
    uri = await jar.begin(sign_in, "/", address="192.0.2.7")
    answer = directory.answer(uri, "Ada Lovelace")
    ticket = await jar.finish(sign_in, answer, address="192.0.2.7")
    cookie = (await jar.exchange(sign_in, ticket)).session_cookie
    lines = trail()
    assert [line["event"] for line in lines] == ["started", "succeeded"]
    assert lines[0]["address"] == "192.0.2.7"
    assert lines[1]["person"] == {"tid": ADA[0], "oid": ADA[1]}
    for secret in (answer["code"], answer["state"], ticket, cookie, *jar.cookies.values(), "Lovelace", "ada@"):
        assert secret not in json.dumps(lines)


async def test_a_failure_is_told_with_code_and_ids(sign_in, directory, trail):
    """A refusal's line has the error code, the page's reference, and Microsoft's trace and correlation ids."""
    jar = Jar()
    uri = await jar.begin(sign_in, "/")
    answer = directory.answer(uri, "Ada Lovelace")
    with directory.fault(endpoint="token", aadsts=50105), pytest.raises(AuthError) as failed:
        await jar.finish(sign_in, answer, address="192.0.2.7")
    line = trail()[-1]
    assert (line["event"], line["failure"], line["address"]) == ("failed", failed.value.code, "192.0.2.7")
    assert line["reference"] == failed.value.reference
    assert "AADSTS50105" in str(line["detail"])
    assert "trace_id" in str(line["detail"])
    assert "correlation_id" in str(line["detail"])


async def test_limits_and_forged_answers_are_told(sign_in, directory, trail):
    """The answer to another browser's flow is a failure, and a reached limit names its owner."""
    jar = Jar()
    uri = await jar.begin(sign_in, "/", tab="t" * 43)
    answer = directory.answer(uri, "Ada Lovelace")
    with pytest.raises(FlowForeign):
        await Jar().finish(sign_in, answer, address="192.0.2.8")
    for number in range(50):
        await jar.begin(sign_in, "/", tab=f"{number:043}", address="192.0.2.7")
    for _ in range(50):
        with pytest.raises(AuthError) as limited:
            await jar.finish(sign_in, {"state": "s"}, address="192.0.2.7")
    assert isinstance(limited.value, TooManyRequests)
    told = [(line["event"], line.get("failure") or line.get("reason")) for line in trail()]
    assert ("failed", "flow_foreign") in told
    assert ("limited", "starts of one browser") in told
    assert ("limited", "callbacks of one browser") in told


@pytest.mark.parametrize("reference", ["0123456789", "", "0123456789a", "<script>00", "é123456789"])
async def test_an_address_that_names_a_problem_is_no_problem(sign_in, trail, reference):
    """A failure in the query is shown with its reference, but not recorded, because anybody can write one."""
    for problem in ("store_unavailable", "too_many_requests", "unavailable"):
        with pytest.raises(AuthError) as shown:
            await Jar().finish(sign_in, {"problem": problem, "reference": reference}, address="192.0.2.7")
        assert shown.value.code == problem
        assert re.fullmatch("[0-9a-f]{10}", shown.value.reference)
        assert (shown.value.reference == reference) is (reference == "0123456789")
    assert trail() == []


def of_the_running_app(app) -> list[dict[str, object]]:
    return [json.loads(line) for line in app.console().splitlines() if line.startswith('{"v":')]


def test_the_running_app_tells_what_strangers_try(production):
    """The running app records refused and suspicious requests with their addresses."""
    before, others = len(of_the_running_app(production)), len(production.console())
    httpx.get(f"{production.url}/api/figures")
    httpx.post(f"{production.url}/auth/session", headers={"Origin": "http://evil.example"})
    told: list[dict[str, object]] = []
    end = time.monotonic() + 5
    while len(told) < 2 and time.monotonic() < end:
        time.sleep(0.02)
        told = of_the_running_app(production)[before:]
    assert [(line["event"], line["address"]) for line in told] == [
        ("refused", "127.0.0.1"),
        ("suspicious", "127.0.0.1"),
    ]
    assert "Traceback" not in production.console()[others:]


class Stuck(io.StringIO):
    """A sink that blocks until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.free.wait(20)
        return super().write(text)


def test_a_slow_sink_stops_nobody_and_is_counted(monkeypatch):
    """While the sink hangs, recording does not wait; the next line counts the dropped ones."""
    monkeypatch.setattr(audit, "AUDIT_LINES", 10)
    sink = Stuck()
    began = time.monotonic()
    with audit.writing(sink):
        for _ in range(500):
            audit.record("succeeded")
        assert time.monotonic() - began < 1
        sink.free.set()
        end = time.monotonic() + 5
        while '"lost"' not in sink.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
            audit.record("started", address="after")
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert sum(line.get("lost", 0) for line in lines) >= 480


def test_a_sink_that_hangs_for_good_does_not_hold_the_end_up(monkeypatch):
    """The app ends within seconds although the sink hangs."""
    monkeypatch.setattr(audit, "AUDIT_LINES", 10)
    sink = Stuck()
    with audit.writing(sink):
        for _ in range(50):
            audit.record("started")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    sink.free.set()


class Failing(io.StringIO):
    """A sink that fails for a while."""

    failures = 3

    def write(self, text: str) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on device")
        return super().write(text)


def test_a_failing_sink_stops_nobody_and_is_counted():
    """Three lines are lost; the fourth says so, and the fifth does not."""
    sink = Failing()
    with audit.writing(sink):
        for number in range(5):
            audit.record("started", address=str(number))
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [(line["address"], line.get("lost")) for line in lines] == [("3", 3), ("4", None)]


def test_cleaning_twice_changes_nothing():
    """A redacted text is not redacted again."""
    once = clean(f"code={CANARIES['code']}&state={CANARIES['state']}")
    assert clean(once) == once
    assert once == "code=[redacted]&state=[redacted]"


def test_one_record_is_one_line_on_reflexs_console(written, capfd):
    """Reflex's console does not wrap a long record, and control characters are escaped."""
    from reflex_base.utils.log import RichConsoleHandler

    forged = '{"v": 1, "event": "succeeded"}'
    for width in range(40, 90):
        text = f"{('word ' * 20)[:width]}{forged} {forged}\x1b[1A\r{forged}"
        RichConsoleHandler().emit(logging.getLogRecordFactory()("reflex", logging.ERROR, "", 1, text, None, None))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 50
    assert all(line.startswith("word word") and "\\x1b[1A\\r{" in line for line in lines)


def test_repeats_are_dropped_and_counted_first(trail_of):
    """100 lines of a kind per minute are written, then the first of each address; successes and ends always."""
    write, lines, clock = trail_of
    for _ in range(300):
        write("refused", reason="scan", address="192.0.2.1")
        write("succeeded", person=ADA)
        write("signed_out", person=ADA, reason="signed_out")
    write("refused", reason="scan", address="192.0.2.2")
    write("refused", reason="other", address="192.0.2.1")
    written = lines()
    assert [line["event"] for line in written].count("succeeded") == 300
    assert [line["event"] for line in written].count("signed_out") == 300
    scans = [line for line in written if line.get("reason") == "scan"]
    assert [line["address"] for line in scans] == ["192.0.2.1"] * 100 + ["192.0.2.2"]
    assert written[-1]["reason"] == "other"
    clock.now += 60
    write("refused", reason="scan", address="192.0.2.1")
    told, next_ = lines()[-2:]
    assert (told["event"], told["reason"], told["repeats"]) == ("refused", "scan", 200)
    assert (next_["address"], "repeats" in next_) == ("192.0.2.1", False)


def test_a_flood_from_many_addresses_is_bounded_too(trail_of):
    """At most 1,000 lines of a kind per minute are written, from all addresses; the rest is counted."""
    write, lines, clock = trail_of
    for number in range(1_500):
        write("refused", reason="scan", address=str(number))
    assert len(lines()) == 1_000
    clock.now += 60
    write("started", address="::1")
    assert lines()[-2]["repeats"] == 500


@pytest.fixture
def trail_of():
    """Records events by a clock that the test sets, and returns the lines written so far."""
    stream, clock = io.StringIO(), Clock()
    with audit.writing(stream, clock):
        (handler,), looks = logging.getLogger("azure_auth.audit").handlers, itertools.count()

        def lines() -> list[dict[str, object]]:
            last = json.dumps({"v": 0, "look": next(looks)})
            handler.queue.put(logging.makeLogRecord({"msg": last}))
            end = time.monotonic() + 5
            while last not in stream.getvalue() and time.monotonic() < end:
                time.sleep(0.005)
            return [line for line in map(json.loads, stream.getvalue().splitlines()) if line["v"]]

        yield audit.record, lines, clock


def test_room_is_kept_for_what_strangers_cannot_cause(monkeypatch):
    """While a sink hangs, events of anonymous clients fill nine tenths of the queue at most."""
    monkeypatch.setattr(audit, "AUDIT_LINES", 100)
    sink = Stuck()
    with audit.writing(sink):
        for number in range(99):
            audit.record("refused", reason=str(number))
        for _ in range(20):
            audit.record("succeeded", person=ADA)
        sink.free.set()
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [line["event"] for line in lines].count("succeeded") in (9, 10)
    assert len(lines) in (100, 101)


@pytest.mark.parametrize("long", ["reason", "detail", "page"])
def test_a_line_fits_into_one_write(trail, long):
    """A line has 4 kB at most: its longest text is cut, and all other fields stay."""
    audit.record("failed", person=ADA, failure="f", address="::1", **{"reason": "r", long: "é\x00" * 20_000})
    (line,) = trail()
    assert len(json.dumps(line)) < 4_096
    assert (line["failure"], line["address"], line["person"]["oid"]) == ("f", "::1", ADA[1])
    assert line[long].endswith("…")


def test_the_file_is_the_users_alone_and_follows_rotation(tmp_path):
    """The file has mode 0600, is appended to, and is created again after it was moved or deleted."""
    path = tmp_path / "audit.jsonl"
    path.write_text("before\n")
    path.unlink()
    with audit.output(path) as sink:
        sink.write("one\n")
        assert path.stat().st_mode & 0o777 == 0o600
        path.rename(tmp_path / "audit.jsonl.1")
        sink.write("two\n")
        path.unlink()
        sink.write("three\n")
    with audit.output(path) as sink:
        sink.write("four\n")
    assert (tmp_path / "audit.jsonl.1").read_text() == "one\n"
    assert path.read_text() == "three\nfour\n"


def test_a_torn_line_is_ended_by_the_next(tmp_path, monkeypatch):
    """A line that was written in part raises, and the next one begins on a new line."""
    path = tmp_path / "audit.jsonl"
    write = os.write
    with audit.output(path) as sink:
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        with pytest.raises(OSError, match="beginning"):
            sink.write("torn line\n")
        monkeypatch.setattr(os, "write", write)
        sink.write("whole\n")
    assert path.read_text() == "tor\nwhole\n"


SEPARATE = """
import logging, os, sys
from azure_auth import audit
print("before", flush=True)
with audit.output(None) as sink, audit.writing(sink):
    print('{"v": 1, "event": "forged"}', flush=True)
    os.system("echo from a child")
    audit.record("started", address="::1")
print("after", flush=True)
"""


def test_standard_output_is_the_trails_alone():
    """Everything else that the app and its children print goes to standard error."""
    run = subprocess.run(
        [sys.executable, "-c", SEPARATE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    before, line, after = run.stdout.splitlines()
    assert (before, json.loads(line)["event"], after) == ("before", "started", "after")
    assert run.stderr.splitlines() == ['{"v": 1, "event": "forged"}', "from a child"]
