"""The demo directory: Entra's v2.0 endpoints for one app registration, as strict as Entra where it is strict.

Written after Microsoft's pages on the v2.0 authorization-code flow, ID-token claims and AADSTS codes. Stricter than
Entra in one thing: it demands PKCE with S256 and nonce from everybody. It is above 200 lines so that one class is the
whole protocol.
"""

import hmac
import secrets
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from azure_auth.demo import pages
from azure_auth.demo.errors import AadError, as_json
from azure_auth.demo.faults import Fault, Faults
from azure_auth.demo.id_tokens import LIFETIME_SECONDS, Signer, claims_for
from azure_auth.demo.loopback import LoopbackOnly
from azure_auth.demo.people import PEOPLE, Person

_MANY_TENANTS = ("organizations", "common")
_CODE_SECONDS = 600
_BROWSER = "demo_directory"


@dataclass(frozen=True, slots=True)
class _Grant:
    """What an authorization code stands for."""

    person: Person
    issuer_tenant: str
    redirect_uri: str
    challenge: str
    nonce: str
    scope: str
    expires: float
    sid: str
    redeemed: bool = False


class Directory:
    """One tenant, one registered app, a few people.

    Args:
        tenant_id: The GUID of the tenant.
        client_id: The id of the registered app.
        client_secret: Its secret.
        redirect_uris: The addresses that sign-in and sign-out may lead back to.
        front_channel: The app's address for sign-outs; a frame of it is shown when a person signs out here.
        origin: Where the app reaches the directory, as in its issuer; https.
        browser_origin: Where browsers reach its pages; `origin` when left out.
    """

    def __init__(
        self,
        *,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        redirect_uris: tuple[str, ...],
        front_channel: str,
        origin: str,
        browser_origin: str | None = None,
    ) -> None:
        self.tenant_id = tenant_id
        self.client_id = client_id
        self.client_secret = client_secret
        self.redirect_uris = redirect_uris
        self.front_channel = front_channel
        self.origin = origin
        self.browser_origin = browser_origin or origin
        self._grants: dict[str, _Grant] = {}
        self._sids: dict[str, str] = {}

    @cached_property
    def _signer(self) -> Signer:
        return Signer()

    def app(self) -> ASGIApp:
        """Return the ASGI app that serves the directory's endpoints, to this machine only."""
        endpoints = Starlette(
            routes=[
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery),
                Route("/{tenant}/discovery/v2.0/keys", self._keys),
                Route("/{tenant}/oauth2/v2.0/authorize", self._authorize, methods=["GET", "POST"]),
                Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
                Route("/{tenant}/oauth2/v2.0/logout", self._logout),
            ],
            exception_handlers={AadError: as_json},
        )
        return LoopbackOnly(Faults(endpoints, roll_over=lambda: self._signer.roll_over()))

    async def _discovery(self, request: Request) -> Response:
        tenant = self._tenant(request)
        issuer = "{tenantid}" if tenant in _MANY_TENANTS else tenant
        return JSONResponse(
            {
                "issuer": f"{self.origin}/{issuer}/v2.0",
                "authorization_endpoint": f"{self.browser_origin}/{tenant}/oauth2/v2.0/authorize",
                "token_endpoint": f"{self.origin}/{tenant}/oauth2/v2.0/token",
                "end_session_endpoint": f"{self.browser_origin}/{tenant}/oauth2/v2.0/logout",
                "jwks_uri": f"{self.origin}/{tenant}/discovery/v2.0/keys",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
            }
        )

    async def _keys(self, request: Request) -> Response:
        tenant = self._tenant(request)
        issuer = "{tenantid}" if tenant in _MANY_TENANTS else tenant
        return JSONResponse(self._signer.jwks(f"{self.origin}/{issuer}/v2.0"))

    async def _authorize(self, request: Request) -> Response:
        """Show the people; once one is chosen, lead back with a code. Faults that the app may hear of lead back too."""
        try:
            tenant = self._tenant(request)
            asked = _once(request.query_params.multi_items())
            self._check_client(asked)
        except AadError as error:
            return pages.message("Sorry, but we're having trouble signing you in", str(error), 400)
        browser = ""
        try:
            _check_authorize(asked)
            if request.method == "GET":
                hint = asked.get("login_hint", "").casefold()
                return pages.choose_person(sorted(PEOPLE, key=lambda person: person.username.casefold() != hint))
            _fail(request, "access_denied")
            chosen = _once(parse_qsl((await request.body()).decode("ascii", "replace"), keep_blank_values=True))
            browser = request.cookies.get(_BROWSER) or secrets.token_urlsafe(16)
            answer = {"code": self._grant(tenant, asked, chosen.get("person", ""), browser)}
        except AadError as error:
            answer = {"error": error.error, "error_description": str(error)}
        if "state" in asked:
            answer["state"] = asked["state"]
        response = RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)
        if "code" in answer:
            response.set_cookie(_BROWSER, browser, path=request.scope["root_path"] or "/", httponly=True)
        return response

    def _check_client(self, asked: Mapping[str, str]) -> None:
        if asked.get("client_id", "").lower() != self.client_id:
            raise AadError(700016, "unauthorized_client", "Application was not found in the directory.")
        if asked.get("redirect_uri") not in self.redirect_uris:
            raise AadError(50011, "invalid_request", "The redirect URI does not match those of the application.")

    def _grant(self, tenant: str, asked: Mapping[str, str], oid: str, browser: str) -> str:
        person = next((person for person in PEOPLE if person.oid == oid), None)
        if person is None:
            raise AadError(65004, "access_denied", "User declined to consent to access the app.")
        home = person.home or self.tenant_id
        if tenant not in _MANY_TENANTS and home != tenant:
            raise AadError(50020, "access_denied", "User account does not exist in tenant.")
        now = time.time()
        self._grants = {k: g for k, g in self._grants.items() if g.expires > now - LIFETIME_SECONDS}
        code = secrets.token_urlsafe(48)
        self._grants[code] = _Grant(
            person=person,
            issuer_tenant=home,
            redirect_uri=asked["redirect_uri"],
            challenge=asked["code_challenge"],
            nonce=asked["nonce"],
            scope=asked["scope"],
            expires=now + _CODE_SECONDS,
            sid=self._sids.setdefault(browser, str(uuid.uuid4())),
        )
        return code

    async def _token(self, request: Request) -> Response:
        self._tenant(request)
        form = _once(parse_qsl((await request.body()).decode("ascii", "replace"), keep_blank_values=True))
        if form.get("client_id", "").lower() != self.client_id:
            raise AadError(700016, "unauthorized_client", "Application was not found in the directory.")
        if "client_secret" not in form:
            raise AadError(
                7000218, "invalid_client", "The request must contain client_assertion or client_secret.", 401
            )
        if not hmac.compare_digest(form["client_secret"].encode(), self.client_secret.encode()):
            raise AadError(7000215, "invalid_client", "Invalid client secret provided.", 401)
        if form.get("grant_type") != "authorization_code":
            raise AadError(70003, "unsupported_grant_type", "The grant type is not supported.")
        _fail(request, "invalid_grant")
        grant = self._redeem(form)
        scope = " ".join(word for word in grant.scope.split() if word != "offline_access")
        answer: dict[str, object] = {
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": LIFETIME_SECONDS,
            "ext_expires_in": LIFETIME_SECONDS,
            "access_token": secrets.token_urlsafe(96),
        }
        fault: Fault | None = request.scope["fault"]
        if id_token := self._id_token(grant, fault.forge if fault else None):
            answer["id_token"] = id_token
        if "offline_access" in grant.scope.split():
            answer["refresh_token"] = secrets.token_urlsafe(96)
        if form.get("client_info") == "1":
            info = f'{{"uid":"{grant.person.oid}","utid":"{grant.issuer_tenant}"}}'
            answer["client_info"] = urlsafe_b64encode(info.encode()).decode().rstrip("=")
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def _redeem(self, form: Mapping[str, str]) -> _Grant:
        code = form.get("code", "")
        if code not in self._grants:
            raise AadError(70000, "invalid_grant", "The provided authorization code is malformed or unknown.")
        grant = self._grants[code]
        if grant.redeemed:
            raise AadError(54005, "invalid_grant", "OAuth2 Authorization code was already redeemed.")
        if grant.expires < time.time():
            raise AadError(70008, "invalid_grant", "The provided authorization code has expired.")
        if form.get("redirect_uri") != grant.redirect_uri:
            raise AadError(500112, "invalid_grant", "The reply address does not match the one of the authorization.")
        proof = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        if not hmac.compare_digest(proof, grant.challenge):
            raise AadError(501481, "invalid_grant", "The code_verifier does not match the code_challenge.")
        self._grants[code] = replace(grant, redeemed=True)
        return grant

    def _id_token(self, grant: _Grant, forge: str | None) -> str | None:
        claims = claims_for(
            grant.person,
            client_id=self.client_id,
            issuer=f"{self.origin}/{grant.issuer_tenant}/v2.0",
            tenant_id=grant.issuer_tenant,
            nonce=grant.nonce,
            sid=grant.sid,
        )
        return self._signer.sign(claims, forge)

    async def _logout(self, request: Request) -> Response:
        """Tell the app in a frame, and lead back to a registered address; to any other address nothing leads."""
        target = request.query_params.get("post_logout_redirect_uri")
        back = target if target in self.redirect_uris else None
        state = request.query_params.get("state")
        if back and state:
            back += f"?{urlencode({'state': state})}"
        if sid := self._sids.pop(request.cookies.get(_BROWSER, ""), None):
            return pages.signed_out(f"{self.front_channel}?{urlencode({'sid': sid})}", back)
        if back:
            return RedirectResponse(back, 303)
        return pages.message("You signed out of your account", "It's a good idea to close all browser windows.")

    def _tenant(self, request: Request) -> str:
        tenant: str = request.path_params["tenant"].lower()
        if tenant == "contoso.example":
            return self.tenant_id
        if tenant not in (self.tenant_id, *_MANY_TENANTS):
            raise AadError(90002, "invalid_tenant", "Tenant not found.")
        return tenant


def _once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters as a mapping; one given twice is refused (RFC 6749 §3.1)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AadError(90014, "invalid_request", "A parameter was given more than once.")
    return found


def _fail(request: Request, error: str) -> None:
    fault: Fault | None = request.scope["fault"]
    if fault and fault.aadsts:
        status = 401 if fault.error == "invalid_client" else 400
        raise AadError(fault.aadsts, fault.error or error, "A fault that was switched on.", status)


def _check_authorize(asked: Mapping[str, str]) -> None:
    for name in ("response_type", "scope", "nonce", "code_challenge"):
        if not asked.get(name):
            raise AadError(900144, "invalid_request", f"The request must contain the parameter '{name}'.")
    if asked["response_type"] != "code" or asked.get("response_mode", "query") != "query":
        raise AadError(70005, "unsupported_response_type", "Only response_type=code in the query is supported.")
    if "openid" not in asked["scope"].split():
        raise AadError(70011, "invalid_scope", "The scope must contain openid.")
    if asked.get("code_challenge_method") != "S256" or len(asked["code_challenge"]) != 43:
        raise AadError(9002325, "invalid_request", "Proof Key for Code Exchange with S256 is required.")
    if asked.get("prompt", "select_account") not in ("login", "select_account", "consent", "none"):
        raise AadError(90023, "invalid_request", "Unsupported 'prompt' value.")
    if asked.get("prompt") == "none":
        raise AadError(50058, "login_required", "A silent sign-in was sent but no user is signed in.")
