"""Who is connected here: each socket, upload and stream with the session and cookie value that it came with."""

from asyncio import Future, Task, TimerHandle
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex

from azure_auth.auth.cookies.flow_cookies import FlowCookie
from azure_auth.auth.gate.frames import Frames
from azure_auth.auth.sessions.sealing import stranger_key, tab_id
from azure_auth.auth.sessions.session import Held, Session
from azure_auth.errors import AuthError

SCOPE_KEY = "azure_auth.tab"
"""Where a socket's tab is in its ASGI scope, until Socket.IO has given the socket an id."""


@dataclass(eq=False, slots=True, repr=False)
class Tab:
    """A connection of a browser tab, from its handshake to its end.

    An upload is a connection too; it is never cut. Cookies are those of the handshake.

    Attributes:
        state_key: The key of its state in Reflex; derived from the session and the client token.
        stable_id: An id that stays the same across a sign-in; it grants no access.
        session: The session; None if the tab is anonymous.
        handle: The hash of the session cookie.
        browser: The browser's name; empty without a valid one.
        refusal: Why every event is refused, for example because the session could not be looked up.
        socket: Socket.IO's id of the connection, once it is connected.
        page: The last path and query of the tab.
        answer: The query of `/callback`, which must reach no state.
        returned: Whether it reconnected by itself, without user activity since.
        leaving: Whether it is already leaving its page.
        lost: Whether its state was reset since its last event.
        stall_timer: Checks the store when an event does not reach the gate in time.
        cut: Closes the connection as soon as it has a result.
        frames: What the connection receives and sends.
        timer: Pings the connection, and closes it when its time is over.
    """

    state_key: str
    stable_id: str
    session: Session | None
    handle: str = ""
    flow_cookies: Sequence[FlowCookie] = ()
    browser: str = ""
    address: str = ""
    refusal: AuthError | None = None
    socket: str = ""
    page: str = "/"
    answer: Mapping[str, str] = field(default_factory=dict[str, str])
    returned: bool = False
    leaving: bool = False
    lost: bool = False
    stall_timer: TimerHandle | None = None
    cut: "Future[None] | None" = None
    frames: Frames | None = None
    timer: "TimerHandle | Task[None] | None" = None

    @classmethod
    def of(
        cls, client_token: str, held: Held | None, flow_cookies: Sequence[FlowCookie] = (), browser: str = ""
    ) -> "Tab":
        """Return the tab that calls itself `client_token`, with the key that this very session gives it."""
        id_ = tab_id(client_token)
        if held:
            key = held.session.keys.tab_key(client_token)
            return cls(key, id_, held.session, held.handle, flow_cookies, browser)
        return cls(stranger_key(client_token, browser or token_hex(16)), id_, None, "", flow_cookies, browser)

    @property
    def is_over(self) -> bool:
        """Whether the connection was ended from here; it may last a moment longer."""
        return self.cut is not None and self.cut.done()

    def end(self) -> None:
        """End the connection, whether the client agrees or not."""
        if self.cut and not self.cut.done():
            self.cut.set_result(None)

    @property
    def signed_in(self) -> Session | None:
        """The tab's session, if it has not ended as far as this process knows."""
        return self.session if self.session and self.session.ended is None else None


class Tabs:
    """The one registry of the tabs that are connected to this process: by state key, by socket, and by session."""

    def __init__(self) -> None:
        self._holders: dict[str, Tab] = {}
        self._uploads: defaultdict[str, dict[Tab, None]] = defaultdict(dict)
        self._by_socket: dict[str, Tab] = {}
        self._by_session: defaultdict[str, dict[Tab, None]] = defaultdict(dict)
        self._anonymous: dict[Tab, None] = {}

    @contextmanager
    def connected(self, tab: Tab, *, upload: bool = False) -> Generator[None]:
        """Register a connection while it lasts. It holds the state under its key unless another socket does."""
        if upload:
            self._uploads[tab.state_key][tab] = None
        else:
            self._holders.setdefault(tab.state_key, tab)
        (self._by_session[tab.session.reference] if tab.session else self._anonymous)[tab] = None
        try:
            yield
        finally:
            self.let_go(tab)
            self._by_socket.pop(tab.socket, None)
            if upload:
                _remove(tab, self._uploads, tab.state_key)
            if tab.session:
                _remove(tab, self._by_session, tab.session.reference)
            else:
                del self._anonymous[tab]

    def bind(self, tab: Tab, socket: str) -> None:
        """Note a tab's socket, once Socket.IO has given it an id."""
        tab.socket = socket
        self._by_socket[socket] = tab

    def hold(self, tab: Tab) -> None:
        """Give a tab the state under its key, which another socket may have held."""
        self._holders[tab.state_key] = tab

    def let_go(self, tab: Tab) -> None:
        """Release the state under a tab's key; the connection may last, and still counts."""
        if self._holders.get(tab.state_key) is tab:
            del self._holders[tab.state_key]

    def at(self, key: str) -> Tab | None:
        """Return the tab whose state lies under `key`; None if no connection has that key."""
        if key in self._holders:
            return self._holders[key]
        return next(reversed(self._uploads[key])) if key in self._uploads else None

    def of_socket(self, socket: str) -> Tab | None:
        """Return the tab of a socket, given by Socket.IO's id; None if its connection has ended."""
        return self._by_socket.get(socket)

    def anonymous(self) -> list[Tab]:
        """Return the tabs without a session, oldest first."""
        return list(self._anonymous)

    def of(self, session: Session) -> list[Tab]:
        """Return all tabs of a session."""
        return list(self._by_session.get(session.reference, ()))


def _remove(tab: Tab, groups: dict[str, dict[Tab, None]], key: str) -> None:
    del groups[key][tab]
    if not groups[key]:
        del groups[key]
