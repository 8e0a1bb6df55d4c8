"""One session in memory: the user's identity, timestamps, and the cookie values that are valid for it."""

from asyncio import Lock
from dataclasses import asdict
from secrets import token_bytes, token_hex, token_urlsafe
from typing import Any, Literal, NamedTuple

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions import codec
from azure_auth.auth.sessions.sealing import SealBroken, SessionKeys, handle_of
from azure_auth.auth.sessions.store.contract import GRACE_SECONDS, Handle

MAX_TRIES = 10
"""How often a write is tried while other tasks or processes write the same record first."""

NewValue = tuple[str, Handle]
"""A new value of a session's cookie, with its handle."""
Ending = Literal["signed_out", "directory", "idle", "expired", "replaced", "joined", "refused"]
"""Why a session ended.

`signed_out`: here. `directory`: at Microsoft. `idle`: idle timeout. `expired`: maximum lifetime. `replaced`: another
user signed in from the same browser. `joined`: the user has a second session in the browser, which stays; the audit
trail says `replaced`. `refused`: the configuration changed, or the record was altered or lost.
"""


class Session:
    """A user's session, kept in memory while a connection uses it. All times are in seconds since 1970."""

    version: int  # of the record that was last read or written
    identity: Identity
    asked: float  # when the app redeemed the code that proved the identity
    browser: str  # a keyed hash of the browser's name at the last sign-in; empty if it had none
    since: float  # when the data key was created
    started: float  # when the user last signed in
    last_saved: float  # the value of `last_activity` that was last sent to the store
    rotated: float  # when the newest cookie value was issued
    handles: dict[str, float | None]  # hashes of the cookie values, each with its expiry; None for the newest value

    def __init__(self, keys: SessionKeys, version: int, record: dict[str, Any]) -> None:
        """Open a record, as `codec` returns it; raises `Unreadable` if a required field is missing."""
        self.keys, self.reference = keys, keys.reference
        self.renewing = Lock()  # held while a repeated sign-in updates the record
        self.ended: Ending | None = None
        self.last_activity = 0.0
        self._read(version, record)

    @classmethod
    def begun(cls, identity: Identity, asked: float, browser: str, now: float) -> "tuple[Session, NewValue]":
        """Return a new session and its first cookie value."""
        keys = SessionKeys(token_hex(16), token_bytes(32))
        value, handle = _new_value(keys)
        handles = {handle.name: None}
        record = _record(identity, now, asked=asked, browser=browser, since=now, rotated=now, handles=handles)
        return cls(keys, 1, record), (value, handle)

    def admits(self, handle: str, now: float) -> bool:
        """Tell whether a cookie value, given by its hash, is valid."""
        deadline = self.handles.get(handle, 0.0)
        return deadline is None or now < deadline

    def renewed(
        self, identity: Identity, asked: float, browser: str, now: float
    ) -> tuple[dict[str, Any], "NewValue | None"]:
        """Return the record after the user signed in again, and the new cookie value if one is due.

        At most one value is issued per `GRACE_SECONDS`; all earlier values expire `GRACE_SECONDS` after it. If sign-ins
        overlap, the identity redeemed last wins. Unknown fields of the previous record are dropped.
        """
        if asked < self.asked:
            identity, asked = self.identity, self.asked
        new, handles, rotated = None, self.handles, self.rotated
        if not 0 <= now - self.rotated < GRACE_SECONDS:
            new, until, rotated = _new_value(self.keys), now + GRACE_SECONDS, now
            valid = {name: min(d or until, until) for name, d in self.handles.items() if self.admits(name, now)}
            handles = {**valid, new[1].name: None}
        fields = {"asked": asked, "browser": browser, "since": self.since, "rotated": rotated, "handles": handles}
        return _record(identity, now, **fields), new

    def record(self) -> dict[str, Any]:
        """Return the record with the last activity; unknown fields stay."""
        return {**codec.unpacked(self._raw), "seen": self.last_activity}

    def apply(self, version: int, record: dict[str, Any], now: float) -> None:
        """Apply a stored record, written here or by another process, if it is newer than the one in memory."""
        if version > self.version:
            self._read(version, record)
            # Another process's clock may be ahead: an earlier value never lasts longer than GRACE_SECONDS from now.
            latest = now + GRACE_SECONDS
            self.handles = {name: d if d is None else min(d, latest) for name, d in self.handles.items()}

    def seal(self, version: int, record: dict[str, Any]) -> bytes:
        """Return a record as it is stored."""
        return self.keys.record.seal(codec.packed({**record, "version": version}))

    def _read(self, version: int, record: dict[str, Any]) -> None:
        try:
            identity = codec.texts(Identity, record["identity"])
            handles = {str(n): None if d is None else float(d) for n, d in record["handles"].items()}
            started, seen, since = float(record["started"]), float(record["seen"]), float(record["since"])
            self.rotated = float(record.get("rotated", 0.0))
            self.asked, self.browser = float(record.get("asked", 0.0)), str(record.get("browser", ""))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise codec.Unreadable("an incomplete session") from None
        self._raw = codec.packed(record)  # a third of the memory that its objects take
        self.version, self.identity, self.handles = version, identity, handles
        self.started, self.since, self.last_saved = started, since, seen
        self.last_activity = max(self.last_activity, seen)


class Held(NamedTuple):
    """A session and the cookie value with which one connection came."""

    session: Session
    handle: str  # the hash of the cookie value
    next: str = ""  # the cookie value that replaced it; empty if there is none


def opened(reference: str, value: str, sealed: bytes) -> SessionKeys:
    """Return a session's keys; raises `SealBroken` if its handle was altered, or belongs to another session."""
    plain = handle_of(value).open(sealed)
    if plain[32:] != reference.encode():  # somebody changed the session that the handle's row names
        raise SealBroken
    return SessionKeys(reference, plain[:32])


def _new_value(keys: SessionKeys) -> NewValue:
    value = token_urlsafe(32)
    seal = handle_of(value)
    return value, Handle(seal.name, seal.seal(keys.data_key + keys.reference.encode()))


def _record(identity: Identity, now: float, **fields: object) -> dict[str, Any]:
    return {"identity": asdict(identity), "started": now, "seen": now, **fields}
