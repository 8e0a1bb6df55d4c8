"""`/logout`: ends the session, and says that it has ended and why."""

import reflex as rx

from azure_auth.auth import State, public
from azure_auth.components.frame import PRIMARY, QUIET, frame, full_page_link, heading, waiting


@public
def logout() -> rx.Component:
    """Return the page."""
    at_rest = State.is_hydrated & ~State.check_auth & (State.leaving_to == "")
    return frame(rx.cond(at_rest, _signed_out(), waiting("One moment…")))


def _signed_out() -> rx.Component:
    return rx.el.div(
        heading("You are signed out"),
        rx.cond(State.notice, rx.el.p(State.notice, class_name="mt-3")),
        rx.el.p("You can close this page, or sign in again.", class_name=f"mt-3 {QUIET}"),
        full_page_link("Sign in", State.sign_in_url, f"mt-8 {PRIMARY}"),
    )
