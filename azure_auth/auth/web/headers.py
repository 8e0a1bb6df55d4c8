"""The security headers of every answer (OWASP ASVS 5.0, 3.4)."""

import re
from base64 import b64encode
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FRONT_CHANNEL = "/auth/frontchannel-logout"
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
_YEAR_SECONDS = 365 * 24 * 3600


class SecurityHeaders:
    """Sets the headers of every answer; those that an answer has already, such as a stricter policy, stay."""

    def __init__(self, app: ASGIApp, public_url: str, framed_by: str, build: Path) -> None:
        """Wrap the whole app, which browsers reach under `public_url`.

        The origins `framed_by`, the directory's, alone may frame the front-channel sign-out. Only the inline scripts of
        the static build in the folder `build` may run.
        """
        self._app, self._public_url, self._framed_by, self._build = app, public_url, framed_by, build

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; set the headers of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers(scope["path"], message["status"]).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _headers(self, path: str, status: int) -> dict[str, str]:
        is_https, framed = self._public_url.startswith("https://"), path == FRONT_CHANNEL
        hashed_asset = path.startswith("/assets/") and status in (200, 304)
        return {
            "Content-Security-Policy": self._policy.format(frame_ancestors=self._framed_by if framed else "'none'"),
            **({} if framed else {"X-Frame-Options": "DENY"}),
            **({"Strict-Transport-Security": f"max-age={_YEAR_SECONDS}"} if is_https else {}),
            "X-Content-Type-Options": "nosniff",
            # The code in an address does not leave, and our own POSTs keep their Origin.
            "Referrer-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": f"public, max-age={_YEAR_SECONDS}, immutable" if hashed_asset else "no-store",
        }

    @cached_property
    def _policy(self) -> str:
        """The policy of this build; Reflex sets styles at run time, so styles may be inline, and scripts may not."""
        pages = sorted(self._build.rglob("*.html"))
        scripts = {script for page in pages for script in _INLINE_SCRIPT.findall(page.read_text())}
        hashes = sorted(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
        allowed = " ".join(["'self'", *hashes])
        socket = self._public_url.replace("http", "ws", 1)
        return (
            f"default-src 'none'; script-src {allowed};"
            f" style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self' {socket};"
            " manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {frame_ancestors}"
        )
