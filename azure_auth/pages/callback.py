"""`/callback`: where the directory sends the browser back to; stays only to say what went wrong."""

import reflex as rx

from azure_auth.auth.core import State
from azure_auth.components.frame import PRIMARY, QUIET, SECONDARY, heading, in_between, leading_out


def callback() -> rx.Component:
    """Return the page; until the handler has run, what the tab still knows of is an earlier failure."""
    failed = rx.cond(State.is_hydrated, State.failure["heading"], "")
    return rx.cond(failed, _failed(), in_between("Signing you in…"))


def _failed() -> rx.Component:
    failure = State.failure
    return rx.el.div(
        rx.el.div(
            heading(failure["heading"]),
            rx.el.p(failure["message"], class_name="mt-3"),
            rx.el.p(f"Reference: {failure['reference']}", class_name=f"mt-3 text-sm {QUIET}"),
            role="alert",
        ),
        rx.el.div(
            leading_out("Try again", failure["again"], PRIMARY),
            leading_out("Use another account", failure["other_account"], SECONDARY),
            class_name="mt-8 flex flex-wrap gap-3",
        ),
    )
