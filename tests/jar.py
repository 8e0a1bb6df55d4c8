"""The cookies of one browser, in front of `SignIn`."""

from collections.abc import Iterable, Mapping
from typing import Any

from azure_auth.auth.sessions.sealing import flow_id
from azure_auth.auth.sign_in import Redirect, SignIn


class Jar:
    """A browser that has not been here before.

    Attributes:
        cookies: By name.
    """

    def __init__(self, **cookies: str) -> None:
        """Begin with these cookies."""
        self.cookies = cookies

    @property
    def headers(self) -> list[str]:
        """The Cookie headers of a request."""
        return ["; ".join(f"{name}={value}" for name, value in self.cookies.items())]

    def keep(self, headers: Iterable[str]) -> None:
        """Do what Set-Cookie headers say; like Chromium, count a cookie with another value as new."""
        for header in headers:
            name, _, value = header.partition(";")[0].partition("=")
            if self.cookies.get(name) != value:
                self.cookies.pop(name, None)
                self.cookies[name] = value
            if "max-age=0" in header.lower():
                del self.cookies[name]

    async def begin(self, sign_in: SignIn, return_to: str = "", **how: Any) -> str:
        """Start a sign-in; return where it leads."""
        led = await sign_in.begin(self.headers, return_to, **how)
        self.keep(led.cookies)
        return led.address

    async def finish(self, sign_in: SignIn, answer: Mapping[str, str], address: str = "", **how: Any) -> str:
        """Bring an answer; return the ticket."""
        how = {"browser": sign_in.browser(self.headers), **how}
        return await sign_in.finish(answer, sign_in.flow_cookies.read(self.headers), address, **how)

    async def exchange(self, sign_in: SignIn, ticket: str) -> Redirect:
        """Exchange a ticket, and keep what comes with it."""
        led = await sign_in.start_session(ticket, self.headers)
        self.keep(led.cookies)
        if led.session_cookie:
            self.keep([sign_in.session_cookie.header(led.session_cookie)])
        return led

    def binding(self, sign_in: SignIn, answer: Mapping[str, str]) -> str:
        """Return what binds the flow of an answer to this browser."""
        wanted = flow_id(answer["state"])
        return next(flow.binding for flow in sign_in.flow_cookies.read(self.headers) if flow.id == wanted)
