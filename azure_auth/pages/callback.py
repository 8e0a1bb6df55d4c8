"""`/callback`: where the directory sends the browser back to; stays only to say what went wrong, as every page can."""

import reflex as rx

from azure_auth.auth.policy import public
from azure_auth.components.frame import frame, waiting


@public
def callback() -> rx.Component:
    """Return the page."""
    return frame(waiting("Signing you in…"))
