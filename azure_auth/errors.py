"""The error family: what the person reads, what the operator reads, and the reference that joins the two.

    AuthError
    ├── SignInFailed           somebody said no: the person, the directory, or we
    │   ├── FlowUnknown          used before (FlowTaken: just now), or forgotten;
    │   │                        FlowExpired: it took too long; SignedOutMeanwhile: a sign-out came after it began
    │   ├── FlowForeign          begun in another browser, or without cookies
    │   ├── TooManyStarts        the same tab, again and again
    │   ├── TooManyRequests      too many from one browser or network, or the store is full
    │   ├── TokenInvalid         the ID token does not stand up to validation
    │   ├── AnswerIncomplete     no ID token, no JSON, nothing
    │   └── Refused              the directory's own no, by its AADSTS number (see `refusal`)
    │       ├── Cancelled, ConsentMissing, NotAssigned, BlockedByPolicy, ProofMissing, OtherTenant
    │       ├── PasswordExpired, AccountDisabled, SignInNeeded, CodeExpired
    │       └── CredentialRefused, RedirectUnknown, AppUnknown    ours to mend
    ├── HandlerFailed          a page of this site, not the sign-in
    ├── TooManyTabs, TooManyTasks    of one session
    └── Unavailable            nobody answered, or not in time
        ├── Slow, Throttled
        ├── KeysUnreachable      the directory answers, but not for its signing keys
        └── StoreUnavailable     where sessions lie cannot be asked

    NotConfigured              the app cannot start; lists every fault of the settings

Raised where the failure is known, turned into a page by `auth.core` alone. Microsoft's own text is never shown.
"""

import re
import secrets
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self


class NotConfigured(Exception):
    """Settings are missing or wrong; `str()` is the text for whoever starts the app."""

    def __init__(self, faults: Sequence[str]) -> None:
        """Take the faults, one sentence each, that name the variable and what to do."""
        self.faults = tuple(faults)
        title = f"The app cannot start: {len(faults)} setting{'' if len(faults) == 1 else 's'} to correct."
        super().__init__("\n".join([title, *(f"  {fault}" for fault in faults)]))


REFERENCE = re.compile(r"[0-9a-f]{10}")
"""What the reference of a failure looks like."""
_STORED = ("detail", "reference", "return_to", "message")


class AuthError(Exception):
    """A sign-in that did not succeed. Never raised itself.

    Attributes:
        code: The short name of the failure, for logs and tests.
        heading: What the person reads first.
        message: What happened and what to do, in words for people.
        advice: What the operator can do about it, where they can.
        reference: An id that the page shows and the log line carries.
        detail: For the log alone; never a token, code, cookie or claim.
        return_to: The page that was asked for, where that is known, so that another try leads there.
    """

    code: ClassVar[str]
    heading: ClassVar[str]
    message: str
    advice: ClassVar[str] = ""

    def __init__(self, detail: str = "") -> None:
        """Give this failure its reference.

        Args:
            detail: What the operator should know. It goes to the log and nowhere else.
        """
        super().__init__(detail)
        self.detail = detail
        self.reference = secrets.token_hex(5)
        self.return_to = ""

    def again(self) -> Self:
        """Return the same failure for another person: with a reference of its own, and of no page."""
        twin = self.__class__.__new__(self.__class__, *self.args)
        twin.__dict__ |= {**self.__dict__, "reference": secrets.token_hex(5), "return_to": ""}
        return twin

    def packed(self) -> dict[str, str]:
        """Return what another process needs to tell of the very same failure."""
        return {"code": self.code, **{name: getattr(self, name) for name in _STORED}}

    @staticmethod
    def unpacked(packed: Mapping[str, object]) -> "AuthError":
        """Return the failure that `packed` was made of; what another release left out or added is passed over."""
        kinds: list[type[AuthError]] = [AuthError]
        for kind in kinds:
            kinds += kind.__subclasses__()
        kind = next((kind for kind in kinds[1:] if kind.code == packed.get("code")), SignInFailed)
        failure = kind.__new__(kind)
        AuthError.__init__(failure)
        failure.__dict__ |= {name: packed[name] for name in _STORED if type(packed.get(name)) is str}
        return failure

    def shown(self, again: str, other_account: str) -> dict[str, str]:
        """Return what a page shows of this failure, with the addresses of the two ways on, where there are any."""
        return {
            "heading": self.heading,
            "message": self.message,
            "reference": self.reference,
            "again": again,
            "other_account": other_account,
        }

    def __str__(self) -> str:
        """Return the line for the log."""
        advice = f"({self.advice})" if self.advice else ""
        return " ".join(filter(None, [self.code, f"reference={self.reference}", self.detail, advice]))


class SignInFailed(AuthError):
    """The sign-in was refused; raised itself for what nobody foresaw."""

    code = "failed"
    heading = "You could not be signed in"
    message = "Something went wrong on our side. Try again; if it happens again, tell your help desk the reference."


class FlowUnknown(SignInFailed):
    """The store has no such flow: it was used, dropped, or lost in a restart."""

    code = "flow_unknown"
    heading = "This sign-in is over"
    message = "It was used already, or this site restarted in the meantime. Start a new one."


class FlowExpired(FlowUnknown):
    """The answer came after the flow had expired."""

    code = "flow_expired"
    heading = "This took too long"
    message = "You have ten minutes to finish a sign-in. Nothing is wrong with your account: try again."


class FlowTaken(FlowUnknown):
    """It was used a moment ago, by the same browser; how it ended may be about to be known."""

    code = "flow_taken"
    heading = "This sign-in was used already"
    message = "Its page was opened a second time. If you are not signed in, start a new one."


class SignedOutMeanwhile(FlowUnknown):
    """The person signed out after this sign-in had begun, so it starts no session."""

    code = "signed_out_meanwhile"
    heading = "You signed out meanwhile"
    message = "This sign-in began before you signed out, so it was stopped. Start a new one."


class FlowForeign(SignInFailed):
    """The browser has no cookie of the sign-in (RFC 9700 §4.7: CSRF on the redirect URI)."""

    code = "flow_foreign"
    heading = "This sign-in cannot be finished here"
    message = (
        "It was started in another browser or from a bookmark, or your browser does not keep this site's cookies."
        " Nothing is wrong with your account. Start a new sign-in here."
    )
    advice = "a forged link, a bookmark of Microsoft's page, or a browser that does not keep cookies"


class TooManyStarts(SignInFailed):
    """The third sign-in of one tab within a minute, without success in between."""

    code = "too_many_starts"
    heading = "We stopped trying"
    message = (
        "This tab began to sign in three times within a minute. Wait a minute, then try again."
        " If it goes on like this, close your browser and open it again, or tell your help desk the reference."
    )


class TooManyRequests(SignInFailed):
    """A browser or a network reached its limit, or the store has no room for another sign-in."""

    code = "too_many_requests"
    heading = "Too many sign-ins at once"
    message = "This site cannot start more sign-ins from here at the moment. Wait a minute, then try again."


class TokenInvalid(SignInFailed):
    """The ID token does not stand up to validation."""

    code = "token_invalid"
    heading = "Your sign-in could not be verified"
    message = "The answer that reached us does not prove who you are, so nobody was signed in. Try again."


class AnswerIncomplete(SignInFailed):
    """The directory's answer cannot be read, or lacks what it must have."""

    code = "answer_incomplete"
    heading = "Microsoft's answer was incomplete"
    message = (
        "Something on the way may have cut it off. Try again; if that does not help, tell your help desk the reference."
    )
    advice = "a proxy that answers in Microsoft's place looks like this"


class Refused(SignInFailed):
    """The directory refused, for a reason that has no class of its own.

    Args:
        error: OAuth's error code.
        numbers: The AADSTS numbers.
        ids: Microsoft's trace and correlation ids.
    """

    code = "refused"
    heading = "Microsoft did not sign you in"
    message = "Your organisation's directory refused this sign-in. Try again, or tell your help desk the reference."
    numbers: ClassVar[tuple[int, ...]] = ()

    def __init__(self, error: str = "", numbers: Iterable[int] = (), ids: str = "") -> None:
        named = [f"oauth_error={error}"] if error else []
        super().__init__(" ".join([*named, *(f"AADSTS{number}" for number in numbers), *filter(None, [ids])]))


class Cancelled(Refused):
    """The person pressed "Cancel" or "No"."""

    code = "cancelled"
    heading = "The sign-in was cancelled"
    message = "Nothing happened, and you are not signed in. Try again whenever you are ready."
    numbers = (65004,)


class ConsentMissing(Refused):
    """Nobody agreed yet to what the app asks for."""

    code = "consent_missing"
    heading = "An administrator has to approve this site"
    message = "Your organisation has not approved it yet. Ask your help desk to do so, and tell them the reference."
    advice = "grant admin consent for LOGIN_SCOPES on the app registration's page of API permissions"
    numbers = (65001, 90094)


class NotAssigned(Refused):
    """The app is for assigned people, and this person is not."""

    code = "not_assigned"
    heading = "You do not have access yet"
    message = "This site is for selected people, and your account is not among them. Ask your help desk for access."
    advice = "assign the person or a group of theirs: Enterprise applications, Users and groups"
    numbers = (50105,)


class BlockedByPolicy(Refused):
    """Conditional Access said no."""

    code = "blocked_by_policy"
    heading = "Your organisation's rules stopped this sign-in"
    message = "They may ask for another device, network or place. Try from your work device, or ask your help desk."
    advice = "Entra's sign-in log names the Conditional Access policy"
    numbers = (53000, 53001, 53002, 53003)


class ProofMissing(Refused):
    """A second factor is wanted."""

    code = "proof_missing"
    heading = "Microsoft asks for one more proof"
    message = "Your organisation wants you to confirm who you are in a second way. Try again, and follow its steps."
    numbers = (50072, 50074, 50076, 50079)


class OtherTenant(Refused):
    """The account is real, but not of a tenant that may enter."""

    code = "other_tenant"
    heading = "This account belongs to another organisation"
    message = "Use your work account of the organisation that runs this site."
    numbers = (50020, 50034)


class PasswordExpired(Refused):
    """The person's password is too old."""

    code = "password_expired"
    heading = "Your password has expired"
    message = "Change it with Microsoft, then try again."
    numbers = (50055,)


class AccountDisabled(Refused):
    """The person's account was switched off."""

    code = "account_disabled"
    heading = "Your account is switched off"
    message = "Ask your help desk about it, or use another account."
    numbers = (50057,)


class SignInNeeded(Refused):
    """The directory wants to see the person, not only their cookie."""

    code = "sign_in_needed"
    heading = "Microsoft wants you to sign in again"
    message = "It does not know you in this browser any more. Try again, and sign in there."
    numbers = (50058,)


class CodeExpired(Refused):
    """The authorization code was too old, or redeemed before."""

    code = "code_expired"
    heading = "This sign-in took too long"
    message = "Microsoft's answer is good for a few minutes and for one use, and that is over. Try again."
    numbers = (54005, 70008)


class CredentialRefused(Refused):
    """The app's own credential is wrong or expired."""

    code = "credential_refused"
    heading = "This site cannot prove itself to Microsoft"
    message = "There is nothing wrong with your account. Tell your help desk the reference: they can mend this site."
    advice = "renew the app's credential: the secret's Value (not its ID), the certificate, or the federated token"
    numbers = (7000215, 7000222)


class RedirectUnknown(Refused):
    """The app's redirect URI is not registered."""

    code = "redirect_unknown"
    heading = "This site's address is not registered with Microsoft"
    message = "There is nothing wrong with your account. Tell your help desk the reference: they can add the address."
    advice = "register REFLEX_DEPLOY_URL with /callback as a redirect URI of the platform Web"
    numbers = (50011, 500112)


class AppUnknown(Refused):
    """The directory does not know the app, or the tenant."""

    code = "app_unknown"
    heading = "Your organisation's directory does not know this site"
    message = "There is nothing wrong with your account. Tell your help desk the reference: they have to register it."
    advice = "check AZURE_CLIENT_ID and AZURE_TENANT_ID"
    numbers = (700016, 90002)


class HandlerFailed(AuthError):
    """What somebody did on a page of this site went wrong in its own code."""

    code = "handler_failed"
    heading = "Something went wrong"
    message = "What you just did may not have worked. Try it again, or tell your help desk the reference."


class Unavailable(AuthError):
    """The directory cannot be reached, or is failing."""

    code = "unavailable"
    heading = "Microsoft cannot be reached right now"
    message = "The sign-in service did not answer. That is usually over in a few minutes: try again then."


class Slow(Unavailable):
    """The directory did not answer in time."""

    code = "slow"
    heading = "Microsoft takes too long to answer"
    message = "We stopped waiting. Try again; it often works at once."


class Throttled(Unavailable):
    """The directory asks us to wait (HTTP 429).

    Args:
        seconds: How long, if it said so.
    """

    code = "throttled"
    heading = "Microsoft asks us to wait"
    message = "Too many people sign in at this moment. Try again in a minute."

    def __init__(self, seconds: int | None = None) -> None:
        super().__init__("status 429" if seconds is None else f"status 429, retry after {seconds} s")
        if seconds is not None:
            minutes = max(1, round(seconds / 60))
            wait = f"{max(1, seconds)} seconds" if seconds < 60 else f"{minutes} minute{'s' if minutes > 1 else ''}"
            self.message = f"Too many people sign in at this moment. Try again in {wait}."


class KeysUnreachable(Unavailable):
    """The directory's signing keys could not be fetched, so no ID token can be validated."""

    code = "keys_unreachable"
    heading = "Your sign-in cannot be verified right now"
    message = (
        "Microsoft signed you in, but its signature could not be checked, so nobody was let in. Try again in a minute."
    )


class StoreUnavailable(Unavailable):
    """Where sessions lie cannot be asked, so nobody's session can be told or kept."""

    code = "store_unavailable"
    heading = "This site cannot remember anybody right now"
    message = "There is nothing wrong with your account. Try again in a minute, or tell your help desk the reference."
    advice = "look after the session store: its disk or its server"


class TooManyTabs(AuthError):
    """The session has as many tabs as it may."""

    code = "too_many_tabs"
    heading = "Too many tabs"
    message = "This site is open in too many tabs of this browser. Close some of them, then try again."


class TooManyTasks(AuthError):
    """The session has as many handlers running as it may."""

    code = "too_many_tasks"
    heading = "Too much at once"
    message = "This site still works on what you asked for before. Wait until that is done, then try again."


_BY_NUMBER = {number: error for error in Refused.__subclasses__() for number in error.numbers}
_BY_ERROR: dict[str, type[Refused]] = {
    "access_denied": Cancelled,
    "consent_required": ConsentMissing,
    "interaction_required": SignInNeeded,
    "invalid_client": CredentialRefused,
    "login_required": SignInNeeded,
}


def refusal(error: str, numbers: Sequence[int], ids: str) -> AuthError:
    """Return the error for an OAuth error response: by its first known AADSTS number, else by OAuth's code.

    Args:
        error: OAuth's error code (RFC 6749 §4.1.2.1 and §5.2).
        numbers: AADSTS numbers, most telling first.
        ids: Microsoft's trace and correlation ids, for the log.
    """
    if error in ("server_error", "temporarily_unavailable"):
        return Unavailable(f"oauth_error={error} {ids}".rstrip())
    known = [_BY_NUMBER[number] for number in numbers if number in _BY_NUMBER]
    kind = known[0] if known else Refused if numbers else _BY_ERROR.get(error, Refused)
    return kind(error, numbers, ids)


def whereabouts(failure: BaseException) -> str:
    """Return type and place of an exception for the log; its text may hold what no log may have."""
    frames = traceback.extract_tb(failure.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(failure).__name__}{place}"
