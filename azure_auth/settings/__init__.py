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
    """The app's settings.

    Attributes:
        tenant_id: A tenant's GUID or domain, `organizations` or `common`.
        client_id: The application's id in the directory.
        credential: The app's credential at the directory, in MSAL's form.
        authority_host: The directory's origin, such as `https://login.microsoftonline.com`.
        allowed_tenants: The GUIDs of the tenants whose people may sign in; empty means the tenant of `tenant_id`.
        login_redirect: The path after a sign-in for which no other page was requested.
        login_scopes: The API permissions that a sign-in requests.
        session_idle: Idle timeout of a session.
        session_max: Maximum lifetime of a session.
        session_secrets: Keys for hashes of people, the browser's name and messages; new one first. Empty where the app
            makes its own.
        public_url: The app's public origin, with which redirect URIs begin.
        backend_url: The origin of the ASGI side. In development its port differs from that of the pages.
        redis_url: The Redis that several workers share; None for a single process with a local file.
        proxy_hops: The number of trusted proxies in front of the app.
        demo: Whether the demo directory replaces Entra.
        upload_bytes: Maximum length of an uploaded form.
        upload_parts: Maximum number of files and fields in an uploaded form.
        audit_file: The file of the audit trail; None for standard output.
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
        """Read the settings from the environment, with `.env` already merged into it.

        Raises:
            NotConfigured: With every fault that the environment has.
        """
        env = Environment(environ)
        public_url = env.public_url()
        why_no_demo = env.why_no_demo(public_url)
        tenant_id, client_id, credential = (
            env.demo_registration() if why_no_demo is None else env.registration(why_no_demo)
        )
        idle, longest = env.lifetimes()
        settings = cls(
            tenant_id=tenant_id,
            client_id=client_id,
            credential=credential,
            authority_host=env.value("AZURE_AUTHORITY_HOST", parsing.authority, "https://login.microsoftonline.com"),
            allowed_tenants=env.allowed_tenants(tenant_id),
            login_redirect=env.value("LOGIN_REDIRECT", parsing.local_path, "/"),
            login_scopes=env.value("LOGIN_SCOPES", parsing.scopes, ("User.Read",)),
            session_idle=idle,
            session_max=longest,
            session_secrets=env.session_secrets(None if why_no_demo is None else credential),
            public_url=public_url,
            backend_url=env.backend_url if env.mode == "dev" else public_url,
            redis_url=env.redis_url(),
            proxy_hops=env.value("REFLEX_TRUSTED_PROXY_HOPS", parsing.count, 0),
            demo=why_no_demo is None,
            upload_bytes=1_000_000 * env.value("UPLOAD_MAX_MB", parsing.positive, 200),
            upload_parts=env.value("UPLOAD_MAX_FILES", parsing.positive, 50),
            audit_file=env.value("AUDIT_FILE", parsing.writable_file, None),
        )
        if env.faults:
            raise NotConfigured(env.faults)
        return settings

    @property
    def fingerprint(self) -> str:
        """The directory, tenant, app and mode to which sessions belong; a session of another fingerprint is invalid."""
        return f"{self.authority_host} {self.tenant_id} {self.client_id} {'demo' if self.demo else 'real'}"
