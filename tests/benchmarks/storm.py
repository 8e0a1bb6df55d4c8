"""A sign-in storm over the raw socket: `python tests/benchmarks/storm.py` starts all that it needs, prints one table
and which bars are cleared, and ends what it started. Exit status 1 when a bar is missed or a sign-in failed.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import RunningDirectory  # noqa: E402 (found by the line above)
from load import Bystander, Load, bystander, closed_loop, processor_seconds  # noqa: E402
from raw_http import RawHttp  # noqa: E402
from report import HEAD, Bar, Row, table, today  # noqa: E402
from running import RunningApp, app_and_directory  # noqa: E402

FEW, MANY, CROWD = 4, 20, 60
DELAY, HANG = 0.3, 20.0
QUIET_SECONDS = 5.0
ARRIVES_WITHIN = 1.5


@dataclass(slots=True)
class Storm:
    """Measures one situation after the other, each into its row."""

    app: RunningApp
    directory: RunningDirectory
    watcher: Bystander
    http: RawHttp
    seconds: float
    rows: dict[str, Row] = field(default_factory=dict)
    loads: list[tuple[Row, Load, list[float]]] = field(default_factory=list)

    async def rounds(self, count: int) -> None:
        """Measure every situation `count` times, in turns: what changes meanwhile, on the machine too, meets all."""
        try:
            for _ in range(count):
                await self.measure("quiet", 0, seconds=QUIET_SECONDS)
                await self.measure("few", FEW)
                await self.hang()
                await self.measure("many", MANY)
                await self.measure("crowd", CROWD)
                await self.measure("crowd, slow Entra", CROWD, delay=DELAY)
        finally:
            await self.http.close()
        waits = self.watcher.stop()
        for row, load, shares in self.loads:
            row.count(load, waits, shares)

    async def measure(self, name: str, people: int, *, delay: float = 0, seconds: float | None = None) -> None:
        """Let people sign in for a while, with a delay at the token endpoint."""
        before, start = self.processor_seconds(), time.monotonic()
        with self.directory.fault(endpoint="token", delay=delay) if delay else nullcontext():
            load = await closed_loop(self.http, self.app.url, people, seconds or self.seconds)
        lasted = time.monotonic() - start
        shares = [(now - then) / lasted for now, then in zip(self.processor_seconds(), before, strict=True)]
        self.loads.append((self.rows.setdefault(name, Row(name, people, delay)), load, shares))

    async def hang(self) -> None:
        """Measure with one redemption hanging: first with nobody else about, then with a few people."""
        hung = Load(time.monotonic(), float("inf"))
        with self.directory.fault(endpoint="token", delay=HANG):
            task = asyncio.create_task(hung.sign_in(self.http, self.app.url))
            await asyncio.sleep(ARRIVES_WITHIN)  # a delay that has begun outlasts the fault
        await self.measure("one hangs", 0, seconds=QUIET_SECONDS)
        await self.measure("one hangs, few", FEW)
        if task.done():
            hung.failures.append("it did not hang until the end")
        await task
        self.rows["one hangs"].failures += hung.failures

    def processor_seconds(self) -> list[float]:
        """Return what the app, the directory and the client have used so far."""
        client = time.process_time() + processor_seconds(self.watcher.pid)
        return [processor_seconds(self.app.pid), processor_seconds(self.directory.pid), client]

    def bars(self) -> list[Bar]:
        """Compare the rows."""
        quiet, few, hangs, few_hang, many, crowd, slow = (row.figures() for row in self.rows.values())
        beside = "the bystander's p95 beside"
        return [
            Bar(f"sign-ins/s of {CROWD} people, {DELAY * 1000:.0f} ms at Entra / none", slow.rate / crowd.rate, 0.8),
            Bar(f"{beside} {MANY} people, in ms", many.wait_p95 * 1000, at_most=100),
            Bar(f"{beside} a hanging redemption / quiet", hangs.wait_p95 / quiet.wait_p95, at_most=1.5),
            Bar("sign-ins/s of a few people beside a hanging redemption / without", few_hang.rate / few.rate, 0.8),
            Bar("what the app adds to these, p50 / without", few_hang.added_p50 / few.added_p50, at_most=1.25),
        ]


def main() -> int:
    """Run the storm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=7, help="how long each situation is measured in a round")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds; the table shows their medians")
    options = parser.parse_args()
    if not (0 < options.seconds <= 7 and 0 < options.rounds <= 20):
        parser.error("at most 7 seconds, since a redemption hangs for 20 s only, and at most 20 rounds")
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="storm-")))
        app, directory = running.enter_context(app_and_directory(folder))
        trusted = os.environ["SSL_CERT_FILE"]
        watcher = running.enter_context(bystander(app.url, trusted))
        storm = Storm(app, directory, watcher, RawHttp(trusted), options.seconds)
        asyncio.run(storm.rounds(options.rounds))
    rows = [row.cells() for row in storm.rows.values()]
    print(today(), "", table(HEAD, rows), "", *(bar.line() for bar in storm.bars()), sep="\n")
    failures = [f"{row.name}: {failure}" for row in storm.rows.values() for failure in row.failures]
    print(f"{len(failures)} sign-ins failed", *failures[:5], sep="\n  ")
    return int(bool(failures) or not all(bar.cleared for bar in storm.bars()))


if __name__ == "__main__":
    sys.exit(main())
