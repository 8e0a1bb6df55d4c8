"""The settings, read once from the environment and frozen; every fault is named at once.

`Settings.load` alone reads the environment. The names are those of azure-identity and Reflex.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from azure_auth.credentials import Credential, certificate, federated_token
from azure_auth.errors import NotConfigured
from azure_auth.return_target import return_target

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
MANY_TENANTS = ("organizations", "common")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:]+\]")
_RESERVED_SCOPES = {"openid", "profile", "offline_access"}


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
        session_max: A session ends after this long, whatever its person does.
        public_url: The origin under which browsers reach the app; redirect URIs begin with it.
        backend_url: The origin of the ASGI side; in development its port is another than that of the pages.
        demo: Whether the demo directory stands in for Entra.
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
    public_url: str
    backend_url: str
    demo: bool

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings.

        Args:
            environ: The environment, with `.env` already merged into it.

        Raises:
            NotConfigured: With every fault that the environment has.
        """
        reading = _Reading(environ)
        port = environ.get("REFLEX_FRONTEND_PORT") or "3000"
        public_url = reading.value("REFLEX_DEPLOY_URL", _public_url, f"http://localhost:{port}")
        if reading.faults:
            public_url = ""  # not known, so not loopback either
        why_no_demo = _why_no_demo(environ, public_url)
        demo = why_no_demo is None
        if demo:
            tenant_id, client_id = "c0ffee00-0000-4000-8000-00000000cafe", "deface00-0000-4000-8000-00000000face"
            credential: Credential = secrets.token_urlsafe(32)
        else:
            tenant_id = reading.required("AZURE_TENANT_ID", _tenant, 'the "Directory (tenant) ID"')
            client_id = reading.required("AZURE_CLIENT_ID", _guid, 'the "Application (client) ID"')
            credential = reading.credential()
            if why_no_demo and not any(name in environ for name in _AZURE):
                reading.faults.append(f"The demo directory does not stand in: {why_no_demo}.")
        allowed = reading.value("AZURE_ALLOWED_TENANTS", _guids, frozenset[str]())
        if tenant_id in MANY_TENANTS and "AZURE_ALLOWED_TENANTS" not in environ:
            reading.fault(
                "AZURE_ALLOWED_TENANTS",
                f"is not set: with AZURE_TENANT_ID={tenant_id}, list the GUIDs of the tenants that may sign in",
            )
        elif _GUID.fullmatch(tenant_id) and allowed and tenant_id not in allowed:
            reading.fault("AZURE_ALLOWED_TENANTS", "leaves out AZURE_TENANT_ID: add it, or remove the list")
        idle = reading.value("SESSION_IDLE_MINUTES", _positive, 60)
        longest = reading.value("SESSION_MAX_HOURS", _positive, 12)
        if idle > longest * 60:
            reading.fault("SESSION_IDLE_MINUTES", "is longer than SESSION_MAX_HOURS: choose a smaller number")
        if environ.get("REFLEX_REDIS_URL"):
            reading.fault("REFLEX_REDIS_URL", "is set, but this version runs in one process only: remove it")
        settings = cls(
            tenant_id=tenant_id,
            client_id=client_id,
            credential=credential,
            authority_host=reading.value("AZURE_AUTHORITY_HOST", _authority, "https://login.microsoftonline.com"),
            allowed_tenants=allowed,
            login_redirect=reading.value("LOGIN_REDIRECT", _local_path, "/"),
            login_scopes=reading.value("LOGIN_SCOPES", _scopes, ("User.Read",)),
            session_idle=timedelta(minutes=idle),
            session_max=timedelta(hours=longest),
            public_url=public_url,
            backend_url=_backend_url(environ) if _mode(environ) == "dev" else public_url,
            demo=demo,
        )
        if reading.faults:
            raise NotConfigured(reading.faults)
        return settings


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

    def required(self, name: str, parse: Callable[[str], str], source: str) -> str:
        if name not in self.environ:
            self.fault(name, f"is not set: copy {source} from the overview page of your app registration in Entra")
        return self.value(name, parse, "")

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
    if _mode(environ) != "dev":
        return f"it is for development, and this start is --env {_mode(environ)}"
    if set_names := [name for name in _AZURE if name in environ]:
        return f"{set_names[0]} is set"
    if not _is_loopback(urlsplit(public_url).hostname or ""):
        return "it is for a loopback address, and REFLEX_DEPLOY_URL is another"
    if not _is_loopback(environ.get("REFLEX_BACKEND_HOST") or "localhost"):
        return "it is for a loopback bind, and the backend host is another"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(value: str, *, http_on_loopback: bool) -> str:
    """Return scheme, host and port as a browser writes them in an Origin header."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is not an address: write it like https://app.example.com") from None
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("has more than scheme, host and port: write it like https://app.example.com")
    if not _HOST.fullmatch(host):
        raise ValueError("has no proper host name: write it like https://app.example.com")
    if parts.scheme != "https" and not (http_on_loopback and parts.scheme == "http"):
        raise ValueError("does not begin with https://: sign-in needs an encrypted connection")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("is neither https nor loopback: codes and cookies would travel in the clear, so use https")
    default = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default) else "")


def _public_url(value: str) -> str:
    return _origin(value, http_on_loopback=True)


def _authority(value: str) -> str:
    return _origin(value if "://" in value else f"https://{value}", http_on_loopback=False)


def _tenant(value: str) -> str:
    value = value.lower()
    if not (value in MANY_TENANTS or _GUID.fullmatch(value) or _DOMAIN.fullmatch(value)):
        raise ValueError("is neither a tenant's GUID nor its domain (contoso.onmicrosoft.com): copy one of them")
    return value


def _guid(value: str) -> str:
    if not _GUID.fullmatch(value.lower()):
        raise ValueError("is not a GUID: copy it as Entra shows it, like 00000000-0000-0000-0000-000000000000")
    return value.lower()


def _guids(value: str) -> frozenset[str]:
    return frozenset(_guid(item) for item in re.split(r"[,\s]+", value.strip(",")) if item)


def _scopes(value: str) -> tuple[str, ...]:
    scopes = tuple(re.split(r"[,\s]+", value))
    if reserved := _RESERVED_SCOPES.intersection(scopes):
        raise ValueError(f"names {', '.join(sorted(reserved))}, which every sign-in asks for: leave it out")
    return scopes


def _positive(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 100_000):
        raise ValueError("is not a whole number above 0: write it in digits")
    return int(value)


def _local_path(value: str) -> str:
    if return_target(value) is None:
        raise ValueError("is not a page of this app: write a path like /reports, and neither /logout nor /callback")
    return value
