"""How many requests, websockets, uploads and bytes of bodies there may be at once, and of whom."""

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import AbstractContextManager, contextmanager

from starlette.types import Scope

from azure_auth import bounds
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.endpoints import Endpoint, Part
from azure_auth.settings import Settings

_MOST = {
    "http": (bounds.REQUESTS_OF_SESSION, bounds.REQUESTS_OF_ADDRESS, bounds.REQUESTS_OF_STRANGERS),
    "websocket": (bounds.WEBSOCKETS_OF_SESSION, bounds.WEBSOCKETS_OF_ADDRESS, bounds.WEBSOCKETS_OF_STRANGERS),
}
"""Connections at once, by type: of a session, of anonymous clients at one address, of all anonymous clients."""
Take = Callable[[int], bool]
"""Takes so much more of the room; tells whether all owners are within their maximum."""


class Crowd:
    """Counts what goes on at once, by owner."""

    def __init__(self) -> None:
        self._now: Counter[Hashable] = Counter()

    @contextmanager
    def room(self, most: Mapping[Hashable, int]) -> Generator[Take]:
        """Let one thing take room of each of these owners, up to their maximum, and give it all back at the end."""
        size = 0

        def take(more: int) -> bool:
            nonlocal size
            size += more
            for owner in most:
                self._now[owner] += more
                if not self._now[owner]:
                    del self._now[owner]
            return all(self._now[owner] <= maximum for owner, maximum in most.items())

        try:
            yield take
        finally:
            take(-size)


class Room:
    """The room that this process has for connections and bodies, for each owner: a session, or an address."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._crowd = settings, Crowd()

    def for_connection(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Take]:
        """Return the room for one more request or websocket."""
        owner, kind = self._owner(scope, held), scope["type"]
        if endpoint.what is Part.SIGN_IN:
            return self._crowd.room({("sign-in", owner): bounds.REQUESTS_OF_STRANGERS})
        of_session, of_address, of_strangers = _MOST[kind]
        most: dict[Hashable, int] = {(kind, owner): of_session if held else of_address}
        if held is None:
            most[kind, "strangers"] = of_strangers
        if endpoint.what is Part.UPLOADS:
            most["upload", owner] = bounds.UPLOADS_OF_OWNER
        return self._crowd.room(most)

    def for_body(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Take]:
        """Return the room for the bytes of one more body."""
        owner = "bytes", self._owner(scope, held)
        most: dict[Hashable, int] = {}
        if held:
            most[owner] = max(self._settings.upload_bytes, bounds.BODY_BYTES)
        elif endpoint.what is not Part.SIGN_IN:  # sign-in reads no more than a ticket
            most = {owner: bounds.BODIES_OF_ADDRESS, ("bytes", "strangers"): bounds.BODIES_OF_STRANGERS}
        return self._crowd.room(most)

    def _owner(self, scope: Scope, held: Held | None) -> Hashable:
        return held.session.reference if held else ("address", client_address(scope, self._settings.proxy_hops))
