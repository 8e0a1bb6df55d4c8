"""The page for unknown addresses."""

import reflex as rx

from azure_auth.components.frame import PRIMARY, QUIET, frame, full_page_link, heading


def not_found() -> rx.Component:
    """Return the page."""
    return frame(
        heading("There is no such page"),
        rx.el.p("Its address may be mistyped, or the page was moved.", class_name=f"mt-3 {QUIET}"),
        full_page_link("Go to the front page", "/", f"mt-8 {PRIMARY}"),
    )
