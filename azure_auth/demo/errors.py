"""Entra's way of saying no: an OAuth error, an AADSTS number, trace and correlation ids."""

from datetime import UTC, datetime
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class AadError(Exception):
    """A refusal, in the shape that Entra gives it.

    Args:
        number: The AADSTS number.
        error: OAuth's error code (RFC 6749 §4.1.2.1 and §5.2).
        text: Entra's sentence.
        status: The HTTP status at the token endpoint.
    """

    def __init__(self, number: int, error: str, text: str, status: int = 400) -> None:
        self.number, self.error, self.status = number, error, status
        self.trace_id, self.correlation_id = str(uuid4()), str(uuid4())
        self.timestamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        super().__init__(
            f"AADSTS{number}: {text} Trace ID: {self.trace_id} Correlation ID: {self.correlation_id}"
            f" Timestamp: {self.timestamp}"
        )


async def as_json(_: Request, error: Exception) -> Response:
    """Answer the way that discovery and token endpoint do."""
    if not isinstance(error, AadError):
        raise error
    return JSONResponse(
        {
            "error": error.error,
            "error_description": str(error),
            "error_codes": [error.number],
            "timestamp": error.timestamp,
            "trace_id": error.trace_id,
            "correlation_id": error.correlation_id,
        },
        error.status,
    )
