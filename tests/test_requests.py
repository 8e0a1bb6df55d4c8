"""What a request may cost: its headers, its body, and how many are answered at once."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import SimpleNamespace

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

from azure_auth import bounds
from azure_auth.auth.web import requests
from azure_auth.auth.web.connections import split_cookies
from azure_auth.auth.web.requests import Body, Crowd, refused_unread

pytestmark = pytest.mark.anyio
FORM = "multipart/form-data; boundary=the-boundary"


def take(_: int) -> bool:
    """There is always room."""
    return True


def scope_of(*headers: tuple[str, str]) -> dict[str, object]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": raw}


async def asked(
    body: Body | None,
    chunks: Iterable[bytes],
    *headers: tuple[str, str],
    most: int = 100,
    parts: int = 3,
    app=None,
    seconds: float | None = None,
) -> tuple[int, str, list[bytes]]:
    """Send a body in chunks; return status and text of the answer, and what was read of it."""
    read: list[bytes] = []

    async def reading(scope, receive, send) -> None:
        async for chunk in Request(scope, receive).stream():
            read.append(chunk)
        await PlainTextResponse("read")(scope, receive, send)

    waiting, sent = [*chunks], []

    async def receive() -> dict[str, object]:
        if not waiting:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting) or endless}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    endless = app == "endless"
    await (body or Body(reading, most, parts, take, 20.0 if seconds is None else seconds))(
        scope_of(*headers), receive, send
    )
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode(), read


def form(parts: int) -> bytes:
    part = b'--the-boundary\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    return part * parts + b"--the-boundary--\r\n"


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_body_is_as_long_as_it_may_be_and_no_longer(size):
    """In pieces of any size, it is read to the last byte; one more is refused, and nothing after it is read."""
    whole = b"x" * 100
    status, text, read = await asked(None, pieces(whole, size))
    assert (status, text, b"".join(read)) == (200, "read", whole)
    status, text, read = await asked(None, [*pieces(whole + b"x", size), b"never read"])
    assert (status, text) == (413, "A request may have 0.0001 MB at most.")
    assert b"never read" not in read


def pieces(whole: bytes, size: int) -> Iterable[bytes]:
    return [whole[n : n + size] for n in range(0, len(whole), size)]


async def test_a_length_that_is_declared_too_long_is_refused_unread():
    """Before the first byte; the server handles a length that is no number."""
    assert await asked(None, [b"x"], ("content-length", "101")) == (413, "A request may have 0.0001 MB at most.", [])
    assert (await asked(None, [b"x"], ("content-length", "9" * 5_000)))[0] == 200


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 10_000])
@pytest.mark.parametrize(
    "kind", [FORM, 'multipart/form-data; boundary="the-boundary"', "multipart/mixed;BOUNDARY=the-boundary"]
)
async def test_a_form_has_so_many_parts(size, kind):
    """Three parts are read and a fourth is refused, wherever the network splits the delimiters."""
    for parts, status in ((3, 200), (4, 413)):
        answer = await asked(None, pieces(form(parts), size), ("content-type", kind), most=10_000)
        assert answer[0] == status
    assert answer[1] == "A form may have 3 files and fields at most."
    assert (await asked(None, pieces(form(9), size), ("content-type", "text/plain"), most=10_000))[0] == 200


async def test_a_body_that_does_not_end_is_refused_in_time():
    """The timeout answers with 408."""
    assert (await asked(None, [b"x"], app="endless", seconds=0.05))[:2] == (
        408,
        "This request took too long to arrive.",
    )


async def test_an_answer_that_has_begun_is_not_answered_again():
    """A handler that answers while it reads sees a disconnect, and the rest of its answer is dropped."""

    async def eager(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"late"})
        raise ClientDisconnect

    assert (await asked(Body(eager, 3, 3, take, 20.0), [b"xx", b"xx"]))[:2] == (200, "")


async def test_a_handler_that_takes_its_time_is_not_the_bodys():
    """A body that has arrived in time may be read late."""

    async def slow(scope, receive, send) -> None:
        await asyncio.sleep(0.2)
        await PlainTextResponse(str(len(await Request(scope, receive).body())))(scope, receive, send)

    assert (await asked(Body(slow, 100, 3, take, 0.1), [b"x"]))[:2] == (200, "1")


async def test_bodies_at_once_share_their_senders_room():
    """A second body of one owner is refused while the first is there; that of another owner is read."""
    crowd, reading, go_on = Crowd(), asyncio.Event(), asyncio.Event()

    async def holding(scope, receive, send) -> None:
        text = str(len(await Request(scope, receive).body()))
        reading.set()
        await go_on.wait()
        await PlainTextResponse(text)(scope, receive, send)

    async def of(owner: str) -> tuple[int, str]:
        with crowd.room({owner: 100}) as room:
            return (await asked(Body(holding, 100, 3, room, 20.0), [b"x" * 60]))[:2]

    first = asyncio.create_task(of("ada"))
    await reading.wait()
    assert await of("ada") == (429, "Too many long requests at once.")
    second = asyncio.create_task(of("grace"))
    go_on.set()
    assert (await first, await second, await of("ada")) == ((200, "60"),) * 3
    assert not crowd._now


def test_a_crowd_counts_while_it_lasts():
    """By each owner, and what is refused counts too until it has ended."""
    crowd = Crowd()
    with crowd.room({"ada": 2}) as first, crowd.room({"ada": 2, "all": 5}) as second, crowd.room({"ada": 2}) as third:
        assert (first(1), second(1), third(1)) == (True, True, False)
    with suppress(ZeroDivisionError), crowd.room({"ada": 1}) as last:
        last(1)
        raise ZeroDivisionError
    with crowd.room({"ada": 1}) as again:
        assert again(1)
    assert not crowd._now


def refused(*headers: tuple[str, str]) -> str:
    """Return the text that refuses headers with 431; empty if they are not refused."""
    if (answer := refused_unread(scope_of(*headers))) is None:
        return ""
    assert answer.status_code == 431
    return answer.body.decode()


async def longest_headers(most: int) -> None:
    """Names and values count, and cookies do not."""
    size, words = most - len("authorization") - len("cookie"), "The headers of this request are too long."
    cookies = ("cookie", "x" * 60_000)
    assert refused(("authorization", "x" * size), cookies) == ""
    assert refused(("authorization", "x" * (size + 1)), cookies) == words
    assert refused(*((f"{n:x}", "") for n in range(most))) == words


async def longest_cookies(most: int) -> None:
    half = ("cookie", "x" * (most // 2))
    assert refused(half, half) == ""
    assert refused(half, ("cookie", "x" * (most // 2 + 1))).endswith("whole domain.")


async def longest_others(most: int) -> None:
    for size, kept in ((most, 1), (most + 1, 0)):
        ours, others = split_cookies(scope_of(("cookie", f"{'x' * size}; azure_auth_session=s")), "azure_auth_")
        assert (ours, len(others)) == ([b"azure_auth_session=s"], kept)


async def body_in_time(_: float) -> None:
    """The timeout grows by a second for each `SLOWEST_BYTES` that have come."""
    asks: list[float] = []
    timeout = asyncio.timeout

    def timed(seconds: float) -> asyncio.Timeout:
        asks.append(seconds)
        return timeout(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "asyncio", SimpleNamespace(timeout=timed))
        await asked(None, [b"x" * 40_000, b"x"], most=100_000, seconds=bounds.BODY_SECONDS)
    assert [round(seconds, 1) for seconds in asks] == [20.0, 22.0]


async def longest_boundary(most: int) -> None:
    for size, status in ((most, 200), (most + 1, 400)):
        kind = f"multipart/form-data; boundary={'b' * size}"
        assert (await asked(None, [b"x"], ("content-type", kind)))[0] == status
