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
from azure_auth.auth.sessions.store.contract import Checks, Mark, Record
from azure_auth.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Arrival:
    """What a finished sign-in brings to its session, besides the identity."""

    asked: float | None = None  # when the app redeemed the code; seconds since 1970. None means now.
    ticket: str = ""  # its name; the step that starts or renews the session also consumes it
    begun: float | None = None  # when the flow began, by the store's clock. None: earlier sign-outs do not matter.
    begun_in: str = ""  # the browser's name when the flow began
    bindings: Sequence[str] = ()
    """The bindings of the browser's flow cookies, this flow's first. Sign-ins that finish at the same time in one
    browser share one session."""
    left: str = ""  # the browser's name before this sign-in, which may change it; empty if it had none


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
        persons = self.persons(session.identity)
        sids = self.sids(session.identity.sid) or [""] * len(persons)
        if record.browser != session.browser or (record.person, record.sid) not in zip(persons, sids, strict=True):
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
        marks: list[Mark] = [("person", person) for person in persons]
        marks.extend(("sid", sid) for sid in self.sids(identity.sid))
        marks.extend(("browser", f"{browser} {person}") for browser in browsers for person in persons)
        return Checks(arrival.ticket, arrival.begun, marks)

    def marks(self, session: Session) -> list[Mark]:
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
