"""Serves the pages of Reflex's static build, and tells which paths are in it."""

from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send


class ServePages:
    """Serves each page under the address that was asked for.

    Reflex's static build has `/callback` as `/callback/` and redirects there: over plain http behind a proxy, to the
    host that the request names, and with the code.
    """

    def __init__(self, app: ASGIApp, is_page: Callable[[str], object]) -> None:
        self._app, self._is_page = app, is_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a page's gets the path that it has in the static build."""
        if scope["type"] == "http" and not scope["path"].endswith("/") and self._is_page(scope["path"]):
            scope = dict(scope, path=f"{scope['path']}/", raw_path=None)
        await self._app(scope, receive, send)


def is_built(folder: Path, path: str, is_page: Callable[[str], object]) -> bool:
    """Tell whether a path is a page, or a file of the static build in `folder`."""
    if is_page(path) is not None:
        return True
    try:
        file = (folder / path.lstrip("/")).resolve()
        return file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # longer than names may be, or with a null character
        return False
