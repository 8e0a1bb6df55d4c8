"""Sends requests to the directory, and turns what httpx and MSAL raise into errors of this app.

Each request has one deadline and a maximum answer length. It is retried once if no connection was made.
"""

import socket
import ssl
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import Any, TypeVar

import httpx

from azure_auth import errors
from azure_auth.errors import AnswerIncomplete, AuthError, Slow, Throttled, TokenInvalid, Unavailable

_T = TypeVar("_T")
_ANSWER_BYTES = 1_000_000
"""Maximum length of an answer, unpacked. Entra's key set has about 20,000 bytes, and so has a token with 200 groups."""
_HEADERS_OF_THE_BODY = {"content-encoding", "content-length", "transfer-encoding"}
_deadline: ContextVar[float] = ContextVar("deadline")
"""When the request that this thread sends must be over, by the monotonic clock."""


class DirectoryHttp(httpx.Client):
    """Sends all requests to the directory. TLS trust and proxies follow the environment.

    Every failure raises an AuthError here. MSAL would cache status 429 and 5xx, or read them as an answer.
    """

    def __init__(self, at_once: int, mounts: Mapping[str, httpx.BaseTransport] | None, seconds: float = 25) -> None:
        """Open `at_once` connections at most, and wait `seconds` for an answer.

        `mounts` are transports by address, as in httpx. With them, the directory is on this machine, so the client
        ignores the environment's proxy and TLS settings.
        """
        self._seconds = seconds
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        trusted = httpx.create_ssl_context(trust_env=not mounts)
        timeout = httpx.Timeout(seconds, connect=5, pool=5)
        super().__init__(
            verify=trusted,
            trust_env=not mounts,
            timeout=timeout,
            limits=limits,
            mounts=mounts,
            headers={"Accept-Encoding": "gzip"},
        )
        self.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # all people share this client

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """Build a request. MSAL passes a client assertion as bytes, which httpx would send as their Python repr."""
        form: dict[str, Any] | None = options.get("data")
        if form:
            options["data"] = {k: v.decode() if isinstance(v, bytes) else v for k, v in form.items()}
        return super().build_request(method, url, **options)

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request and read the whole answer. Retry once if no connection was made: nothing was sent yet.

        Raises:
            Slow: When the answer is not complete at the deadline.
            Throttled: At status 429.
            Unavailable: At status 5xx, and when the directory cannot be reached.
            AnswerIncomplete: When the answer is too long.
        """
        options["stream"] = True
        with _until(monotonic() + self._seconds), _explained(request):
            try:
                response = super().send(request, **options)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if monotonic() > _deadline.get():
                    raise
                response = super().send(request, **options)
            try:
                body = _read(response)
            finally:
                response.close()
        if response.status_code == 429:
            raise Throttled(_retry_after(response.headers.get("Retry-After", "")))
        if response.status_code >= 500:
            raise Unavailable(f"status {response.status_code}")
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _HEADERS_OF_THE_BODY]
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)


@contextmanager
def _until(deadline: float) -> Generator[None]:
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def _read(response: httpx.Response) -> bytes:
    packing, body = response.headers.get("Content-Encoding", "identity").lower(), bytearray()
    if packing not in ("identity", "gzip"):
        raise AnswerIncomplete("the answer is packed in a way that the app did not ask for")
    gzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    for chunk in response.iter_raw():  # httpx would unpack a whole chunk, which may become a thousand times as long
        body += gzip.decompress(chunk, _ANSWER_BYTES + 1) if packing == "gzip" else chunk
        if len(body) > _ANSWER_BYTES:
            raise AnswerIncomplete(f"the answer is longer than {_ANSWER_BYTES} bytes")
    return bytes(body)


def _bounded(call: Callable[..., _T]) -> Callable[..., _T]:
    """Let a read or write end at the deadline. httpx restarts its timeout at each, so a drip would never end."""

    def bounded(what: Any, timeout: float | None = None) -> _T:
        left = _deadline.get(float("inf")) - monotonic()
        if left <= 0:
            raise TimeoutError
        return call(what, left if timeout is None else min(timeout, left))

    return bounded


@contextmanager
def _explained(request: httpx.Request) -> Generator[None]:
    """Turn what httpx raises into an error whose detail says what is wrong, where, and which setting helps."""
    host = place = f"host {request.url.netloc.decode()}"

    def trace(event: str, about: Mapping[str, Any]) -> None:
        nonlocal place
        if event == "connection.connect_tcp.started" and about["host"] != request.url.host:
            place = f"{host} by the proxy {about['host']}:{about['port']}"
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):  # to the host or to a proxy
            stream = about["return_value"]
            stream.read, stream.write = _bounded(stream.read), _bounded(stream.write)

    request.extensions["trace"] = trace
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as why:
        raise Slow(f"{type(why).__name__}, {place}") from why
    except zlib.error as why:
        raise AnswerIncomplete("the answer cannot be unpacked") from why
    except httpx.HTTPError as why:
        raise Unavailable(_reason(why, place)) from why


def _reason(why: BaseException, place: str) -> str:
    """Return what is wrong and what to set. No other text reaches the log, except OpenSSL's."""
    one: BaseException | None = why
    while one is not None:
        match one:
            case ssl.SSLCertVerificationError(verify_code=62 | 64):  # X509_V_ERR_HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH
                return f"the certificate is for another name, {place}: check AZURE_AUTHORITY_HOST and the proxy"
            case ssl.SSLCertVerificationError(verify_code=9 | 10, verify_message=said):  # not yet valid, expired
                return f"{said}, {place}: check this machine's clock, else that host's certificate"
            case ssl.SSLCertVerificationError(verify_message=said):
                return f"{said}, {place}: set SSL_CERT_FILE to a file with the certificates to trust"
            case ssl.SSLError():
                return f"no TLS ({one.reason}), {place}: check HTTPS_PROXY and what is on the way"
            case socket.gaierror():
                return f"the name is unknown, {place}: check AZURE_AUTHORITY_HOST, HTTPS_PROXY and this machine's DNS"
            case ConnectionRefusedError():
                return f"the port is closed, {place}: check HTTPS_PROXY, and that a firewall lets the app out"
            case httpx.ProxyError():
                status = str(one)[:3]
                told = f"answers {status}" if status.isdigit() else "does not answer as a proxy"
                return f"the proxy {told}, {place}: check HTTPS_PROXY and its credentials"
            case _:
                one = one.__cause__ or one.__context__
    return f"{type(why).__name__}, {place}"


def _retry_after(value: str) -> int | None:
    """Read Retry-After, seconds or a date (RFC 9110 §10.2.3); None when it is neither."""
    if value.isascii() and value.isdigit():
        return int(value[:6])
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return round(min(max(0, seconds), 999_999))


def translated(ask: Callable[[], _T]) -> _T:
    """Call `ask`, and turn what MSAL raises into errors of this app."""
    try:
        return ask()
    except AuthError as why:
        raise why.again() from None  # callers that wait for one fetch share its failure, but not its reference and page
    except TimeoutError as why:  # another thread's fetch takes too long
        raise Slow(type(why).__name__) from why
    except RuntimeError as why:  # MSAL raises it for the nonce of another flow
        raise TokenInvalid(errors.whereabouts(why)) from why
    except Exception as why:  # MSAL has no error of its own for an unreadable answer
        raise AnswerIncomplete(errors.whereabouts(why)) from why
