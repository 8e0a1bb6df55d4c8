"""Who is connected here: each socket or upload by the key that was derived for it, and whose it is."""

from asyncio import TimerHandle
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from azure_auth.auth.sealing import stranger_key, tab_id
from azure_auth.auth.sessions import Session
from azure_auth.errors import StoreUnavailable


@dataclass(eq=False, slots=True, repr=False)
class Tab:
    """A connection of a browser tab, from its handshake to its end.

    Attributes:
        key: Under which Reflex keeps the tab's state; derived from the cookie and what the tab calls itself.
        id: What tells the tab from others, also across a sign-in; opens nothing.
        session: Whose it is, by the cookie of the handshake; None for a stranger.
        browser: The value of the flow cookie at the handshake.
        address: Of the other end, as far as the proxies in front are ours.
        trouble: Why it could not be told whose it is; nothing is let through then.
        socket: Socket.IO's id of the connection, once an event came over it.
        page: The path and query that the tab was last at.
        answer: The query of `/callback`, which goes to no state.
        returned: Whether it connected again by itself, and its person did nothing since.
        leaving: Whether it is on its way to another page already.
        late: Goes off when an event of it does not come to the gate in time.
    """

    key: str
    id: str
    session: Session | None
    browser: str | None
    address: str = ""
    trouble: StoreUnavailable | None = None
    socket: str = ""
    page: str = "/"
    answer: Mapping[str, str] = field(default_factory=dict[str, str])
    returned: bool = False
    leaving: bool = False
    late: TimerHandle | None = None

    @classmethod
    def of(cls, client_token: str, session: Session | None, browser: str | None) -> "Tab":
        """Return the tab that calls itself `client_token`, with the key that this very session gives it."""
        key = session.keys.tab_key(client_token) if session else stranger_key(client_token, browser or "")
        return cls(key, tab_id(client_token), session, browser)

    @property
    def signed_in(self) -> Session | None:
        """The tab's session, if it has not ended as far as this process knows."""
        return self.session if self.session and self.session.ended is None else None


class Tabs:
    """The tabs that are connected to this process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_key: defaultdict[str, list[Tab]] = defaultdict(list)

    @contextmanager
    def connected(self, tab: Tab) -> Generator[None]:
        """Know of a tab while its connection lasts."""
        self._by_key[tab.key].append(tab)
        try:
            yield
        finally:
            self._by_key[tab.key].remove(tab)
            if not self._by_key[tab.key]:
                del self._by_key[tab.key]

    def at(self, key: str) -> Tab | None:
        """Return the tab whose state lies under `key`; None if that key was derived for nobody who is connected."""
        return self._by_key[key][-1] if key in self._by_key else None

    def all(self) -> list[Tab]:
        """Return all tabs; those that came first come first."""
        return [tab for tabs in self._by_key.values() for tab in tabs]

    def of(self, session: Session) -> list[Tab]:
        """Return all tabs of a session."""
        return [tab for tab in self.all() if tab.session is session]
