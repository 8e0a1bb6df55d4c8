"""Two replicas of the app on one Redis, behind the system's nginx, which ends TLS with a certificate of this run."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, free_port, running_directory, wait_for
from redis_server import RunningRedis, running_redis
from running import RunningApp, cloned, reflex_run

from azure_auth.demo.__main__ import _write_certificate

FIX = "no nginx found: install it (Debian: apt-get install nginx)"
_CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
worker_rlimit_nofile 8192; events {{ worker_connections 4096; }}
http {{
    {config}
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
}}
"""


class Replica:
    """One `reflex run` with one worker, which can be ended in two ways and started again at the same port."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self._folder, self._environ = folder, environ
        self._running = ExitStack()
        self._consoles: list[Path] = []
        self.app: RunningApp | None = None
        folder.mkdir()
        self._site = cloned(folder)

    def start(self) -> None:
        folder = self._folder / str(len(self._consoles))
        folder.mkdir()
        run = reflex_run(folder, self._environ, frontend=self.port, site=self._site)
        self.app = self._running.enter_context(run)
        self._consoles.append(self.app.log)

    def stop(self) -> None:
        """End it the way a supervisor does."""
        self._running.close()

    def kill(self) -> None:
        """End all of its processes without a word."""
        os.killpg(self.app.pid, signal.SIGKILL)
        self._running.close()

    def console(self) -> str:
        return "".join(console.read_text() for console in self._consoles)

    def build(self) -> Path:
        """Where the files lie that it serves."""
        return self.app.log.parent / "web/build/client"

    def work(self) -> int:
        """How many lines handlers of the page in `tests/site` have written."""
        path = self._site / ".data/work"
        return len(path.read_text().splitlines()) if path.exists() else 0


class Replicas:
    """What stands behind the proxy at `url`."""

    def __init__(self, url: str, redis: RunningRedis, environ: Mapping[str, str], both: list[Replica]) -> None:
        self.url, self.redis, self.environ, self.both = url, redis, environ, both

    def console(self) -> str:
        return "".join(replica.console() for replica in self.both)


@contextmanager
def running_replicas(folder: Path) -> Iterator[Replicas]:
    """Run all of it; without nginx or Redis the test is skipped, which fails in CI."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(FIX)
    port = free_port()
    url = f"https://127.0.0.1:{port}"  # not localhost, for there a page's script does as it does nowhere else
    with ExitStack() as running:
        redis = running.enter_context(running_redis(folder))
        directory = running.enter_context(running_directory(url))
        certificate, key = _write_certificate(folder)
        trusted = Path(os.environ["SSL_CERT_FILE"])  # the directory's own list, which goes with it
        trusted.write_bytes(trusted.read_bytes() + certificate.read_bytes())
        environ = {
            **directory.environ,
            "REFLEX_DEPLOY_URL": url,
            "REFLEX_REDIS_URL": redis.url,
            "REFLEX_TRUSTED_PROXY_HOPS": "1",
            "GRANIAN_WORKERS": "1",
        }
        both = [Replica(folder / name, environ) for name in ("one", "two")]
        for replica in both:
            running.callback(replica.stop)
        with ThreadPoolExecutor() as threads:
            list(threads.map(Replica.start, both))
        (config,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        servers = " ".join(f"server 127.0.0.1:{replica.port} max_fails=0;" for replica in both)
        for theirs, here in (
            ("server 127.0.0.1:3000 max_fails=0;", servers),
            ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
            ("/etc/ssl/app.pem", str(certificate)),
            ("/etc/ssl/app.key", str(key)),
        ):
            assert theirs in config
            config = config.replace(theirs, here)
        config = _CONFIG.format(folder=folder, config=config)
        (folder / "nginx.conf").write_text(config)
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")]
        process = subprocess.Popen(command)
        running.callback(process.wait, 10)
        running.callback(process.terminate)
        wait_for(f"{url}/ping", process)
        yield Replicas(url, redis, environ, both)
