"""What no log may have is taken out of every line of every logger: ours, Reflex's and the libraries'."""

import logging
import re
import traceback

from redis.exceptions import RedisError

from azure_auth.bounds import LOG_CHARACTERS, TRACEBACK_CHARACTERS
from azure_auth.reflex_build import keep_lines_whole

_NAMES = "code|state|nonce|token|ticket|client_token|id_token|access_token|refresh_token|client_secret|client_assertion"
_SECRETS = re.compile(
    rf"""((?:\b|_)(?i:{_NAMES}|code_verifier|session_state|login_hint|logout_hint|sid|azure_auth_\w{{1,80}})['"]?\s*[=:]\s*['"]?)"""
    r"""[^\s&'",;}]+"""
    r"|\b((?i:bearer) )[^\s'\",;]+"
    r"|\beyJ[\w-]+(?:\.[\w-]*)*"
    r"|(?<![\w-])[\w-]{43}(?![\w-])"
    # Long, with digits, lower and upper case: Entra's codes and tokens, which have no other mark.
    r"|(?<![\w.~-])(?=[\w.~-]*\d)(?=[\w.~-]*[a-z])(?=[\w.~-]*[A-Z])[\w.~-]{60,}"
    r"|(?<![\w.+#-])[\w.+#-]+@[\w-]+\.[\w.-]+",
)
"""Each is linear in the length of the text: it begins at the start of a word, or is of bounded length."""
_LONGEST_WORD = 200
_CUT_WORD = re.compile(r"[^\s'\",;&]+$")
_BREAKS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""Whatever ends a line, or moves the terminal that shows it."""


def clean(text: str) -> str:
    """Return a text without codes, states, tokens, cookies, tickets and e-mail addresses."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}[redacted]", text)


def cut(text: str, longest: int = LOG_CHARACTERS) -> str:
    """Return a text no longer than that, with the number of characters that are left out; half a word is left out too.

    Half a token would not be recognised as one.
    """
    if len(text) <= longest:
        return text
    tail = longest - _LONGEST_WORD
    kept = text[:tail] + _CUT_WORD.sub("", text[tail:longest])
    return f"{kept}… ({len(text) - len(kept)} characters more)"


def install_redaction() -> None:
    """Clean everything that is logged from here on; a line break from outside begins no line of its own.

    The audit trail is left as it is: it cleans each value for itself, and its lines are JSON.
    """
    keep_lines_whole()
    made = logging.getLogRecordFactory()
    if getattr(made, "cleans", False):
        return

    def make(*args: object, **options: object) -> logging.LogRecord:
        record = made(*args, **options)
        if record.name != "azure_auth.audit":
            _clean(record)
        return record

    make.cleans = True  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(make)


def _clean(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):
        text = f"{record.msg} {record.args}"
    record.msg, record.args = _on_one_line(clean(cut(text))), None
    if record.exc_info and isinstance(record.exc_info[1], RedisError):
        # A Redis that is gone concerns every task there is: one sentence each, for where it was met tells nothing.
        record.msg, record.exc_info = f"{record.msg} ({type(record.exc_info[1]).__name__})", None
    if record.exc_info and record.exc_info[0]:
        lines = clean(cut("".join(traceback.format_exception(*record.exc_info)), TRACEBACK_CHARACTERS)).split("\n")
        record.exc_text = "\n".join(f"  {_on_one_line(line)}" for line in lines if line)


def _on_one_line(text: str) -> str:
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
