"""What no log may have is taken out of every line of every logger: ours, Reflex's and the libraries'."""

import logging
import re
import traceback

from redis.exceptions import RedisError

_NAMES = "code|state|nonce|token|ticket|client_token|id_token|access_token|refresh_token|client_secret|client_assertion"
_SECRETS = re.compile(
    rf"""((?:\b|_)(?:{_NAMES}|code_verifier|session_state|login_hint|logout_hint|sid|azure_auth_\w+)['"]?\s*[=:]\s*['"]?)"""
    r"""[^\s&'",;}]+"""
    r"|\beyJ[\w-]+(?:\.[\w-]*)*"
    r"|(?<![\w-])[\w-]{43}(?![\w-])"
    r"|[\w.+-]+@[\w-]+\.[\w.-]+",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Return a text without codes, states, tokens, cookies, tickets and e-mail addresses."""
    return _SECRETS.sub(lambda found: f"{found[1] or ''}[redacted]", text)


def guard() -> None:
    """Clean everything that is logged from here on; a line break from outside begins no line of its own."""
    made = logging.getLogRecordFactory()
    if getattr(made, "cleans", False):
        return

    def make(*args: object, **options: object) -> logging.LogRecord:
        record = made(*args, **options)
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        record.msg, record.args = clean(text).replace("\r", "\\r").replace("\n", "\\n"), None
        if record.exc_info and isinstance(record.exc_info[1], RedisError):
            # A Redis that is gone concerns every task there is: one sentence each, for where it was met tells nothing.
            record.msg, record.exc_info = f"{record.msg} ({type(record.exc_info[1]).__name__})", None
        if record.exc_info and record.exc_info[0]:
            lines = clean("".join(traceback.format_exception(*record.exc_info))).splitlines()
            record.exc_text = "\n".join(f"  {line}" for line in lines)
        return record

    make.cleans = True  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(make)
