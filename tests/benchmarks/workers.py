"""What README promises of performance: `python tests/benchmarks/workers.py` starts all that it needs, prints one table
with its bars, and ends what it started. Exit status 1 when a bar is missed or a sign-in failed.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from clicks import clicks, first_page  # noqa: E402 (found by the line above)
from conftest import KEYS  # noqa: E402
from events import somebody  # noqa: E402
from load import OPEN, closed_loop, processor_seconds  # noqa: E402
from raw_browser import Browser  # noqa: E402
from raw_http import RawHttp  # noqa: E402
from raw_tab import RawTab, close_all  # noqa: E402
from redis_server import running_redis  # noqa: E402
from report import Bar, Row, percentile, shown, table, today  # noqa: E402
from running import RunningApp, app_and_directory, children  # noqa: E402
from sign_out import TABS, sign_outs  # noqa: E402

from azure_auth.auth.sessions.session import Session  # noqa: E402
from azure_auth.auth.sessions.sessions import Sessions  # noqa: E402
from azure_auth.auth.sessions.store.redis import RedisStore  # noqa: E402
from azure_auth.settings import Settings  # noqa: E402

PEOPLE, OPENED, EACH, SESSIONS, LOOKS, SIGN_OUTS = 20, 1_000, 10, (1_000, 100_000), 3_000, 7
ALONE, ONE, TWO, FIVE = "1 process without Redis", "1 worker on Redis", "2 workers on Redis", "5 workers on Redis"
SITUATIONS = {ALONE: 0, ONE: 1, TWO: 2, FIVE: 5}
NOT_COMPARED_ROUNDS = 3
_BATCH = 100
HEAD = ("what", "where", "median", "p95, p99, range", "of", "bar")


@dataclass(slots=True)
class Found:
    """What was measured, line by line, and the bars among it."""

    lines: list[tuple[str, ...]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def add(self, what: str, where: str, *cells: str, bar: Bar | None = None) -> None:
        """Add a line of up to three more cells."""
        words = f"{bar.claim} {bar.limit}: {bar.verdict}".strip() if bar else ""
        self.lines.append((what, where, *cells, *[""] * (3 - len(cells)), words))
        self.bars += [bar] if bar else []

    def times(self, what: str, where: str, seconds: list[float], of: str, high: int = 95, at_most: float = 0) -> None:
        """Add times, and perhaps a bar of so many milliseconds on the high percentile."""
        last = percentile(seconds, high)
        bar = Bar(f"p{high} in ms", last * 1000, at_most=at_most) if at_most else None
        cells = shown(percentile(seconds, 50)), f"p{high} {shown(last)}", f"{len(seconds):,} {of}"
        self.add(what, where, *cells, bar=bar)

    def ratio(self, what: str, where: str, bar: Bar, *cells: str) -> None:
        """Add a comparison."""
        self.add(what, where, f"{bar.value:.2f}", *cells, bar=bar)


async def storms(apps: dict[str, RunningApp], http: RawHttp, seconds: float, rounds: int) -> dict[str, Row]:
    """Let people sign in at each app, in turns: what changes meanwhile, on the machine too, meets all.

    The two that are compared come one right after the other in every round, the others only in the first rounds.
    """
    rows = {name: Row(name, PEOPLE) for name in apps}
    for number in range(rounds):
        compared = (ONE, ALONE) if number % 2 else (ALONE, ONE)  # what one leaves behind meets the other as often
        for name in (*compared, TWO, FIVE) if number < NOT_COMPARED_ROUNDS else compared:
            pid = apps[name].pid
            before, start = processor_seconds(pid), time.monotonic()
            load = await closed_loop(http, apps[name].url, PEOPLE, seconds)
            share = (processor_seconds(pid) - before) / (time.monotonic() - start)
            rows[name].count(load, [], [share, 0.0, 0.0])
    return rows


async def held_open(app: RunningApp, http: RawHttp) -> tuple[float, list[float]]:
    """Hold signed-in tabs open; return the bytes that one takes of all workers, and what an event waited."""
    people = [Browser(http, app.url) for _ in range(OPENED // EACH)]
    for browser in people:
        await browser.sign_in()
        await browser.close()
    before = _resident(app.pid)
    tabs: list[RawTab] = []
    for number in range(OPENED):
        cookie = people[number % len(people)].cookie
        tab = await RawTab.open(app.url, "/reports", token=f"held-{number}", cookie=cookie)
        await tab.until(lambda tab=tab: tab.sees.get("is_hydrated"))
        tabs.append(tab)
    taken = (_resident(app.pid) - before) / OPENED
    waits: list[float] = []
    for _ in range(OPENED):
        tab = random.choice(tabs)
        answered, start = len(tab.updates), time.monotonic()
        await tab.send(OPEN)
        await tab.until(lambda tab=tab, answered=answered: len(tab.updates) > answered)
        waits.append(time.monotonic() - start)
    await close_all()
    return taken, waits


async def look_ups(url: str, settings: Settings) -> dict[int, list[float]]:
    """Fill a Redis database for each size, and measure in turns how long the gate's own look-up takes in each."""
    stores = {size: RedisStore(f"{url}/{number}", KEYS) for number, size in enumerate(SESSIONS, 8)}
    sessions = {size: Sessions(store, settings, KEYS) for size, store in stores.items()}
    known: dict[int, list[Session]] = {}
    for size in SESSIONS:
        cookies: list[str] = []
        while len(cookies) < size:
            people = [(somebody(number), f"browser {number}") for number in range(len(cookies), len(cookies) + _BATCH)]
            cookies += await asyncio.gather(*(sessions[size].start(*who, None) for who in people))
        known[size] = [(await sessions[size].find(cookie)).session for cookie in random.sample(cookies, 1_000)]
    measured: dict[int, list[float]] = {size: [] for size in SESSIONS}
    for size in SESSIONS * (LOOKS // _BATCH):
        for session in random.choices(known[size], k=_BATCH):
            start = time.perf_counter()
            assert await sessions[size].is_active(session)
            measured[size].append(time.perf_counter() - start)
    for store in stores.values():
        await store.close()
    return measured


def _resident(root: int) -> int:
    """Return the bytes that a process and its descendants hold, shared pages in proportion."""
    pids, found = [root], 0
    for pid in pids:
        pids += children(pid)
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return found


async def over_sockets(
    found: Found, apps: dict[str, RunningApp], redis: str, settings: Settings, seconds: float, rounds: int
) -> list[str]:
    """Measure what needs no real browser; return the sign-ins that failed."""
    trusted = os.environ["SSL_CERT_FILE"]
    http = RawHttp(trusted)
    rows = await storms(apps, http, seconds, rounds)
    taken, waits = await held_open(apps[TWO], http)
    outs = await sign_outs(apps[TWO].url, trusted, SIGN_OUTS)
    looked = await look_ups(redis, settings)
    await http.close()
    rates = {name: [figures.rate for figures in row.rounds] for name, row in rows.items()}
    for name, rate in rates.items():
        of = f"{len(rate)} rounds of {seconds:g} s, {rows[name].figures().app:.2f} cores"
        range_ = f"{min(rate):.0f} to {max(rate):.0f}/s"
        found.add(f"sign-ins, {PEOPLE} people at a time", name, f"{median(rate):.0f}/s", range_, of)
    ratios = [one / alone for one, alone in zip(rates[ONE], rates[ALONE], strict=True)]
    bar, range_ = Bar("", median(ratios), 0.7), f"{min(ratios):.2f} to {max(ratios):.2f}"
    where = "1 worker / 1 process, in each round"
    found.ratio("sign-ins, with Redis / without", where, bar, range_, f"{rounds} rounds")
    held, of = f"{OPENED:,} signed-in tabs, {TWO}", f"{EACH} tabs each of {OPENED // EACH} people"
    found.add("memory of an open tab", held, f"{taken / 1000:.0f} kB", "", of)
    found.times("an event until its answer", held, waits, "events", 99)
    for size, times in looked.items():
        found.times("look-up of a session, as at every event", f"{size:,} sessions in Redis", times, "look-ups", 99)
    few, many = (median(times) for times in looked.values())
    where = " / ".join(f"{size:,}" for size in reversed(SESSIONS)) + " sessions in Redis"
    found.ratio("look-up of a session, many / few", where, Bar("", many / few, at_most=1.3))
    found.times("sign-out until the last tab is told", f"{TABS} tabs, {TWO}", outs.told, "sign-outs", at_most=250)
    return [f"{row.name}: {failure}" for row in rows.values() for failure in row.failures]


def in_chromium(found: Found, apps: dict[str, RunningApp], rounds: int) -> None:
    """Measure what people wait for in a real browser."""
    weights = first_page(apps[ALONE].url)
    wire, unpacked = (sum(column) / 1000 for column in zip(*weights, strict=True))
    of = f"{len(weights)} files, {unpacked:.0f} kB unpacked"
    found.add("first page's weight, over the network", "`/`, signed in, empty cache", f"{wire:.0f} kB", "", of)
    names = ALONE, TWO
    waits = dict(zip(names, clicks([apps[name].url for name in names], rounds), strict=True))
    for what, part in (
        ("click on a person to greeting", "greeting"),
        ("whole sign-in, without the person's time", "sign_in"),
        ("second tab to greeting", "second_tab"),
    ):
        for name in names:
            found.times(what, f"Chromium, {name}", getattr(waits[name], part), "times")
    for name in names:
        share = median(waits[name].second_tab) / median(waits[name].sign_in)
        found.ratio("second tab / whole sign-in", f"Chromium, {name}", Bar("", share, at_most=0.5))


def main() -> int:
    """Start one app for each situation, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="how long each storm lasts in a round")
    parser.add_argument("--rounds", type=int, default=7, help="how many rounds of storms")
    parser.add_argument("--clicks", type=int, default=12, help="how many sign-ins in the browser, at each app")
    options = parser.parse_args()
    found = Found()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="workers-")))
        redis = running.enter_context(running_redis(folder)).url
        apps: dict[str, RunningApp] = {}
        for number, (name, workers) in enumerate(SITUATIONS.items()):
            environ = {"REFLEX_REDIS_URL": f"{redis}/{number}", "GRANIAN_WORKERS": str(workers)} if workers else {}
            start = app_and_directory(folder / str(number), **environ)
            apps[name], directory = running.enter_context(start)
        settings = Settings.load({**directory.environ, "REFLEX_ENV_MODE": "prod"})
        failures = asyncio.run(over_sockets(found, apps, redis, settings, options.seconds, options.rounds))
        in_chromium(found, apps, options.clicks)
    print(today(), "", table(HEAD, found.lines), "", sep="\n")
    print(f"{len(failures)} sign-ins failed", *failures[:5], sep="\n  ")
    return int(bool(failures) or not all(bar.cleared for bar in found.bars))


if __name__ == "__main__":
    sys.exit(main())
