"""What `install` made for the app. States and pages find it here; Reflex builds them without arguments."""

from dataclasses import dataclass

from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.sign_in import SignIn


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of sign-in that states need."""

    sign_in: SignIn
    tabs: Tabs


_services: Services | None = None


def register(services: Services) -> None:
    """Make the services known; a process has one app, so there is one set of them."""
    global _services
    _services = services


def services() -> Services:
    """Return the services of the app.

    Raises:
        RuntimeError: When `install` was not called.
    """
    if _services is None:
        raise RuntimeError("call azure_auth.auth.install(app, settings) before a page is built")
    return _services
