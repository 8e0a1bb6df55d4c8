"""How often a tab may begin to sign in."""

from azure_auth.auth.starts import Starts


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_three_starts_within_a_minute_are_enough():
    """The fourth is refused, until a minute after the first has passed; other tabs are not touched."""
    clock = Clock()
    starts = Starts(clock)
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
    starts = Starts(Clock())
    for _ in range(10):
        assert starts.admit("tab")
        starts.succeeded("tab")


def test_quiet_tabs_are_forgotten():
    """What is kept does not grow with the tabs that ever were."""
    clock = Clock()
    starts = Starts(clock)
    for number in range(1000):
        clock.now += 1
        starts.admit(str(number))
    assert len(starts._starts) <= 61
