"""The browser's half of the gate: components around the whole app, to leave pages and to show failures."""

# Components are partly untyped.
# pyright: reportUnknownMemberType=false

import json
from string import Template
from typing import Any

import reflex as rx

from azure_auth.auth.gate.reflex_internals import CANNOT_CONNECT, var_data

_FRAGMENT = """const here = () => window.location.pathname.replace(/\\/$/, "") + window.location.search;
useEffect(() => {
  const [page, hash] = JSON.parse(sessionStorage.getItem("azure_auth_fragment") ?? "[]");
  if (page !== here()) return;
  sessionStorage.removeItem("azure_auth_fragment");
  if (window.location.hash) return;
  window.history.replaceState(window.history.state, "", hash);
  document.getElementById(hash.slice(1))?.scrollIntoView();
}, []);"""
"""Restores the fragment of the address when the page loads again after a sign-in."""
_LEAVE = Template("""useEffect(() => {
  const key = $ticket || $to;
  if (!key || left.current === key) return;
  left.current = key;
  const back = $to.startsWith("/") || $to.startsWith("$backend/auth/sign-in?");
  if (!$ticket && !back) sessionStorage.removeItem("azure_auth_fragment");
  else if (window.location.hash)
    sessionStorage.setItem("azure_auth_fragment", JSON.stringify([here(), window.location.hash]));
  if (!$ticket) {
    window.location.replace($to);
    return;
  }
  fetch("$backend/auth/session", { method: "POST", body: $ticket, credentials: "include" })
    .then((answer) => (answer.ok ? answer.text() : "/callback"))
    .catch(() => "/callback")
    .then((address) => window.location.replace(address));
}, [$to, $ticket]);""")
"""Navigates once, though React's strict mode runs effects twice in development. With a ticket, the browser fetches its
session cookie first. Signing out deletes the stored fragment."""
_FORGET = Template("""useLayoutEffect(() => {
  if (!$heading || here().split("?")[0] !== "/callback") return;
  const asked = new URLSearchParams(window.location.search);
  const kept = new URLSearchParams();
  for (const name of ["state", "problem", "reference", "error", "admin_consent"])
    if (asked.has(name)) kept.set(name, asked.get(name));
  const query = kept.toString();
  window.history.replaceState(window.history.state, "", window.location.pathname + (query && "?" + query));
}, [$heading]);""")
"""Removes the code, and the rest of Microsoft's answer, from the address of a failed sign-in. A reload then shows the
same failure; the `state` is used up."""
_MEMORY = """useEffect(() => {
  const hide = (event) => { document.body.hidden = event.persisted; };
  const reload = (event) => { if (event.persisted) window.location.reload(); };
  window.addEventListener("pagehide", hide);
  window.addEventListener("pageshow", reload);
  return () => {
    window.removeEventListener("pagehide", hide);
    window.removeEventListener("pageshow", reload);
  };
}, []);"""
"""Hides and reloads a page from the back-forward cache, because another user may be signed in now."""

_LINK = "mt-2 inline-block font-medium underline"


def leave(state: Any, backend_url: str) -> rx.Component:
    """Return the component that navigates to the address in `leaving_to`, to be wrapped around the app.

    `rx.redirect` cannot do this: it treats each address on our own origin as a page. The new address replaces the
    history entry, so that Back does not repeat the sign-in.

    Args:
        state: Has the vars `leaving_to`, `ticket` and `failure`.
        backend_url: The origin of the sign-in routes; in development it is not that of the pages.
    """

    class Leave(rx.Fragment):
        def add_imports(self) -> rx.ImportDict:
            return {"react": ["useEffect", "useLayoutEffect", "useRef"]}

        def add_hooks(self) -> list[str | rx.Var[Any]]:
            to, ticket = rx.Var.create(state.leaving_to), rx.Var.create(state.ticket)
            heading = rx.Var.create(state.failure["heading"])
            script = _LEAVE.substitute(to=str(to), ticket=str(ticket), backend=backend_url)
            script += "\n" + _FORGET.substitute(heading=str(heading))
            data = var_data(to, ticket, heading)
            return ['const left = useRef("");', _FRAGMENT, rx.Var(script, _var_data=data), _MEMORY]

    def leave_page() -> rx.Component:
        return Leave.create()

    return rx.fragment(rx.memo(leave_page)())  # a component of its own, or it stands outside of the app's states


def notice(state: Any) -> rx.Component:
    """Return the alert that a handler failed, to be wrapped around the app; `state` has the var `broken`."""

    def show_notice() -> rx.Component:
        broken = state.broken
        reference = rx.el.p(f"Reference: {broken['reference']}", class_name="mt-1 text-sm")
        return rx.cond(broken["heading"], _alert(broken["heading"], broken["message"], reference))

    return rx.fragment(rx.memo(show_notice)())


def connection(state: Any, public_url: str) -> rx.Component:
    """Return the alert that the page has no connection, in place of Reflex's toast, which speaks to developers.

    Reflex's client has tried twice by then. A page that never had a connection has another address than `public_url`,
    or something lets pages through, but no websockets. A page that had a connection waits for the server.
    """

    def show_connection() -> rx.Component:
        blocked = _alert(
            "The connection is blocked",
            "Something on the way to this site, such as a proxy, lets its pages through, but not their connection"
            " (WebSocket). Tell your help desk.",
            rx.el.a("Load the page again", href="", class_name=_LINK),
        )
        elsewhere = _alert(
            "This site has another address",
            f"It works at {public_url} alone. If it does not work there either, tell your help desk.",
            rx.el.a("Open the site", href=public_url, class_name=_LINK),
        )
        is_here: rx.Var[bool] = rx.Var(f"window.location.origin === {json.dumps(public_url)}", _var_type=bool)
        lost = _alert("The connection is lost", "This page connects again by itself as soon as it can.")
        return rx.cond(CANNOT_CONNECT, rx.cond(state.is_hydrated, lost, rx.cond(is_here, blocked, elsewhere)))

    return rx.fragment(rx.memo(show_connection)())


def _alert(heading: rx.Var[str] | str, message: rx.Var[str] | str, *more: rx.Component) -> rx.Component:
    return rx.el.div(
        rx.el.p(heading, class_name="font-semibold"),
        rx.el.p(message),
        *more,
        role="alert",
        class_name="fixed inset-x-4 bottom-4 mx-auto max-w-lg rounded-xl bg-slate-900 p-4 text-slate-50"
        " shadow-lg ring-1 ring-slate-600",
    )
