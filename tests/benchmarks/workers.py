"""What workers on Redis do beside one process without: `python tests/benchmarks/workers.py` starts all that it needs,
prints one table and which bars are cleared, and ends what it started. Exit status 1 when one is missed.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import free_port, running_directory  # noqa: E402 (found by the line above)
from events import _somebody  # noqa: E402
from load import OPEN, closed_loop, processor_seconds  # noqa: E402
from raw_browser import Browser  # noqa: E402
from raw_http import RawHttp  # noqa: E402
from raw_tab import RawTab, close_all  # noqa: E402
from redis_server import running_redis  # noqa: E402
from report import Bar, Row, percentile, table  # noqa: E402
from running import RunningApp, reflex_run  # noqa: E402
from sign_out import TABS, sign_outs  # noqa: E402

from azure_auth.auth.redis_store import RedisStore  # noqa: E402
from azure_auth.auth.sessions import Sessions  # noqa: E402
from azure_auth.settings import Settings  # noqa: E402

PEOPLE, OPENED, SESSIONS, LOOKS = 20, 1_000, (1_000, 100_000), 3_000
SITUATIONS = {"embedded, 1 process": 0, "Redis, 1 worker": 1, "Redis, 2 workers": 2, "Redis, 5 workers": 5}
Line = tuple[str, str, str, str, str]


async def storms(apps: dict[str, RunningApp], http: RawHttp, seconds: float, rounds: int) -> dict[str, Row]:
    """Let people sign in at each app, in turns: what changes meanwhile, on the machine too, meets all."""
    rows = {name: Row(name, PEOPLE) for name in apps}
    for _ in range(rounds):
        for name, app in apps.items():
            before, start = processor_seconds(app.pid), time.monotonic()
            load = await closed_loop(http, app.url, PEOPLE, seconds)
            share = (processor_seconds(app.pid) - before) / (time.monotonic() - start)
            rows[name].count(load, [], [share, 0.0, 0.0])
    return rows


async def held_open(app: RunningApp, http: RawHttp) -> tuple[float, list[float]]:
    """Hold signed-in tabs open; return the bytes that one takes of all workers, and what an event waited."""
    people = [Browser(http, app.url) for _ in range(OPENED // 10)]
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
    """Fill a Redis, and measure at each size how long the gate's own look-up takes."""
    store = RedisStore(url, b"benchmark")
    sessions = Sessions(store, settings)
    cookies: list[str] = []
    measured: dict[int, list[float]] = {}
    for size in SESSIONS:
        while len(cookies) < size:
            numbers = range(len(cookies), len(cookies) + 100)
            cookies += await asyncio.gather(*(sessions.start(_somebody(n), f"browser {n}", None) for n in numbers))
        known = [session for cookie in random.sample(cookies, 1_000) if (session := await sessions.find(cookie))]
        measured[size] = []
        for _ in range(LOOKS):
            session, start = random.choice(known), time.perf_counter()
            assert await sessions.stands(session)
            measured[size].append(time.perf_counter() - start)
    await store.close()
    return measured


def _resident(root: int) -> int:
    """Return the bytes that a process and its descendants hold, shared pages in proportion."""
    pids, found = [root], 0
    for pid in pids:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            pids += [int(child) for child in children.read_text().split()]
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return found


def _times(what: str, of: str, seconds: list[float], last: int) -> Line:
    p50, high = percentile(seconds, 50) * 1000, percentile(seconds, last) * 1000
    return what, of, f"{p50:.2f} ms", f"{high:.2f} ms", f"p{last} of {len(seconds):,}"


async def measure(
    apps: dict[str, RunningApp], redis_url: str, settings: Settings, seconds: float, rounds: int
) -> tuple[list[Line], list[Bar], list[str]]:
    """Measure everything; return the table's lines, the bars, and what failed."""
    trusted = os.environ["SSL_CERT_FILE"]
    http, two = RawHttp(trusted), apps["Redis, 2 workers"]
    rows = await storms(apps, http, seconds, rounds)
    taken, waits = await held_open(two, http)
    outs = await sign_outs(two.url, trusted, 7)
    looked = await look_ups(redis_url, settings)
    await http.close()
    lines: list[Line] = []
    for row in rows.values():
        figures = row.figures()
        times = f"{figures.added_p50 * 1000:.0f} ms", f"{figures.added_p95 * 1000:.0f} ms"
        lines.append(("sign-ins, added", row.name, *times, f"p95, {figures.rate:.0f}/s, {figures.app:.2f} cores"))
    lines += [
        _times("an event's wait", f"{OPENED:,} tabs open, 2 workers", waits, 99),
        ("memory of a tab", f"{OPENED:,} tabs open, 2 workers", f"{taken / 1000:.0f} kB", "", ""),
        _times("sign-out to the last tab", f"{TABS} tabs, 2 workers", outs.told, 95),
        *(_times("the gate's look-up", f"{size:,} sessions in Redis", looked[size], 99) for size in SESSIONS),
    ]
    rate = [row.figures().rate for row in rows.values()]
    few, many = (percentile(looked[size], 50) for size in SESSIONS)
    bars = [
        Bar("sign-ins/s with Redis and one worker / embedded", rate[1] / rate[0], 0.7),
        Bar("sign-out to the last tab over two workers, p95 in ms", percentile(outs.told, 95) * 1000, at_most=250),
        Bar(f"a look-up among {SESSIONS[1]:,} / among {SESSIONS[0]:,}, p50", many / few, at_most=1.3),
    ]
    return lines, bars, [f"{row.name}: {failure}" for row in rows.values() for failure in row.failures]


def main() -> int:
    """Start one app for each situation, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="how long each storm lasts in a round")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds; the table shows their medians")
    options = parser.parse_args()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="workers-")))
        redis = running.enter_context(running_redis(folder))
        apps: dict[str, RunningApp] = {}
        for number, (name, workers) in enumerate(SITUATIONS.items()):
            port = free_port()
            environ = dict(running.enter_context(running_directory(f"http://localhost:{port}")).environ)
            if workers:
                environ |= {"REFLEX_REDIS_URL": f"{redis.url}/{number}", "GRANIAN_WORKERS": str(workers)}
            (folder / str(number)).mkdir()
            apps[name] = running.enter_context(reflex_run(folder / str(number), environ, frontend=port))
        settings = Settings.load({**environ, "REFLEX_ENV_MODE": "prod"})
        measuring = measure(apps, f"{redis.url}/9", settings, options.seconds, options.rounds)
        lines, bars, failures = asyncio.run(measuring)
    print(table(("what", "with", "p50", "high", "of"), lines), "", *(bar.line() for bar in bars), sep="\n")
    print(f"{len(failures)} sign-ins failed", *failures[:5], sep="\n  ")
    return int(bool(failures) or not all(bar.cleared for bar in bars))


if __name__ == "__main__":
    sys.exit(main())
