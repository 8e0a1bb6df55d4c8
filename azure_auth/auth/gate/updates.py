"""Updates that set vars of the shared state in the browser alone: where it goes, and what went wrong."""

# Reflex and python-socketio are partly untyped.
# pyright: reportUnknownMemberType=false

import logging
from typing import Any

import reflex as rx

from azure_auth.auth.gate.reflex_internals import StateUpdate, delta, path_of, server
from azure_auth.auth.gate.tabs import Tab
from azure_auth.errors import AuthError

_log = logging.getLogger(__name__)


class Updates:
    """Makes such updates, and sends them to a tab's socket, whether Reflex knows of it or not."""

    def __init__(self, app: rx.App, state: type[rx.State]) -> None:
        """Tell of `state`, which every page shows: its vars `leaving_to`, `failure` and `broken`."""
        self._server, self._namespace, self._state = server(app), path_of(app), state

    def of(self, **values: Any) -> StateUpdate:
        """Return an update that sets vars."""
        return StateUpdate(delta=delta(self._state, **values))

    def of_failure(self, failure: AuthError) -> StateUpdate:
        """Return an update that shows why nothing is done, under a reference of its own that the log has too."""
        failure = failure.again()
        _log.error("the gate stays closed: %s", failure)
        return self.of(failure=failure.shown(again="", other_account=""))

    async def send(self, tab: Tab, update: StateUpdate) -> None:
        """Send an update to a tab."""
        await self._server.emit("event", update, to=tab.socket, namespace=self._namespace)

    async def renew_token(self, tab: Tab, client_token: str) -> None:
        """Give a page another client token, as Reflex does with a duplicated tab."""
        await self._server.emit("new_token", client_token, to=tab.socket, namespace=self._namespace)
