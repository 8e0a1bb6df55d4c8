"""The Cookie headers of requests and the Set-Cookie headers of answers, the app's own apart from those of others."""

from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from azure_auth.auth.cookies.cookie import pairs
from azure_auth.bounds import OTHER_COOKIE_BYTES


def split_cookies(scope: Scope, prefix: str) -> tuple[list[bytes], list[bytes]]:
    """Return the cookies whose names begin with `prefix`, and all others, each as the value of one header or none.

    The others are dropped if they are longer than any site of ours needs: a sibling site can fill the jar.
    """
    found = list(pairs(Headers(scope=scope).getlist("cookie")))
    ours = "; ".join(f"{name}={value}" for name, value in found if name.startswith(prefix))
    others = "; ".join(f"{name}={value}" if value else name for name, value in found if not name.startswith(prefix))
    kept = [others.encode("latin-1")] if 0 < len(others) <= OTHER_COOKIE_BYTES else []
    return [ours.encode("latin-1")] if ours else [], kept


def with_cookies(scope: Scope, cookies: Iterable[bytes]) -> Scope:
    """Return the scope with these Cookie headers in place of its own."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": headers + [(b"cookie", value) for value in cookies]}


def setting_cookies(cookies: Sequence[str], send: Send) -> Send:
    """Wrap `send`, so that the answer sets these cookies, except those that it sets itself."""

    async def send_with_cookies(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            own = {cookie.partition("=")[0] for cookie in headers.getlist("set-cookie")}
            for cookie in cookies:
                if cookie.partition("=")[0] not in own:
                    headers.append("set-cookie", cookie)
        await send(message)

    return send_with_cookies
