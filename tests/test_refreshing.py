"""A value from the network that all threads share."""

import sys
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, get_ident

import pytest
from conftest import Clock

from azure_auth.auth.entra.refreshing import RefreshingValue


class Fetch:
    """A fetch function that counts its calls and can fail."""

    def __init__(self):
        self.calls = 0
        self.fails = False

    def __call__(self):
        self.calls += 1
        if self.fails:
            raise ConnectionError("down")
        return self.calls


@pytest.fixture
def fetch():
    return Fetch()


@pytest.fixture
def clock():
    return Clock()


def test_it_is_fetched_once_a_day(fetch, clock):
    """A value is fetched once, and again after a day."""
    kept = RefreshingValue(fetch, clock)
    assert [kept.get(), kept.get()] == [1, 1]
    clock.now = 24 * 3600 + 1
    assert kept.get() == 2


def test_a_failure_is_not_remembered(fetch, clock):
    """After a failed fetch without an older value, the next call fetches again."""
    kept = RefreshingValue(fetch, clock)
    fetch.fails = True
    with pytest.raises(ConnectionError):
        kept.get()
    fetch.fails = False
    assert kept.get() == 2


def test_the_old_value_stays_while_fetching_fails(fetch, clock):
    """While renewal fails, the old value is returned, and renewal is tried once a minute."""
    kept = RefreshingValue(fetch, clock)
    kept.get()
    fetch.fails = True
    clock.now = 24 * 3600 + 1
    assert [kept.get(), kept.get(), fetch.calls] == [1, 1, 2]
    clock.now += 59
    assert [kept.get(), fetch.calls] == [1, 2]
    clock.now += 2
    fetch.fails = False
    assert kept.get() == 3


def test_renewing_has_a_budget(fetch, clock):
    """A renewal right after a fetch works; requests for renewal fetch five times a minute at most."""
    kept = RefreshingValue(fetch, clock)
    kept.get()
    assert [kept.get(renew=True) for _ in range(20)] == [2, 3, 4, 5, *[6] * 16]
    clock.now = 59
    assert kept.get(renew=True) == 6
    clock.now = 61
    assert [kept.get(renew=True) for _ in range(20)] == [7, 8, 9, 10, *[11] * 16]
    assert [kept.get(), fetch.calls] == [11, 11]


def test_a_failed_renewal_says_so(fetch, clock):
    """A failed renewal raises, also when the budget is spent. Other callers get the old value."""
    kept = RefreshingValue(fetch, clock)
    kept.get()
    fetch.fails = True
    for _ in range(20):
        with pytest.raises(ConnectionError):
            kept.get(renew=True)
        assert kept.get() == 1
    assert fetch.calls == 6
    fetch.fails = False
    clock.now += 61
    assert [kept.get(renew=True), kept.get()] == [7, 7]


@pytest.mark.parametrize("fails", [False, True])
def test_many_threads_share_one_fetch(fails):
    """Twenty concurrent calls cause one fetch and share its result."""
    release, calls = Event(), []

    def fetch():
        calls.append(1)
        release.wait(10)
        if fails:
            raise ConnectionError("down")
        return "value"

    kept = RefreshingValue(fetch)

    def ask():
        try:
            return kept.get()
        except ConnectionError:
            return "failed"

    def waiting() -> int:
        """The number of threads that wait for one fetch."""
        return sum(
            any(frame.f_code is Future.result.__code__ for frame, _ in traceback.walk_stack(top))
            for thread, top in sys._current_frames().items()
            if thread != get_ident()
        )

    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(ask) for _ in range(20)]
        end = time.monotonic() + 10
        while waiting() < 19 and time.monotonic() < end:
            time.sleep(0.01)
        release.set()
        answers = {future.result(10) for future in asked}
    assert (answers, len(calls)) == ({"failed" if fails else "value"}, 1)


def test_a_fetch_that_hangs_holds_up_nobody_for_longer_than_one_wait(clock):
    """Connecting tries each address of a host, for minutes behind a firewall. The next caller fetches anew by then."""
    release, hangs, calls = Event(), Event(), []

    def fetch() -> int:
        calls.append(1)
        number = len(calls)
        if number == 1:
            hangs.set()
            release.wait(10)
            raise ConnectionError("down")
        return number

    kept = RefreshingValue(fetch, clock)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(kept.get)
        assert hangs.wait(10)
        clock.now = 31
        try:
            with ThreadPoolExecutor(1) as others:
                assert others.submit(kept.get).result(3) == 2
        finally:
            release.set()
        with pytest.raises(ConnectionError):
            first.result(10)
    assert (kept.get(), len(calls)) == (2, 2)  # the late failure changes nothing
