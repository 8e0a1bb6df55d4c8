"""What an anonymous tab may see of the app's states: the framework's and the public ones."""

from typing import Any

from azure_auth.auth.gate.reflex_internals import FRAMEWORK_STATES, EventContext, hide_states
from azure_auth.auth.gate.states import is_anonymous
from azure_auth.auth.policy import is_public


def is_for_anonymous(state: type[Any]) -> bool:
    """Tell whether an anonymous tab may see the vars of a state."""
    return state in FRAMEWORK_STATES or is_public(state)


def hide_from_anonymous() -> None:
    """Compute no var of other states for an anonymous tab: it may cost a query, and is withheld anyway."""
    hide_states(_is_hidden)


def _is_hidden(state: type[Any]) -> bool:
    try:
        return is_anonymous(EventContext.get().token) and not is_for_anonymous(state)
    except LookupError:  # no event
        return False
