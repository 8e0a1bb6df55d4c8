"""A value from the network that everybody shares: fetched once for all who wait, kept while it cannot be renewed."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

_T = TypeVar("_T")
_LIFETIME = 24 * 3600.0
_COOL_DOWN = 60.0
_LONGEST_WAIT_SECONDS = 30.0


class RefreshingValue(Generic[_T]):
    """Fetches on first use and again after a day; safe to use from many threads.

    A failed fetch reaches those who waited for it and is not remembered: the next caller fetches anew, except where
    there is an older value to keep, which is then tried to renew once a minute.
    """

    def __init__(self, fetch: Callable[[], _T], clock: Callable[[], float] = time.monotonic) -> None:
        """Keep what `fetch` returns; it must have a time limit of its own. `clock` counts seconds."""
        self._fetch = fetch
        self._clock = clock
        self._lock = Lock()
        self._flight: Future[_T] | None = None
        self._value: _T | None = None
        self._fetched = self._tried = 0.0

    def get(self, *, renew: bool = False) -> _T:
        """Return the value.

        Args:
            renew: Fetch anew even if the value is young, but at most once a minute.

        Raises:
            TimeoutError: When another's fetch takes longer than anybody should wait, and there is no older value.
            Exception: What `fetch` raised, if there is no older value.
        """
        with self._lock:
            value, flight, mine = self._value, self._flight, False
            if value is not None:
                young = not renew and self._clock() - self._fetched < _LIFETIME
                if young or self._clock() - self._tried < _COOL_DOWN:
                    return value
            if flight is None:
                flight, mine = Future[_T](), True
                self._flight = flight
        if mine:
            self._run(flight)
        try:
            return flight.result(_LONGEST_WAIT_SECONDS)
        except Exception:
            if value is None:
                raise
            return value

    def _run(self, flight: "Future[_T]") -> None:
        try:
            fetched = self._fetch()
        except BaseException as failure:  # whatever it is, those who wait must hear of it
            with self._lock:
                self._flight, self._tried = None, self._clock()
            flight.set_exception(failure)
        else:
            with self._lock:
                self._flight, self._value = None, fetched
                self._fetched = self._tried = self._clock()
            flight.set_result(fetched)
