"""The client of the directory: MSAL over one HTTP client, in its own threads.

The first sign-in sends the first request, so the app starts while Entra is down. Each redemption has its own token
cache and its own copy of MSAL's HTTP cache, which would otherwise repeat one person's error to everybody.
"""

# MSAL has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
import copy
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msal

from azure_auth.auth.entra.discovery import Endpoints, read_discovery
from azure_auth.auth.entra.http import DirectoryHttp, translated
from azure_auth.auth.entra.id_token import SigningKey, SigningKeys, read_keys, validate
from azure_auth.auth.entra.refreshing import RefreshingValue
from azure_auth.auth.entra.refusals import refusal
from azure_auth.auth.identity import Identity
from azure_auth.errors import AnswerIncomplete, AuthError, KeysUnreachable, SignInFailed, Slow, Unavailable, whereabouts
from azure_auth.settings import Settings

_T = TypeVar("_T")
PEOPLE_AT_ONCE = 64
"""Maximum number of requests to the directory at the same time; others queue. Waiting threads cost little."""
LONGEST_WAIT_SECONDS = 30.0


class _Directory(NamedTuple):
    """The discovery document, and the MSAL application built from it."""

    app: msal.ConfidentialClientApplication
    http_cache: dict[str, Any]
    endpoints: Endpoints


class Client:
    """Makes all requests to the directory.

    Every method waits in a thread, at most `LONGEST_WAIT_SECONDS`. It raises an AuthError when the directory refuses or
    does not answer, or when its answer is invalid.
    """

    def __init__(
        self,
        settings: Settings,
        mounts: Mapping[str, httpx.BaseTransport] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the client, without using network or files.

        `mounts` are httpx transports by address, for a directory in this process. `clock` returns seconds.
        """
        self._settings, self._mounts = settings, mounts
        self._threads = ThreadPoolExecutor(PEOPLE_AT_ONCE, thread_name_prefix="directory")
        self._directory = RefreshingValue(self._discover, clock)
        self._keys: SigningKeys = RefreshingValue(self._fetch_keys, clock)
        # MSAL warns about every response_mode but form_post; `begin` says why it uses another.
        warnings.filterwarnings("ignore", message="response_mode='form_post' is recommended", category=UserWarning)

    async def begin(self, redirect_uri: str, prompt: str | None) -> dict[str, Any]:
        """Start an authorization-code flow with PKCE, state and nonce; `auth_uri` in it is the address for the browser.

        `prompt` is that of OpenID Connect; None lets the directory decide.
        """
        # A Reflex page cannot receive the POST of form_post, which MSAL recommends. PKCE, a one-time flow bound to the
        # browser, history replacement and a Referrer-Policy protect the code in the query.
        options = {"redirect_uri": redirect_uri, "prompt": prompt, "response_mode": "query"}
        scopes = list(self._settings.login_scopes)

        def ask() -> dict[str, Any]:
            return self._directory.get().app.initiate_auth_code_flow(scopes, **options)

        return await self._in_thread(ask)

    async def redeem(self, flow: Mapping[str, Any], answer: Mapping[str, str]) -> Identity:
        """Redeem the code in `answer`, validate the ID token, and return the person who signed in.

        `flow` is the result of `begin`; `answer` is the query of the browser's request to the redirect URI.
        """
        return await self._in_thread(lambda: self._redeem(dict(flow), dict(answer)))

    async def sign_out_url(self, identity: Identity, return_to: str) -> str:
        """Return the directory's sign-out address for a person (OpenID Connect RP-Initiated Logout).

        The logout hint avoids the account picker. The client id lets the directory check `return_to`, a registered
        redirect URI, when there is no hint.
        """
        asked = {"client_id": self._settings.client_id, "post_logout_redirect_uri": return_to}
        if identity.logout_hint:
            asked["logout_hint"] = identity.logout_hint
        directory = await self._in_thread(self._directory.get)
        return f"{directory.endpoints.end_session}?{urlencode(asked)}"

    def close(self) -> None:
        """Send no further request, and close the connections when the running requests are over.

        A connection closed under a thread that reads from it would free a file descriptor, and the thread would then
        read from whichever connection gets the same number.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        if "_http" in self.__dict__:
            threading.Thread(target=self._close_connections, daemon=True).start()

    def _close_connections(self) -> None:
        self._threads.shutdown()
        self._http.close()

    @cached_property
    def _http(self) -> DirectoryHttp:
        """The HTTP client. Only one thread creates it: the one that runs the first discovery."""
        return DirectoryHttp(PEOPLE_AT_ONCE, self._mounts)

    async def _in_thread(self, ask: Callable[[], _T]) -> _T:
        context = copy_context()  # so that a trace continues in the thread
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: context.run(translated, ask)
                )
        except TimeoutError:
            raise Slow(f"no answer within {LONGEST_WAIT_SECONDS:.0f} s") from None

    def _redeem(self, flow: dict[str, Any], answer: dict[str, str]) -> Identity:
        directory = self._directory.get()
        app = self._application(copy.deepcopy(directory.http_cache), directory.endpoints)
        result: dict[str, Any] = app.acquire_token_by_auth_code_flow(flow, answer)
        if "error" in result:
            raise refusal(result)
        claims = validate(
            result.get("id_token"),
            keys=self._keys,
            client_id=self._settings.client_id,
            issuer=directory.endpoints.issuer,
            allowed_tenants=self._settings.allowed_tenants,
            nonce=flow["nonce"],
        )
        return Identity.from_claims(claims)

    def _application(self, http_cache: dict[str, Any], endpoints: Endpoints) -> msal.ConfidentialClientApplication:
        """Build an MSAL application with its own token cache; without network when `http_cache` is warm.

        Otherwise MSAL fetches the discovery document itself, so its endpoints must be those that were checked. Its
        cache also turns cold after a day, and when the clock is set back.
        """
        app = msal.ConfidentialClientApplication(
            self._settings.client_id,
            client_credential=self._settings.credential,
            authority=f"{self._settings.authority_host}/{self._settings.tenant_id}",
            http_client=self._http,
            http_cache=http_cache,
            instance_discovery=False,  # the settings name the authority, so MSAL need not verify it at Microsoft
            azure_region=False,  # otherwise MSAL_FORCE_REGION could change the host
            exclude_scopes=["offline_access"],  # the app uses no refresh token, so it asks for none
        )
        if (app.authority.authorization_endpoint, app.authority.token_endpoint) != endpoints[1:3]:
            raise SignInFailed("MSAL found other endpoints in the discovery document than the app")
        return app

    def _discover(self) -> _Directory:
        host, tenant = self._settings.authority_host, self._settings.tenant_id
        document = self._get_json(f"{host}/{tenant}/v2.0/.well-known/openid-configuration")
        endpoints = read_discovery(document, self._settings)
        http_cache: dict[str, Any] = {}
        return _Directory(self._application(http_cache, endpoints), http_cache, endpoints)

    def _fetch_keys(self) -> Mapping[str, SigningKey]:
        endpoints = self._directory.get().endpoints
        try:
            return read_keys(self._get_json(endpoints.keys))
        except (AuthError, ValueError) as why:
            raise KeysUnreachable(why.detail if isinstance(why, AuthError) else whereabouts(why)) from why

    def _get_json(self, url: str) -> dict[str, Any]:
        response = self._http.get(url)
        if response.status_code != 200:
            raise Unavailable(f"status {response.status_code} from {urlsplit(url).path}")
        document: dict[str, Any] | Any = response.json()
        if not isinstance(document, dict):
            raise AnswerIncomplete(f"no JSON object from {urlsplit(url).path}")
        return document
