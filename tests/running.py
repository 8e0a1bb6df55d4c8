"""The app as a process, started the way README says, with a build folder of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT, RunningDirectory, clean_environ, free_port, running_directory, wait_for

_SUPERVISOR = 'while :; do "$@"; echo "the run ended with $?"; done'
"""What systemd does with the unit in README."""


@dataclass(frozen=True)
class RunningApp:
    """A running app, what its console shows, and the process that all of its processes come from."""

    url: str
    backend_url: str
    log: Path
    site: Path
    pid: int

    def console(self) -> str:
        return self.log.read_text()

    def work(self) -> list[str]:
        """What handlers of the page in `tests/site` have done: a line for each."""
        path = self.site / ".data/work"
        return path.read_text().splitlines() if path.exists() else []


def cloned(folder: Path) -> Path:
    """Return a copy of the project, with the page of a developer who did nothing to protect it (`tests/site`)."""
    site = folder / "site"
    for name in ("azure_auth", "assets", "reflex.lock"):
        shutil.copytree(ROOT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "rxconfig.py", site)
    shutil.copy(ROOT / "tests/site/reports.py", site / "azure_auth/pages/reports.py")
    with (site / "azure_auth/azure_auth.py").open("a") as composed:
        composed.write("\nfrom azure_auth.pages.reports import add\n\nadd(app, api)\n")
    return site


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and not outlived."""
    of_threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for listed in of_threads for child in listed.read_text().split()]


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that is over and that nobody has asked for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def reflex_run(
    folder: Path,
    environ: Mapping[str, str],
    *,
    frontend: int,
    backend: int | None = None,
    site: Path | None = None,
    supervised: bool = False,
) -> Iterator[RunningApp]:
    """Run the app, or the one in `site`: in development with two ports, as a production build with one.

    Supervised, it is started again whenever it ends, and its process is the supervisor's.
    """
    mode = ["--frontend-port", str(frontend), "--backend-port", str(backend)] if backend else []
    mode = mode or ["--env", "prod", "--frontend-port", str(frontend)]
    site, log_path = site or cloned(folder), folder / "console.log"
    # No venv is activated, and nothing but what README's command needs is set.
    environ = {**clean_environ(), "PATH": "/usr/bin:/bin", **environ, "REFLEX_WEB_WORKDIR": str(folder / "web")}
    command = [str(Path(sys.executable).parent / "reflex"), "run", *mode]
    if supervised:
        command = ["/bin/sh", "-c", _SUPERVISOR, "supervisor", *command]
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=site, env=environ, stdout=log, stderr=log, start_new_session=True)
    backend_url = f"http://localhost:{backend or frontend}"
    app = RunningApp(f"http://localhost:{frontend}", backend_url, log_path, site, process.pid)
    try:
        wait_for(f"{app.url}/", process)
        wait_for(f"{app.backend_url}/ping", process)
        yield app
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, end)  # the group, for Vite outlives its parent
                process.wait(15)


@contextmanager
def app_and_directory(
    folder: Path, *, site: Path | None = None, supervised: bool = False, **environ: str
) -> Iterator[tuple[RunningApp, RunningDirectory]]:
    """Run the app as a production build, and a directory for it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with (
        running_directory(f"http://localhost:{port}") as directory,
        reflex_run(folder, {**directory.environ, **environ}, frontend=port, site=site, supervised=supervised) as app,
    ):
        yield app, directory
