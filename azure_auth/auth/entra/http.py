"""The HTTP client for the directory: timeouts, one retry when no connection came about, and errors of this app."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from azure_auth.errors import Throttled, Unavailable


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
