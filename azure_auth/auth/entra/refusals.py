"""Turns a refusal by the directory into an error of this app."""

import re
from collections.abc import Mapping
from typing import Any

from azure_auth.error_texts import ERROR_TEXTS
from azure_auth.errors import AuthError, Refused, Unavailable
from azure_auth.settings.parsing import GUID

_BY_NUMBER = {number: code for code, text in ERROR_TEXTS.items() for number in text.numbers}
_BY_OAUTH_ERROR = {
    "access_denied": "cancelled",  # only without an AADSTS number, as when a person cancels
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
