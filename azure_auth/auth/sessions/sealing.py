"""Derives encryption keys, and encrypts what the app stores and what it puts into flow cookies.

Stored records use secrets that only browsers hold; flow cookies use `SESSION_SECRET` (see `server_keys`).
A session's cookie decrypts one thing: the session's data key. Everything else of the session is encrypted under keys
derived from the data key. The store holds neither in clear, so a stolen database, backup or dump cannot be decrypted.
Algorithms: HKDF (RFC 5869), with one purpose per key, and AES-256-GCM.
"""

import hmac
import os
from base64 import urlsafe_b64encode
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12
SEAL_BYTES = _NONCE_BYTES + 16
"""How much longer a ciphertext is than what it holds: a nonce and GCM's tag."""
_FORMAT = 2
FLOW_ID_LENGTH = 12
TICKET_LENGTH = FLOW_ID_LENGTH + 43
STRANGER = "0" * 16
"""The prefix of all keys of tabs without a session."""


class SealBroken(Exception):
    """The ciphertext was altered, or belongs to another record."""


class Seal:
    """Encrypts one record; its `name` in the store reveals nothing about the secret."""

    __slots__ = ("_aead", "_bound_to", "name")

    def __init__(self, kind: str, name: str, secret: bytes) -> None:
        """Derive a key from at least 256 random bits. Records of different kinds never open each other."""
        self.name = name
        self._aead = AESGCM(_derive(secret, f"{kind} seal"))
        self._bound_to = f"azure_auth {kind} {_FORMAT} {name}".encode()

    @classmethod
    def of(cls, kind: str, secret: str) -> "Seal":
        """Return the seal of a record that is found by its secret; the name is a hash of it."""
        return cls(kind, _derive(secret.encode(), f"{kind} name").hex(), secret.encode())

    def seal(self, plain: bytes) -> bytes:
        """Encrypt; the ciphertext is bound to the record's type, name and format."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, self._bound_to)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt what `seal` returned; raises `SealBroken`."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound_to)
        except (InvalidTag, TypeError, ValueError):  # TypeError: a store returned something else than bytes
            raise SealBroken from None


class SessionKeys:
    """The keys that are derived from the data key of one session."""

    __slots__ = ("_tabs", "data_key", "record", "reference", "tab_prefix")

    def __init__(self, reference: str, data_key: bytes) -> None:
        """Derive the keys. `reference` is random, and not secret; the cookie's value decrypts the 256 random bits."""
        self.reference, self.data_key = reference, data_key
        self.record = Seal("session", reference, data_key)
        self.tab_prefix = tab_prefix(reference)
        self._tabs = _derive(data_key, "tabs")

    def tab_key(self, client_token: str) -> str:
        """Return the key of the Reflex state of the tab with that client token."""
        return self.tab_prefix + hmac.digest(self._tabs, client_token.encode(), "sha256").hex()[:48]


def handle_of(value: str) -> Seal:
    """Return the seal of a session's handle: the row that a cookie value names, which holds the data key."""
    return Seal.of("handle", value)


def tab_prefix(reference: str) -> str:
    """Return the prefix of the keys of a session's tabs: 16 hexadecimal digits."""
    return hashed("azure_auth tabs", reference)[:16]


def stranger_key(client_token: str, browser: str) -> str:
    """Return the state key of an anonymous tab in the named browser. Keys of sessions have another prefix."""
    return STRANGER + hashed("azure_auth stranger", browser, client_token)[:48]


def hashed(*parts: str) -> str:
    """Return a plain hash. It is for random values only; `ServerKeys` hashes others."""
    return sha256("\0".join(parts).encode()).hexdigest()


def tab_id(client_token: str) -> str:
    """Return an id of a tab that stays the same across a sign-in. It is a hash, and grants no access."""
    return encoded(sha256(b"azure_auth tab " + client_token.encode()).digest())


def flow_id(state: str) -> str:
    """Return the id of the flow of that `state`, which names its cookie: 12 hexadecimal digits."""
    return hashed("azure_auth flow id", state)[:FLOW_ID_LENGTH]


def ticket_of(state: str, binding: str) -> str:
    """Return the ticket of a flow: its id, which names its cookie, and 256 bits derived from `state` and `binding`."""
    return flow_id(state) + encoded(bytes.fromhex(hashed("azure_auth ticket", state, binding)))


def encoded(value: bytes) -> str:
    """Return bytes in URL-safe base64 without padding."""
    return urlsafe_b64encode(value).decode().rstrip("=")


def _derive(secret: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, None, f"azure_auth {purpose}".encode()).derive(secret)
