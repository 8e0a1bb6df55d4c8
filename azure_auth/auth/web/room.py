"""How many requests, websockets, uploads and bytes of bodies there may be at once, and of whom."""

from collections import Counter
from collections.abc import Generator, Hashable, Mapping
from contextlib import AbstractContextManager, contextmanager

from starlette.types import Scope

from azure_auth.auth.sessions.session import Held
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.endpoints import Endpoint, Part
from azure_auth.bounds import (
    BODIES_OF_ADDRESS,
    BODIES_OF_STRANGERS,
    BODY_BYTES,
    REQUESTS_OF_ADDRESS,
    REQUESTS_OF_SESSION,
    REQUESTS_OF_STRANGERS,
    UPLOADS_OF_OWNER,
    WEBSOCKETS_OF_ADDRESS,
    WEBSOCKETS_OF_SESSION,
    WEBSOCKETS_OF_STRANGERS,
)
from azure_auth.settings import Settings

_MOST = {
    "http": (REQUESTS_OF_SESSION, REQUESTS_OF_ADDRESS, REQUESTS_OF_STRANGERS),
    "websocket": (WEBSOCKETS_OF_SESSION, WEBSOCKETS_OF_ADDRESS, WEBSOCKETS_OF_STRANGERS),
}
"""Connections at once, by type: of a session, of anonymous clients at one address, of all anonymous clients."""


class Crowd:
    """Counts what goes on at once, by owner."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._now: Counter[Hashable] = Counter()

    @contextmanager
    def room(self, most: Mapping[Hashable, int]) -> Generator["Share"]:
        """Give a share of the room of each of these owners, up to its maximum, while something goes on."""
        share = Share(self._now, most)
        try:
            yield share
        finally:
            share.take(-share.size)


class Share:
    """What one thing takes of the room of its owners."""

    def __init__(self, now: Counter[Hashable], most: Mapping[Hashable, int]) -> None:
        """Begin with nothing of what is taken `now`."""
        self._now, self._most = now, most
        self.size = 0

    def take(self, more: int) -> bool:
        """Take so much more; tell whether all owners are within their maximum."""
        self.size += more
        for owner in self._most:
            self._now[owner] += more
            if not self._now[owner]:
                del self._now[owner]
        return all(self._now[owner] <= most for owner, most in self._most.items())


class Room:
    """The room that this process has for what it answers."""

    def __init__(self, settings: Settings) -> None:
        """Begin with nothing."""
        self._settings = settings
        self._connections, self._bytes = Crowd(), Crowd()

    def for_connection(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Share]:
        """Return the room for one more request or websocket."""
        owner, kind = self._owner(scope, held), scope["type"]
        if endpoint.what is Part.SIGN_IN:
            return self._connections.room({("sign-in", owner): REQUESTS_OF_STRANGERS})
        of_session, of_address, of_strangers = _MOST[kind]
        most: dict[Hashable, int] = {(kind, owner): of_session if held else of_address}
        if held is None:
            most[kind, "strangers"] = of_strangers
        if endpoint.what is Part.UPLOADS:
            most["upload", owner] = UPLOADS_OF_OWNER
        return self._connections.room(most)

    def for_body(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Share]:
        """Return the room for the bytes of one more body."""
        return self._bytes.room(self._most_bytes(scope, endpoint, held))

    def _most_bytes(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> dict[Hashable, int]:
        owner = self._owner(scope, held)
        if endpoint.what is Part.SIGN_IN:
            return {}  # it reads no more than a ticket
        if held:
            return {owner: max(self._settings.upload_bytes, BODY_BYTES)}
        return {owner: BODIES_OF_ADDRESS, "strangers": BODIES_OF_STRANGERS}

    def _owner(self, scope: Scope, held: Held | None) -> Hashable:
        return held.session.reference if held else ("address", client_address(scope, self._settings.proxy_hops))
