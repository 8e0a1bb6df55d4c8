"""`/callback`: the redirect URI. It is visible while the sign-in finishes, and shows the failure if there is one."""

import reflex as rx

from azure_auth.auth import public
from azure_auth.components.frame import frame, waiting


@public
def callback() -> rx.Component:
    """Return the page."""
    return frame(waiting("Signing you in…"))
