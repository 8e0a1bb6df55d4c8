"""The settings, read once from the environment and frozen; every fault is named at once.

`Settings.load` alone reads the environment. The names are those of azure-identity and Reflex.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from azure_auth.errors import NotConfigured
from azure_auth.settings import parsing
from azure_auth.settings.credentials import Credential, certificate, federated_token

_T = TypeVar("_T")
_CREDENTIALS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")
_AZURE = (
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    *_CREDENTIALS,
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_AUTHORITY_HOST",
    "AZURE_ALLOWED_TENANTS",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the app runs with.

    Attributes:
        tenant_id: A tenant's GUID or domain, `organizations` or `common`.
        client_id: The application's id in the directory.
        credential: How the app proves itself to the directory, in the form that MSAL takes.
        authority_host: The directory's origin, such as `https://login.microsoftonline.com`.
        allowed_tenants: The GUIDs of the tenants whose people may enter; empty means the one of `tenant_id`.
        login_redirect: The path that a sign-in leads to when no other page was asked for.
        login_scopes: The API permissions that a sign-in asks for.
        session_idle: A session ends after this long without its person doing anything.
        session_max: A session ends this long after its person signed in, whatever they do.
        session_secrets: Key the hashes of people, the browser's name and messages; new first. Empty where the app
            makes one for itself.
        public_url: The origin under which browsers reach the app; redirect URIs begin with it.
        backend_url: The origin of the ASGI side; in development its port is another than that of the pages.
        redis_url: Where several workers keep what they share; None for one process, which keeps it in a file.
        proxy_hops: How many proxies in front of the app are ours.
        demo: Whether the demo directory stands in for Entra.
        upload_bytes: Maximum length of an uploaded form.
        upload_parts: Maximum number of files and fields in it.
        audit_file: Where the audit trail goes; None for standard output.
    """

    tenant_id: str
    client_id: str
    credential: Credential = field(repr=False)
    authority_host: str
    allowed_tenants: frozenset[str]
    login_redirect: str
    login_scopes: tuple[str, ...]
    session_idle: timedelta
    session_max: timedelta
    session_secrets: tuple[bytes, ...] = field(repr=False)
    public_url: str
    backend_url: str
    redis_url: str | None = field(repr=False)
    proxy_hops: int
    demo: bool
    upload_bytes: int
    upload_parts: int
    audit_file: Path | None

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings.

        Args:
            environ: The environment, with `.env` already merged into it.

        Raises:
            NotConfigured: With every fault that the environment has.
        """
        reading = _Reading(environ)
        public_url = reading.public_url()
        why_no_demo = _why_no_demo(environ, public_url)
        tenant_id, client_id, credential = reading.registration(why_no_demo) if why_no_demo else _demo_registration()
        idle, longest = reading.lifetimes()
        settings = cls(
            tenant_id=tenant_id,
            client_id=client_id,
            credential=credential,
            authority_host=reading.value(
                "AZURE_AUTHORITY_HOST", parsing.authority, "https://login.microsoftonline.com"
            ),
            allowed_tenants=reading.allowed_tenants(tenant_id),
            login_redirect=reading.value("LOGIN_REDIRECT", parsing.local_path, "/"),
            login_scopes=reading.value("LOGIN_SCOPES", parsing.scopes, ("User.Read",)),
            session_idle=idle,
            session_max=longest,
            session_secrets=reading.session_secrets(None if why_no_demo is None else credential),
            public_url=public_url,
            backend_url=_backend_url(environ) if _mode(environ) == "dev" else public_url,
            redis_url=reading.redis_url(),
            proxy_hops=reading.value("REFLEX_TRUSTED_PROXY_HOPS", parsing.count, 0),
            demo=why_no_demo is None,
            upload_bytes=1_000_000 * reading.value("UPLOAD_MAX_MB", parsing.positive, 200),
            upload_parts=reading.value("UPLOAD_MAX_FILES", parsing.positive, 50),
            audit_file=reading.value("AUDIT_FILE", parsing.writable_file, None),
        )
        if reading.faults:
            raise NotConfigured(reading.faults)
        return settings

    @property
    def fingerprint(self) -> str:
        """What a session is of: another directory, tenant, app, or the demo, and it does not count."""
        return f"{self.authority_host} {self.tenant_id} {self.client_id} {'demo' if self.demo else 'real'}"


def _demo_registration() -> tuple[str, str, Credential]:
    """Return tenant, client and credential for the demo directory; the secret is good for this start alone."""
    return "c0ffee00-0000-4000-8000-00000000cafe", "deface00-0000-4000-8000-00000000face", secrets.token_urlsafe(32)


class _Reading:
    """One pass over the environment that collects faults instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def fault(self, name: str, sentence: str) -> None:
        self.faults.append(f"{name} {sentence}.")

    def value(self, name: str, parse: Callable[[str], _T], default: _T) -> _T:
        """Parse the variable; an absent or faulty one gives the default. `REFLEX_*` may be empty, as in Reflex."""
        raw = self.environ.get(name)
        if raw is None or (not raw.strip() and name.startswith("REFLEX_")):
            return default
        if not raw.strip():
            self.fault(name, "is empty: give it a value, or remove it")
            return default
        try:
            return parse(raw.strip())
        except ValueError as why:
            self.fault(name, str(why))
            return default

    def public_url(self) -> str:
        """Read the public address; a faulty one is empty, for it is not known to be loopback."""
        for name in ("REFLEX_FRONTEND_PATH", "REFLEX_BACKEND_PATH"):
            if self.environ.get(name, "").strip("/ "):
                self.fault(name, "is set: cookies and the gate are for a whole host, so give the app its own")
        port = self.environ.get("REFLEX_FRONTEND_PORT") or "3000"
        public_url = self.value("REFLEX_DEPLOY_URL", parsing.public_url, f"http://localhost:{port}")
        return "" if self.faults else public_url

    def registration(self, why_no_demo: str) -> tuple[str, str, Credential]:
        """Read tenant, client and credential; where nothing of them is given, add why the demo does not stand in."""
        tenant_id = self.required("AZURE_TENANT_ID", parsing.tenant, 'the "Directory (tenant) ID"')
        client_id = self.required("AZURE_CLIENT_ID", parsing.guid, 'the "Application (client) ID"')
        credential = self.credential()
        if not any(name in self.environ for name in _AZURE):
            self.faults.append(f"The demo directory does not stand in: {why_no_demo}.")
        return tenant_id, client_id, credential

    def required(self, name: str, parse: Callable[[str], str], source: str) -> str:
        if name not in self.environ:
            self.fault(name, f"is not set: copy {source} from the overview page of your app registration in Entra")
        return self.value(name, parse, "")

    def allowed_tenants(self, tenant_id: str) -> frozenset[str]:
        """Read the tenants whose people may enter; an authority for many needs them."""
        name = "AZURE_ALLOWED_TENANTS"
        allowed = self.value(name, parsing.guids, frozenset[str]())
        if tenant_id in parsing.MANY_TENANTS and not allowed:
            self.fault(
                name, f"is not set: with AZURE_TENANT_ID={tenant_id}, list the GUIDs of the tenants that may enter"
            )
        elif parsing.GUID.fullmatch(tenant_id) and allowed and tenant_id not in allowed:
            self.fault(name, "leaves out AZURE_TENANT_ID: add it, or remove the list")
        return allowed

    def redis_url(self) -> str | None:
        """Read where Redis is; production takes it only where nobody else can read or write on the way to it."""
        in_production = _mode(self.environ) == "prod"
        return self.value("REFLEX_REDIS_URL", lambda value: parsing.redis_url(value, guarded=in_production), None)

    def session_secrets(self, credential: Credential | None) -> tuple[bytes, ...]:
        """Read the secrets that all processes share; on Redis without them, derive one from the credential, if any."""
        given = self.value("SESSION_SECRET", parsing.session_secrets, ())
        if given or credential is None or not self.environ.get("REFLEX_REDIS_URL", "").strip():
            return given
        secret = credential if isinstance(credential, str) else credential.get("private_key", "")
        if not secret and "AZURE_FEDERATED_TOKEN_FILE" in self.environ:
            self.fault("SESSION_SECRET", "is not set: it is required with Redis and a federated token")
        return (hmac.digest(str(secret).encode(), b"azure_auth session secret", "sha256"),)

    def lifetimes(self) -> tuple[timedelta, timedelta]:
        """Read how long a session may idle, and how long it may last."""
        idle = timedelta(minutes=self.value("SESSION_IDLE_MINUTES", parsing.positive, 60))
        longest = timedelta(hours=self.value("SESSION_MAX_HOURS", parsing.positive, 12))
        if idle > longest:
            self.fault("SESSION_IDLE_MINUTES", "is longer than SESSION_MAX_HOURS: choose a smaller number")
        return idle, longest

    def credential(self) -> Credential:
        """Read the one credential; none, or more than one, is a fault."""
        given = [name for name in _CREDENTIALS if name in self.environ]
        if "AZURE_CLIENT_CERTIFICATE_PASSWORD" in self.environ and _CREDENTIALS[1] not in given:
            self.fault("AZURE_CLIENT_CERTIFICATE_PASSWORD", f"is set without {_CREDENTIALS[1]}: remove it, or add that")
        if not given:
            self.fault(_CREDENTIALS[0], f"is not set: give it, or one of {_CREDENTIALS[1]} and {_CREDENTIALS[2]}")
            return ""
        for extra in given[1:]:
            self.fault(extra, f"is set beside {given[0]}: keep exactly one credential and remove the other")
        password = self.environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD")
        parse: dict[str, Callable[[str], Credential]] = {
            "AZURE_CLIENT_SECRET": str,
            "AZURE_CLIENT_CERTIFICATE_PATH": lambda path: certificate(Path(path), password),
            "AZURE_FEDERATED_TOKEN_FILE": lambda path: federated_token(Path(path)),
        }
        first, *_ = [self.value(name, parse[name], "") for name in given]
        return first


def _mode(environ: Mapping[str, str]) -> str:
    """Return how Reflex was started: `dev`, `preview` or `prod`."""
    return environ.get("REFLEX_ENV_MODE") or "dev"


def _backend_url(environ: Mapping[str, str]) -> str:
    """Return where Reflex's development server has the backend."""
    return (environ.get("REFLEX_API_URL") or f"http://localhost:{environ.get('REFLEX_BACKEND_PORT') or 8000}").rstrip(
        "/"
    )


def _why_no_demo(environ: Mapping[str, str], public_url: str) -> str | None:
    """Say what forbids the demo directory, or None: it exists for `reflex run` on loopback without any `AZURE_*`."""
    if environ.get("REFLEX_ENV_MODE") != "dev":  # not set at all: not started by `reflex run`
        return f"it is for development, and this start is --env {_mode(environ)}"
    if set_names := [name for name in _AZURE if name in environ]:
        return f"{set_names[0]} is set"
    if not parsing.is_loopback(urlsplit(public_url).hostname or ""):
        return "it is for a loopback address, and REFLEX_DEPLOY_URL is another"
    if not parsing.is_loopback(urlsplit(_backend_url(environ)).hostname or ""):
        return "it is for a loopback address, and REFLEX_API_URL is another"
    if not parsing.is_loopback(environ.get("REFLEX_BACKEND_HOST") or "localhost"):
        return "it is for a loopback bind, and the backend host is another"
    return None
