"""`/`: greets the signed-in person."""

import reflex as rx

from azure_auth.auth import State
from azure_auth.components.frame import FOCUS, QUIET, SECONDARY, frame, heading, waiting, with_mark


def home() -> rx.Component:
    """Return the page."""
    return frame(rx.cond(State.check_auth, auth_view(), unauth_view()))


def auth_view() -> rx.Component:
    """Return the content for a signed-in person."""
    return rx.el.div(
        with_mark(
            rx.el.span(
                State.token["initials"],
                aria_hidden="true",
                class_name="flex size-14 shrink-0 items-center justify-center rounded-full bg-brand text-lg"
                " font-semibold text-white",
            ),
            # <bdi> isolates a name that is written from right to left.
            heading("Hello ", rx.el.bdi(State.token["name"])),
            rx.cond(
                State.token["name"] != State.token["username"],
                rx.el.p(rx.el.bdi(State.token["username"]), class_name=f"wrap-anywhere {QUIET}"),
            ),
        ),
        rx.el.button("Sign out", type="button", on_click=State.logout, class_name=f"mt-8 {SECONDARY}"),
        rx.el.details(
            rx.el.summary(
                "Signed in elsewhere too?", class_name=f"w-fit cursor-pointer rounded text-sm {QUIET} {FOCUS}"
            ),
            rx.el.button(
                "Sign out everywhere", type="button", on_click=State.logout_everywhere, class_name=f"mt-3 {SECONDARY}"
            ),
            class_name="mt-6",
        ),
    )


def unauth_view() -> rx.Component:
    """Return the content for an anonymous visitor, whose browser is about to go to the directory."""
    return waiting("One moment…")
