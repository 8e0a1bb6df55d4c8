"""What the person reads about each failure, and what the operator can do about it. Microsoft's text is never shown.

The AADSTS numbers are from Microsoft's page "Microsoft Entra authentication and authorization error codes". Listed are
those that the authorization-code flow can return. The module has more than 200 lines because it is one table.
"""

from typing import NamedTuple


class ErrorText(NamedTuple):
    """The texts of a failure."""

    heading: str  # what the person reads first
    message: str  # what happened and what to do, in words for people
    advice: str = ""  # what the operator can do about it, for the log alone; empty if nothing
    numbers: tuple[int, ...] = ()  # the AADSTS numbers if it is a refusal by the directory
    again: bool = True  # whether the page offers "Try again"; False if another try cannot help


ERROR_TEXTS = {
    "failed": ErrorText(
        "You could not be signed in",
        "Something went wrong on our side. Try again; if it happens again, tell your help desk the reference.",
    ),
    "flow_unknown": ErrorText(
        "This sign-in is over", "It was used already, or this site restarted in the meantime. Start a new one."
    ),
    "flow_expired": ErrorText(
        "This took too long", "You have ten minutes to finish a sign-in. Nothing is wrong with your account: try again."
    ),
    "flow_taken": ErrorText(
        "This sign-in was used already", "Its page was opened a second time. If you are not signed in, start a new one."
    ),
    "signed_out_meanwhile": ErrorText(
        "You signed out meanwhile", "This sign-in began before you signed out, so it was stopped. Start a new one."
    ),
    "flow_foreign": ErrorText(
        "This sign-in cannot be finished here",
        "It was started in another browser or from a bookmark, or your browser does not keep this site's cookies."
        " Nothing is wrong with your account. Start a new sign-in here.",
        "a forged link, a bookmark of Microsoft's page, or a browser that does not keep cookies",
    ),
    "answer_unasked": ErrorText(
        "No sign-in of this browser was answered",
        "This address does not belong to a sign-in that was started here. Nothing happened. Start a new sign-in.",
        "an error that names no sign-in: a forged link, or a sign-in that Microsoft's own pages started",
    ),
    "consent_answered": ErrorText(
        "An administrator was asked to approve this site",
        "This answer signed nobody in. Sign in to see whether the site is approved.",
        "the answer of the admin consent endpoint; the app registration's API permissions show what is granted",
    ),
    "too_many_starts": ErrorText(
        "We stopped trying",
        "This tab began to sign in three times within a minute. Wait a minute, then try again."
        " If it goes on like this, close your browser and open it again, or tell your help desk the reference.",
    ),
    "too_many_requests": ErrorText(
        "Too many sign-ins at once",
        "This site cannot start more sign-ins from here at the moment. Wait a minute, then try again.",
    ),
    "token_invalid": ErrorText(
        "Your sign-in could not be verified",
        "The answer that reached us does not prove who you are, so nobody was signed in. Try again.",
    ),
    "clocks_differ": ErrorText(
        "The clocks do not agree",
        "There is nothing wrong with your account: this site's clock and Microsoft's differ."
        " Try again; if that does not help, tell your help desk the reference.",
        "check this machine's clock; more than 60 s between it and Microsoft's is too much",
    ),
    "answer_incomplete": ErrorText(
        "Microsoft's answer was incomplete",
        "Something on the way may have cut it off."
        " Try again; if that does not help, tell your help desk the reference.",
        "a proxy that answers in Microsoft's place looks like this",
    ),
    "address_too_long": ErrorText(
        "This address is too long",
        "The link that led here is longer than this site takes. Open the start page, or tell your help desk the"
        " reference.",
        again=False,
    ),
    "handler_failed": ErrorText(
        "Something went wrong",
        "What you just did may not have worked. Try it again, or tell your help desk the reference.",
    ),
    "too_many_tabs": ErrorText(
        "Too many tabs", "This site is open in too many tabs of this browser. Close some of them, then try again."
    ),
    "too_many_tasks": ErrorText(
        "Too much at once",
        "This site still works on what you asked for before. Wait until that is done, then try again.",
    ),
    "unavailable": ErrorText(
        "Microsoft cannot be reached right now",
        "The sign-in service did not answer. That is usually over in a few minutes: try again then.",
    ),
    "slow": ErrorText("Microsoft takes too long to answer", "We stopped waiting. Try again; it often works at once."),
    "throttled": ErrorText(
        "Microsoft asks us to wait", "Too many people sign in at this moment. Try again in a minute."
    ),
    "keys_unreachable": ErrorText(
        "Your sign-in cannot be verified right now",
        "Microsoft signed you in, but its signature could not be checked, so nobody was let in. Try again in a minute.",
    ),
    "store_unavailable": ErrorText(
        "This site cannot remember anybody right now",
        "There is nothing wrong with your account. Try again in a minute, or tell your help desk the reference.",
        "look after the session store: its disk or its server",
    ),
    "refused": ErrorText(
        "Microsoft did not sign you in",
        "Your organisation's directory refused this sign-in. Try again, or tell your help desk the reference.",
    ),
    "cancelled": ErrorText(
        "The sign-in was cancelled",
        "Nothing happened, and you are not signed in. Try again whenever you are ready.",
        numbers=(65004,),
    ),
    "consent_missing": ErrorText(
        "An administrator has to approve this site",
        "Your organisation has not approved it yet. Ask your help desk to do so, and tell them the reference.",
        "grant admin consent for LOGIN_SCOPES on the app registration's page of API permissions",
        numbers=(65001, 90008, 90094, 90095),
    ),
    "not_assigned": ErrorText(
        "You do not have access yet",
        "This site is for selected people, and your account is not among them. Ask your help desk for access.",
        "assign the person or a group of theirs: Enterprise applications, Users and groups",
        numbers=(50105,),
    ),
    "blocked_by_policy": ErrorText(
        "Your organisation's rules stopped this sign-in",
        "They may ask for another device, network or place. Try from your work device, or ask your help desk.",
        "Entra's sign-in log names the Conditional Access policy",
        numbers=(50002, 50005, 50097, 50129, 50131, 50155, 50187, 500021, 500022, 500212, 500213),
    ),
    "proof_missing": ErrorText(
        "Microsoft asks for one more proof",
        "Your organisation wants you to confirm who you are in a second way. Try again, and follow its steps.",
        numbers=(50072, 50074, 50076, 50078, 50079, 50125, 50158, 500121),
    ),
    "other_tenant": ErrorText(
        "This account belongs to another organisation",
        "Use your work account of the organisation that runs this site.",
        "invite the person as a guest, or list their tenant in AZURE_ALLOWED_TENANTS",
        numbers=(16000, 16003, 50014, 50020, 50034, 51004, 90072, 500208),
    ),
    "password_expired": ErrorText(
        "Your password has expired", "Change it with Microsoft, then try again.", numbers=(50055, 50135, 50144)
    ),
    "account_locked": ErrorText(
        "Your account is locked for a while",
        "Too many wrong passwords were tried, or Microsoft does not trust the network that you are in."
        " Wait a while, then try again, or ask your help desk.",
        "Entra's sign-in log names the reason",
        numbers=(50053,),
    ),
    "account_disabled": ErrorText(
        "Your account is switched off", "Ask your help desk about it, or use another account.", numbers=(50057,)
    ),
    "sign_in_needed": ErrorText(
        "Microsoft wants you to sign in again",
        "It does not know you in this browser any more. Try again, and sign in there.",
        numbers=(50058, 50089, 50132, 50133, 50173),
    ),
    "code_expired": ErrorText(
        "This sign-in took too long",
        "Microsoft's answer is good for a few minutes and for one use, and that is over. Try again.",
        numbers=(54005, 70008),
    ),
    "credential_refused": ErrorText(
        "This site cannot prove itself to Microsoft",
        "There is nothing wrong with your account. Tell your help desk the reference: they can mend this site.",
        "renew the app's credential: the secret's Value (not its ID), the certificate, or the federated token",
        numbers=(50012, 70002, 70021, 500133, 700024, 700025, 700027, 700030, 700211, 700212, 700213, 7000215, 7000222),
        again=False,
    ),
    "redirect_unknown": ErrorText(
        "This site's address is not registered with Microsoft",
        "There is nothing wrong with your account. Tell your help desk the reference: they can add the address.",
        "register REFLEX_DEPLOY_URL with /callback as a redirect URI of the platform Web",
        numbers=(50011, 70004, 500112, 900971, 9002327),
        again=False,
    ),
    "app_unknown": ErrorText(
        "Your organisation's directory does not know this site",
        "There is nothing wrong with your account. Tell your help desk the reference: they have to register it.",
        "check AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_AUTHORITY_HOST",
        numbers=(50059, 50128, 50194, 70001, 90002, 90019, 90038, 700011, 700016),
        again=False,
    ),
    "app_disabled": ErrorText(
        "This site is switched off in your organisation's directory",
        "There is nothing wrong with your account. Tell your help desk the reference: they can switch it on.",
        "Enterprise applications, Properties: Enabled for users to sign-in",
        numbers=(1000031, 7000112),
        again=False,
    ),
    "scopes_wrong": ErrorText(
        "This site asks Microsoft for something that is not there",
        "There is nothing wrong with your account. Tell your help desk the reference: they can correct that.",
        "check LOGIN_SCOPES, and the API permissions of the app registration",
        numbers=(28002, 50001, 65005, 70011, 500011, 500014, 650052, 650053, 650054, 650056, 650057, 700022, 700023),
        again=False,
    ),
    "request_refused": ErrorText(
        "Microsoft does not accept this site's request",
        "There is nothing wrong with your account. Tell your help desk the reference: they can correct the request.",
        "look up the AADSTS number at https://login.microsoftonline.com/error",
        numbers=(70003, 70005, 90014, 90023, 900144),
        again=False,
    ),
}
"""The words by the code of the failure. A row with numbers is a refusal by the directory.

Numbers of the form 530xx and 530xxx are `blocked_by_policy`.
"""
