"""What is said when a handler failed, or a page in a browser: Reflex's own message needs `eval` there."""

import logging

from redis.exceptions import RedisError

from azure_auth.auth.gate.closing import Closing
from azure_auth.auth.gate.namespace import GateNamespace
from azure_auth.auth.gate.reflex_internals import EventContext, LockExpiredError
from azure_auth.auth.gate.updates import Updates
from azure_auth.auth.sessions.limits import Limit
from azure_auth.bounds import REPORTS_A_MINUTE
from azure_auth.errors import HandlerFailed, StoreUnavailable, whereabouts

_log = logging.getLogger(__name__)


class Failures:
    """The app's exception handlers."""

    def __init__(self, namespace: GateNamespace, updates: Updates, closing: Closing) -> None:
        """Tell tabs through `namespace`."""
        self._namespace, self._updates, self._closing = namespace, updates, closing
        self._reports = Limit(REPORTS_A_MINUTE, 60.0)

    def of_handler(self, exception: Exception) -> None:
        """Tell a person that a handler failed, and the log where."""
        if isinstance(exception, RedisError):  # Reflex's own: the event did not even come to the gate
            update = self._updates.of_failure(StoreUnavailable(type(exception).__name__))
        else:
            failure = HandlerFailed(whereabouts(exception))
            lost = isinstance(exception, LockExpiredError)  # Reflex's lock: it took too long, or Redis was emptied
            _log.error("%s", failure, exc_info=None if lost else exception)
            update = self._updates.of(broken=failure.shown("", ""))
        self._closing.soon(self._namespace.emit_update(update, EventContext.get().token))

    def of_browser(self, exception: Exception) -> None:
        """Log what a browser reports of itself; shortened, and not too often, for it says what it likes."""
        if self._reports.admit(""):
            _log.error("a browser reports: %.500s", exception)
