"""One table of what was measured, and the bars that it has to clear."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median, quantiles

from load import Load

HEAD = (
    *("situation", "people", "delay", "sign-ins/s", "added p50", "added p95", "bystander p50", "bystander p95"),
    *("app", "directory", "client"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one round: times in seconds, processor time as a share of one core; zero where nothing was measured."""

    rate: float
    added_p50: float
    added_p95: float
    wait_p50: float
    wait_p95: float
    app: float
    directory: float
    client: float


@dataclass(slots=True)
class Row:
    """What was measured in one situation.

    Attributes:
        name: What the situation is.
        people: How many sign in at a time.
        delay: Seconds that the token endpoint waits for each of them.
        rounds: The figures of each round.
        failures: What went wrong.
    """

    name: str
    people: int
    delay: float = 0.0
    rounds: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def count(self, load: Load, waits: Iterable[tuple[float, float]], shares: Sequence[float]) -> None:
        """Add a round."""
        added = [max(0.0, seconds - self.delay) for seconds in load.added]
        seen = [wait for due, wait in waits if load.began <= due < load.ended]
        times = [percentile(values, p) for values in (added, seen) for p in (50, 95)]
        self.rounds.append(Figures(len(added) / (load.ended - load.began), *times, *shares))
        self.failures += load.failures

    def figures(self) -> Figures:
        """Return the median of the rounds, figure by figure."""
        rounds = [dataclasses.astuple(figures) for figures in self.rounds]
        return Figures(*(median(values) for values in zip(*rounds, strict=True)))

    def cells(self) -> list[str]:
        """Return the row's cells."""
        rate, *times, app, directory, client = dataclasses.astuple(self.figures())
        measured = [
            f"{rate:.0f}" if rate else "",
            *(f"{seconds * 1000:.0f} ms" if seconds else "" for seconds in times),
        ]
        busy = [f"{share * 100:.0f} %" for share in (app, directory, client)]
        return [self.name, str(self.people), f"{self.delay * 1000:.0f} ms", *measured, *busy]


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure, and the limit that it must keep."""

    claim: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def cleared(self) -> bool:
        """Whether the limit is kept."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def limit(self) -> str:
        """The limit in words."""
        return f"at most {self.at_most:g}" if self.at_least is None else f"at least {self.at_least:g}"

    @property
    def verdict(self) -> str:
        """Whether the limit is kept, in a word."""
        return "pass" if self.cleared else "FAIL"

    def line(self) -> str:
        """Return the verdict in one line."""
        return f"{self.verdict}  {self.claim}: {self.value:.2f} ({self.limit})"


def percentile(values: Sequence[float], p: int) -> float:
    """Return the p-th percentile; zero of nothing."""
    return quantiles(values, n=100, method="inclusive")[p - 1] if len(values) > 1 else sum(values)


def shown(seconds: float) -> str:
    """Return a time in the unit in which people read it."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"


def today() -> str:
    """Return the date and the machine's size, without which no figure means anything."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"Measured on {datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores with {memory:.0f} GB of memory:"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    rule = "|".join("-" * (width + 2) for width in widths)
    texts = [f"| {' | '.join(cells)} |" for cells in padded]
    return "\n".join([texts[0], f"|{rule}|", *texts[1:]])
