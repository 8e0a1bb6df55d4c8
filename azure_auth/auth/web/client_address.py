"""The IP address that a request comes from."""

from ipaddress import IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope


def client_address(scope: Scope, proxy_hops: int) -> str:
    """Return the client's address.

    Args:
        scope: The connection.
        proxy_hops: How many proxies of ours are in front. That many entries at the end of X-Forwarded-For are trusted,
            and nothing else that a client sends. With fewer entries, the peer's own address counts.

    Returns:
        The address, without the port that Azure's gateways add. IPv6: the /64 network, because one host has all of it.
    """
    peer = str((scope.get("client") or ("",))[0])
    entries = [entry.strip() for line in Headers(scope=scope).getlist("x-forwarded-for") for entry in line.split(",")]
    return _of_one_host(entries[-proxy_hops] if 0 < proxy_hops <= len(entries) else peer)


def _of_one_host(entry: str) -> str:
    bare = entry.partition("]")[0].lstrip("[")
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return entry[:64]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(IPv6Network((address, 64), strict=False))
    return str(address)
