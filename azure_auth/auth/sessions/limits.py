"""How often something may happen."""

import time
from collections import deque
from collections.abc import Callable

_MOST_KEYS = 5_000


class Limit:
    """Admits each key a number of times within some seconds. Its memory is bounded."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Admit a key `most` times within `seconds`; `clock` counts them."""
        self._most, self._seconds, self._clock = most, seconds, clock
        self._passed: dict[str, deque[float]] = {}

    def admit(self, key: str) -> bool:
        """Count the key once; return False, and do not count it, if it has reached its maximum."""
        since = self._clock() - self._seconds
        while self._passed:
            quietest = next(iter(self._passed))  # an admitted key goes to the end
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
        """Reset a key's count."""
        self._passed.pop(key, None)
