"""The app's settings. `Settings.load` reads them once from the environment and names every fault at once.

The names of the variables are those of azure-identity and Reflex.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from azure_auth.errors import NotConfigured
from azure_auth.settings import parsing
from azure_auth.settings.credentials import Credential
from azure_auth.settings.environment import Environment


@dataclass(frozen=True, slots=True)
class Settings:
    """The app's settings."""

    tenant_id: str  # a tenant's GUID or domain, `organizations` or `common`
    client_id: str  # the application's id in the directory
    credential: Credential = field(repr=False)  # the app's credential at the directory, in MSAL's form
    authority_host: str  # the directory's origin, such as `https://login.microsoftonline.com`
    allowed_tenants: frozenset[str]  # GUIDs of the tenants whose people may sign in; empty means that of `tenant_id`
    login_redirect: str  # the path after a sign-in for which no other page was requested
    login_scopes: tuple[str, ...]  # the API permissions that a sign-in requests
    session_idle: timedelta  # idle timeout of a session
    session_max: timedelta  # maximum lifetime of a session
    session_secrets: tuple[bytes, ...] = field(repr=False)
    """Keys for hashes of people, the browser's name and messages; new one first. Empty where the app makes its own."""
    public_url: str  # the app's public origin, with which redirect URIs begin
    backend_url: str  # the origin of the ASGI side; in development its port differs from that of the pages
    redis_url: str | None = field(repr=False)  # shared by several workers; None for a single process with a local file
    proxy_hops: int  # the number of trusted proxies in front of the app
    demo: bool  # whether the demo directory replaces Entra
    upload_bytes: int  # maximum length of an uploaded form
    upload_parts: int  # maximum number of files and fields in an uploaded form
    notes: tuple[str, ...]  # what the operator should know at the start, one sentence each
    audit_file: Path | None  # the file of the audit trail; None for standard output

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the environment, with `.env` already merged into it; raises NotConfigured with all its faults."""
        env = Environment(environ)
        public_url = env.public_url()
        why_no_demo = env.why_no_demo(public_url)
        is_demo = why_no_demo is None
        tenant_id, client_id, credential = env.demo_registration() if is_demo else env.registration(why_no_demo)
        idle, longest = env.lifetimes()
        settings = cls(
            tenant_id=tenant_id,
            client_id=client_id,
            credential=credential,
            authority_host=env.authority_host(tenant_id),
            allowed_tenants=env.allowed_tenants(tenant_id),
            login_redirect=env.value("LOGIN_REDIRECT", parsing.local_path, "/"),
            login_scopes=env.value("LOGIN_SCOPES", parsing.scopes, ("User.Read",)),
            session_idle=idle,
            session_max=longest,
            session_secrets=env.session_secrets(None if is_demo else credential),
            public_url=public_url,
            backend_url=env.backend_url if env.mode == "dev" else public_url,
            redis_url=env.redis_url(),
            proxy_hops=env.value("REFLEX_TRUSTED_PROXY_HOPS", parsing.count, 0),
            demo=is_demo,
            upload_bytes=1_000_000 * env.value("UPLOAD_MAX_MB", parsing.positive, 200),
            upload_parts=env.value("UPLOAD_MAX_FILES", parsing.positive, 50),
            notes=tuple(env.notes),
            audit_file=env.value("AUDIT_FILE", parsing.writable_file, None),
        )
        if env.faults:
            raise NotConfigured(env.faults)
        return settings

    @property
    def fingerprint(self) -> str:
        """The directory, tenant, app and mode to which sessions belong; a session of another fingerprint is invalid."""
        return f"{self.authority_host} {self.tenant_id} {self.client_id} {'demo' if self.demo else 'real'}"
