"""The private and undocumented pieces of Reflex that the app uses, each behind a name of ours."""

from pathlib import Path

from reflex.utils.prerequisites import get_web_dir
from reflex_base.constants import Dirs


def build_folder() -> Path:
    """Return the folder of the static build."""
    return get_web_dir() / Dirs.STATIC
