"""Reads an OAuth error response of the directory, from the token endpoint or from the browser's query."""

import re
from collections.abc import Mapping
from typing import Any

from azure_auth.error_texts import ERROR_TEXTS
from azure_auth.errors import AuthError, Refused, Unavailable
from azure_auth.settings.parsing import GUID

_BY_NUMBER = {number: code for code, text in ERROR_TEXTS.items() for number in text.numbers}
_BY_OAUTH_ERROR = {
    "access_denied": "cancelled",
    "consent_required": "consent_missing",
    "interaction_required": "sign_in_needed",
    "invalid_client": "credential_refused",
    "login_required": "sign_in_needed",
}


def refusal(result: Mapping[str, Any]) -> AuthError:
    """Return the failure that an error response stands for: by its first known AADSTS number, else by OAuth's code.

    Its detail has OAuth's code, the numbers and Microsoft's ids; other text of the response could hold personal data.

    Args:
        result: The response, with `error` (RFC 6749 §4.1.2.1 and §5.2).
    """
    error = str(result["error"]) if re.fullmatch(r"[a-z_]{1,40}", str(result["error"])) else "other"
    ids = [f"{name}={result[name]}" for name in ("trace_id", "correlation_id") if GUID.fullmatch(str(result.get(name)))]
    if error in ("server_error", "temporarily_unavailable"):
        return Unavailable(" ".join([f"oauth_error={error}", *ids]))
    numbers = _numbers(result)
    known = [_BY_NUMBER[number] for number in numbers if number in _BY_NUMBER]
    code = known[0] if known else "refused" if numbers else _BY_OAUTH_ERROR.get(error, "refused")
    return Refused(" ".join([f"oauth_error={error}", *(f"AADSTS{number}" for number in numbers), *ids]), code=code)


def _numbers(result: Mapping[str, Any]) -> list[int]:
    """Return the AADSTS numbers, the most specific first; the browser's query has one in its description alone."""
    codes: list[Any] = result["error_codes"] if isinstance(result.get("error_codes"), list) else []
    described = re.findall(r"AADSTS(\d{1,9})", str(result.get("error_description", "")))[:1]
    return [code for code in codes if isinstance(code, int)] or [int(number) for number in described]
