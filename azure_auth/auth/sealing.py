"""What is derived from a session cookie's value: the name of its record, the key that seals it, the keys of its tabs.

The value itself is kept nowhere. Without it nothing here can be computed, so what lies in a store, a backup or a
dump stays sealed (RFC 5869 HKDF with a purpose for each key; AES-256-GCM).
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


class SealBroken(Exception):
    """What was to be opened was sealed for something else, or changed since."""


class CookieKeys:
    """The keys of one session.

    Attributes:
        reference: The name of the session's record; tells nothing of the cookie.
        tab_prefix: What the keys of all tabs of the session begin with.
    """

    __slots__ = ("_seal", "_tabs", "reference", "tab_prefix")

    def __init__(self, cookie: str) -> None:
        """Derive the keys from the value of a session cookie: 256 random bits, as text."""
        self.reference = _derive(cookie, b"reference").hex()
        self._seal = AESGCM(_derive(cookie, b"seal"))
        self._tabs = _derive(cookie, b"tabs")
        self.tab_prefix = hmac.digest(self._tabs, b"", "sha256").hex()[:16]

    def tab_key(self, client_token: str) -> str:
        """Return the key under which Reflex keeps the state of the tab that calls itself `client_token`."""
        return self.tab_prefix + hmac.digest(self._tabs, client_token.encode(), "sha256").hex()[:48]

    def seal(self, plain: bytes) -> bytes:
        """Encrypt a session's record, bound to its name and to what it is."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._seal.encrypt(nonce, plain, self._bound_to())

    def open(self, sealed: bytes) -> bytes:
        """Decrypt what `seal` returned.

        Raises:
            SealBroken: When it is another session's record, another kind of thing, or was changed.
        """
        try:
            return self._seal.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound_to())
        except (InvalidTag, TypeError, ValueError):  # TypeError: a store gave back something else than bytes
            raise SealBroken from None

    def _bound_to(self) -> bytes:
        return f"azure_auth session 1 {self.reference}".encode()


def stranger_key(client_token: str) -> str:
    """Return the key of the state of a tab without a session; no tab of a session has one like it."""
    return "0" * 16 + sha256(b"azure_auth stranger " + client_token.encode()).hexdigest()[:48]


def hashed(*parts: str) -> str:
    """Return a hash under which something is found again without being readable."""
    return sha256("\0".join(parts).encode()).hexdigest()


def tab_id(client_token: str) -> str:
    """Return what tells a tab from others, also across a sign-in, and opens nothing."""
    return urlsafe_b64encode(sha256(b"azure_auth tab " + client_token.encode()).digest()).decode().rstrip("=")


def _derive(cookie: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, b"azure_auth " + purpose).derive(cookie.encode())
