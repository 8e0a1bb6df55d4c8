"""How much may come in: every limit of sockets, messages, states and log records, in one place.

What comes faster than it may waits; what no page sends ends its socket; what is too many is refused, the newest first.
Each worker counts for itself. The limits of sign-ins stand in `auth.sign_in_limits`, those of what waits for one in
`auth.store`, those of a browser's cookies in `auth.flow_cookies`.
"""

from typing import NamedTuple

FRAME_CHARACTERS = 256_000
"""Of a text frame, which is a whole message: no other frames are taken. Reflex's client is told so by Engine.IO."""
ROUTE_CHARACTERS = 16_000
"""Of what a message says of the page that it comes from; a state keeps it."""
REPORT_CHARACTERS = 2_000
"""Of what a browser reports of an error of its own."""
REPORTS_A_MINUTE = 60
"""Of these, from all browsers together, that go to the log."""
PATH_CHARACTERS, QUERY_BYTES = 2_000, 1_000
"""Of the address of a request, and of the query of a handshake."""

HEADER_BYTES, COOKIE_BYTES, OTHER_COOKIE_BYTES = 16_000, 64_000, 8_000
"""Of a request's headers without cookies, of all cookies, and of those that are not the app's own: above the last,
developers' endpoints see none of them, for another site of the same domain can fill a browser's jar."""
SOCKET_HEADER_BYTES = 4_000
"""Of the headers of a socket that Reflex keeps in its state."""
BODY_BYTES = 10_000_000
"""Of a request's body; forms of who is signed in may be as long as the settings say (`UPLOAD_MAX_MB`)."""
BODY_SECONDS, SLOWEST_BYTES = 20.0, 20_000
"""How long a body may take to arrive: so long, and a second more for each so many bytes."""
REQUESTS_OF_SESSION, REQUESTS_OF_ADDRESS, REQUESTS_OF_STRANGERS = 100, 200, 500
"""Requests that are answered at once: of a session, of strangers at one address, of all strangers. Those to sign-in
itself may be as many as the last of each address, for an office may be one."""
UPLOADS_OF_OWNER = 4
"""Uploads at once, of a session or of strangers at one address."""
BODIES_OF_ADDRESS, BODIES_OF_STRANGERS = 20_000_000, 100_000_000
"""Bytes of bodies at once, of strangers at one address and of all; a session may have one upload of full length."""
TICKET_SECONDS = 5.0
"""How long the body of a request to sign-in itself may take."""
BOUNDARY_BYTES = 70
"""Of the boundary of a form (RFC 2046, section 5.1.1)."""

WEBSOCKETS_OF_SESSION, WEBSOCKETS_OF_ADDRESS, WEBSOCKETS_OF_STRANGERS = 50, 20, 200
"""Websockets of developers' endpoints at once: of a session, of strangers at one address, of all strangers."""
STRANGER_WEBSOCKET_SECONDS = 600.0
"""How long such a websocket of a stranger lasts."""
MESSAGE_CHARACTERS, MESSAGES_AHEAD = 1_000_000, 16
"""Of a message that it receives, and messages that are read before its handler takes them."""


class Flow(NamedTuple):
    """How fast messages are read, and how many may wait.

    Attributes:
        events: Messages in a second.
        characters: Of these, in a second.
        waiting: Messages that are not done yet, those that a handler works on included.
        waiting_characters: Of these; one message alone may have more.
    """

    events: float
    characters: float
    waiting: int
    waiting_characters: int


SOCKET = Flow(events=100, characters=1_000_000, waiting=100, waiting_characters=1_000_000)
"""Of one socket: 6,000 events and 60 million characters in a minute."""
OWNER = Flow(events=300, characters=3_000_000, waiting=400, waiting_characters=4_000_000)
"""Of all sockets of one user together, or of all strangers at one address."""
SHORT_CHARACTERS = 16_000
"""Messages of at most so many, and longer ones, have an `OWNER` each: who sends long ones holds up no short ones."""
BURST_SECONDS = 3.0
"""What nobody used of that long is read at once."""

UNREAD_CHARACTERS, OUTGOING_CHARACTERS = 1_000_000, 20_000_000
"""Of what a client has not read yet: above the first its next message waits, above the second it is cut."""

SESSION_TABS, SESSION_SOCKETS = 60, 120
"""Tabs of one session: each above that number gets a page that says so. Sockets, those of tabs that lost their network
and come again included: above that number, nothing."""
SESSION_TASKS = 200
"""Handlers of one session that run at once; a background handler above that number is refused."""
SESSION_STATES = 100
"""Tabs of a session, open or closed, whose states are kept; that of the one closed first goes."""
STRANGERS, STRANGERS_OF_ADDRESS, STRANGERS_OF_BROWSER = 1_000, 400, 50
"""Sockets without a session: in all, of one address, of one browser. The oldest goes; its page is loaded by then."""

STRANGER_SECONDS = 60.0
"""How long a stranger's socket lasts."""
STRANGER_ANSWER_SECONDS, TAB_ANSWER_SECONDS = 5.0, 15.0
"""How often the socket of a stranger, or of a session, is pinged, and how long it may take to answer."""
STRANGER_STATE_SECONDS = 120.0
"""How long a stranger's state outlives its socket."""
SEND_SECONDS, SLOWEST_CHARACTERS = 20.0, 20_000
"""How long a client may take to read what it is sent: so long, and a second more for each so many characters."""
ANSWER_SECONDS = 2.0
"""How long a client may take to answer a ping, when another socket says that it is the same tab."""
GONE_SECONDS = 3.0
"""How long a socket lasts that was told to go, whether the client agrees or not."""

AUDIT_BYTES, AUDIT_LINES = 4_096, 10_000
"""Of a line of the audit trail, and lines that wait to be written."""
AUDIT_REPEATS, AUDIT_REPEATS_ELSEWHERE = 100, 1_000
"""Audit lines of one event and reason in a minute: above the first number, only the first of each address is written;
above the second, none is. What is left out is counted."""
LOG_CHARACTERS, TRACEBACK_CHARACTERS = 8_000, 40_000
"""Of a message and of a traceback that are logged; they are cut before they are cleaned."""
