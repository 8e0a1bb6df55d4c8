"""The errors of the app. Each has a code, texts (`error_texts`), and a reference that joins page and log line.

    AuthError
    ├── SignInFailed
    │   ├── FlowUnknown: FlowTaken, FlowExpired, SignedOutMeanwhile
    │   ├── TooManyStarts, TooManyRequests, AnswerIncomplete, Refused
    │   ├── FlowForeign: AnswerUnasked, ConsentAnswered
    │   └── TokenInvalid: ClocksDiffer
    ├── AddressTooLong, HandlerFailed, TooManyTabs, TooManyTasks
    └── Unavailable: Slow, Throttled, KeysUnreachable, StoreUnavailable
    NotConfigured

The module has more than 200 lines because one tree of classes is one subject.

An error is raised where the failure is known. `auth.core`, `auth.gate.updates` and `SignIn._failed` alone turn it into
what a page shows.
"""

import copy
import re
import secrets
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from azure_auth.error_texts import ERROR_TEXTS

REFERENCE = re.compile(r"[0-9a-f]{10}")
"""The form of a failure's reference."""
_STORED = ("detail", "reference", "return_to", "message")


class NotConfigured(Exception):
    """Settings are missing or wrong. Each fault is a sentence; `str()` is the text for the operator."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        title = f"The app cannot start: {len(faults)} setting{'' if len(faults) == 1 else 's'} to correct."
        super().__init__("\n".join([title, *(f"  {fault}" for fault in faults)]))


class AuthError(Exception):
    """A failure that a person is told about. Only subclasses are raised; `ErrorText` documents their texts."""

    code: str  # the short name of the failure, for logs and tests
    _classes: ClassVar[dict[str, type["AuthError"]]] = {}

    def __init_subclass__(cls, code: str) -> None:
        """Register a class under its code."""
        cls.code = code
        cls._classes[code] = cls

    def __init__(self, detail: str = "") -> None:
        """Give the failure its text; `detail` is for the log alone: never a token, code, cookie or claim."""
        self.heading, self.message, self.advice, *_ = ERROR_TEXTS[self.code]
        self.reference = secrets.token_hex(5)  # both the page and the log line show it
        self.detail = detail
        self.return_to = ""  # the page that the person asked for, so that another try leads there; empty if unknown

    def again(self) -> Self:
        """Return the same failure for another person: with a new reference, and without a page."""
        twin = copy.copy(self)
        twin.reference, twin.return_to = secrets.token_hex(5), ""
        return twin

    def packed(self) -> dict[str, str]:
        """Return a record from which another process restores this failure."""
        return {"code": self.code, **{name: getattr(self, name) for name in _STORED}}

    @staticmethod
    def unpacked(packed: Mapping[str, object]) -> "AuthError":
        """Restore a failure. Another release may have written it: unknown fields and missing ones do no harm."""
        code = str(packed.get("code"))
        refused = code in ERROR_TEXTS and code not in AuthError._classes
        failure = Refused(code=code) if refused else AuthError._classes.get(code, SignInFailed)()
        for name in _STORED:
            if type(value := packed.get(name)) is str:
                setattr(failure, name, value)
        return failure

    def shown(self, again: str, other_account: str) -> dict[str, str]:
        """Return what a page shows: the texts, and the addresses of "Try again" and "Use another account".

        If another try cannot help, "Start page" replaces "Try again".
        """
        texts = {name: getattr(self, name) for name in ("heading", "message", "reference")}
        way_on, address = ("Try again", again) if ERROR_TEXTS[self.code].again else ("Start page", "/")
        return {**texts, "way_on": way_on, "again": address, "other_account": other_account}

    def __str__(self) -> str:
        """Return the line for the log."""
        advice = f"({self.advice})" if self.advice else ""
        return " ".join(filter(None, [self.code, f"reference={self.reference}", self.detail, advice]))


class SignInFailed(AuthError, code="failed"):
    """The person, the directory or this app refused the sign-in; raised itself for unforeseen causes."""


class FlowUnknown(SignInFailed, code="flow_unknown"):
    """The store has no such flow: it was used, dropped, or lost in a restart."""


class FlowExpired(FlowUnknown, code="flow_expired"):
    """The answer came after the flow had expired."""


class FlowTaken(FlowUnknown, code="flow_taken"):
    """The same browser used the flow a moment ago; its outcome may follow soon."""


class SignedOutMeanwhile(FlowUnknown, code="signed_out_meanwhile"):
    """The person signed out after the flow had begun, so it starts no session."""


class FlowForeign(SignInFailed, code="flow_foreign"):
    """The browser has no cookie of the flow (RFC 9700 §4.7: CSRF on the redirect URI)."""


class AnswerUnasked(FlowForeign, code="answer_unasked"):
    """An error without `state`, so it answers no sign-in of this browser. Anybody can forge such a link."""


class ConsentAnswered(FlowForeign, code="consent_answered"):
    """The answer of the admin consent endpoint (`admin_consent`). Anybody can forge it, so its content is ignored."""


class TooManyStarts(SignInFailed, code="too_many_starts"):
    """One tab started a third sign-in within a minute, without success in between."""


class TooManyRequests(SignInFailed, code="too_many_requests"):
    """A browser or a network reached its limit, or the store has no room for another sign-in."""


class TokenInvalid(SignInFailed, code="token_invalid"):
    """The ID token failed validation."""


class ClocksDiffer(TokenInvalid, code="clocks_differ"):
    """The ID token is signed by the directory, but expired or not yet valid at this machine's time."""


class AnswerIncomplete(SignInFailed, code="answer_incomplete"):
    """The directory's answer cannot be read, or lacks a required part."""


class Refused(SignInFailed, code="refused"):
    """The directory refused; its AADSTS number or OAuth code gives `code`. The default has no text of its own."""

    def __init__(self, detail: str = "", *, code: str = "refused") -> None:
        self.code = code
        super().__init__(detail)


class AddressTooLong(AuthError, code="address_too_long"):
    """The address of the page is longer than a state keeps."""


class HandlerFailed(AuthError, code="handler_failed"):
    """A handler of a page raised an exception."""


class TooManyTabs(AuthError, code="too_many_tabs"):
    """The session has its maximum number of tabs."""


class TooManyTasks(AuthError, code="too_many_tasks"):
    """The session runs its maximum number of handlers."""


class Unavailable(AuthError, code="unavailable"):
    """The directory cannot be reached, or is failing."""


class Slow(Unavailable, code="slow"):
    """The directory did not answer in time."""


class Throttled(Unavailable, code="throttled"):
    """The directory answered HTTP 429; `seconds` is its Retry-After."""

    def __init__(self, seconds: int | None = None) -> None:
        super().__init__("status 429" if seconds is None else f"status 429, retry after {seconds} s")
        if seconds is not None:
            minutes = max(1, round(seconds / 60))
            wait = f"{max(1, seconds)} seconds" if seconds < 60 else f"{minutes} minute{'s' if minutes > 1 else ''}"
            self.message = f"Too many people sign in at this moment. Try again in {wait}."


class KeysUnreachable(Unavailable, code="keys_unreachable"):
    """The directory's signing keys cannot be fetched, so no ID token can be validated."""


class StoreUnavailable(Unavailable, code="store_unavailable"):
    """The session store did not answer, so no session can be read or written."""


def whereabouts(failure: BaseException) -> str:
    """Return type and place of an exception for the log. Its own text may hold secrets."""
    frames = traceback.extract_tb(failure.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(failure).__name__}{place}"
