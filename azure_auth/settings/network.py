"""Checks the variables for proxies and certificates at the start. httpx would fail at the first sign-in."""

import re
import ssl
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_OTHERS_TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_HOST = re.compile(r"[!-~ ]*")


def faults(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each variable that httpx cannot use, and what is wrong with it; never its value."""

    def given(name: str) -> tuple[str, str]:  # lower case wins, even if empty (`urllib.request.getproxies`)
        name = name.lower() if name.lower() in environ else name
        return name, environ.get(name, "")

    exceptions, listed = given("NO_PROXY")
    hosts = [host.strip() for host in listed.split(",")]
    if "*" not in hosts:
        yield from ((name, why) for name, value in map(given, _PROXIES) if (why := _proxy(value)))
        if not all(map(_usable, hosts)):
            yield exceptions, "has an entry that cannot be used: write hosts, IPv4 networks, and IPv6 without brackets"
    if why := _trust(environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", "")):
        yield why


def notes(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a note if only a variable of other programs names the certificates to trust."""
    if not environ.get("SSL_CERT_FILE") and (name := next(filter(environ.get, _OTHERS_TRUST), None)):
        yield f"{name} is not read: if this app needs the certificates in it, set SSL_CERT_FILE to the same file"


def _proxy(value: str) -> str:
    """Return what is wrong with the address of a proxy; empty if nothing."""
    write = "write it like http://proxy.example.com:3128"
    try:
        parts = urlsplit((value if "://" in value else f"http://{value}").rstrip())
        _ = parts.port
    except ValueError:
        return f"is not an address: {write}"
    if parts.scheme.startswith("socks"):
        return f"is a SOCKS proxy, which the app cannot use: {write}, or start the app without it"
    if value and (re.search(r"[\x00-\x1f\x7f]", value) or not _usable_host(parts.hostname or "")):
        return f"has no host that can be used: {write}"
    proper = parts.scheme in ("http", "https") and value == value.lstrip()
    return "" if proper else f"does not begin with http:// or https://: {write}"


def _usable_host(host: str) -> bool:
    """Return whether httpx can read the host of a proxy: a name, which may have letters of all scripts, or an IP."""
    is_ip = ":" in host or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host)
    try:
        return bool(ip_address(host)) if is_ip else bool(re.fullmatch(r"[\w.-]+", host))
    except ValueError:
        return False


def _usable(host: str) -> bool:
    """Return whether httpx can read an entry of NO_PROXY."""
    try:
        ip_address(host)
    except ValueError:
        _, _, port = host.split("://", 1)[-1].partition(":")
        return bool(_HOST.fullmatch(host)) and "[" not in host and (not port or port.isdigit())
    return True


def _trust(file: str, folder: str) -> tuple[str, str] | None:
    """Return the variable that names no certificates, and what is wrong. httpx reads the folder if no file is set."""
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except ssl.SSLError:
            return "SSL_CERT_FILE", "has no certificate that can be read: give a file in the PEM format"
        except OSError as why:
            return "SSL_CERT_FILE", f"cannot be read ({why.strerror}): check the path and its permissions"
    elif folder and not any(Path(path).is_dir() for path in folder.split(":")):
        return "SSL_CERT_DIR", "names no folder: check the path"
    return None
