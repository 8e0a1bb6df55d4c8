"""`/callback`: the redirect URI. It is visible while the sign-in finishes, and shows the failure if there is one."""

import reflex as rx

from azure_auth.auth import State, public
from azure_auth.components.brand import APP_NAME
from azure_auth.components.frame import frame, waiting


@public
def callback() -> rx.Component:
    """Return the page."""
    return frame(waiting("Signing you in…"))


def callback_title() -> rx.Var[str]:
    """Return the title of the page, which changes when the sign-in has failed."""
    return rx.cond(State.failure["heading"], f"Sign-in failed · {APP_NAME}", f"Signing in · {APP_NAME}")
