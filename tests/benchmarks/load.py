"""Load and what it costs: people in a closed loop, a bystander in a process of its own, processor time by process."""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from raw_browser import Browser
from raw_http import RawHttp
from raw_tab import ROOT_STATE

OPEN = f"{ROOT_STATE}.azure_auth___pages___reports____plain.open"
"""An event of the page in `tests/site` that always has an answer."""
_EVERY_SECONDS = 0.05
_WARM_UP_SECONDS = 2.0
_LONGEST_SIGN_IN_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Load:
    """What people in a closed loop saw between two moments.

    Attributes:
        began: When counting began, after everybody had started.
        ended: When it ended.
        whole: Seconds that each counted sign-in took.
        added: The same without the time at the directory's pages.
        failures: What went wrong, at any time.
    """

    began: float
    ended: float
    whole: list[float] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def sign_in(self, http: RawHttp, app: str) -> None:
        """Sign one person in, in a fresh browser; counted when it ends between the two moments."""
        browser = Browser(http, app)
        start = time.monotonic()
        try:
            async with asyncio.timeout(_LONGEST_SIGN_IN_SECONDS):
                at_directory = await browser.sign_in()
        except Exception as why:
            self.failures.append(f"{type(why).__name__}: {why}")
            await asyncio.sleep(1)  # an app that is gone is not asked a thousand times
        else:
            end = time.monotonic()
            if self.began <= end < self.ended:
                self.whole.append(end - start)
                self.added.append(end - start - at_directory)
        finally:
            await browser.close()


async def closed_loop(http: RawHttp, app: str, people: int, seconds: float) -> Load:
    """Let people sign in again and again for a while, each beginning anew at the end of the last sign-in."""
    start = time.monotonic()
    load = Load(start + _WARM_UP_SECONDS, start + _WARM_UP_SECONDS + seconds)

    async def person(number: int) -> None:
        # Not all in the same instant: they would then also wait for the directory together, and the app stand idle.
        await asyncio.sleep(_WARM_UP_SECONDS * number / people)
        while time.monotonic() < load.ended:
            await load.sign_in(http, app)

    await asyncio.gather(*(person(number) for number in range(people)))
    await asyncio.sleep(max(0.0, load.ended - time.monotonic()))  # nobody: a quiet run
    return load


class Bystander:
    """Somebody signed in, whose tab sends an event twenty times a second."""

    def __init__(self, control: "Connection[object, object]", pid: int) -> None:
        """Use `bystander`."""
        self.pid = pid
        self._control = control

    def stop(self) -> list[tuple[float, float]]:
        """End the tab; return when each event was due, and how long after that it was answered."""
        self._control.send("stop")
        waits = self._control.recv()
        assert isinstance(waits, list)
        return waits


@contextmanager
def bystander(app: str, trusted: str) -> Iterator[Bystander]:
    """Run a bystander as a process of its own, so that the people's turns in this one do not count as waiting."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_watch, args=(app, trusted, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(60), "the bystander did not come in"
        ours.recv()
        yield Bystander(ours, process.pid or 0)
    finally:
        process.terminate()
        process.join(10)


def _watch(app: str, trusted: str, control: "Connection[object, object]") -> None:
    asyncio.run(_send_events(app, trusted, control))


async def _send_events(app: str, trusted: str, control: "Connection[object, object]") -> None:
    http = RawHttp(trusted)
    browser = Browser(http, app)
    await browser.sign_in()
    tab = browser.tab
    assert tab
    control.send("ready")
    waits: list[tuple[float, float]] = []
    due = time.monotonic()
    while not control.poll():
        due += _EVERY_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        answered = len(tab.updates)
        await tab.send(OPEN)
        await tab.until(lambda answered=answered: len(tab.updates) > answered)
        waits.append((due, time.monotonic() - due))  # from when it was due: a long wait delays those behind it as well
    control.send(waits)
    await browser.close()
    await http.close()


def processor_seconds(root: int) -> float:
    """Return the processor time of a process and its descendants so far; 0 where there is no /proc."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid], used[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS

    def of_root(pid: int) -> bool:
        return pid == root or (pid in parents and of_root(parents[pid]))

    return sum(seconds for pid, seconds in used.items() if of_root(pid))
