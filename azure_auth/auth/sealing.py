"""What is derived from a secret that the browser brings: the name of a record, the key that seals it, keys of tabs.

The secret itself is kept nowhere. Without it nothing here can be computed, so what lies in a store, a backup or a
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
STRANGER = "0" * 16
"""What the keys of tabs without a session begin with."""


class SealBroken(Exception):
    """What was to be opened was sealed for something else, or changed since."""


class Seal:
    """Seals one thing of one kind with a key derived from its secret.

    Attributes:
        name: Under which the thing is found; tells nothing of the secret.
    """

    __slots__ = ("_aead", "_bound_to", "name")

    def __init__(self, kind: str, secret: str) -> None:
        """Derive name and key for a kind of thing from a secret of 256 random bits, as text."""
        self.name = _derive(secret, f"{kind} name").hex()
        self._aead = AESGCM(_derive(secret, f"{kind} seal"))
        self._bound_to = f"azure_auth {kind} 1 {self.name}".encode()

    def seal(self, plain: bytes) -> bytes:
        """Encrypt, bound to the kind and the name."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, self._bound_to)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt what `seal` returned.

        Raises:
            SealBroken: When it is another thing's, another kind of thing, or was changed.
        """
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound_to)
        except (InvalidTag, TypeError, ValueError):  # TypeError: a store gave back something else than bytes
            raise SealBroken from None


class CookieKeys(Seal):
    """The keys of one session.

    Attributes:
        tab_prefix: What the keys of all tabs of the session begin with.
    """

    __slots__ = ("_tabs", "tab_prefix")

    def __init__(self, cookie: str) -> None:
        """Derive the keys from the value of a session cookie."""
        super().__init__("session", cookie)
        self._tabs = _derive(cookie, "tabs")
        self.tab_prefix = hmac.digest(self._tabs, b"", "sha256").hex()[:16]

    @property
    def reference(self) -> str:
        """The name of the session's record."""
        return self.name

    def tab_key(self, client_token: str) -> str:
        """Return the key under which Reflex keeps the state of the tab that calls itself `client_token`."""
        return self.tab_prefix + hmac.digest(self._tabs, client_token.encode(), "sha256").hex()[:48]


def stranger_key(client_token: str, browser: str) -> str:
    """Return the key of the state of a tab without a session, in the browser of that flow cookie; no session has it."""
    return STRANGER + hashed("azure_auth stranger", browser, client_token)[:48]


def hashed(*parts: str) -> str:
    """Return a hash under which something is found again without being readable."""
    return sha256("\0".join(parts).encode()).hexdigest()


def tab_id(client_token: str) -> str:
    """Return what tells a tab from others, also across a sign-in, and opens nothing."""
    return urlsafe_b64encode(sha256(b"azure_auth tab " + client_token.encode()).digest()).decode().rstrip("=")


def ticket_of(state: str, browser: str) -> str:
    """Return the ticket that the flow of that `state` ends with, in the browser of that flow cookie; 43 characters."""
    return urlsafe_b64encode(bytes.fromhex(hashed("azure_auth ticket", state, browser))).decode().rstrip("=")


def _derive(secret: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, None, f"azure_auth {purpose}".encode()).derive(secret.encode())
