"""How often something may happen."""

import time
from collections import deque
from collections.abc import Callable

_MOST_KEYS = 5_000


class Limit:
    """Lets each key pass a number of times within a while; bounded in memory, whoever asks."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `most` within `seconds`; `clock` counts them."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._passed: dict[str, deque[float]] = {}

    def admit(self, key: str) -> bool:
        """Count the key once more; False, and not counted, when it has had its number."""
        since = self._clock() - self._seconds
        while self._passed:
            quietest = next(iter(self._passed))  # whoever passes goes to the end
            if self._passed[quietest][-1] > since and len(self._passed) < _MOST_KEYS:
                break
            del self._passed[quietest]
        times = self._passed.pop(key, deque[float](maxlen=self._most))
        while times and times[0] <= since:
            times.popleft()
        admitted = len(times) < self._most
        if admitted:
            times.append(self._clock())
        if times:
            self._passed[key] = times
        return admitted

    def forget(self, key: str) -> None:
        """Begin anew with a key."""
        self._passed.pop(key, None)
