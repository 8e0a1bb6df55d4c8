"""How often each tab began to sign in lately; what begins again and again without success is stopped."""

import time
from collections.abc import Callable

MOST = 3
WITHIN_SECONDS = 60.0


class Starts:
    """Counts the starts of each tab until one of them succeeds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty; `clock` counts seconds."""
        self._clock = clock
        self._starts: dict[str, list[float]] = {}

    def admit(self, tab: str) -> bool:
        """Count a start of the tab; False, and not counted, when it had `MOST` within `WITHIN_SECONDS`."""
        now = self._clock()
        for name, times in list(self._starts.items()):  # the tab that has been quiet longest comes first
            if times[-1] > now - WITHIN_SECONDS:
                break
            del self._starts[name]
        recent = [then for then in self._starts.get(tab, []) if then > now - WITHIN_SECONDS]
        if len(recent) >= MOST:
            return False
        self._starts.pop(tab, None)
        self._starts[tab] = [*recent, now]
        return True

    def succeeded(self, tab: str) -> None:
        """Forget the starts of a tab in which somebody is signed in."""
        self._starts.pop(tab, None)
