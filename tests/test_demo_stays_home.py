"""The demo directory's people exist in `reflex run` on this machine, without a tenant, and in no other start."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import CONTRACT, ROOT, clean_environ, free_port
from running import cloned

from azure_auth.demo.loopback import LoopbackOnly
from azure_auth.errors import NotConfigured
from azure_auth.settings import Settings

PERSON = "ada00000-0000-4000-8000-000000000001"
NAMES = [name for name in CONTRACT if name.startswith("AZURE_")]
DEV = {"REFLEX_ENV_MODE": "dev"}
WRONG = {
    "production": {"REFLEX_ENV_MODE": "prod"},
    "preview": {"REFLEX_ENV_MODE": "preview"},
    "public address": {**DEV, "REFLEX_DEPLOY_URL": "https://app.example.com"},
    "no address": {**DEV, "REFLEX_DEPLOY_URL": "localhost"},
    "public backend": {**DEV, "REFLEX_API_URL": "http://192.0.2.7:8000"},
    "bound to all": {**DEV, "REFLEX_BACKEND_HOST": "0.0.0.0"},
    "bound to all of IPv6": {**DEV, "REFLEX_BACKEND_HOST": "::"},
    "bound to a name": {**DEV, "REFLEX_BACKEND_HOST": "app.example.com"},
    "no reflex run": {},
    **{f"only {name}": {**DEV, name: "11111111-1111-1111-1111-111111111111"} for name in NAMES},
    **{f"an empty {name}": {**DEV, name: ""} for name in NAMES},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_no_settings_but_developments_own_have_demo_people(wrong):
    """Each wrong start is refused with its faults; the control is development as it comes."""
    assert Settings.load(DEV).demo
    with pytest.raises(NotConfigured) as refused:
        Settings.load(WRONG[wrong])
    assert refused.value.faults


@pytest.mark.parametrize("wrong", ["production", "preview", "bound to all", "only AZURE_CLIENT_ID"])
def test_what_reflex_reads_first_refuses_the_start(tmp_path, wrong):
    """`rxconfig.py`, as `reflex run` reads it: exit status 1, the text of every fault, no traceback, no person."""
    environ = {**clean_environ(), **WRONG[wrong]}
    command = [sys.executable, "-c", "import runpy; runpy.run_path('rxconfig.py')"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The app cannot start" in done.stderr
    assert "Traceback" not in done.stderr
    assert PERSON not in done.stdout + done.stderr


STARTS = {
    "production": (["--env", "prod"], {}),
    "public address": ([], {"REFLEX_DEPLOY_URL": "https://app.example.com"}),
    "bound to all": (["--backend-host", "0.0.0.0"], {}),
}


@pytest.mark.parametrize("wrong", STARTS)
def test_reflex_run_does_not_start(tmp_path, wrong):
    """The real command ends with the text and status 1, and nobody listens."""
    arguments, environ = STARTS[wrong]
    port = free_port()
    ports = ["--frontend-port", str(port)] + ([] if wrong == "production" else ["--backend-port", str(free_port())])
    command = [str(Path(sys.executable).parent / "reflex"), "run", *arguments, *ports]
    environ = {**clean_environ(), **environ, "REFLEX_WEB_WORKDIR": str(tmp_path / "web"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=cloned(tmp_path), env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "The app cannot start" in said
    assert "Traceback" not in said
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://localhost:{port}/demo/{PERSON}")


def over(peer: str) -> httpx.AsyncClient:
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(LoopbackOnly(app), client=(peer, 5)), base_url="http://localhost"
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("POST", {}, 200),
        ("POST", {"Origin": "http://localhost:8000"}, 200),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": "http://localhost.evil.example"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("DELETE", {"Origin": "http://evil.example"}, 403),
        ("GET", {"Host": "app.example.com"}, 403),
        ("GET", {"Host": "127.0.0.1:8000"}, 200),
        ("GET", {"Host": "[::1]:8000"}, 200),
        ("GET", {"Host": "127.0.0.1.nip.example"}, 403),
        ("GET", {"Host": "0.0.0.0"}, 403),
        ("GET", {"Host": "localhost@evil.example"}, 403),
        ("GET", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("GET", {"X-Forwarded-Host": "localhost"}, 403),
        ("GET", {"X-Forwarded-Proto": "https"}, 403),
        ("GET", {"Forwarded": "for=127.0.0.1"}, 403),
        ("GET", {"X-Real-IP": "127.0.0.1"}, 403),
        ("GET", {"Via": "1.1 proxy"}, 403),
    ],
)
async def test_a_request_that_is_not_of_this_machine_alone_is_refused(method, headers, status):
    """Host, Origin of what changes something, and no word of a proxy."""
    async with over("127.0.0.1") as client:
        assert (await client.request(method, "/", headers=headers)).status_code == status


@pytest.mark.anyio
@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.7", "::ffff:192.0.2.7", "fe80::1", "", "testclient", "0.0.0.0"])
async def test_only_a_loopback_peer_is_answered(peer):
    """Whatever the headers say of it."""
    async with over(peer) as client:
        assert (await client.get("/", headers={"Host": "localhost"})).status_code == 403


def test_the_machines_own_address_reaches_nobody(development):
    """The control of the control: on loopback the people are there."""
    tenant = f"{development.backend_url}/demo/c0ffee00-0000-4000-8000-00000000cafe"
    assert httpx.get(f"{tenant}/v2.0/.well-known/openid-configuration").status_code == 200
    forwarded = httpx.get(f"{tenant}/discovery/v2.0/keys", headers={"X-Forwarded-For": "127.0.0.1"})
    assert forwarded.status_code == 403
