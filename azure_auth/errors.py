"""The error family: what the person reads, what the log says, and the reference that joins the two.

    AuthError
    ├── SignInFailed          the directory or the person said no, or we did
    │   ├── Cancelled         the person pressed "Cancel" or "No"
    │   ├── FlowUnknown       expired, used before, or begun in another browser
    │   ├── OtherTenant       a valid account of an organisation that is not allowed here
    │   ├── Refused           any other "no" of the directory
    │   └── TokenInvalid      the answer does not prove who signed in
    └── Unavailable           the directory did not answer, or not in time

    NotConfigured             the app cannot start; lists every fault of the settings

Raised where the failure is known, turned into a page by `auth.core` alone.
"""

import secrets
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar


class NotConfigured(Exception):
    """Settings are missing or wrong; `str()` is the text for whoever starts the app."""

    def __init__(self, faults: Sequence[str]) -> None:
        """Take the faults, one sentence each, that name the variable and what to do."""
        self.faults = tuple(faults)
        one = len(self.faults) == 1
        title = f"The app cannot start: {len(self.faults)} setting{'' if one else 's'} to correct."
        super().__init__("\n".join([title, *(f"  {fault}" for fault in self.faults)]))


class AuthError(Exception):
    """A sign-in that did not succeed. Never raised itself.

    Attributes:
        code: The short name of the failure, for logs and tests.
        heading: What the person reads first.
        message: What happened and what to do, in words for people.
        reference: An id that the page shows and the log line carries.
        detail: For the log alone; never a token, code, cookie or claim.
        return_to: The page that was asked for, where that is known, so that another try leads there.
    """

    code: ClassVar[str]
    heading: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, detail: str = "") -> None:
        """Give this failure its reference.

        Args:
            detail: What the operator should know. It goes to the log and nowhere else.
        """
        super().__init__(detail)
        self.detail = detail
        self.return_to = ""
        self.reference = secrets.token_hex(5)

    def __str__(self) -> str:
        """Return the line for the log."""
        return f"{self.code} reference={self.reference} {self.detail}".rstrip()


class SignInFailed(AuthError):
    """The sign-in was refused, by the person, the directory or us."""

    code = "failed"
    heading = "You could not be signed in"
    message = "Something went wrong on our side. Try again; if it happens again, tell your help desk the reference."


class Cancelled(SignInFailed):
    """The person, or an administrator on their behalf, declined."""

    code = "cancelled"
    heading = "The sign-in was cancelled"
    message = "Nothing happened, and you are not signed in. Try again whenever you are ready."


class FlowUnknown(SignInFailed):
    """No sign-in of this browser is waiting for this answer: expired, used before, or not begun here."""

    code = "flow_unknown"
    heading = "This sign-in is over"
    message = "It took too long, was already used, or was begun in another browser. Start a new one."


class OtherTenant(SignInFailed):
    """The account is real, but its organisation may not use this app."""

    code = "other_tenant"
    heading = "This account belongs to another organisation"
    message = "Use your work account of the organisation that runs this site."


class Refused(SignInFailed):
    """The directory refused; its AADSTS numbers are kept for the operator.

    Args:
        error: OAuth's error code.
        numbers: Entra's `error_codes`, or the number in `error_description`.
        ids: Microsoft's trace and correlation ids.
    """

    code = "refused"
    heading = "Microsoft did not sign you in"
    message = "Your organisation's directory refused this sign-in. Try again, or tell your help desk the reference."

    def __init__(self, error: str, numbers: Iterable[object] = (), ids: str = "") -> None:
        named = "".join(f" AADSTS{number}" for number in numbers)
        super().__init__(f"error={error}{named} {ids}".rstrip())


class TokenInvalid(SignInFailed):
    """The answer of the directory is incomplete, or its ID token does not stand up to validation."""

    code = "token_invalid"
    heading = "Your sign-in could not be verified"
    message = "The answer that reached us does not prove who you are, so nobody was signed in. Try again."


class Unavailable(AuthError):
    """The directory cannot be reached, is failing, or took too long."""

    code = "unavailable"
    heading = "Microsoft cannot be reached right now"
    message = "The sign-in service did not answer. That is usually over in a few minutes: try again then."


def whereabouts(failure: BaseException) -> str:
    """Return type and place of an exception for the log; its text may hold what no log may have."""
    frames = traceback.extract_tb(failure.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(failure).__name__}{place}"
