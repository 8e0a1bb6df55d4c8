"""Settings: which values are valid, and what each fault says."""

import hmac
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import certificates
import pytest
from conftest import CONTRACT, ROOT, clean_environ
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from hypothesis import example, given
from hypothesis import strategies as st
from running import cloned

from azure_auth import reflex_build
from azure_auth.errors import NotConfigured
from azure_auth.reflex_build import config_for, load_env_file, require_writable
from azure_auth.settings import Settings

TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
SECRET = "a-secret-that-nobody-sees"
DEV = {"REFLEX_ENV_MODE": "dev"}
REAL = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": SECRET}
AZURE = [name for name in CONTRACT if name.startswith("AZURE_")]


def faults(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(NotConfigured) as caught:
        Settings.load(environ)
    return caught.value.faults


def test_three_values_are_enough():
    """Tenant, client and secret are enough; all other settings have the contract's defaults."""
    settings = Settings.load(REAL)
    assert (settings.tenant_id, settings.client_id, settings.credential) == (TENANT, CLIENT, SECRET)
    assert settings.authority_host == "https://login.microsoftonline.com"
    assert settings.login_redirect == "/"
    assert settings.login_scopes == ("User.Read",)
    assert (settings.session_idle, settings.session_max) == (timedelta(minutes=60), timedelta(hours=12))
    assert settings.public_url == "http://localhost:3000"
    assert not settings.demo


def test_no_value_at_all_is_the_demo_in_development():
    """Without any AZURE_* value, development on loopback uses the demo directory; its secret differs at each start."""
    first, second = Settings.load(DEV), Settings.load(DEV)
    assert first.demo
    assert first.credential != second.credential


@pytest.mark.parametrize("name", AZURE)
def test_a_single_azure_value_is_never_silently_the_demo(name):
    """Each AZURE_* name of the contract, even if empty, turns the demo off; faults name the missing ones."""
    for value in ("", TENANT):
        named = " ".join(faults({**DEV, name: value}))
        assert {"AZURE_TENANT_ID", "AZURE_CLIENT_ID"} - {name} == {
            missing for missing in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID") if f"{missing} is not set" in named
        }


def test_other_azure_values_mean_nothing():
    """Other AZURE_* values, as in a developer's shell, have no effect."""
    assert Settings.load({**DEV, "AZURE_SUBSCRIPTION_ID": "x", "AZURE_USERNAME": "y"}).demo


@pytest.mark.parametrize(
    "environ",
    [
        {"REFLEX_ENV_MODE": "prod"},
        {"REFLEX_ENV_MODE": "preview"},
        {"REFLEX_DEPLOY_URL": "https://app.example.com"},
        {"REFLEX_BACKEND_HOST": "0.0.0.0"},
        {"REFLEX_BACKEND_HOST": "::"},
        {"REFLEX_API_URL": "https://tunnel.example.com"},
        {"REFLEX_ENV_MODE": "DEV"},
        {"REFLEX_ENV_MODE": ""},
    ],
)
def test_the_demo_is_for_development_on_loopback(environ):
    """In production, in preview, at a public address or on a public bind, missing values are faults."""
    assert Settings.load(DEV).demo
    named = faults({**DEV, **environ})
    assert [fault.split()[0] for fault in named[:3]] == ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]
    assert named[3].startswith("The demo directory is not used")


def test_every_fault_is_named_at_once():
    """All faults are reported at once; each names its variable and what to do."""
    named = faults(
        {
            "AZURE_TENANT_ID": "contoso",
            "AZURE_CLIENT_ID": "the app",
            "AZURE_AUTHORITY_HOST": "http://login.example.com",
            "AZURE_ALLOWED_TENANTS": "fabrikam",
            "LOGIN_REDIRECT": "//evil.example",
            "LOGIN_SCOPES": "User.Read openid",
            "SESSION_IDLE_MINUTES": "an hour",
            "SESSION_MAX_HOURS": "0",
            "REFLEX_DEPLOY_URL": "http://app.example.com",
            "REFLEX_REDIS_URL": "localhost:6379",
        }
    )
    assert sorted(fault.split()[0] for fault in named) == sorted(
        [
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_AUTHORITY_HOST",
            "AZURE_ALLOWED_TENANTS",
            "LOGIN_REDIRECT",
            "LOGIN_SCOPES",
            "SESSION_IDLE_MINUTES",
            "SESSION_MAX_HOURS",
            "REFLEX_DEPLOY_URL",
            "REFLEX_REDIS_URL",
        ]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AZURE_TENANT_ID", "consumers"),
        ("AZURE_TENANT_ID", "../x"),
        ("AZURE_CLIENT_ID", f"{CLIENT}x"),
        ("AZURE_CLIENT_SECRET", "  "),
        ("AZURE_AUTHORITY_HOST", "https://login.example.com/tenant"),
        ("AZURE_AUTHORITY_HOST", "https://user@login.example.com"),
        ("AZURE_ALLOWED_TENANTS", CLIENT),
        ("LOGIN_REDIRECT", "https://evil.example"),
        ("LOGIN_REDIRECT", "/logout"),
        ("LOGIN_SCOPES", "offline_access"),
        ("LOGIN_SCOPES", ","),
        ("SESSION_IDLE_MINUTES", "721"),
        ("SESSION_IDLE_MINUTES", "1.5"),
        ("SESSION_MAX_HOURS", "-1"),
        ("REFLEX_DEPLOY_URL", "http://10.0.0.1"),
        ("REFLEX_DEPLOY_URL", "https://app.example.com/prefix"),
        ("REFLEX_DEPLOY_URL", "ftp://localhost"),
        ("REFLEX_DEPLOY_URL", "https://"),
        ("REFLEX_DEPLOY_URL", "https://app.example.com:port"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(name, value):
    """A wrong value is a fault of its own variable alone."""
    assert [fault.split()[0] for fault in faults({**REAL, name: value})] == [name]


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("AZURE_TENANT_ID", "Contoso.onmicrosoft.com", "tenant_id", "contoso.onmicrosoft.com"),
        ("AZURE_AUTHORITY_HOST", "login.microsoftonline.us", "authority_host", "https://login.microsoftonline.us"),
        ("AZURE_AUTHORITY_HOST", "https://localhost:9443/", "authority_host", "https://localhost:9443"),
        ("LOGIN_REDIRECT", "/reports?tab=1", "login_redirect", "/reports?tab=1"),
        ("LOGIN_SCOPES", "User.Read, Mail.Read,", "login_scopes", ("User.Read", "Mail.Read")),
        ("REFLEX_DEPLOY_URL", "https://App.example.com:443/", "public_url", "https://app.example.com"),
        ("REFLEX_DEPLOY_URL", "http://[::1]:3000", "public_url", "http://[::1]:3000"),
        ("REFLEX_DEPLOY_URL", "", "public_url", "http://localhost:3000"),
        ("REFLEX_FRONTEND_PORT", "4000", "public_url", "http://localhost:4000"),
    ],
)
def test_values_are_read_as_they_are_meant(name, value, attribute, expected):
    """Case, a trailing slash and a default port make no difference."""
    assert getattr(Settings.load({**REAL, name: value}), attribute) == expected


def test_many_tenants_need_a_list():
    """`organizations` and `common` require AZURE_ALLOWED_TENANTS."""
    many = {**REAL, "AZURE_TENANT_ID": "organizations"}
    for none in ({}, {"AZURE_ALLOWED_TENANTS": ","}):
        assert [fault.split()[0] for fault in faults({**many, **none})] == ["AZURE_ALLOWED_TENANTS"]
    allowed = Settings.load({**many, "AZURE_ALLOWED_TENANTS": f"{TENANT.upper()}, {CLIENT}"}).allowed_tenants
    assert allowed == {TENANT, CLIENT}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"REFLEX_DEPLOY_URL": "app.example.com"}, "REFLEX_DEPLOY_URL does not begin with https://: write it like"),
        (
            {"REFLEX_DEPLOY_URL": "app.example.com:8443"},
            "REFLEX_DEPLOY_URL does not begin with https://: write it like",
        ),
        ({"AZURE_AUTHORITY_HOST": f"https://login.microsoftonline.com/{TENANT}"}, "and the tenant in AZURE_TENANT_ID"),
        ({"AZURE_AUTHORITY_HOST": "https://"}, "write it like https://login.microsoftonline.com"),
        ({"LOGIN_SCOPES": "User.Read offline_access"}, "LOGIN_SCOPES names offline_access, which the app adds where"),
        ({"AZURE_TENANT_ID": "common", "AZURE_ALLOWED_TENANTS": "contoso.com"}, "AZURE_ALLOWED_TENANTS is not a GUID"),
        ({"AZURE_TENANT_ID": "common", "AZURE_ALLOWED_TENANTS": ","}, "AZURE_ALLOWED_TENANTS names nothing"),
    ],
)
def test_a_fault_says_which_mistake_it_is(changed, said):
    """One sentence, with the setting that is wrong and what it should look like."""
    (fault,) = faults({**REAL, **changed})
    assert said in fault


def test_a_production_start_without_a_public_address_says_who_can_use_it():
    """Nobody but a browser on this machine: the start says so, and with the setting it does not."""
    prod = {**REAL, "REFLEX_ENV_MODE": "prod", "REFLEX_FRONTEND_PORT": "3100"}
    (note,) = Settings.load(prod).notes
    assert note.startswith("REFLEX_DEPLOY_URL is not set")
    assert "http://localhost:3100" in note
    assert Settings.load({**prod, "REFLEX_DEPLOY_URL": "http://localhost:3100"}).notes == ()
    assert Settings.load(REAL).notes == ()


def test_exactly_one_credential(pem):
    """A second credential is a fault that names both."""
    (fault,) = faults({**REAL, "AZURE_CLIENT_CERTIFICATE_PATH": str(pem)})
    assert fault.startswith("AZURE_CLIENT_CERTIFICATE_PATH is set beside AZURE_CLIENT_SECRET")
    (fault,) = faults({**REAL, "AZURE_CLIENT_CERTIFICATE_PASSWORD": "x"})
    assert fault.startswith("AZURE_CLIENT_CERTIFICATE_PASSWORD")


@pytest.mark.parametrize("token", ["/nowhere", "/"])
@pytest.mark.parametrize("configured", ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"])
def test_what_was_configured_wins_over_what_a_platform_sets(pem, configured, token):
    """A federated token beside a secret or certificate is not read, and the start says so."""
    own = {**REAL, "REFLEX_REDIS_URL": "redis://localhost:6379"}
    del own["AZURE_CLIENT_SECRET"]
    own[configured] = {"AZURE_CLIENT_SECRET": SECRET, "AZURE_CLIENT_CERTIFICATE_PATH": str(pem)}[configured]
    alone, beside = Settings.load(own), Settings.load({**own, "AZURE_FEDERATED_TOKEN_FILE": token})
    assert type(beside.credential) is type(alone.credential)
    assert beside.session_secrets == alone.session_secrets
    assert alone.notes == ()
    (note,) = beside.notes
    assert note.startswith(f"{configured} is the app's credential; AZURE_FEDERATED_TOKEN_FILE")


def test_a_secret_is_in_no_repr_and_no_fault():
    """Neither the settings nor a fault show the secret."""
    assert SECRET not in repr(Settings.load(REAL))
    assert SECRET not in " ".join(faults({**REAL, "AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere"}))


NO_SECRETS = {
    "Secret ID": ["0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "0A1B2C3D-0A1B-0A1B-0A1B-0A1B2C3D4E5F"],
    "masked": ["abc********************", "•••••••••"],
    "placeholder": [
        *("<your-client-secret>", "${CLIENT_SECRET}", "$(CLIENT_SECRET)", "$CLIENT_SECRET", "%CLIENT_SECRET%"),
        *("{{ client_secret }}", "{client-secret}", "#{client-secret}#"),
        "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)",
    ],
    "example": [
        *("your-client-secret", "YOUR_CLIENT_SECRET", "my-secret-value", "REPLACE_ME", "changeme", "change-me"),
        *("placeholder", "xxxx-xxxx", "xxxxxxxx", "..."),
    ],
    "characters": ["abc8Q~ def", "abc8Q~\u200bdef"],
}


@pytest.mark.parametrize(
    ("says", "secret"), [(says, secret) for says, listed in NO_SECRETS.items() for secret in listed]
)
def test_what_is_no_secret_says_which_mistake_it_is(says, secret):
    """The start stops with one sentence, which does not repeat the value."""
    (fault,) = faults({**REAL, "AZURE_CLIENT_SECRET": secret})
    assert fault.startswith("AZURE_CLIENT_SECRET ")
    assert says in fault
    assert secret not in fault


@given(st.from_regex(r"[A-Za-z0-9~._-]{3}[0-9]Q~[A-Za-z0-9~._-]{31,34}", fullmatch=True))
@example("my-8Q~aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
@example("My_8Q~aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
def test_every_secret_that_entra_makes_is_taken(secret):
    """No secret of Entra's form looks like a mistake."""
    assert Settings.load({**REAL, "AZURE_CLIENT_SECRET": secret}).credential == secret


@pytest.mark.parametrize("quotes", ['""', "''", "``", "\u201c\u201d", "\u2018\u2019"])
@pytest.mark.parametrize("name", [name for name in CONTRACT if name != "AZURE_CLIENT_CERTIFICATE_PASSWORD"])
def test_quotes_around_a_value_are_named(name, quotes):
    """`docker --env-file` and systemd pass quotes on. The fault names the variable, and says to remove them."""
    value = REAL.get(name, "https://app.example.com")
    given = {**REAL, name: f"{quotes[0]}{value}{quotes[1]}"}
    if name == "AZURE_FEDERATED_TOKEN_FILE":
        del given["AZURE_CLIENT_SECRET"]  # beside which the file is not read
    named = faults(given)
    assert any(fault.startswith(f"{name} begins with a quotation mark") for fault in named)


@pytest.mark.parametrize("name", ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_ALLOWED_TENANTS"])
def test_the_ids_of_the_example_are_nobodys(name):
    """The zeros of `.env.example` stop the start."""
    named = faults({**REAL, "AZURE_TENANT_ID": "organizations", name: "00000000-0000-0000-0000-000000000000"})
    assert any(fault.startswith(f"{name} is the example's") for fault in named)


NOT_UTF8 = "is not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize("mode", ["dev", "prod"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("AZURE_TENANT_ID=x\n".encode("utf-16"), NOT_UTF8),
        ("AZURE_TENANT_ID=x\n".encode("utf-16-le"), NOT_UTF8),
        ("AZURE_TENANT_ID=x\n".encode("utf-16-be"), NOT_UTF8),
        ("# für uns\nAZURE_TENANT_ID=x\n".encode("latin-1"), NOT_UTF8),
        (b"AZURE_TENANT_ID=\0x\n", NOT_UTF8),
        ("folder", "cannot be read"),
        ("# für uns\nAZURE_TENANT_ID=no tenant\n".encode("utf-8-sig"), "AZURE_TENANT_ID is neither"),
    ],
)
def test_an_env_file_in_another_encoding_says_so(tmp_path, monkeypatch, mode, content, fault):
    """One sentence names the file; UTF-8 with a byte order mark is read."""
    path = tmp_path / ".env"
    if content == "folder":
        path.mkdir()
    else:
        path.write_bytes(content)
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED", raising=False)
    for name in CONTRACT:
        monkeypatch.delenv(name, raising=False)

    def start() -> None:
        load_env_file(path)
        config_for({**os.environ, "REFLEX_ENV_MODE": mode}, app_name="azure_auth")

    with pytest.raises(SystemExit) as caught:
        start()
    monkeypatch.delenv("AZURE_TENANT_ID", raising=False)
    said = str(caught.value)
    assert fault in said
    assert (str(path) in said) is ("AZURE_TENANT_ID" not in said)
    assert said.count("\n") < 6


def test_the_environment_wins_over_the_env_file(tmp_path, monkeypatch):
    """A file only adds variables, and a missing file is no fault."""
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED", raising=False)
    monkeypatch.setenv("LOGIN_REDIRECT", "/real")
    monkeypatch.setenv("LOGIN_SCOPES", "")
    monkeypatch.delenv("LOGIN_SCOPES")
    (tmp_path / ".env").write_text('LOGIN_REDIRECT=/file\nLOGIN_SCOPES="Mail.Read"\n')
    load_env_file(tmp_path / "none")
    load_env_file(tmp_path / ".env")
    assert (os.environ["LOGIN_REDIRECT"], os.environ["LOGIN_SCOPES"]) == ("/real", "Mail.Read")


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path):
    """The fault names the folder. A folder that can be created is no fault, and the check does not create it."""
    require_writable(tmp_path / "new/one")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/none"), Path("/sys/kernel")):
        with pytest.raises(SystemExit) as caught:
            require_writable(folder)
        assert f"cannot write to the folder {folder} " in str(caught.value)


@pytest.mark.parametrize(
    ("blocked", "more", "stops"),
    [
        (".data", {}, True),
        (".secret", {}, True),
        (".secret", {"SESSION_SECRET": "s" * 40}, False),
        (".secret/session", {}, False),
        (".data", {"REFLEX_REDIS_URL": "redis://localhost:1"}, False),
        ("web", {}, True),
        ("web", {"__REFLEX_SKIP_COMPILE": "true"}, False),
    ],
)
def test_the_start_names_the_folder_that_it_needs(tmp_path, blocked, more, stops):
    """The app checks the folders of its data, its secret and Reflex's build, but only those that it writes."""
    script = (
        "import os, reflex as rx; from azure_auth.reflex_build import config_for; from azure_auth.auth import install;"
        "from azure_auth.settings import Settings; config_for(os.environ, app_name='azure_auth');"
        "install(rx.App(), Settings.load(os.environ)); print('started')"
    )
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).touch()
    environ = {**clean_environ(), **REAL, "REFLEX_ENV_MODE": "prod", "PYTHONPATH": str(ROOT), **more}
    environ["REFLEX_WEB_WORKDIR"] = str(tmp_path / "web")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    if stops:
        assert done.returncode == 1, done.stderr
        assert "The app cannot start: 1 setting" in done.stderr
        assert blocked in done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.stdout.endswith("started\n"), done.stderr


def test_a_first_start_names_the_folder_that_it_cannot_build_in(tmp_path, monkeypatch):
    """`reflex run` creates the folder of the build before it reads the settings: one sentence, and no traceback."""
    monkeypatch.setenv("REFLEX_WEB_WORKDIR", "/proc/none")
    monkeypatch.setattr(reflex_build.prerequisites, "initialize_frontend_dependencies", None)
    config_for({}, app_name="azure_auth")
    with pytest.raises(SystemExit, match="cannot write to the folder /proc/none"):
        reflex_build.prerequisites.initialize_frontend_dependencies()


def test_production_tells_the_public_address(capsys):
    """Reflex would print the address of its own port, where the site does not work."""
    before = reflex_build.reflex_exec.notify_frontend
    try:
        public = "https://app.example.com"
        environ = {**REAL, "REFLEX_ENV_MODE": "prod", "REFLEX_DEPLOY_URL": public}
        config_for(environ, app_name="azure_auth")
        reflex_build.reflex_exec.notify_frontend("http://127.0.0.1:3000", backend_present=True)
    finally:
        reflex_build.reflex_exec.notify_frontend = before
    said = capsys.readouterr().out
    assert f"{public}/" in said
    assert "127.0.0.1" not in said


@pytest.mark.parametrize("form", ["pem", "pfx"])
def test_a_key_gives_the_same_session_secret_as_before(tmp_path, pair, form):
    """The secret is derived from the key's PEM text, as in earlier releases, so sessions survive an update."""
    key, certificate = pair
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "credential"
    pfx = pkcs12.serialize_key_and_certificates(b"app", key, certificate, None, NoEncryption())
    path.write_bytes(text + certificate.public_bytes(Encoding.PEM) if form == "pem" else pfx)
    environ = {**REAL, "AZURE_CLIENT_CERTIFICATE_PATH": str(path), "REFLEX_REDIS_URL": "redis://localhost:6379"}
    del environ["AZURE_CLIENT_SECRET"]
    assert Settings.load(environ).session_secrets == (hmac.digest(text, b"azure_auth session secret", "sha256"),)


def test_a_federated_token_is_read_for_each_use(tmp_path):
    """The platform rotates the file, so MSAL gets a function that reads it."""
    token = tmp_path / "token"
    token.write_text("first\n")
    environ = {k: v for k, v in REAL.items() if k != "AZURE_CLIENT_SECRET"}
    credential = Settings.load({**environ, "AZURE_FEDERATED_TOKEN_FILE": str(token)}).credential
    token.write_text("second\n")
    assert credential["client_assertion"]() == "second"


@pytest.fixture(scope="module")
def pair():
    key = rsa.generate_private_key(65537, 2048)
    return key, certificates.certificate(key)


@pytest.fixture
def pem(tmp_path, pair) -> Path:
    """A file with a certificate and its key."""
    key, own = pair
    (tmp_path / "app.pem").write_bytes(certificates.pem_of(own, key))
    return tmp_path / "app.pem"


@pytest.mark.parametrize("password", [None, "pass"])
@pytest.mark.parametrize("form", ["pem", "pfx"])
def test_a_certificate_is_taken_in_both_forms(tmp_path, pair, form, password):
    """PEM and PFX files, with and without a password, are read in MSAL's form."""
    key, certificate = pair
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    path = tmp_path / f"app.{form}"
    if form == "pem":
        own = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
        path.write_bytes(own + certificate.public_bytes(Encoding.PEM))
    else:
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"app", key, certificate, None, locked))
    environ = {**REAL, "AZURE_CLIENT_CERTIFICATE_PATH": str(path)}
    del environ["AZURE_CLIENT_SECRET"]
    if password:
        assert [f.split()[0] for f in faults(environ)] == ["AZURE_CLIENT_CERTIFICATE_PATH"]
        environ["AZURE_CLIENT_CERTIFICATE_PASSWORD"] = password
    settings = Settings.load(environ)
    assert settings.credential["private_key"].private_numbers() == key.private_numbers()
    assert settings.credential["public_certificate"] == certificate.public_bytes(Encoding.PEM).decode()
    assert "PRIVATE KEY" not in repr(settings)


def test_a_certificate_without_its_key_is_refused(tmp_path, pair):
    """A file without key or certificate, or whose key is of another certificate, is a fault."""
    _, certificate = pair
    other = rsa.generate_private_key(65537, 2048)
    environ = {k: v for k, v in REAL.items() if k != "AZURE_CLIENT_SECRET"}
    for content in (
        certificate.public_bytes(Encoding.PEM),
        certificates.pem_of(certificate, other),
        b"neither",
    ):
        path = tmp_path / "app.pem"
        path.write_bytes(content)
        named = faults({**environ, "AZURE_CLIENT_CERTIFICATE_PATH": str(path)})
        assert [fault.split()[0] for fault in named] == ["AZURE_CLIENT_CERTIFICATE_PATH"]


@pytest.mark.parametrize("mode", ["dev", "prod"])
def test_faults_stop_reflex_with_text_and_status_1(tmp_path, mode):
    """`reflex run` ends with the faults as text, without a traceback."""
    environ = {
        **clean_environ(),
        "AZURE_CLIENT_ID": CLIENT,
        "SESSION_MAX_HOURS": "x",
        "REFLEX_WEB_WORKDIR": str(tmp_path / "web"),
    }
    command = [sys.executable, "-m", "reflex", "run", "--env", mode]
    site = cloned(tmp_path)  # Reflex writes its lock into it
    ended = subprocess.run(command, cwd=site, env=environ, capture_output=True, text=True, timeout=120, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1
    for name in ("AZURE_TENANT_ID is not set", "AZURE_CLIENT_SECRET is not set", "SESSION_MAX_HOURS is not"):
        assert name in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://localhost:6379/1", ""),
        ("redis://127.0.0.1", ""),
        ("unix:///run/redis.sock", ""),
        ("rediss://:hidden-word@redis.example.com:6380", ""),
        ("redis://:hidden-word@redis.example.com", "without TLS"),
        ("rediss://redis.example.com", "without a password"),
        ("http://localhost", "does not begin with"),
        ("redis://localhost:port", "is not an address"),
    ],
)
def test_production_takes_a_guarded_redis_only(url, fault):
    """A remote Redis needs TLS and a password, because Reflex unpickles its data; the fault says why."""
    environ = {**REAL, "REFLEX_ENV_MODE": "prod", "REFLEX_REDIS_URL": url}
    if fault:
        (named,) = faults(environ)
        assert fault in named
        assert "hidden-word" not in named
    else:
        assert Settings.load(environ).redis_url == url
        assert url not in repr(Settings.load(environ))


def test_redis_takes_the_states_out_of_memory():
    """With REFLEX_REDIS_URL Reflex keeps its states there, never in the memory of one of several workers."""
    script = "from rxconfig import config; print('state_manager_mode' in config._non_default_attributes)"
    for url, chosen in (("redis://localhost:1", "False"), ("", "True")):
        environ = {**clean_environ(), **REAL, "REFLEX_REDIS_URL": url}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
        assert done.stdout.split()[-1] == chosen, done.stdout


@pytest.mark.parametrize("name", ["REFLEX_FRONTEND_PATH", "REFLEX_BACKEND_PATH", "REFLEX_DEPLOY_URL"])
def test_a_path_prefix_is_refused(name):
    """The app needs its own host; a path prefix in any setting stops the start."""
    value = "https://app.example.com/hr" if name == "REFLEX_DEPLOY_URL" else "/hr"
    (fault,) = faults({**REAL, name: value, "REFLEX_ENV_MODE": "prod"})
    assert fault.startswith(name)
