"""Sends requests to the directory, and turns what it, httpx and MSAL report into errors of this app.

There are timeouts, and one retry when no connection came about. No text of theirs gets into an error.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from azure_auth import errors
from azure_auth.error_texts import ERROR_TEXTS
from azure_auth.errors import AnswerIncomplete, AuthError, Refused, Slow, Throttled, TokenInvalid, Unavailable
from azure_auth.settings.parsing import GUID

_T = TypeVar("_T")
_BY_NUMBER = {number: code for code, text in ERROR_TEXTS.items() for number in text.numbers}
_BY_OAUTH_ERROR = {
    "access_denied": "cancelled",  # counts only without a number, as when a person cancels at the account picker
    "account_selection_required": "sign_in_needed",
    "consent_required": "consent_missing",
    "interaction_required": "sign_in_needed",
    "invalid_client": "credential_refused",
    "invalid_request": "request_refused",
    "invalid_resource": "scopes_wrong",
    "invalid_scope": "scopes_wrong",
    "login_required": "sign_in_needed",
    "unauthorized_client": "app_unknown",
    "unsupported_grant_type": "request_refused",
    "unsupported_response_type": "request_refused",
}
"""What OAuth's code says if no AADSTS number is known (RFC 6749 §4.1.2.1 and §5.2, OpenID Connect Core §3.1.2.6)."""


class DirectoryHttp(httpx.Client):
    """Sends all requests to the directory. TLS trust and proxies follow the environment.

    Status 429 and 5xx raise here, because MSAL would cache them or read them as an answer.
    """

    def __init__(self, at_once: int, mounts: Mapping[str, httpx.BaseTransport] | None) -> None:
        """Open `at_once` connections at most; `mounts` are transports by address, as in httpx."""
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        super().__init__(timeout=httpx.Timeout(25, connect=5, pool=5), limits=limits, mounts=mounts)

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """Build a request. MSAL passes a client assertion as bytes, which httpx would send as their Python repr."""
        form: dict[str, Any] | None = options.get("data")
        if form:
            options["data"] = {k: v.decode() if isinstance(v, bytes) else v for k, v in form.items()}
        return super().build_request(method, url, **options)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request. Retry once when no connection came about, because then nothing was sent."""
        try:
            response = super().send(request, **options)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            response = super().send(request, **options)
        if response.status_code == 429:
            raise Throttled(_retry_after(response.headers.get("Retry-After", "")))
        if response.status_code >= 500:
            raise Unavailable(f"status {response.status_code}")
        return response


def _retry_after(value: str) -> int | None:
    """Read Retry-After, seconds or a date (RFC 9110 §10.2.3); None when it is neither."""
    if value.isascii() and value.isdigit():
        return int(value[:6])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0, round((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()))


def refusal(result: Mapping[str, Any]) -> AuthError:
    """Return the error for an OAuth error response (RFC 6749 §4.1.2.1 and §5.2), from the browser or the directory.

    The first known AADSTS number decides, else OAuth's code. The detail has only these and Microsoft's ids: the text of
    the response may contain personal data.
    """
    error = str(result["error"]) if re.fullmatch(r"[a-z_]{1,40}", str(result["error"])) else "other"
    ids = [f"{name}={result[name]}" for name in ("trace_id", "correlation_id") if GUID.fullmatch(str(result.get(name)))]
    if error in ("server_error", "temporarily_unavailable"):
        return Unavailable(" ".join([f"oauth_error={error}", *ids]))
    numbers = _numbers(result)
    known = filter(None, map(_code_of, numbers))
    by_error = "refused" if numbers and error == "access_denied" else _BY_OAUTH_ERROR.get(error, "refused")
    code = next(known, by_error)
    return Refused(" ".join([f"oauth_error={error}", *(f"AADSTS{number}" for number in numbers), *ids]), code=code)


def _code_of(number: int) -> str | None:
    return "blocked_by_policy" if re.fullmatch(r"530\d{2,3}", str(number)) else _BY_NUMBER.get(number)


def _numbers(result: Mapping[str, Any]) -> list[int]:
    """Return the AADSTS numbers, most specific first. The browser's query has one in its description."""
    codes: list[Any] = result["error_codes"] if isinstance(result.get("error_codes"), list) else []
    described = re.findall(r"AADSTS(\d{1,9})", str(result.get("error_description", "")))[:1]
    return [int(code) for code in codes if isinstance(code, int)] or [int(number) for number in described]


def translated(ask: Callable[[], _T]) -> _T:
    """Call `ask`, and turn what httpx and MSAL raise into errors of this app."""
    try:
        return ask()
    except AuthError as why:
        raise why.again() from None  # callers that wait for one fetch share its failure, but not its reference and page
    except (httpx.TimeoutException, TimeoutError) as why:
        raise Slow(type(why).__name__) from why
    except httpx.HTTPError as why:
        raise Unavailable(type(why).__name__) from why
    except RuntimeError as why:  # MSAL raises it for the nonce of another flow
        raise TokenInvalid(errors.whereabouts(why)) from why
    except Exception as why:  # MSAL has no error of its own for an unreadable answer
        raise AnswerIncomplete(errors.whereabouts(why)) from why
