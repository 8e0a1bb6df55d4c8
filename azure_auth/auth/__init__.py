"""Sign-in with Microsoft Entra ID for a Reflex app. What an app imports is here.

`install(app, settings)` protects the whole app. `State` is the state that pages bind to. Everything needs a session,
unless `public` or `cross_origin` says otherwise. `who(request)` is the user behind an HTTP request or websocket.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure_auth.auth.composition import install
    from azure_auth.auth.core import State
    from azure_auth.auth.policy import cross_origin, public, who

__all__ = ["State", "cross_origin", "install", "public", "who"]
_MODULES = {"State": "core", "install": "composition"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that a part of `auth` can be imported without the rest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'policy')}"), name)
