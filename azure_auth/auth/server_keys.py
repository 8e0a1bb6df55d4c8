"""What `SESSION_SECRET` keys: hashes of people and browsers, the browser's name, messages between processes.

Everybody knows their colleagues' `tid` and `oid`, so a plain hash of them would tell who is signed in. The secret does
not lie beside the store. It may have two values, the new one first: the first makes, both find.
"""

import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

_HALF = 16


class ServerKeys:
    """The keys of this app, which all its processes have."""

    def __init__(self, read: Callable[[], Sequence[bytes]]) -> None:
        """Use the secrets that `read` returns, new first; it is called on first use."""
        self._read = read

    def hashed(self, kind: str, *parts: str) -> str:
        """Return the hash under which something is written."""
        return self.all_hashed(kind, *parts)[0]

    def all_hashed(self, kind: str, *parts: str) -> list[str]:
        """Return the hashes under which something may have been written: one for each secret."""
        text = "\0".join((kind, *parts)).encode()
        return [hmac.digest(secret, b"hash " + text, "sha256").hex() for secret in self._secrets]

    def new_name(self) -> str:
        """Return a name for a browser: 43 characters, random, and told from a forged one by `is_name`."""
        return self._named(secrets.token_bytes(_HALF))

    def name_after(self, ended: str) -> str:
        """Return the name that a browser gets after the session of the cookie value `ended` is over.

        It is the same however many tabs ask at the same moment.
        """
        return self._named(hmac.digest(self._secrets[0], b"name after " + ended.encode(), "sha256")[:_HALF])

    def is_name(self, value: str | None) -> bool:
        """Tell whether this app gave out that name."""
        if not value:
            return False
        name = urlsafe_b64decode(f"{value}=")
        if _encoded(name) != value:  # base64 has several spellings of the last bits
            return False
        return any(hmac.compare_digest(self._proof(secret, name[:_HALF]), name[_HALF:]) for secret in self._secrets)

    def proof(self, message: bytes) -> bytes:
        """Return what shows that one of our processes sent a message."""
        return hmac.digest(self._secrets[0], b"message " + message, "sha256").hex().encode()

    def proves(self, proof: bytes, message: bytes) -> bool:
        """Tell whether one of our processes sent a message."""
        proofs = (hmac.digest(secret, b"message " + message, "sha256").hex().encode() for secret in self._secrets)
        return any(hmac.compare_digest(proof, known) for known in proofs)

    @cached_property
    def _secrets(self) -> Sequence[bytes]:
        return self._read()

    def _named(self, value: bytes) -> str:
        return _encoded(value + self._proof(self._secrets[0], value))

    @staticmethod
    def _proof(secret: bytes, name: bytes) -> bytes:
        return hmac.digest(secret, b"name " + name, "sha256")[:_HALF]


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def kept_in(file: Path) -> list[bytes]:
    """Return the secret that lies in a file; a random one is made on first use, for the file's owner alone."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as writing:
            writing.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):  # another process was first
            file.hardlink_to(new)
        new.unlink()
    return [file.read_bytes()]
