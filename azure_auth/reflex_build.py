"""What Reflex reads before there is an app: its configuration, the lines of its build, its servers and its console.

The second file of the seam (`auth/gate/reflex_internals.py` is the first), because `rxconfig.py` and `logs.py` come
before the app and lie below `auth/`. It alone names what is private here.
"""

import os
from collections.abc import Mapping, MutableMapping
from functools import partialmethod
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Unpack

import reflex as rx
from dotenv import load_dotenv
from granian.constants import HTTPModes
from granian.http import HTTP1Settings
from granian.server import Server
from reflex.compiler import utils
from reflex.constants import PackageJson, Reflex, StateManagerMode
from reflex.plugins import PreCompileContext
from reflex.utils import exec as reflex_exec
from reflex.utils import prerequisites
from reflex_base.constants import Dirs
from reflex_base.environment import environment
from reflex_base.utils import log as reflex_log

from azure_auth.bounds import COOKIE_BYTES, FRAME_CHARACTERS
from azure_auth.errors import NotConfigured
from azure_auth.settings import Settings

STATE_FILE = "utils/state.js"
VERSION_FILE_LINE = 'import reflexEnvironment from "$/reflex.json";'
VERSION_LINE = f'const reflexEnvironment = {{ version: "{Reflex.VERSION}" }};'
VITE_ON_LOOPBACK = "react-router dev --host localhost"
_start_granian, _listed_storage = Server.__init__, utils.compile_client_storage
_tell_address, _build = reflex_exec.notify_frontend, prerequisites.initialize_frontend_dependencies
"""Reflex's own functions. `reflex run` reads the configuration twice, but each must be wrapped only once."""


def load_env_file(path: Path) -> None:
    """Add the settings of a `.env` file to the environment, which wins. A missing file adds nothing.

    Raises:
        SystemExit: When the file cannot be read, or is no UTF-8 text.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return
    except OSError as why:
        raise _stop(f"{path} cannot be read ({why.strerror}): check its permissions") from None
    except UnicodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without a byte order mark decodes as UTF-8 with null characters
        raise _stop(f"{path} is not UTF-8 text: save it as UTF-8")
    load_dotenv(stream=StringIO(text), override=False)


def _stop(fault: str) -> SystemExit:
    return SystemExit(str(NotConfigured([f"{fault}."])))


def require_writable(folder: Path) -> None:
    """Check that the app can write to a folder, or create it.

    Raises:
        SystemExit: When it cannot.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        TemporaryFile(dir=existing).close()
    except OSError as why:
        raise _stop(f"The app cannot write to the folder {folder} ({why.strerror}): make it writable") from None


def config_for(environ: MutableMapping[str, str], plugins: list[Any] | None = None, **options: Any) -> rx.Config:
    """Return the configuration of an app that signs people in; what it needs of Reflex's servers is set on the way.

    Args:
        environ: The environment, with what `.env` adds. Defaults of variables that Reflex and Granian read are set.
        plugins: The app's own; `SameBuild` follows them.
        options: The app's own; they win.

    Raises:
        SystemExit: When a setting is missing or wrong; all faults are named.
    """
    environ.setdefault("REFLEX_SOCKET_MAX_HTTP_BUFFER_SIZE", str(FRAME_CHARACTERS))  # Reflex takes a million
    prerequisites.initialize_frontend_dependencies = _build_where_writable
    _limit_servers()
    own: dict[str, Any] = {"backend_host": "127.0.0.1"}  # for a proxy on this machine; elsewhere: REFLEX_BACKEND_HOST
    own |= _addresses(environ) | _state_manager(environ) | options
    return rx.Config(plugins=[*(plugins or []), SameBuild()], **own)


def _addresses(environ: Mapping[str, str]) -> dict[str, Any]:
    # `reflex run` reads this twice; only the second time is it known whether this is development or production.
    if "REFLEX_ENV_MODE" not in environ:
        return {"cors_allowed_origins": []}
    try:
        public_url = Settings.load(environ).public_url
    except NotConfigured as fault:
        raise SystemExit(str(fault)) from None
    if not (environment.REFLEX_SKIP_COMPILE.get() or environment.REFLEX_BACKEND_ONLY.get()):
        require_writable(prerequisites.get_web_dir())
    addresses: dict[str, Any] = {"cors_allowed_origins": [public_url]}  # Reflex's default is everybody's
    if environ["REFLEX_ENV_MODE"] != "dev":
        # Reflex would build each replica's own port into its pages. Another replica then does not have their files, and
        # over https the browser would look for the socket at port 443 alone.
        addresses["api_url"] = public_url
        reflex_exec.notify_frontend = lambda _, **said: _tell_address(public_url, **said)  # not its own port
    return addresses


def _build_where_writable() -> None:
    require_writable(prerequisites.get_web_dir())
    _build()


def _state_manager(environ: MutableMapping[str, str]) -> dict[str, Any]:
    # In memory, so that nothing of a person is written to disk. A mode that is given wins over REFLEX_REDIS_URL, so it
    # is given only without Redis: several workers, each with states of its own, would lose people.
    if not environ.get("REFLEX_REDIS_URL"):
        return {"state_manager_mode": StateManagerMode.MEMORY}
    environ.setdefault("GRANIAN_WORKERS", str(os.cpu_count() or 1))  # more than that, and Granian warns
    return {}


def _limit_servers() -> None:
    """Limit Granian and Vite, for which Reflex has no settings.

    With HTTP/2, Granian would accept 16 MB of headers per request before the app sees any; use a proxy for HTTP/2.
    Vite would listen on all interfaces.
    """
    Server.__init__ = partialmethod(  # pyright: ignore[reportAttributeAccessIssue]
        _start_granian, http=HTTPModes.http1, http1_settings=HTTP1Settings(max_buffer_size=2 * COOKIE_BYTES)
    )
    PackageJson.Commands.DEV = VITE_ON_LOOPBACK  # pyright: ignore[reportAttributeAccessIssue]


class SameBuild(rx.plugins.Plugin):
    """Makes all replicas' builds of one source alike, so that a page of one finds its files at another.

    Reflex bundles a file that has its version and also the time of the start. It lists what browsers keep for states
    (`rx.LocalStorage`) in the order of a set.
    """

    def pre_compile(self, **context: Unpack[PreCompileContext]) -> None:
        """Name the version instead, and sort the list."""
        utils.compile_client_storage = _sorted_storage
        context["add_modify_task"](STATE_FILE, name_version)


def _sorted_storage(state: Any) -> dict[str, dict[str, dict[str, Any]]]:
    return {kind: dict(sorted(listed.items())) for kind, listed in _listed_storage(state).items()}


def name_version(text: str) -> str:
    """Return the text of `state.js` with the version in the place of the file that has it.

    Raises:
        ValueError: When it has neither; the build stops, for replicas would not be alike.
    """
    if VERSION_LINE in text:  # built before
        return text
    if VERSION_FILE_LINE not in text:
        raise ValueError(f"{STATE_FILE} has no line {VERSION_FILE_LINE!r}: is this another version of Reflex?")
    return text.replace(VERSION_FILE_LINE, VERSION_LINE)


def static_build() -> Path:
    """Return where the static build lies; the variable that moves it is Reflex's own."""
    return prerequisites.get_web_dir() / Dirs.STATIC


def keep_lines_whole() -> None:
    """Let Reflex's console wrap no line: the rest of one could pass for another."""
    for console in (reflex_log._console, reflex_log._console_stderr):  # pyright: ignore[reportPrivateUsage]
        console.soft_wrap = True
