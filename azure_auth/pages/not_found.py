"""What is shown where there is no page."""

import reflex as rx

from azure_auth.components.frame import PRIMARY, QUIET, frame, heading, leading_out


def not_found() -> rx.Component:
    """Return the page."""
    return frame(
        heading("There is no such page"),
        rx.el.p("Its address may be mistyped, or the page was moved.", class_name=f"mt-3 {QUIET}"),
        leading_out("Go to the front page", "/", f"mt-8 {PRIMARY}"),
    )
