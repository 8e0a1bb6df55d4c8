"""What a browser says that a request is for (Fetch Metadata: https://www.w3.org/TR/fetch-metadata/).

Browsers send it on https and on loopback; old ones never do.
"""

from starlette.datastructures import Headers
from starlette.types import Scope


def is_navigation(scope: Scope) -> bool:
    """Tell whether a request opens a page in a tab: no image, frame, script, prefetch or websocket.

    A request without Fetch Metadata counts as a page. One for a part of a page (`Range`) does not.
    """
    headers = Headers(scope=scope)
    if scope.get("method") != "GET" or "sec-purpose" in headers or "purpose" in headers or "range" in headers:
        return False
    asked = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return asked == ("navigate", "document") or is_of_old_browser(scope)


def is_of_old_browser(scope: Scope) -> bool:
    """Tell whether a request has no Fetch Metadata."""
    return not any(name.startswith(b"sec-fetch-") for name, _ in scope["headers"])


def is_post_of_ours(scope: Scope, public_url: str) -> bool:
    """Tell whether a request is a POST by a page of the app at `public_url`."""
    return scope.get("method") == "POST" and Headers(scope=scope).getlist("origin") == [public_url]
