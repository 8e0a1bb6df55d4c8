"""Leaves the pages by a full navigation, without `eval`."""

# Components are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from typing import Any

import reflex as rx

from azure_auth.auth.core import State
from azure_auth.auth.gate.reflex_internals import var_data


class Leave(rx.Fragment):
    """Goes where the server says, on every page; wrapped around the app where it is composed.

    `rx.redirect` cannot do it: what is on our own origin it takes for a page. The address replaces the history entry,
    so that Back does not start the same journey again. With a ticket the browser fetches its session cookie first.
    The address's fragment is kept in the tab's `sessionStorage`, and restored when the same page loads
    again; whoever signs out takes it along.
    A page that the browser brings back from its memory hides at once and loads anew, for whoever is signed in then.
    """

    def add_imports(self) -> rx.ImportDict:
        """Import React's hooks."""
        return {"react": ["useEffect", "useRef"]}

    def add_hooks(self) -> list[str | rx.Var[Any]]:
        """Navigate when the state says so; once, though React's strict mode runs effects twice in development."""
        to, ticket = rx.Var.create(State.leaving_to), rx.Var.create(State.ticket)
        data = var_data(to, ticket)
        session_url = f"{State.sign_in.settings.backend_url}/auth/session"
        start_url = f"{State.sign_in.settings.backend_url}/auth/sign-in?"
        effect = f"""useEffect(() => {{
  const key = {ticket!s} || {to!s};
  if (!key || left.current === key) return;
  left.current = key;
  const back = {to!s}.startsWith("/") || {to!s}.startsWith("{start_url}");
  if (!{ticket!s} && !back) sessionStorage.removeItem("azure_auth_fragment");
  else if (window.location.hash)
    sessionStorage.setItem("azure_auth_fragment", JSON.stringify([here(), window.location.hash]));
  if (!{ticket!s}) {{
    window.location.replace({to!s});
    return;
  }}
  fetch("{session_url}", {{ method: "POST", body: {ticket!s}, credentials: "include" }})
    .then((answer) => (answer.ok ? answer.text() : "/callback"))
    .catch(() => "/callback")
    .then((address) => window.location.replace(address));
}}, [{to!s}, {ticket!s}]);"""
        memory = """useEffect(() => {
  const hide = (event) => { document.body.hidden = event.persisted; };
  const reload = (event) => { if (event.persisted) window.location.reload(); };
  window.addEventListener("pagehide", hide);
  window.addEventListener("pageshow", reload);
  return () => {
    window.removeEventListener("pagehide", hide);
    window.removeEventListener("pageshow", reload);
  };
}, []);"""
        fragment = """const here = () => window.location.pathname.replace(/\\/$/, "") + window.location.search;
useEffect(() => {
  const [page, hash] = JSON.parse(sessionStorage.getItem("azure_auth_fragment") ?? "[]");
  if (page !== here()) return;
  sessionStorage.removeItem("azure_auth_fragment");
  if (window.location.hash) return;
  window.history.replaceState(window.history.state, "", hash);
  document.getElementById(hash.slice(1))?.scrollIntoView();
}, []);"""
        return ['const left = useRef("");', fragment, rx.Var(effect, _var_data=data), memory]


def leave() -> rx.Component:
    """Return it as a component of its own: what is wrapped around the app stands outside of its states otherwise."""
    return rx.fragment(rx.memo(_leave)())


def _leave() -> rx.Component:
    return Leave.create()
