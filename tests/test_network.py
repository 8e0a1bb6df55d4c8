"""The network between the app and the directory: certificates, proxies, names, and answers that never end."""

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import DAY, certificate, pem_of
from conftest import free_port
from forge import CLIENT, TENANT

from azure_auth.auth.entra.client import Client
from azure_auth.auth.entra.http import DirectoryHttp
from azure_auth.errors import AnswerIncomplete, AuthError, NotConfigured, Slow, Unavailable
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
APP = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": "hush-hush"}


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def pem_file(folder: Path, **given: Any) -> Path:
    """A certificate and its key in one file."""
    path = folder / "server.pem"
    path.write_bytes(pem_of(certificate(**given)))
    return path


@contextmanager
def listening(answer: Callable[[socket.socket], None], pem: Path | None = None) -> Iterator[int]:
    """A server on loopback that lets `answer` talk to each connection, by TLS if there is a certificate."""
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)

    def talk(connection: socket.socket) -> None:
        try:
            with connection, context.wrap_socket(connection, server_side=True) if context else connection as peer:
                peer.recv(65_536)
                answer(peer)
        except OSError:
            pass  # the client is gone

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def says(text: bytes) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(text)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD_OF_9000 = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"


def detail(url: str) -> str:
    """What the log says about a request that fails; never its path or query."""
    with DirectoryHttp(4, None) as http, pytest.raises(Unavailable) as caught:
        http.get(f"{url}/path-of-it?secret=hush-hush")
    assert caught.value.code == "unavailable"
    assert not any(part in str(caught.value) for part in ("path-of-it", "secret", "hush-hush", "user:", "pass"))
    return caught.value.detail


@pytest.mark.parametrize(
    ("given", "trusted", "says_"),
    [
        ({}, False, ["self-signed certificate", "SSL_CERT_FILE"]),
        ({"name": "other.example"}, True, ["another name", "AZURE_AUTHORITY_HOST"]),
        ({"begins": -2 * DAY, "ends": -DAY}, True, ["expired", "clock"]),
        ({"begins": DAY, "ends": 2 * DAY}, True, ["not yet valid", "clock"]),
    ],
)
def test_the_log_says_what_is_wrong_with_a_certificate(tmp_path, monkeypatch, given, trusted, says_):
    """An untrusted issuer, another name and a wrong time are different faults, with different settings."""
    pem = pem_file(tmp_path, **given)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with listening(says(OK), pem) as port:
        said = detail(f"https://localhost:{port}")
        assert all(part in said for part in [*says_, f"localhost:{port}"]), said


def test_a_trusted_certificate_is_no_fault(tmp_path, monkeypatch):
    """With the certificate in SSL_CERT_FILE, the same server answers."""
    pem = pem_file(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with listening(says(OK), pem) as port, DirectoryHttp(4, None) as http:
        assert http.get(f"https://localhost:{port}/").json() == {}


def test_the_log_says_why_nobody_is_reached():
    """A closed port, an unknown name and a server without TLS are told apart."""
    port = free_port()
    assert "the port is closed" in (said := detail(f"https://127.0.0.1:{port}"))
    assert f"127.0.0.1:{port}" in said
    assert "the name is unknown" in detail("https://directory.invalid")
    with listening(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert "no TLS" in detail(f"https://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("answer", "says_"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "the proxy answers 407"),
        (b"HTTP/1.1 403 user:pass\r\nContent-Length: 0\r\n\r\n", "the proxy answers 403"),
        (None, "the port is closed"),
    ],
)
def test_the_log_says_what_is_wrong_with_a_proxy(monkeypatch, answer, says_):
    """It names the proxy's host and port, without user and password, and the setting."""
    with listening(says(answer or b"")) as port:
        port = port if answer else free_port()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{port}")
        said = detail("https://login.example")
    assert says_ in said
    assert f"by the proxy 127.0.0.1:{port}" in said
    assert "HTTPS_PROXY" in said


def drips(peer: socket.socket, head: bytes = HEAD_OF_9000) -> None:
    peer.sendall(head)
    for _ in range(200):
        time.sleep(0.05)
        peer.sendall(b"x")


@pytest.mark.parametrize(
    ("scheme", "head"),
    [("https", HEAD_OF_9000), ("https", b"HTTP/1.1 200 OK\r\nX: "), ("http", HEAD_OF_9000)],
)
def test_a_dripping_answer_ends_at_its_deadline(tmp_path, monkeypatch, scheme, head):
    """One limit holds for the whole answer, however its bytes come: over TLS also for the headers."""
    pem = pem_file(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    tls = pem if scheme == "https" else None
    with listening(lambda peer: drips(peer, head), tls) as port, DirectoryHttp(4, None, seconds=0.5) as http:
        began = time.monotonic()
        with pytest.raises(Slow):
            http.get(f"{scheme}://localhost:{port}/")
        assert 0.4 < time.monotonic() - began < 1.5


@pytest.mark.parametrize("proxy", ["http", "https"])
def test_a_dripping_proxy_ends_at_the_deadline(tmp_path, monkeypatch, proxy):
    """The limit also holds for the proxy's answer to CONNECT, which would hold up everybody."""
    pem = pem_file(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    head = b"HTTP/1.1 200 OK\r\nX: "
    with listening(lambda peer: drips(peer, head), pem if proxy == "https" else None) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"{proxy}://localhost:{port}")
        with DirectoryHttp(4, None, seconds=0.5) as http:
            began = time.monotonic()
            with pytest.raises(Slow):
                http.get("https://login.example/")
            assert 0.4 < time.monotonic() - began < 1.5


def test_dripping_answers_hold_no_connection(tmp_path, monkeypatch):
    """After more slow answers than the pool has connections, a good one comes at once; its connection is kept."""
    pem = pem_file(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    good, connections = threading.Event(), []

    def answer(peer: socket.socket) -> None:
        connections.append(peer)
        if good.is_set():
            while True:
                peer.sendall(OK)
                if not peer.recv(65_536):
                    return
        drips(peer)

    with listening(answer, pem) as port, DirectoryHttp(4, None, seconds=0.3) as http:
        for _ in range(6):
            with pytest.raises(Slow):
                http.get(f"https://localhost:{port}/")
        good.set()
        before = len(connections)
        assert [http.get(f"https://localhost:{port}/").json() for _ in range(3)] == [{}] * 3
        assert len(connections) == before + 1


@pytest.mark.parametrize("packed", [False, True])
def test_an_endless_answer_is_refused(packed):
    """An answer has at most a million bytes, also after unpacking."""
    body = b"x" * 1_000_001
    head, body = (b"Content-Encoding: gzip\r\n", gzip.compress(body)) if packed else (b"", body)
    answer = b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with listening(says(answer)) as port, DirectoryHttp(4, None) as http, pytest.raises(AnswerIncomplete):
        http.get(f"http://localhost:{port}/")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_packed_answer_takes_no_more_memory_than_its_limit(times):
    """A few hundred bytes unpack to 200 million, packed twice or more; they are refused before that."""
    import gzip
    import tracemalloc

    body = b"\0" * 200_000_000
    for _ in range(times):
        body = gzip.compress(body)
    names = b", ".join([b"gzip"] * times)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (names, len(body))
    with listening(says(head + body)) as port, DirectoryHttp(4, None) as http:
        tracemalloc.start()
        try:
            with pytest.raises(AnswerIncomplete):
                http.get(f"http://localhost:{port}/")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_no_cookie_of_an_answer_is_kept():
    """All people share one client; a cookie of one answer goes along with no other request."""
    asked = []

    def answer(peer: socket.socket) -> None:
        for number in range(3):
            peer.sendall(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: c%d=one-persons\r\n\r\n" % number))
            asked.append(peer.recv(65_536))

    with listening(answer) as port, DirectoryHttp(4, None) as http:
        for _ in range(3):
            http.get(f"http://localhost:{port}/")
    assert len(asked) >= 2
    assert not any(b"one-persons" in request for request in asked)


def test_a_packed_answer_is_unpacked_once():
    """An answer that a proxy has compressed is decompressed once."""
    body = gzip.compress(b'{"a": 1}')
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with listening(says(answer)) as port, DirectoryHttp(4, None) as http:
        assert http.get(f"http://localhost:{port}/").json() == {"a": 1}


BAD_PROXIES = [
    *("socks5://proxy:1", "socks5h://proxy:1", "socks4://proxy:1", "ftp://proxy:1"),
    *("http://proxy:port", "'http://proxy:1'", " http://proxy:1", "http://user:p#ss@proxy:1"),
    *("http://proxy:1\n", "http://proxy\t:1", "http://\u200bproxy:1", "http://256.256.256.256:1"),
]
NO_HOSTS = [
    *("http://", "http://:3128", "//proxy:1", "http://user:pass@:1"),
    *("http://pro xy:1", "http:// proxy:1", "http://%:1"),
]
BAD_NO_PROXIES = ["[::1]", "localhost,[::1]", "[fe80::1]:80", "fe80::/10", "host:port", "bücher.example"]
GOOD_PROXIES = [
    *("http://proxy:1", "proxy:1", "https://proxy:1", "http://user:pass@proxy:1", "http://[::1]:3128", "http://proxy"),
    *("http://10.0.0.1:3128", "http://my_proxy.example:1", "http://bücher.example:1", "http://proxy:1/", ""),
]
GOOD_NO_PROXIES = [
    *("*", "::1", "localhost,127.0.0.1", ".contoso.example", "10.0.0.0/8", "host:80", " a , b ", "*,[::1]", ""),
    *("<local>", "a b", "localhost;127.0.0.1"),
]


def httpx_takes(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> bool:
    """Whether httpx can use these variables."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    try:
        DirectoryHttp(4, None).close()
    except (ValueError, ImportError, httpx.InvalidURL):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"], BAD_PROXIES),
        *product(["NO_PROXY", "no_proxy"], BAD_NO_PROXIES),
    ],
)
def test_a_proxy_that_cannot_be_used_stops_the_start(monkeypatch, name, value):
    """The fault names the variable, but not its value, which may have a password. httpx refuses the value too."""
    with pytest.raises(NotConfigured) as caught:
        Settings.load({**APP, name: value})
    (fault,) = caught.value.faults
    assert fault.startswith(f"{name} ")
    assert value not in fault
    assert not httpx_takes(monkeypatch, {name: value})


@pytest.mark.parametrize("value", NO_HOSTS)
def test_a_proxy_without_a_host_stops_the_start(value):
    """httpx takes these, and reaches nobody."""
    with pytest.raises(NotConfigured) as caught:
        Settings.load({**APP, "HTTPS_PROXY": value})
    (fault,) = caught.value.faults
    assert fault.startswith("HTTPS_PROXY ")
    assert value not in fault.partition(":")[0]


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        *(({name: value}, True) for name, value in product(["HTTPS_PROXY", "all_proxy"], GOOD_PROXIES)),
        *(({"NO_PROXY": value}, True) for value in GOOD_NO_PROXIES),
        ({"ALL_PROXY": "socks5://proxy:1", "NO_PROXY": "*"}, True),
        ({"NO_PROXY": "*", "no_proxy": "[::1]"}, False),
        ({"ALL_PROXY": "socks5://h:1", "NO_PROXY": "*", "no_proxy": "x"}, False),
        ({"HTTPS_PROXY": "socks5://h:1", "https_proxy": "http://h:1"}, True),
        ({"HTTPS_PROXY": "socks5://h:1", "https_proxy": ""}, True),
        ({"NO_PROXY": "[::1]", "no_proxy": "x"}, True),
        ({"NO_PROXY": "[::1]", "no_proxy": ""}, True),
        ({"NO_PROXY": "https://x,https://x:8443,all://x,x:"}, True),
        ({"HTTPS_PROXY": "http://h:3128 "}, True),
    ],
)
def test_the_app_starts_if_httpx_can_use_the_proxies(monkeypatch, given, starts):
    """Only what httpx refuses stops the start: a lower-case name wins, and NO_PROXY=* turns all proxies off."""
    assert httpx_takes(monkeypatch, given) is starts
    with nullcontext() if starts else pytest.raises(NotConfigured):
        Settings.load({**APP, **given})


async def test_the_demo_looks_at_no_proxy_and_no_certificate(monkeypatch, tmp_path):
    """The demo directory is on this machine, so it works with any proxy or certificate variable."""
    for name, value in {"ALL_PROXY": "socks5://proxy:1", "NO_PROXY": "[::1]", "SSL_CERT_FILE": "/none"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load({"REFLEX_ENV_MODE": "dev", "ALL_PROXY": "socks5://proxy:1", "SSL_CERT_FILE": "/none"})
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(503)

    client = Client(settings, {settings.authority_host: httpx.MockTransport(answer)})
    with pytest.raises(AuthError):
        await client.begin("http://localhost:3000/callback", None)
    client.close()
    assert asked


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("content", [None, b"", b"garbage", "folder"])
def test_trust_that_cannot_be_read_stops_the_start(tmp_path, name, content):
    """A missing, empty or damaged list of certificates is named."""
    path = tmp_path / "trusted"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    environ = {**APP, name: str(path)}
    if name == "SSL_CERT_DIR" and content == "folder":
        Settings.load(environ)
        return
    with pytest.raises(NotConfigured) as caught:
        Settings.load(environ)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_trust_for_other_programs_is_pointed_out(tmp_path, name):
    """The start names a variable of other programs, unless SSL_CERT_FILE is set or the demo directory runs."""
    (note,) = Settings.load({**APP, name: "/etc/ca.pem"}).notes
    assert name in note
    assert "SSL_CERT_FILE" in note
    pem = pem_file(tmp_path)
    assert Settings.load({**APP, name: "/etc/ca.pem", "SSL_CERT_FILE": str(pem)}).notes == ()
    assert Settings.load({"REFLEX_ENV_MODE": "dev", name: "/etc/ca.pem"}).notes == ()
