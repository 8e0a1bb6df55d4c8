"""Leaves the pages by a full navigation, without `eval`."""

from typing import Any

import reflex as rx
from reflex.vars import VarData

from azure_auth.auth.core import State


class Leave(rx.Fragment):
    """Goes to `State.leaving_to` once it is set and the handlers of the page have run.

    `rx.redirect` cannot do it: what is on our own origin it takes for a page. The address replaces the history entry,
    so that Back does not start the same journey again.
    """

    def add_imports(self) -> rx.ImportDict:
        """Import React's hooks."""
        return {"react": ["useEffect", "useRef"]}

    def add_hooks(self) -> list[str | rx.Var[Any]]:
        """Navigate when the state says so; once, though React's strict mode runs effects twice in development."""
        to, ready = rx.Var.create(State.leaving_to), rx.Var.create(State.is_hydrated)
        data = VarData.merge(to._get_all_var_data(), ready._get_all_var_data())
        effect = f"""useEffect(() => {{
  if ({ready!s} && {to!s} && left.current !== {to!s}) {{
    left.current = {to!s};
    window.location.replace({to!s});
  }}
}}, [{ready!s}, {to!s}]);"""
        return ['const left = useRef("");', rx.Var(effect, _var_data=data)]
