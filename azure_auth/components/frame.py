"""The frame of every page (app name, demo banner, one column), and the elements that pages share."""

import reflex as rx

from azure_auth.auth.core import State, services
from azure_auth.components.brand import APP_NAME

FOCUS = (
    "focus-visible:outline-2 focus-visible:outline-offset-2 focus-visible:outline-brand"
    " dark:focus-visible:outline-brand-light"
)
_CONTROL = (
    f"inline-flex min-h-11 items-center justify-center rounded-lg px-5 font-medium cursor-pointer max-sm:w-full {FOCUS}"
)
PRIMARY = f"{_CONTROL} bg-brand text-white hover:bg-brand-strong"
SECONDARY = f"{_CONTROL} border border-slate-400 hover:bg-slate-100 dark:border-slate-500 dark:hover:bg-slate-800"
QUIET = "text-slate-600 dark:text-slate-300"


def frame(*children: rx.Component) -> rx.Component:
    """Return a page: the app's name, and below it a card with the children, or with the failure if there is one."""
    banner = rx.el.p(
        "Demo directory: the people are made up, and nobody is really signed in.",
        role="note",
        class_name="bg-amber-100 px-6 py-2 text-center text-sm text-amber-950 dark:bg-amber-950 dark:text-amber-100",
    )
    return rx.el.div(
        rx.el.header(
            banner if services().sign_in.settings.demo else rx.fragment(),
            rx.el.div(
                rx.el.span(
                    APP_NAME[0],
                    aria_hidden="true",
                    class_name="flex size-8 items-center justify-center rounded-lg bg-brand text-white",
                ),
                APP_NAME,
                class_name="flex items-center gap-3 border-b border-slate-200 bg-white px-6 py-4 text-lg font-semibold"
                " dark:border-slate-800 dark:bg-slate-900",
            ),
        ),
        rx.el.main(
            rx.el.div(
                rx.cond(State.failure["heading"], _failed(), rx.fragment(*children)),
                class_name="w-full max-w-lg rounded-2xl bg-white p-6 shadow-sm ring-1 ring-slate-200 sm:p-8"
                " dark:bg-slate-900 dark:ring-slate-700",
            ),
            class_name="flex grow items-start justify-center px-4 pt-[8vh] pb-12",
        ),
        class_name="flex min-h-dvh flex-col bg-slate-100 font-sans text-slate-900"
        " dark:bg-slate-950 dark:text-slate-100",
    )


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
            full_page_link(failure["way_on"], failure["again"], PRIMARY),
            rx.cond(
                failure["other_account"], full_page_link("Use another account", failure["other_account"], SECONDARY)
            ),
            class_name="mt-8 flex flex-wrap gap-3",
        ),
    )


def heading(*text: rx.Component | rx.Var[str] | str) -> rx.Component:
    """Return the heading of a page; each page has one."""
    return rx.el.h1(*text, class_name="text-xl font-semibold tracking-tight wrap-anywhere sm:text-2xl")


def full_page_link(text: str, address: rx.Var[str] | str, look: str) -> rx.Component:
    """Return a link that loads its address anew, for addresses that are no page of the router."""
    return rx.el.a(text, href=address, reload_document=True, class_name=look)


def with_mark(mark: rx.Component, *lines: rx.Component) -> rx.Component:
    """Return a round mark with lines beside it. Greeting and `waiting` share it, so nothing moves between them."""
    return rx.el.div(mark, rx.el.div(*lines, class_name="min-w-0"), class_name="flex items-center gap-4")


def waiting(text: str) -> rx.Component:
    """Return a spinner with a heading, for steps in which the person does nothing.

    After 3 s it says that it takes long, after 10 s it offers a link to start again. The style sheet alone does this
    (`rxconfig.py`), so it works without an answer of the server. The space is reserved, so nothing moves.
    """
    ring = rx.el.span(
        key="ring",  # otherwise React reuses it for the avatar, and browsers count that as a layout shift
        aria_hidden="true",
        class_name="size-14 shrink-0 rounded-full border-4 border-slate-200 border-t-brand motion-safe:animate-spin"
        " dark:border-slate-700 dark:border-t-brand-light",
    )
    longer = "This takes longer than usual. Please wait."
    return rx.el.div(
        with_mark(ring, heading(text), rx.el.p(longer, class_name=f"invisible animate-after-3s {QUIET}")),
        full_page_link("Start again", "/", f"invisible mt-8 animate-after-10s {SECONDARY}"),
        role="status",
    )
