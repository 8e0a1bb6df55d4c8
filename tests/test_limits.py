"""How often something may happen."""

from azure_auth.auth.limits import Limit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_three_starts_within_a_minute_are_enough():
    """The fourth is refused, until a minute after the first has passed; other tabs are not touched."""
    clock = Clock()
    starts = Limit(3, 60, clock)
    for clock.now in (0, 10, 20):
        assert starts.admit("tab")
    assert not starts.admit("tab")
    assert starts.admit("another")
    clock.now = 59.9
    assert not starts.admit("tab")
    clock.now = 60
    assert starts.admit("tab")
    assert not starts.admit("tab")


def test_success_starts_afresh():
    """Whoever is signed in has used up nothing."""
    starts = Limit(3, 60, Clock())
    for _ in range(10):
        assert starts.admit("tab")
        starts.forget("tab")


def test_quiet_tabs_are_forgotten():
    """What is kept does not grow with the tabs that ever were."""
    clock = Clock()
    starts = Limit(3, 60, clock)
    for number in range(1000):
        clock.now += 1
        starts.admit(str(number))
    assert len(starts._passed) <= 61


def test_nobody_can_fill_it():
    """However many keys come at once, only so many are kept, and the newest among them."""
    starts = Limit(3, 60, Clock())
    for number in range(20_000):
        starts.admit(str(number))
    assert len(starts._passed) <= 5_000
    assert "19999" in starts._passed
