"""Redacts secrets from every log record, including those of Reflex and other libraries."""

import logging
import re
import traceback

from redis.exceptions import RedisError

from azure_auth.bounds import LOG_CHARACTERS, TRACEBACK_CHARACTERS

_NAMES = "code|state|nonce|token|ticket|client_token|id_token|access_token|refresh_token|client_secret|client_assertion"
_SECRETS = re.compile(
    rf"""((?:\b|_)(?i:{_NAMES}|code_verifier|session_state|login_hint|logout_hint|sid|azure_auth_\w{{1,80}})['"]?\s*[=:]\s*['"]?)"""
    r"""[^\s&'",;}]+"""
    r"|\b((?i:bearer) )[^\s'\",;]+"
    r"|\beyJ[\w-]+(?:\.[\w-]*)*"
    r"|(?<![\w-])[\w-]{43}(?![\w-])"
    # Long, with digits, lower and upper case: Entra's codes and tokens, which have no other pattern.
    r"|(?<![\w.~-])(?=[\w.~-]*\d)(?=[\w.~-]*[a-z])(?=[\w.~-]*[A-Z])[\w.~-]{60,}"
    r"|(?<![\w.+#-])[\w.+#-]+@[\w-]+\.[\w.-]+"
)
"""Linear in the length of the text: each alternative begins at the start of a word, or has a maximum length."""
_LONGEST_WORD = 200
_CUT_WORD = re.compile(r"[^\s'\",;&]+$")
_BREAKS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a line, or control the terminal."""


def clean(text: str) -> str:
    """Redact codes, states, tokens, cookies, tickets and e-mail addresses in a text."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}[redacted]", text)


def cut(text: str, longest: int = LOG_CHARACTERS) -> str:
    """Cut a text to a maximum length, and append the number of characters that are missing.

    The cut is between words, because `clean` does not recognise half a token.
    """
    if len(text) <= longest:
        return text
    tail = longest - _LONGEST_WORD
    kept = text[:tail] + _CUT_WORD.sub("", text[tail:longest])
    return f"{kept}… ({len(text) - len(kept)} characters more)"


def install_redaction() -> None:
    """Redact all log records from now on, and escape line breaks, so that one record is one line.

    The audit trail is exempt: it redacts each value itself, and its lines are JSON.
    """
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
        # When Redis is down, every task fails at once. One line for each is enough; their tracebacks add nothing.
        record.msg, record.exc_info = f"{record.msg} ({type(record.exc_info[1]).__name__})", None
    if record.exc_info and record.exc_info[0]:
        lines = clean(cut("".join(traceback.format_exception(*record.exc_info)), TRACEBACK_CHARACTERS)).split("\n")
        record.exc_text = "\n".join(f"  {_on_one_line(line)}" for line in lines if line)


def _on_one_line(text: str) -> str:
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
