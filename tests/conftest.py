"""What tests share: a demo directory in a process of its own, settings that lead to it, and a person who clicks."""

import functools
import os
import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from azure_auth.auth.entra.client import Client
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.auth.sign_in import SignIn
from azure_auth.demo.people import PEOPLE
from azure_auth.settings import Settings

if TYPE_CHECKING:
    from tab import Tab

pytest_plugins = ["browsing"]
ROOT = Path(__file__).parent.parent
CONTRACT = [
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_ALLOWED_TENANTS",
    "LOGIN_REDIRECT",
    "LOGIN_SCOPES",
    "SESSION_IDLE_MINUTES",
    "SESSION_MAX_HOURS",
    "SESSION_SECRET",
    "REFLEX_DEPLOY_URL",
    "REFLEX_REDIS_URL",
    "REFLEX_TRUSTED_PROXY_HOPS",
]


_given: set[int] = set()


def free_port() -> int:
    """A port that nobody has; below those that the system gives to clients, which could take it meanwhile."""
    while True:
        port = random.randint(20_000, 32_000)
        if port in _given:  # its server may not listen yet
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


APP = f"http://localhost:{free_port()}"
"""The public address of the app that runs as a production build."""
KEYS = ServerKeys(lambda: [b"the secret of the tests, 32 bytes"])


@dataclass
class Clock:
    """A clock that stands until it is set; it counts seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def clean_environ() -> dict[str, str]:
    """This machine's environment without anything that means something to the app; a developer's .env is not read."""
    ours = ("AZURE_", "REFLEX_", "LOGIN_", "SESSION_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHON_DOTENV_DISABLED": "true"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def patient() -> httpx.Client:
    """A client that connects once more on a busy machine."""
    return httpx.Client(transport=httpx.HTTPTransport(retries=2, verify=trust(os.environ["SSL_CERT_FILE"])))


@functools.cache
def trust(path: str) -> ssl.SSLContext:
    """Whom the tests' own connections trust; read once."""
    return ssl.create_default_context(cafile=path)


@dataclass(frozen=True)
class RunningDirectory:
    """The demo directory on https, the settings that it printed, and its process."""

    environ: dict[str, str]
    pid: int

    @contextmanager
    def fault(self, **fault: object) -> Iterator[None]:
        """Switch a fault on for a while, over HTTP (see `azure_auth.demo.faults`)."""
        url = f"{self.environ['AZURE_AUTHORITY_HOST']}/faults"
        with patient() as control:
            assert control.post(url, json=fault).status_code == 200
            try:
                yield
            finally:
                control.delete(url)

    def answer(self, auth_uri: str, person: str) -> dict[str, str]:
        """Click on a person at the sign-in page (nobody: cancel), and return the query that leads back to the app."""
        with patient() as browser:
            page = browser.get(auth_uri)
            assert page.status_code == 200, page.text
            oid = next((p.oid for p in PEOPLE if person in (p.name, p.username)), "")
            back = browser.post(auth_uri, data={"person": oid})
        assert back.status_code == 303, back.text
        return dict(parse_qsl(urlsplit(back.headers["location"]).query))


@contextmanager
def running_directory(app: str) -> Iterator[RunningDirectory]:
    """Run a demo directory for the app at the address `app` as a process of its own, trusted by this one."""
    command = [sys.executable, "-m", "azure_auth.demo", "--port", str(free_port()), "--app", app]
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environ(), stdout=subprocess.PIPE, text=True)
    try:
        environ = dict(process.stdout.readline().strip().split("=", 1) for _ in range(5))
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = environ["SSL_CERT_FILE"]
        wait_for(f"{environ['AZURE_AUTHORITY_HOST']}/common/discovery/v2.0/keys", process)
        yield RunningDirectory(environ, process.pid)
        os.environ.update({"SSL_CERT_FILE": before} if before else {})
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="session")
def directory() -> Iterator[RunningDirectory]:
    with running_directory(APP) as directory:
        yield directory


def wait_for(url: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until an address answers; fail when its process ends first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"the process ended with {process.returncode} before {url} answered"
        try:
            if httpx.get(url, timeout=2).status_code < 500:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"{url} did not answer within {seconds} s")


@pytest.fixture
def environ(directory: RunningDirectory) -> dict[str, str]:
    """The environment of an app that signs in at the demo directory."""
    return {**directory.environ, "REFLEX_DEPLOY_URL": APP, "REFLEX_ENV_MODE": "prod"}


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return Settings.load(environ)


@pytest.fixture(autouse=True)
def _closed_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes each embedded store of a test, also of one that fails: an open file is a warning from Python 3.13 on."""
    stores: list[EmbeddedStore] = []
    begin = EmbeddedStore.__init__

    def recorded(store: EmbeddedStore, *given: object) -> None:
        stores.append(store)
        begin(store, *given)

    monkeypatch.setattr(EmbeddedStore, "__init__", recorded)
    yield
    for store in stores:
        store._close()


@pytest.fixture
def make_sign_in(tmp_path: Path) -> Iterator[Callable[..., SignIn]]:
    """Builds what does the work for given settings (its client by a clock), and closes it after the test."""
    clients: list[Client] = []

    def make(settings: Settings, clock: Callable[[], float] = time.monotonic) -> SignIn:
        clients.append(Client(settings, clock=clock))
        store = EmbeddedStore(tmp_path / "sessions.sqlite")
        return SignIn(settings, clients[-1], Sessions(store, settings, KEYS), store, KEYS)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def sign_in(make_sign_in: Callable[[Settings], SignIn], settings: Settings) -> SignIn:
    return make_sign_in(settings)


@pytest.fixture
def tab(sign_in: SignIn) -> "Tab":
    """A browser tab without a browser."""
    from tab import open_tab, registered

    registered(sign_in)
    return open_tab()
