"""What browsers are sent: what the gate itself says, and what anonymous tabs may see of the app's states."""

import logging
from typing import Any

import reflex as rx
from redis.exceptions import RedisError

from azure_auth.auth.gate import reflex_internals as seam
from azure_auth.auth.gate.states import is_anonymous
from azure_auth.auth.gate.tabs import Tab
from azure_auth.auth.policy import is_public
from azure_auth.auth.sessions.limits import Limit
from azure_auth.bounds import REPORTS_A_MINUTE
from azure_auth.errors import AuthError, HandlerFailed, StoreUnavailable, whereabouts

_log = logging.getLogger(__name__)


class Updates:
    """Makes updates that set vars in the browser alone, and sends them, whether Reflex knows of the tab or not."""

    def __init__(self, app: rx.App, state: type[rx.State]) -> None:
        """Set vars of `state`, which every page shows: `leaving_to`, `failure` and `broken`."""
        self._server, self._namespace, self._state = seam.server(app), seam.path_of(app), state
        self._reports = Limit(REPORTS_A_MINUTE, 60.0)

    def of(self, **values: Any) -> seam.StateUpdate:
        """Return an update that sets vars."""
        return seam.StateUpdate(delta=seam.delta(self._state, **values))

    def of_failure(self, failure: AuthError) -> seam.StateUpdate:
        """Return an update that shows why nothing is done, under a reference of its own that the log has too."""
        failure = failure.again()
        _log.error("the gate stays closed: %s", failure)
        return self.of(failure=failure.shown(again="", other_account=""))

    def of_broken(self, failure: AuthError, exception: Exception | None = None) -> seam.StateUpdate:
        """Return an update that shows an alert above the page; log the failure under the same reference."""
        _log.error("%s", failure, exc_info=exception)
        return self.of(broken=failure.shown("", ""))

    def of_exception(self, exception: Exception) -> seam.StateUpdate:
        """Return an update that tells a person that a handler failed. Reflex's own message needs `eval`."""
        if isinstance(exception, RedisError):  # Reflex's own: the event did not even come to the gate
            return self.of_failure(StoreUnavailable(type(exception).__name__))
        lost = isinstance(exception, seam.LockExpiredError)  # Reflex's lock: it took too long, or Redis was emptied
        return self.of_broken(HandlerFailed(whereabouts(exception)), None if lost else exception)

    def log_report(self, exception: Exception) -> bool:
        """Log what a browser reports, shortened, because it may say anything; return False if there were too many."""
        admitted = self._reports.admit("")
        if admitted:
            _log.error("a browser reports: %.500s", exception)
        return admitted

    async def send(self, tab: Tab, update: seam.StateUpdate) -> None:
        """Send an update to a tab."""
        await self._server.emit("event", update, to=tab.socket, namespace=self._namespace)


def is_for_anonymous(state: type[Any]) -> bool:
    """Tell whether an anonymous tab may see the vars of a state: the framework's and the public ones."""
    return state in seam.FRAMEWORK_STATES or is_public(state)


def hide_from_anonymous() -> None:
    """Compute no var of other states for an anonymous tab: it may cost a query, and is withheld anyway."""
    seam.hide_states(_is_hidden)


def _is_hidden(state: type[Any]) -> bool:
    try:
        return is_anonymous(seam.EventContext.get().token) and not is_for_anonymous(state)
    except LookupError:  # no event
        return False
