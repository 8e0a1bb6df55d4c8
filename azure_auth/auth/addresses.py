"""Where a request comes from, as far as that can be known."""

from starlette.datastructures import Headers
from starlette.types import Scope


def client_address(scope: Scope, proxy_hops: int) -> str:
    """Return the client's address.

    Args:
        scope: The connection.
        proxy_hops: How many proxies in front are ours; that many entries at the end of X-Forwarded-For are true, and
            nothing else that a client sends counts. With fewer entries than that, the peer's own address counts.
    """
    peer = str((scope.get("client") or ("",))[0])
    entries = [entry.strip() for line in Headers(scope=scope).getlist("x-forwarded-for") for entry in line.split(",")]
    return entries[-proxy_hops] if 0 < proxy_hops <= len(entries) else peer
