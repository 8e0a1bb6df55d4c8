"""A value from the network that all threads share. One fetch serves all callers; the old value stays if it fails."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

_T = TypeVar("_T")
_LIFETIME = 24 * 3600.0
_COOL_DOWN = 60.0
_RENEWALS = 5
"""Maximum number of renewals in `_COOL_DOWN` seconds. Otherwise each forged token would cause a fetch."""
_LONGEST_WAIT_SECONDS = 30.0


class RefreshingValue(Generic[_T]):
    """Fetches its value on first use, and again after a day. It is thread-safe.

    Without an older value, a failed fetch raises in all callers that waited for it, and the next caller fetches again.
    With an older value, `get` returns that, and fetches again at most once a minute; a renewal raises.
    """

    def __init__(self, fetch: Callable[[], _T], clock: Callable[[], float] = time.monotonic) -> None:
        """Call `fetch` for the value; it must have its own timeout. `clock` returns seconds."""
        self._fetch, self._clock, self._lock = fetch, clock, Lock()
        self._running: Future[_T] | None = None
        self._value: _T | None = None
        self._fetched = self._tried = self._began = 0.0
        self._renewals = deque([float("-inf")] * _RENEWALS, _RENEWALS)
        self._failure: BaseException | None = None

    def get(self, *, renew: bool = False) -> _T:
        """Return the value. `renew` fetches it again even if it is young, at most `_RENEWALS` times a minute.

        Without an older value, and with `renew`, this raises the error of `fetch`, or TimeoutError when another
        thread's takes too long.
        """
        with self._lock:
            value, is_ours, now = self._value, False, self._clock()
            # Nobody waits longer for a fetch, so one that takes longer is not waited for.
            running = self._running if now - self._began < _LONGEST_WAIT_SECONDS else None
            if value is not None and not renew:
                if now - self._fetched < _LIFETIME or now - self._tried < _COOL_DOWN:
                    return value
            elif value is not None and running is None and now - self._renewals[0] < _COOL_DOWN:
                if self._failure:
                    raise self._failure.with_traceback(None)
                return value
            if running is None:
                running, is_ours = Future[_T](), True
                self._running, self._began = running, now
                if renew:
                    self._renewals.append(now)
        if is_ours:
            self._run(running)
        try:
            return running.result(_LONGEST_WAIT_SECONDS)
        except Exception:
            if value is None or renew:
                raise
            return value

    def _run(self, running: "Future[_T]") -> None:
        try:
            fetched = self._fetch()
        except BaseException as failure:  # other threads wait for the result, so they get any failure
            with self._lock:
                if self._running is running:  # else it was too slow, and another one has begun
                    self._running, self._tried, self._failure = None, self._clock(), failure
            running.set_exception(failure)
        else:
            with self._lock:
                if self._running is running:
                    self._running, self._value, self._failure = None, fetched, None
                    self._fetched = self._tried = self._clock()
            running.set_result(fetched)
