"""Keys from `SESSION_SECRET`: for index hashes, browser names, flow cookies and messages between processes.

Colleagues can look up each other's `tid` and `oid`, so plain hashes of them would show who is signed in. The secret is
not kept in the store. During a rotation there are two secrets: what is new uses the first, checks accept both.
"""

import hmac
import os
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from azure_auth.auth.sessions.sealing import Seal, encoded

_HALF = 16


class ServerKeys:
    """The keys of this app, which all its processes have."""

    def __init__(self, read: Callable[[], Sequence[bytes]]) -> None:
        """Use the secrets that `read` returns, the new one first. It is called on first use."""
        self._read = read

    def hashed(self, kind: str, *parts: str) -> str:
        """Return a hash for writing."""
        return self.all_hashed(kind, *parts)[0]

    def all_hashed(self, kind: str, *parts: str) -> list[str]:
        """Return all hashes that may have been written: one for each secret."""
        return [mac.hex() for mac in self._macs("hash", "\0".join((kind, *parts)).encode())]

    def seals(self, kind: str, name: str) -> list[Seal]:
        """Return one seal per secret for a record kept in a browser. Encrypt with the first, decrypt with any."""
        return [Seal(kind, name, secret) for secret in self._secrets]

    def new_name(self) -> str:
        """Return a new random browser name with a MAC, 43 characters; `is_name` detects forged ones."""
        return self._with_mac("name", secrets.token_bytes(_HALF))

    def name_after(self, ended: str) -> str:
        """Return the browser's next name, derived from the cookie of its ended session.

        Requests that arrive at the same time, from several tabs, therefore get the same name.
        """
        return self._with_mac("name", self._macs("name after", ended.encode())[0][:_HALF])

    def is_name(self, value: str) -> bool:
        """Tell whether this app issued a browser name."""
        return self._has_mac("name", value)

    def new_known(self) -> str:
        """Return a new random value for a browser's first sign-in, with a MAC; `is_known` detects forged ones."""
        return self._with_mac("known", secrets.token_bytes(_HALF))

    def is_known(self, value: str) -> bool:
        """Tell whether this app issued a value of `new_known`."""
        return self._has_mac("known", value)

    def proof(self, message: bytes) -> bytes:
        """Return the MAC of a message between processes."""
        return self._macs("message", message)[0].hex().encode()

    def proves(self, proof: bytes, message: bytes) -> bool:
        """Tell whether a MAC shows that one of our processes sent a message."""
        return any(hmac.compare_digest(proof, mac.hex().encode()) for mac in self._macs("message", message))

    @cached_property
    def _secrets(self) -> Sequence[bytes]:
        return self._read()

    def _macs(self, kind: str, message: bytes) -> list[bytes]:
        """Return the MACs of a message, one for each secret."""
        return [hmac.digest(secret, f"{kind} ".encode() + message, "sha256") for secret in self._secrets]

    def _with_mac(self, kind: str, value: bytes) -> str:
        return encoded(value + self._macs(kind, value)[0][:_HALF])

    def _has_mac(self, kind: str, text: str) -> bool:
        value = urlsafe_b64decode(f"{text}=")
        macs = (mac[:_HALF] for mac in self._macs(kind, value[:_HALF]))
        # base64 has several spellings of the last bits
        return encoded(value) == text and any(hmac.compare_digest(mac, value[_HALF:]) for mac in macs)


def kept_in(file: Path) -> list[bytes]:
    """Read the secret from a file. Create it with a random secret, readable only by its owner, if it is missing."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as writing:
            writing.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):  # another process was first
            file.hardlink_to(new)
        new.unlink()
    return [file.read_bytes()]
