"""What a session costs, beside the storm: `python tests/benchmarks/sessions.py` starts all that it needs, prints one
table and which bars are cleared, and ends what it started. Exit status 1 when a bar is missed.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from clicks import Waits, clicks  # noqa: E402 (found by the line above)
from events import OPENED, Crowd, crowds  # noqa: E402
from report import Bar, percentile, shown, table, today  # noqa: E402
from running import app_and_directory  # noqa: E402
from sign_out import TABS, SignOuts, sign_outs  # noqa: E402

from azure_auth.settings import Settings  # noqa: E402

SIZES = (1, 1_000, 100_000)
EVENTS = 6_000
SIGN_OUTS = 11
SECOND_ISSUE = "b0d0f17"
"""The last commit before there were sessions."""
HEAD = ("what", "with", "p50", "p95", "of")


def extracted(commit: str, folder: Path) -> Path | None:
    """Put the project as of a commit into a folder; None where the repository does not have that commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return None
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def times(what: str, situation: str, seconds: Sequence[float]) -> tuple[str, ...]:
    """Return the cells of a row of times."""
    return what, situation, *(shown(percentile(seconds, p)) for p in (50, 95)), f"{len(seconds):,}"


def rows(measured: list[Crowd], outs: SignOuts, now: Waits, before: Waits) -> Iterator[tuple[str, ...]]:
    """Return the table's rows."""
    for what, name in (
        ("gate, per event", "events"),
        ("the same, written to the store (once a minute)", "writing"),
        ("session of a cookie found, at a handshake", "handshakes"),
    ):
        for crowd in measured:
            yield times(what, _sessions(crowd.size), getattr(crowd, name))
    largest = measured[-1]
    yield "a session in the store's file", _sessions(largest.size), f"{largest.file_bytes:,.0f} B", "", ""
    yield "an open session and its tab, in memory", f"{OPENED:,} open", f"{largest.memory_bytes:,.0f} B", "", ""
    yield times("sign-out until the last tab was told", f"{TABS} tabs", outs.told)
    yield times("sign-out until the last socket ended", f"{TABS} tabs", outs.ended)
    yield times("click to greeting", "this version", now.greeting)
    if before.greeting:
        yield times("click to greeting", "the second issue's", before.greeting)
    yield times("whole sign-in, without the person's time", "this version", now.sign_in)
    yield times("second tab to greeting", "this version", now.second_tab)


def bars(measured: list[Crowd], outs: SignOuts, now: Waits, before: Waits) -> Iterator[Bar]:
    """Compare the figures."""
    medians = [median(crowd.events) for crowd in measured]
    sizes = f"{SIZES[0]:,} to {_sessions(SIZES[-1])}"
    yield Bar(f"gate per event, largest p95 of {sizes}, in µs", max(_p95_us(c) for c in measured), at_most=100)
    yield Bar(f"gate per event, p50, most / least of {sizes}", max(medians) / min(medians), at_most=1.5)
    largest = measured[-1]
    kilobytes = (largest.file_bytes + largest.memory_bytes) / 1000
    yield Bar("a session in file and memory together, in kB", kilobytes, at_most=10)
    yield Bar(f"sign-out until the last of {TABS} tabs was told, p50 in ms", median(outs.told) * 1000, at_most=100)
    if before.greeting:
        added = median(now.greeting) - median(before.greeting)
        yield Bar("click to greeting, p50 above the second issue's, in s", added, at_most=0.3)
    yield Bar("second tab / whole sign-in, p50", median(now.second_tab) / median(now.sign_in), at_most=0.5)


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"


def _p95_us(crowd: Crowd) -> float:
    return percentile(crowd.events, 95) * 1e6


def main() -> int:
    """Measure one thing after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=20, help="how many sign-ins in the browser, of each version")
    options = parser.parse_args()
    if options.clicks < 2:
        parser.error("at least 2 sign-ins")
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sessions-")))
        old = extracted(SECOND_ISSUE, folder / "before/site")
        app, directory = running.enter_context(app_and_directory(folder / "now"))
        before = running.enter_context(app_and_directory(folder / "before", site=old))[0].url if old else None
        measured = asyncio.run(crowds(folder, SIZES, EVENTS, Settings.load(directory.environ)))
        outs = asyncio.run(sign_outs(app.url, directory.environ["SSL_CERT_FILE"], SIGN_OUTS))
        now, *earlier = clicks([app.url], options.clicks, before)
    found = measured, outs, now, earlier[0] if earlier else Waits()
    judged = list(bars(*found))
    print(today(), "", table(HEAD, list(rows(*found))), "", *(bar.line() for bar in judged), sep="\n")
    if not before:
        print(f"skip  click to greeting above the second issue's: commit {SECOND_ISSUE} is not in this repository")
    return int(not all(bar.cleared for bar in judged))


if __name__ == "__main__":
    sys.exit(main())
