"""`/logout`: ends the session, and says so."""

import reflex as rx

from azure_auth.auth.core import State
from azure_auth.components.frame import PRIMARY, QUIET, heading, in_between, leading_out


def logout() -> rx.Component:
    """Return the page."""
    return rx.cond(
        State.is_hydrated & ~State.check_auth & (State.leaving_to == ""), _signed_out(), in_between("One moment…")
    )


def _signed_out() -> rx.Component:
    return rx.el.div(
        heading("You are signed out"),
        rx.el.p("You can close this page, or sign in again.", class_name=f"mt-3 {QUIET}"),
        leading_out("Sign in", State.sign_in_url, f"mt-8 {PRIMARY}"),
    )
