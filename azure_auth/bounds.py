"""All limits of requests, sockets, messages, states and log records.

Messages above a rate wait. A message that no page of the app sends closes its socket. Above a maximum number, the
newest is refused, unless stated otherwise. Each worker counts separately. "Anonymous" means without a session.

Other limits are beside their code: sign-ins in `auth.sign_in_limits`, one-time entries in `auth.sessions.store`, the
flow cookies of a browser in `auth.cookies.flow_cookies`.
"""

from typing import NamedTuple

FRAME_CHARACTERS = 256_000
"""Maximum length of a text frame. Each frame is one message. Engine.IO tells Reflex's client this number."""
ROUTE_CHARACTERS = 16_000
"""Maximum length of the page address in a message, which the state keeps."""
REPORT_CHARACTERS = 2_000
"""Maximum length of a browser's report of its own error."""
REPORTS_A_MINUTE = 60
"""Maximum number of these reports, from all browsers together, in the log."""
PATH_CHARACTERS, QUERY_BYTES = 2_000, 1_000
"""Maximum length of a request's path, and of a handshake's query."""

HEADER_BYTES, COOKIE_BYTES, OTHER_COOKIE_BYTES = 16_000, 64_000, 8_000
"""Maximum length of a request's headers without cookies, of all its cookies, and of cookies that are not the app's own.
Above the last, developers' endpoints get none of these: another site of the same domain can set any number."""
SOCKET_HEADER_BYTES = 4_000
"""Maximum length of the headers of a handshake that Reflex keeps in its state."""
BODY_BYTES = 10_000_000
"""Maximum length of a request's body. `UPLOAD_MAX_MB` of the settings replaces it for forms of signed-in people."""
BODY_SECONDS, SLOWEST_BYTES = 20.0, 20_000
"""Timeout of a body: this many seconds, and one more for each `SLOWEST_BYTES`."""
REQUESTS_OF_SESSION, REQUESTS_OF_ADDRESS, REQUESTS_OF_STRANGERS = 100, 200, 500
"""Maximum number of concurrent requests: of a session, of anonymous clients at one address, of all anonymous clients.
For requests to sign-in itself, the last number applies to each address, because a whole office may share one."""
UPLOADS_OF_OWNER = 4
"""Maximum number of concurrent uploads of a session, or of anonymous clients at one address."""
BODIES_OF_ADDRESS, BODIES_OF_STRANGERS = 20_000_000, 100_000_000
"""Maximum bytes of concurrent bodies of anonymous clients, at one address and in all. A session may send one upload of
maximum length."""
TICKET_BODY_SECONDS = 5.0
"""Timeout of the body of a request to sign-in itself."""
BOUNDARY_BYTES = 70
"""Maximum length of the boundary of a form (RFC 2046, section 5.1.1)."""

WEBSOCKETS_OF_SESSION, WEBSOCKETS_OF_ADDRESS, WEBSOCKETS_OF_STRANGERS = 50, 20, 200
"""Maximum number of open websockets of developers' endpoints: of a session, of anonymous clients at one address, and of
all anonymous clients."""
STRANGER_WEBSOCKET_SECONDS = 600.0
"""Maximum lifetime of such a websocket of an anonymous client."""
MESSAGE_CHARACTERS, MESSAGES_AHEAD = 1_000_000, 16
"""Maximum length of a message to such a websocket, and maximum number of messages that wait for its handler."""


class MessageRate(NamedTuple):
    """The rate at which messages are read, and how many may wait."""

    events: float  # messages per second
    characters: float  # characters per second
    waiting: int  # maximum number of unfinished messages, those in a handler included
    waiting_characters: int  # maximum length of all unfinished messages; a single one may be longer


SOCKET = MessageRate(events=100, characters=1_000_000, waiting=100, waiting_characters=1_000_000)
"""Limits of one socket: 6,000 events and 60 million characters per minute."""
OWNER = MessageRate(events=300, characters=3_000_000, waiting=400, waiting_characters=4_000_000)
"""Limits of all sockets of one person together, or of anonymous clients at one address."""
SHORT_CHARACTERS = 16_000
"""Maximum length of a short message. Short and long messages have separate `OWNER` limits, so long ones delay no short
ones."""
BURST_SECONDS = 3.0
"""Unused rate of this many seconds may be used at once."""

UNREAD_CHARACTERS, OUTGOING_CHARACTERS = 1_000_000, 20_000_000
"""Characters that a client has not read yet. Above the first number its next message waits; above the second its
connection is closed."""

SESSION_TABS, SESSION_SOCKETS = 60, 120
"""Maximum number of tabs and of sockets of one session. A tab above the first gets a page that says so. A socket above
the second gets no answer; sockets include those of tabs that lost the network and reconnect."""
SESSION_TASKS = 200
"""Maximum number of running handlers of one session; above it, background handlers are refused."""
SESSION_STATES = 100
"""Maximum number of tabs of one session, open or closed, whose states are kept; the one noted first is deleted."""
STRANGERS, STRANGERS_OF_ADDRESS, STRANGERS_OF_BROWSER = 1_000, 400, 50
"""Maximum number of anonymous sockets: in all, of one address, of one browser. The oldest is closed, because its page
has loaded by then."""

STRANGER_SECONDS = 60.0
"""Maximum lifetime of an anonymous socket."""
STRANGER_ANSWER_SECONDS, TAB_ANSWER_SECONDS = 5.0, 15.0
"""Ping interval, and timeout of the answer, of an anonymous socket and of a session's socket."""
STRANGER_STATE_SECONDS = 120.0
"""How long an anonymous state is kept after its socket closed."""
SEND_SECONDS, SLOWEST_CHARACTERS = 20.0, 20_000
"""Timeout of sending to a client: this many seconds, and one more for each `SLOWEST_CHARACTERS`."""
ANSWER_SECONDS = 2.0
"""Timeout of a ping when another socket claims to be the same tab."""
GONE_SECONDS = 3.0
"""How long a socket that was told to close may stay open."""

AUDIT_BYTES, AUDIT_LINES = 4_096, 10_000
"""Maximum length of a line of the audit trail, and maximum number of lines that wait to be written."""
AUDIT_REPEATS, AUDIT_REPEATS_ELSEWHERE = 100, 1_000
"""Audit lines of one event and reason per minute. Above the first number, only the first of each address is written;
above the second, none. The others are counted."""
LOG_CHARACTERS, TRACEBACK_CHARACTERS = 8_000, 40_000
"""Maximum length of a logged message, and of a logged traceback; they are cut before they are redacted."""
