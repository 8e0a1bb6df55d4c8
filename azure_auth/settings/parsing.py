"""Reads the text of one setting. A bad one raises ValueError; its text completes the sentence that the name begins."""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from azure_auth.return_target import return_target
from azure_auth.settings import clouds

MANY_TENANTS = ("organizations", "common")
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:]+\]")
_RESERVED_SCOPES = {"openid", "profile", "offline_access"}
_SHORTEST_SECRET = 32
_QUOTES = "\"'`\u201c\u201d\u2018\u2019\u201e\u00ab"
_REFERENCE = re.compile(r"<.*>|\$?\{.*\}|\$\(.*\)|\$[A-Z_]+|%[A-Z_]+%|#\{.*\}#|@Microsoft\.KeyVault\(.*\)")


def as_meant(value: str) -> str:
    """Return a value. Raise ValueError if it has quotes or a placeholder that a shell or platform left in it."""
    if value[0] in _QUOTES:
        raise ValueError(
            "begins with a quotation mark, which only a shell and a .env file take away: remove the quotes"
        )
    if _REFERENCE.fullmatch(value):
        raise ValueError("is a placeholder that nothing has replaced: write the value itself")
    return value


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(value: str, example: str, *, http_on_loopback: bool = False) -> str:
    """Return scheme, host and port in the form of an Origin header."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not an address: write it like {example}") from None
    if parts.scheme not in ("https", "http"):
        raise ValueError(f"does not begin with https://: write it like {example}")
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"has more than scheme, host and port: write it like {example}")
    if not _HOST.fullmatch(host):
        raise ValueError(f"has no proper host name: write it like {example}")
    if parts.scheme != "https" and not (http_on_loopback and parts.scheme == "http"):
        raise ValueError("does not begin with https://: sign-in needs an encrypted connection")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("is neither https nor loopback: codes and cookies would travel in the clear, so use https")
    default = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default) else "")


def public_url(value: str) -> str:
    """Read the app's public origin: https, or http on loopback."""
    return _origin(value, "https://app.example.com", http_on_loopback=True)


def redis_url(value: str, *, guarded: bool) -> str:
    """Read the address of a Redis server; `guarded` requires TLS and a password unless it is on this machine."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address: write it like rediss://:password@redis.example.com:6379") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("does not begin with rediss://, redis:// or unix://")
    if guarded and parts.scheme != "unix" and not is_loopback(parts.hostname or ""):
        if parts.scheme != "rediss":
            raise ValueError("is on another machine without TLS: Reflex runs what it reads there, so use rediss://")
        if not parts.password:
            raise ValueError("is on another machine without a password: Reflex runs what it reads there, so set one")
    return value


def authority(value: str) -> str:
    """Read the https origin of a directory; the scheme may be left out."""
    example = "https://login.microsoftonline.com, and the tenant in AZURE_TENANT_ID"
    origin = _origin(value if "://" in value else f"https://{value}", example)
    if origin.endswith(clouds.B2C):
        raise ValueError("is a host of Azure AD B2C, which the app does not support: Entra External ID takes its place")
    if origin == clouds.CLOSED:
        raise ValueError("is the German cloud that closed in 2021: remove it, or give the host of another cloud")
    if origin == f"https://{clouds.EXTERNAL_ID[1:]}":
        raise ValueError("has no name of a directory: write it like https://contoso.ciamlogin.com")
    return origin


def tenant(value: str) -> str:
    """Read a tenant: a GUID, a domain, `organizations` or `common`."""
    value = _not_the_example(value.lower())
    if not (value in MANY_TENANTS or GUID.fullmatch(value) or _DOMAIN.fullmatch(value)):
        raise ValueError("is neither a tenant's GUID nor its domain (contoso.onmicrosoft.com): copy one of them")
    return value


def guid(value: str) -> str:
    """Read a GUID."""
    if not GUID.fullmatch(value.lower()):
        raise ValueError("is not a GUID: copy it as Entra shows it, like 00000000-0000-0000-0000-000000000000")
    return _not_the_example(value.lower())


def _not_the_example(value: str) -> str:
    if not value.strip("0-"):
        raise ValueError("is the example's: copy your own from Entra")
    return value


def guids(value: str) -> frozenset[str]:
    """Read a list of GUIDs, separated by commas or spaces."""
    return frozenset(guid(item) for item in _listed(value))


def scopes(value: str) -> tuple[str, ...]:
    """Read a list of API permissions, separated by commas or spaces."""
    listed = _listed(value)
    if reserved := _RESERVED_SCOPES.intersection(listed):
        raise ValueError(f"names {', '.join(sorted(reserved))}, which the app adds where it needs it: leave it out")
    return listed


def _listed(value: str) -> tuple[str, ...]:
    listed = tuple(item for item in re.split(r"[,\s]+", value) if item)
    if not listed:
        raise ValueError("names nothing: give a value, or remove it")
    return listed


def positive(value: str) -> int:
    """Read a whole number above 0."""
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 100_000):
        raise ValueError("is not a whole number above 0: write it in digits")
    return int(value)


def count(value: str) -> int:
    """Read a whole number from 0."""
    return 0 if value == "0" else positive(value)


def writable_file(value: str) -> Path:
    """Read the path of a file to which the app can append; the file may not exist yet."""
    path = Path(value)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError("is no file that can be written: create its folder, and let the app write there")
    return path


def local_path(value: str) -> str:
    """Read a page of this app."""
    if return_target(value) is None:
        raise ValueError("is not a page of this app: write a path like /reports, and neither /logout nor /callback")
    return value


def session_secrets(value: str) -> tuple[bytes, ...]:
    """Read one secret or two, separated by commas or spaces, the new one first."""
    listed = tuple(item.encode() for item in re.split(r"[,\s]+", value) if item)
    if not 1 <= len(listed) <= 2 or any(len(item) < _SHORTEST_SECRET for item in listed):
        raise ValueError(
            "is not one value or two of 32 characters or more, the new one first: make one with"
            " python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return listed
