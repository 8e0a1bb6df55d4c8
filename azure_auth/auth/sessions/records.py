"""Converts sessions to and from store rows: encrypts the record, and computes the hashes that index it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from azure_auth import audit
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions import codec
from azure_auth.auth.sessions.sealing import SealBroken, SessionKeys, handle_of
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.store.contract import Checks, MarkKind, Record
from azure_auth.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Arrival:
    """What a finished sign-in brings to its session, besides the identity.

    Attributes:
        asked: When the app redeemed the code; seconds since 1970. None means now.
        ticket: The name of the ticket. The step that starts or renews the session also consumes it.
        begun: When the flow began, by the store's clock. None: earlier sign-outs do not matter.
        begun_in: The browser's name when the flow began.
        bindings: The bindings of the browser's flow cookies, this flow's first. Sign-ins that finish at the same time
            in one browser share one session.
        left: The browser's name before this sign-in, which may change it; empty if it had none.
    """

    asked: float | None = None
    ticket: str = ""
    begun: float | None = None
    begun_in: str = ""
    bindings: Sequence[str] = ()
    left: str = ""


class Records:
    """Encrypts and decrypts the records of sessions, for one configuration of the app."""

    def __init__(self, settings: Settings, keys: ServerKeys) -> None:
        """Write records for the app that `settings` describe; `keys` hash what indexes them."""
        self._keys = keys
        self._longest = settings.session_max.total_seconds()
        self._fingerprint = settings.fingerprint
        self._allowed_tenants = settings.allowed_tenants

    def row(self, session: Session, version: int, record: dict[str, Any]) -> Record:
        """Return a session's record as the store keeps it."""
        reference, ends = session.reference, record["started"] + self._longest
        identity = codec.texts(Identity, record["identity"])
        person, sid = self.persons(identity)[0], next(iter(self.sids(identity.sid)), "")
        sealed = session.seal(version, {**record, "fingerprint": self._fingerprint})
        return Record(reference, version, ends, person, sid, record.get("browser", ""), sealed)

    def session(self, keys: SessionKeys, record: Record) -> Session | None:
        """Return the session of a record; None if it was altered, or written under another configuration."""
        try:
            contents = codec.unpacked(keys.record.open(record.sealed))
            session = Session(keys, record.version, contents)
        except SealBroken:
            audit.record("suspicious", reason="a session's record that is not what was written")
            return None
        except codec.Unreadable as why:
            _log.warning("a session of another release cannot be read (%s): its person signs in anew", why)
            return None
        if contents.get("version") != record.version or contents.get("fingerprint") != self._fingerprint:
            return None
        if (record.person, record.sid, record.browser) not in self._indexes(session):
            return None
        allowed = not self._allowed_tenants or session.identity.tenant_id in self._allowed_tenants
        return session if allowed else None

    def checks(self, identity: Identity, browser: str, presented: str | None, arrival: Arrival) -> Checks:
        """Return the checks of a sign-in: its ticket, and the sign-outs that reject it if they came after its start."""
        if arrival.begun is None:
            return Checks(arrival.ticket)
        persons = self.persons(identity)
        browsers = self.browsers(browser, arrival.begun_in, arrival.left)
        browsers += [handle_of(presented).name] if presented else []
        marks: dict[MarkKind, list[str]] = {
            "person": persons,
            "sid": self.sids(identity.sid),
            "browser": [f"{b} {p}" for b in browsers for p in persons],
        }
        return Checks(arrival.ticket, arrival.begun, [(kind, n) for kind, names in marks.items() for n in names])

    def marks(self, session: Session) -> list[tuple[MarkKind, str]]:
        """Return the marks of a sign-out in one browser: of its name, and of cookie values that it may still have."""
        person = self.persons(session.identity)[0]
        return [("browser", f"{name} {person}") for name in (session.browser, *session.handles) if name]

    def persons(self, identity: Identity) -> list[str]:
        """Return all hashes of a user."""
        return self._keys.all_hashed("person", *identity.key)

    def sids(self, sid: str) -> list[str]:
        """Return all hashes of an Entra session id; none for an empty one."""
        return self._keys.all_hashed("sid", sid) if sid else []

    def browser(self, name: str) -> str:
        """Return the hash of a browser's name; empty for none."""
        return self._keys.hashed("browser", name) if name else ""

    def browsers(self, *names: str) -> list[str]:
        """Return all hashes of a browser's names."""
        return [hashed for name in {*names} - {""} for hashed in self._keys.all_hashed("browser", name)]

    def _indexes(self, session: Session) -> list[tuple[str, str, str]]:
        """Return all hashes that may index a session: of its user, Entra's session and its browser."""
        persons = self.persons(session.identity)
        sids = self.sids(session.identity.sid) or [""] * len(persons)
        return [(p, s, session.browser) for p, s in zip(persons, sids, strict=True)]
