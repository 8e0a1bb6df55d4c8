"""The browser's half of the gate: an alert above any page when a handler failed."""

# Components are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

import reflex as rx


def notice(state: Any) -> rx.Component:
    """Return the alert that a handler failed, to be wrapped around the app; `state` has the var `broken`."""

    def show_notice() -> rx.Component:
        broken = state.broken
        return rx.cond(
            broken["heading"],
            rx.el.div(
                rx.el.p(broken["heading"], class_name="font-semibold"),
                rx.el.p(broken["message"]),
                rx.el.p(f"Reference: {broken['reference']}", class_name="mt-1 text-sm"),
                role="alert",
                class_name="fixed inset-x-4 bottom-4 mx-auto max-w-lg rounded-xl bg-slate-900 p-4 text-slate-50"
                " shadow-lg ring-1 ring-slate-600",
            ),
        )

    return rx.fragment(rx.memo(show_notice)())
