"""What we ask of the directory: one MSAL application over one HTTP client, in threads of its own.

Nothing is asked before somebody signs in, so the app starts while Entra is down. Nothing of one person is kept for
the next: each redemption has a token cache of its own, thrown away after it, and its own copy of MSAL's HTTP cache,
which would otherwise answer everybody with the last person's error.
"""

# MSAL has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
import copy
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msal

from azure_auth.auth.entra.http import DirectoryHttp
from azure_auth.auth.entra.id_token import SigningKey, SigningKeys, read_keys, validate
from azure_auth.auth.entra.refreshing import RefreshingValue
from azure_auth.auth.entra.refusals import refusal
from azure_auth.auth.identity import Identity
from azure_auth.errors import (
    AnswerIncomplete,
    AuthError,
    KeysUnreachable,
    SignInFailed,
    Slow,
    TokenInvalid,
    Unavailable,
    whereabouts,
)
from azure_auth.settings import Settings
from azure_auth.settings.parsing import GUID, MANY_TENANTS

_T = TypeVar("_T")
PEOPLE_AT_ONCE = 64
"""How many people may wait for the directory at the same time; further ones queue. Waiting threads cost little."""
LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Directory:
    """What discovery told, and the MSAL application that was built on it."""

    app: msal.ConfidentialClientApplication
    http_cache: dict[str, Any]
    issuer: str
    jwks_uri: str
    end_session_endpoint: str


class Client:
    """The one way to the directory. Every method waits in a thread, at most `LONGEST_WAIT_SECONDS`."""

    def __init__(self, settings: Settings, mounts: Mapping[str, httpx.BaseTransport] | None = None) -> None:
        """Prepare, without touching network or files.

        Args:
            settings: Which directory, which app, which credential.
            mounts: httpx transports by address, for a directory that stands somewhere else.
        """
        self._settings = settings
        self._mounts = mounts
        self._threads = ThreadPoolExecutor(PEOPLE_AT_ONCE, thread_name_prefix="directory")
        self._directory = RefreshingValue(self._discover)
        self._keys: SigningKeys = RefreshingValue(self._fetch_keys)
        # MSAL warns of every response_mode but form_post; `_begin` says why it is ours.
        warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended", category=UserWarning)

    async def begin(self, redirect_uri: str, prompt: str | None) -> dict[str, Any]:
        """Start an authorization-code flow with PKCE, state and nonce.

        Args:
            redirect_uri: Where the directory sends the browser back to.
            prompt: OpenID Connect's `prompt`, or None to let the directory decide.

        Returns:
            MSAL's flow, with the address for the browser in `auth_uri`.

        Raises:
            AuthError: When the directory cannot be asked.
        """
        return await self._in_thread(lambda: self._begin(redirect_uri, prompt))

    async def redeem(self, flow: Mapping[str, Any], answer: Mapping[str, str]) -> Identity:
        """Turn the directory's answer to a flow into the person who signed in.

        Args:
            flow: What `begin` returned.
            answer: The query that the browser brought back, with the flow's `state`.

        Raises:
            AuthError: When the directory refuses, cannot be asked, or its answer does not prove who signed in.
        """
        return await self._in_thread(lambda: self._redeem(dict(flow), dict(answer)))

    async def sign_out_url(self, identity: Identity, return_to: str) -> str:
        """Return the address at which the person signs out of the directory (OpenID Connect RP-Initiated Logout).

        Args:
            identity: Who signs out; the hint spares them the account picker.
            return_to: Where the directory sends the browser afterwards; a registered redirect URI.

        Raises:
            AuthError: When the directory cannot be asked.
        """
        asked = {"post_logout_redirect_uri": return_to}
        if identity.logout_hint:
            asked["logout_hint"] = identity.logout_hint
        directory = await self._in_thread(self._directory.get)
        return f"{directory.end_session_endpoint}?{urlencode(asked)}"

    def close(self) -> None:
        """Let go of threads and connections; requests under way run into closed connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if "_http" in self.__dict__:
            self._http.close()

    @cached_property
    def _http(self) -> DirectoryHttp:
        """The HTTP client; first used by the one thread that runs the first discovery."""
        return DirectoryHttp(PEOPLE_AT_ONCE, self._mounts)

    async def _in_thread(self, ask: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, _translated, ask)
        except TimeoutError:
            raise Slow(f"no answer within {LONGEST_WAIT_SECONDS:.0f} s") from None

    def _begin(self, redirect_uri: str, prompt: str | None) -> dict[str, Any]:
        return self._directory.get().app.initiate_auth_code_flow(
            list(self._settings.login_scopes),
            redirect_uri=redirect_uri,
            prompt=prompt,
            # A Reflex page cannot take the POST of form_post, which MSAL recommends. The code in the query is guarded
            # by PKCE, a flow that is used once and bound to the browser, history replacement and a Referrer-Policy.
            response_mode="query",
        )

    def _redeem(self, flow: dict[str, Any], answer: dict[str, str]) -> Identity:
        directory = self._directory.get()
        app = self._application(copy.deepcopy(directory.http_cache))
        result: dict[str, Any] = app.acquire_token_by_auth_code_flow(flow, answer)
        if "error" in result:
            raise refusal(result)
        claims = validate(
            result.get("id_token"),
            keys=self._keys,
            client_id=self._settings.client_id,
            issuer=directory.issuer,
            allowed_tenants=self._settings.allowed_tenants,
            nonce=flow["nonce"],
        )
        return Identity.from_claims(claims)

    def _application(self, http_cache: dict[str, Any]) -> msal.ConfidentialClientApplication:
        """Build an MSAL application with a token cache of its own; without network when `http_cache` is warm."""
        return msal.ConfidentialClientApplication(
            self._settings.client_id,
            client_credential=self._settings.credential,
            authority=f"{self._settings.authority_host}/{self._settings.tenant_id}",
            http_client=self._http,
            http_cache=http_cache,
            instance_discovery=False,  # the authority comes from the settings; nobody else is asked about it
        )

    def _discover(self) -> _Directory:
        """Fetch the discovery document and hold it to the authority's own host and issuer (OIDC Discovery §4.3)."""
        host, tenant = self._settings.authority_host, self._settings.tenant_id
        document = self._get_json(f"{host}/{tenant}/v2.0/.well-known/openid-configuration")
        issuer, keys, sign_out = (
            str(document.get(name, "")) for name in ("issuer", "jwks_uri", "end_session_endpoint")
        )
        named = issuer.removeprefix(f"{host}/").removesuffix("/v2.0")  # the tenant that the issuer names
        if tenant in MANY_TENANTS:
            as_asked = named == "{tenantid}"
        else:
            as_asked = named == tenant or (not GUID.fullmatch(tenant) and GUID.fullmatch(named))  # a domain's GUID
        if issuer != f"{host}/{named}/v2.0" or not as_asked:
            raise SignInFailed("discovery names another issuer than the authority's")
        if not keys.startswith(f"{host}/"):
            raise SignInFailed("discovery names keys on another host than the authority's")
        http_cache: dict[str, Any] = {}
        app = self._application(http_cache)
        if not str(app.authority.token_endpoint).startswith(f"{host}/"):  # MSAL reads the document for itself
            raise SignInFailed("discovery names a token endpoint on another host than the authority's")
        return _Directory(app, http_cache, issuer, keys, sign_out)

    def _fetch_keys(self) -> Mapping[str, SigningKey]:
        directory = self._directory.get()
        try:
            return read_keys(self._get_json(directory.jwks_uri))
        except (AuthError, httpx.HTTPError, ValueError) as why:
            raise KeysUnreachable(whereabouts(why)) from why

    def _get_json(self, url: str) -> dict[str, Any]:
        response = self._http.get(url)
        if response.status_code != 200:
            raise Unavailable(f"status {response.status_code} from {urlsplit(url).path}")
        document: dict[str, Any] | Any = response.json()
        if not isinstance(document, dict):
            raise AnswerIncomplete(f"no JSON object from {urlsplit(url).path}")
        return document


def _translated(ask: Callable[[], _T]) -> _T:
    """Return what `ask` returns; what the libraries raise becomes one of our errors, without their text."""
    try:
        return ask()
    except AuthError as why:
        raise why.again() from None  # people who wait for one fetch share its failure, but no reference and no page
    except (httpx.TimeoutException, TimeoutError) as why:
        raise Slow(type(why).__name__) from why
    except httpx.HTTPError as why:
        raise Unavailable(type(why).__name__) from why
    except RuntimeError as why:  # MSAL's word for a nonce that is another flow's
        raise TokenInvalid(whereabouts(why)) from why
    except Exception as why:  # MSAL has no error of its own for an answer that it cannot read
        raise AnswerIncomplete(whereabouts(why)) from why
