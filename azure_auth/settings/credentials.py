"""Reads the app's credential from its file, in the form that MSAL takes."""

import re
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_pem_key
from cryptography.x509 import load_pem_x509_certificate

from azure_auth.settings.parsing import GUID

Credential = str | dict[str, str | RSAPrivateKey | Callable[[], str]]
_OF_AN_EXAMPLE = re.compile(
    r"(your|my|the)[-_ ][^~]*|(change|replace)[-_ ]?me|placeholder|x[-x]{2,}|\.{3}|todo", re.IGNORECASE
)
"""No real secret matches, because Entra's secrets contain a tilde."""


def client_secret(value: str) -> str:
    """Read a client secret. Entra shows its Value only once; later it shows the Secret ID and a masked Value."""
    if GUID.fullmatch(value.lower()):
        raise ValueError('is the "Secret ID": copy the "Value" beside it, or make a new secret if it is masked')
    if "***" in value or "\N{BULLET}" in value:
        raise ValueError("is masked, as Entra shows it later: make a new secret and copy its Value at once")
    if _OF_AN_EXAMPLE.fullmatch(value):
        raise ValueError('is the text of an example: copy the "Value" of a secret from Certificates & secrets')
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError('has characters that no secret has, such as spaces: copy the "Value" again')
    return value


def certificate(path: Path, password: str | None) -> Credential:
    """Read a client certificate with its private key, PEM or PKCS #12. The text of a ValueError is for the operator."""
    data = _read(path)
    secret = password.encode() if password else None
    try:
        if b"-----BEGIN" in data:
            key, public = load_pem_key(data, secret), load_pem_x509_certificate(data)
        else:
            key, public, _ = pkcs12.load_key_and_certificates(data, secret)
    except (ValueError, TypeError):
        raise ValueError(
            "cannot be opened: it must hold a certificate and its private key (PEM or PFX),"
            " and AZURE_CLIENT_CERTIFICATE_PASSWORD must be its password, if it has one"
        ) from None
    if not isinstance(key, RSAPrivateKey) or public is None:
        raise ValueError("holds no RSA key with a certificate: Entra takes no other")
    if key.public_key() != public.public_key():
        raise ValueError("holds a private key that does not belong to its certificate: export the pair again")
    return {
        "private_key": key,  # MSAL would parse PEM text for each token request, which is slow
        "public_certificate": public.public_bytes(Encoding.PEM).decode(),
    }


def known_to_the_app_alone(credential: Credential) -> bytes:
    """Return the secret part of a credential; empty for a federated token, which changes."""
    if isinstance(credential, str):
        return credential.encode()
    key = credential.get("private_key")
    if not isinstance(key, RSAPrivateKey):
        return b""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def federated_token(path: Path) -> Credential:
    """Return a credential that reads a workload's federated token anew for each use; the platform rotates the file."""
    _read(path)
    return {"client_assertion": lambda: path.read_text().strip()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as why:
        raise ValueError(f"cannot be read ({why.strerror}): check the path and its permissions") from None
