"""What is said on top of any page."""

# Components are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import reflex as rx

from azure_auth.auth.core import State


def notice() -> rx.Component:
    """Return the alert that something a person did on a page went wrong; wrapped around the app as `leave` is."""
    return rx.fragment(rx.memo(_notice)())


def _notice() -> rx.Component:
    broken = State.broken
    return rx.cond(
        broken["heading"],
        rx.el.div(
            rx.el.p(broken["heading"], class_name="font-semibold"),
            rx.el.p(broken["message"]),
            rx.el.p(f"Reference: {broken['reference']}", class_name="mt-1 text-sm"),
            role="alert",
            class_name="fixed inset-x-4 bottom-4 mx-auto max-w-lg rounded-xl bg-slate-900 p-4 text-slate-50 shadow-lg"
            " ring-1 ring-slate-600",
        ),
    )
