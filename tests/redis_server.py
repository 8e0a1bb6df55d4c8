"""A Redis of the tests' own: the system's server, on loopback, with nothing kept."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from conftest import free_port

FIX = "no redis-server or valkey-server found: install one (Debian: apt-get install redis-server)"


class RunningRedis:
    """A Redis server that can be stopped, paused and started again, empty, at the same address."""

    def __init__(self, command: str, folder: Path) -> None:
        self._command, self._folder, self.port = command, folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start; with what `stop` kept, else with nothing in it."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([self._command, *arguments], cwd=self._folder, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(redis.ConnectionError), redis.Redis(port=self.port) as client:
                if client.ping():
                    return
            time.sleep(0.05)
        pytest.fail("Redis did not start")

    def stop(self, *, keep: bool = False) -> None:
        """End it; what was in it is gone, or comes back with the next start."""
        (self._folder / "dump.rdb").unlink(missing_ok=True)
        if keep:
            with suppress(redis.ConnectionError), redis.Redis(port=self.port) as client:
                client.shutdown(save=True)
        else:
            self.process.kill()
        self.process.wait(10)

    def pause(self, *, on: bool) -> None:
        """Let it hang, or go on."""
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)


@contextmanager
def running_redis(folder: Path) -> Iterator[RunningRedis]:
    """Run the system's Redis; without one the test is skipped, which fails in CI."""
    command = shutil.which("redis-server") or shutil.which("valkey-server")
    if command is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(FIX)
    server = RunningRedis(command, folder)
    try:
        yield server
    finally:
        server.pause(on=False)
        server.stop()
