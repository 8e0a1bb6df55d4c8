"""Reads the environment variables of the settings and collects every fault. `parsing` reads the text of one value."""

import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from azure_auth.settings import clouds, network, parsing
from azure_auth.settings.credentials import (
    Credential,
    certificate,
    client_secret,
    federated_token,
    known_to_the_app_alone,
)

_T = TypeVar("_T")
_SECRET, _CERTIFICATE = "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"
_TOKEN_FILE, _PASSWORD = "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PASSWORD"
_TENANT, _CLIENT, _TENANTS = "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_ALLOWED_TENANTS"
_CREDENTIALS = (_SECRET, _CERTIFICATE, _TOKEN_FILE)
_AZURE = (_TENANT, _CLIENT, *_CREDENTIALS, _PASSWORD, "AZURE_AUTHORITY_HOST", _TENANTS)


class Environment:
    """One pass over the environment. A fault does not stop it; a faulty value reads as its default."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []  # one sentence for each
        self.notes: list[str] = []  # what the app prints at its start, one sentence each
        self.mode = environ.get("REFLEX_ENV_MODE") or "dev"  # how Reflex was started: `dev`, `preview` or `prod`
        port = environ.get("REFLEX_BACKEND_PORT") or 8000
        # Where Reflex's development server has the backend.
        self.backend_url = (environ.get("REFLEX_API_URL") or f"http://localhost:{port}").rstrip("/")

    def value(self, name: str, parse: Callable[[str], _T], default: _T) -> _T:
        """Parse a variable; without it, return the default. `REFLEX_*` may be empty, as in Reflex."""
        raw = self._environ.get(name)
        if raw is None or (not raw.strip() and name.startswith("REFLEX_")):
            return default
        if not raw.strip():
            self._fault(name, "is empty: give it a value, or remove it")
            return default
        try:
            return parse(parsing.as_meant(raw.strip()))
        except ValueError as why:
            self._fault(name, str(why))
            return default

    def public_url(self) -> str:
        """Read the public address. A faulty one reads as empty, which counts as not loopback."""
        for name in ("REFLEX_FRONTEND_PATH", "REFLEX_BACKEND_PATH"):
            if self._environ.get(name, "").strip("/ "):
                self._fault(name, "is set: cookies and the gate are for a whole host, so give the app its own")
        local = f"http://localhost:{self._environ.get('REFLEX_FRONTEND_PORT') or '3000'}"
        public_url = self.value("REFLEX_DEPLOY_URL", parsing.public_url, local)
        if self.mode == "prod" and not self._environ.get("REFLEX_DEPLOY_URL", "").strip():
            self.notes.append(f"REFLEX_DEPLOY_URL is not set, so the site works on this machine alone, at {local}")
        return "" if self.faults else public_url

    def why_no_demo(self, public_url: str) -> str | None:
        """Return what forbids the demo directory, or None: `reflex run` on loopback, and no `AZURE_*` is set."""
        if self._environ.get("REFLEX_ENV_MODE") != "dev":  # unset: `reflex run` did not start the app
            return f"it is for development, and this start is --env {self.mode}"
        if set_names := [name for name in _AZURE if name in self._environ]:
            return f"{set_names[0]} is set"
        if not parsing.is_loopback(urlsplit(public_url).hostname or ""):
            return "it is for a loopback address, and REFLEX_DEPLOY_URL is another"
        if not parsing.is_loopback(urlsplit(self.backend_url).hostname or ""):
            return "it is for a loopback address, and REFLEX_API_URL is another"
        if not parsing.is_loopback(self._environ.get("REFLEX_BACKEND_HOST") or "localhost"):
            return "it is for a loopback bind, and the backend host is another"
        return None

    @staticmethod
    def demo_registration() -> tuple[str, str, Credential]:
        """Return tenant, client and credential for the demo directory. The secret is new at each start."""
        return "c0ffee00-0000-4000-8000-00000000cafe", "deface00-0000-4000-8000-00000000face", secrets.token_urlsafe(32)

    def registration(self, why_no_demo: str) -> tuple[str, str, Credential]:
        """Read tenant, client and credential. If all are missing, add why the demo directory does not replace Entra."""
        for fault in network.faults(self._environ):
            self._fault(*fault)
        self.notes += network.notes(self._environ)
        tenant_id = self._required(_TENANT, parsing.tenant, 'the "Directory (tenant) ID"')
        client_id = self._required(_CLIENT, parsing.guid, 'the "Application (client) ID"')
        credential = self._credential()
        if not any(name in self._environ for name in _AZURE):
            self.faults.append(f"The demo directory is not used: {why_no_demo}.")
        return tenant_id, client_id, credential

    def authority_host(self, tenant_id: str) -> str:
        """Read the directory's origin."""
        host = self.value("AZURE_AUTHORITY_HOST", parsing.authority, "https://login.microsoftonline.com")
        if tenant_id in parsing.MANY_TENANTS and host.endswith(clouds.EXTERNAL_ID):
            self._fault(_TENANT, f"is {tenant_id}, but a directory of Entra External ID is one tenant: give its GUID")
        return host

    def allowed_tenants(self, tenant_id: str) -> frozenset[str]:
        """Read the tenants whose people may sign in; required with `organizations` and `common`."""
        allowed = self.value(_TENANTS, parsing.guids, frozenset[str]())
        if tenant_id in parsing.MANY_TENANTS and _TENANTS not in self._environ:
            wanted = "list the GUIDs of the tenants that may enter"
            self._fault(_TENANTS, f"is not set: with {_TENANT}={tenant_id}, {wanted}")
        elif parsing.GUID.fullmatch(tenant_id) and allowed and tenant_id not in allowed:
            self._fault(_TENANTS, f"leaves out {_TENANT}: add it, or remove the list")
        return allowed

    def redis_url(self) -> str | None:
        """Read the address of Redis. In production the connection must be local, or have TLS and a password."""
        guarded = self.mode == "prod"
        return self.value("REFLEX_REDIS_URL", lambda value: parsing.redis_url(value, guarded=guarded), None)

    def session_secrets(self, credential: Credential | None) -> tuple[bytes, ...]:
        """Read the secrets that all processes share. With Redis but without them, derive one from the credential."""
        given = self.value("SESSION_SECRET", parsing.session_secrets, ())
        if given or credential is None or not self._environ.get("REFLEX_REDIS_URL", "").strip():
            return given
        secret = known_to_the_app_alone(credential)
        if not secret and _TOKEN_FILE in self._environ:
            self._fault("SESSION_SECRET", "is not set: it is required with Redis and a federated token")
        return (hmac.digest(secret, b"azure_auth session secret", "sha256"),)

    def lifetimes(self) -> tuple[timedelta, timedelta]:
        """Read a session's idle timeout and maximum lifetime."""
        idle = timedelta(minutes=self.value("SESSION_IDLE_MINUTES", parsing.positive, 60))
        longest = timedelta(hours=self.value("SESSION_MAX_HOURS", parsing.positive, 12))
        if idle > longest:
            self._fault("SESSION_IDLE_MINUTES", "is longer than SESSION_MAX_HOURS: choose a smaller number")
        return idle, longest

    def _fault(self, name: str, sentence: str) -> None:
        self.faults.append(f"{name} {sentence}.")

    def _required(self, name: str, parse: Callable[[str], str], source: str) -> str:
        if name not in self._environ:
            self._fault(name, f"is not set: copy {source} from the overview page of your app registration in Entra")
        return self.value(name, parse, "")

    def _credential(self) -> Credential:
        """Read the one credential; none, or more than one, is a fault.

        A secret or certificate takes precedence over a federated token, because a platform may set the token itself.
        azure-identity has the same order (`EnvironmentCredential` before `WorkloadIdentityCredential`).
        """
        given = [name for name in _CREDENTIALS if name in self._environ]
        password = self._environ.get(_PASSWORD)
        if password is not None and _CERTIFICATE not in given:
            self._fault(_PASSWORD, f"is set without {_CERTIFICATE}: remove it, or add that")
        if not given:
            self._fault(_SECRET, f"is not set: give it, or one of {_CERTIFICATE} and {_TOKEN_FILE}")
            return ""
        if len(given) > 1 and _TOKEN_FILE in given:
            given.remove(_TOKEN_FILE)
            self.notes.append(f"{given[0]} is the app's credential; {_TOKEN_FILE}, which is set beside it, is not used")
        for extra in given[1:]:
            self._fault(extra, f"is set beside {given[0]}: keep exactly one credential and remove the other")
        parse: dict[str, Callable[[str], Credential]] = {
            _SECRET: client_secret,
            _CERTIFICATE: lambda path: certificate(Path(path), password),
            _TOKEN_FILE: lambda path: federated_token(Path(path)),
        }
        first, *_ = [self.value(name, parse[name], "") for name in given]
        return first
