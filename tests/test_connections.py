"""The running app: developers' endpoints and websockets, uploads, and what a request may cost."""

import asyncio
import json
import time
from contextlib import suppress

import httpx
import pytest
import websockets
from raw_browser import Browser, visitors
from raw_tab import APP_STATE, HYDRATE, ROOT_STATE
from test_gate import ADA, CANARY, GRACE, loaded

from azure_auth.bounds import WEBSOCKETS_OF_ADDRESS

pytestmark = pytest.mark.anyio
GUESTS, DRAWER = (f"{ROOT_STATE}.azure_auth___pages___reports____{name}" for name in ("guests", "drawer"))


def ours(production, browser: Browser | None = None, **more: str) -> dict[str, str]:
    """The headers of a page's request."""
    return {"Origin": production.url, "Cookie": browser.cookie if browser else "", **more}


async def test_a_method_beside_a_public_one_is_not_a_strangers(production, ada):
    """A public GET opens no private POST of its path; the webhook takes a POST of any origin, and sees no user."""
    before = production.work()
    async with httpx.AsyncClient(base_url=production.url) as http:
        assert (await http.get("/api/both")).text == "for all"
        for headers in ({}, ours(production), {"Origin": "http://localhost:3999", "Cookie": ada.cookie}):
            assert (await http.post("/api/both", content=b"x", headers=headers)).status_code in (401, 403)
        assert production.work() == before
        written = await http.post("/api/both", content=b"x", headers=ours(production, ada))
        assert "Ada Lovelace" in written.text
        assert production.work() == [*before, "written"]
        hooked = await http.post(
            "/api/hook", content=b"xyz", headers={**ours(production, ada), "Origin": "https://a.b"}
        )
        assert hooked.text == "None 3"


async def hears(url: str, headers: dict[str, str]) -> str:
    """Return what a websocket says first; empty if it is refused."""
    with suppress(websockets.InvalidStatus):
        async with websockets.connect(url.replace("http", "ws", 1), additional_headers=headers) as socket:
            said = str(await socket.recv())
            await socket.send("echo")
            assert await socket.recv() == "echo"
            return said
    return ""


async def test_a_developers_websocket_works_for_whom_it_is(production, ada):
    """A private one works for a signed-in user, a public one for all, neither for a page of another origin."""
    closed, open_ = f"{production.url}/ws/closed", f"{production.url}/ws/open"
    assert await hears(closed, ours(production, ada)) == "closed Ada Lovelace"
    assert await hears(closed, ours(production)) == ""
    assert await hears(open_, ours(production)) == "open None"
    assert await hears(open_, ours(production, ada)) == "open Ada Lovelace"
    for origin in ("http://localhost:3999", "null"):
        assert await hears(closed, {**ours(production, ada), "Origin": origin}) == ""
        assert await hears(open_, {**ours(production, ada), "Origin": origin}) == ""


async def test_who_leaves_in_the_middle_fills_no_log(production, ada):
    """Half a body, and a websocket whose handler waits, leave no traceback."""
    for line in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        _, writer = await asyncio.open_connection("127.0.0.1", int(production.url.rpartition(":")[2]))
        writer.write(f"POST /api/hook HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n5\r\nhello".encode())
        await asyncio.sleep(0.2)
        writer.transport.abort()
    url = f"{production.url}/ws/waits".replace("http", "ws", 1)
    async with websockets.connect(url, additional_headers=ours(production)) as socket:
        await socket.recv()
        socket.transport.abort()
    assert (await upload(production, ada, f"{GUESTS}.take", files(1))).status_code == 200
    assert "Traceback" not in production.console()


@pytest.mark.parametrize("way", ["waits", "pushes"])
@pytest.mark.parametrize("end", ["a close", "an abort"])
async def test_websockets_that_are_left_leave_their_room(production, way, end):
    """An anonymous client opens twice its maximum, one after the other, whatever the handlers do."""
    url = f"{production.url}/ws/{way}".replace("http", "ws", 1)
    for _ in range(2 * WEBSOCKETS_OF_ADDRESS):
        async with asyncio.timeout(10):
            while True:  # the handler that was just left has three seconds to end by itself
                with suppress(websockets.InvalidStatus):
                    socket = await websockets.connect(url, additional_headers=ours(production))
                    break
                await asyncio.sleep(0.1)
        await socket.recv()
        if end == "a close":
            await socket.close()
        else:
            socket.transport.abort()


async def test_slow_bodies_keep_nobody_from_signing_in(production, directory):
    """400 unfinished tickets of one address time out after five seconds; meanwhile a user signs in."""
    port, held = int(production.url.rpartition(":")[2]), []
    head = f"POST /auth/session HTTP/1.1\r\nHost: localhost\r\nOrigin: {production.url}\r\nContent-Length: 100\r\n\r\nx"
    for _ in range(400):
        held.append(await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)))
        held[-1][1].write(head.encode())
    async with visitors(production.url) as visit:
        await visit().sign_in(ADA)
    statuses = {int((await asyncio.wait_for(reader.readline(), 10))[9:12]) for reader, _ in held}
    assert statuses == {408}
    for _, writer in held:
        writer.close()


async def test_http_2_is_the_proxys(production):
    """The app does not answer in HTTP/2, where Granian accepts 16 MB of headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(production.url.rpartition(":")[2]))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    answer = await asyncio.wait_for(reader.read(9), 5)
    assert answer[3:4] != b"\x04"  # its settings
    writer.close()


async def test_an_answer_that_begins_after_its_session_is_refused(production, ada):
    """A request that waits for data gets none once its user has signed out."""
    async with httpx.AsyncClient(base_url=production.url) as http:
        assert (await http.get("/api/later", headers=ours(production, ada))).text == CANARY
        waiting = asyncio.create_task(http.get("/api/later", headers=ours(production, ada)))
        await asyncio.sleep(0.3)
        tab = await loaded(ada)
        await tab.send(f"{APP_STATE}.logout")
        answer = await waiting
    assert (answer.status_code, answer.text) == (401, "Sign in first.")


async def test_a_sign_out_ends_a_developers_websocket(production, ada):
    """Within two seconds, although its handler waits for a message; Grace's websocket goes on."""
    grace = Browser(ada._http, production.url)
    await grace.sign_in(GRACE)
    url = f"{production.url}/ws/closed".replace("http", "ws", 1)
    async with (
        websockets.connect(url, additional_headers=ours(production, ada)) as socket,
        websockets.connect(url, additional_headers=ours(production, grace)) as other,
    ):
        assert await socket.recv() == "closed Ada Lovelace"
        tab = await loaded(ada)
        await tab.send(f"{APP_STATE}.logout")
        began = time.monotonic()
        with pytest.raises(websockets.ConnectionClosed):
            async with asyncio.timeout(5):
                await socket.recv()
        assert time.monotonic() - began < 2
        assert await other.recv() == "closed Grace Hopper"
        await other.send("still here")
        assert await other.recv() == "still here"


def files(number: int, size: int = 10) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{n}.txt", b"x" * size)) for n in range(number)]


async def upload(production, browser: Browser, handler: str, parts: object, **headers: str) -> httpx.Response:
    sent = ours(
        production, browser, **{"Reflex-Client-Token": browser.token, "Reflex-Event-Handler": handler, **headers}
    )
    async with httpx.AsyncClient(timeout=60) as http:
        return await http.post(f"{production.url}/_upload", files=parts, headers=sent)


async def test_a_stranger_may_upload_to_a_public_handler(production, visitor):
    """Twice, to the state of the page in the tab; to no other handler."""
    stranger = visitor()
    await loaded(stranger, "/guests")
    assert "0.txt" in (await upload(production, stranger, f"{GUESTS}.leave", files(1))).text
    again = await upload(production, stranger, f"{GUESTS}.leave", files(1))
    assert again.text.count("0.txt") == 2
    for handler in (f"{GUESTS}.take", f"{GUESTS}.nothing", f"{ROOT_STATE}.hydrate"):
        with suppress(httpx.ReadError, httpx.WriteError):
            assert (await upload(production, stranger, handler, files(1))).status_code == 401


ARGUMENTS = {
    "of other names": '{"self": 1, "x": 2}',
    "of another kind": '{"names": [1]}',
    "nested": "[" * 100_000,
    "no JSON": "{",
}


@pytest.mark.parametrize("who", ["a stranger", "Ada"])
async def test_odd_uploads_leave_no_traceback(production, visitor, ada, who):
    """Wrong arguments, text in place of files, no form, and a handler that takes no files: one line each at most."""
    browser = ada if who == "Ada" else visitor()
    await loaded(browser, "/guests")
    before, lines = production.work(), len(production.console())
    odd = [[("__reflex_event_args", (None, text)), *files(1)] for text in ARGUMENTS.values()]
    odd += [[("files", (None, "text"))], [("__reflex_event_args", ("a.txt", b"{}"))]]
    for parts in odd:
        assert (await upload(production, browser, f"{GUESTS}.leave", parts)).status_code in (200, 400, 500)
    for handler in (f"{APP_STATE}.callback", f"{GUESTS}.nothing", f"{ROOT_STATE}.hydrate"):
        with suppress(httpx.ReadError, httpx.WriteError):
            assert (await upload(production, browser, handler, files(1))).status_code in (400, 401)
    plain = ours(production, browser, **{"Reflex-Client-Token": "t", "Reflex-Event-Handler": f"{GUESTS}.leave"})
    async with httpx.AsyncClient() as http:
        assert (await http.post(f"{production.url}/_upload", data={"files": "x"}, headers=plain)).status_code == 400
    assert production.work() == before
    assert "Traceback" not in production.console()
    assert len(production.console()) - lines < 1_000 * len(odd)


async def test_an_upload_has_so_many_parts_and_so_many_bytes(production, ada):
    """50 files are accepted; 51 are refused with an explanation, and so are 300 fields of 1 MB."""
    await loaded(ada, "/guests")
    assert (await upload(production, ada, f"{GUESTS}.take", files(50))).status_code == 200
    assert production.work()[-1] == "take 50"
    for parts in (files(51), [(f"field{n}", (None, b"x" * 1_000_000)) for n in range(300)]):
        refused = None
        with suppress(httpx.ReadError, httpx.WriteError):  # the rest of it is not read
            refused = await upload(production, ada, f"{GUESTS}.take", parts)
        if len(parts) == 51:
            assert (refused.status_code, refused.text) == (413, "A form may have 50 files and fields at most.")
    assert production.work()[-1] == "take 50"


async def test_what_a_strangers_browser_keeps_reaches_public_states_alone(visitor):
    """When the page loads, and when another tab changes it; a private state does not get it."""
    stranger = visitor()
    tab = await loaded(stranger, "/guests")
    kept = {f"{GUESTS}.colour_rx_state_": "blue", f"{DRAWER}.colour_rx_state_": "stolen"}
    await tab.send(HYDRATE, {"vars": kept})
    await tab.until(lambda: "blue" in json.dumps(tab.updates))
    update = f"{ROOT_STATE}.reflex___state____update_vars_internal_state.update_vars_internal"
    await tab.send(update, {"vars": {**kept, f"{GUESTS}.tongue_rx_state_": "fr"}})
    await tab.until(lambda: '"fr"' in json.dumps(tab.updates))
    assert "stolen" not in json.dumps(tab.updates)
    for wrong in ({"a": [1]}, ["red"], 5, True):
        await tab.send(update, {"vars": {f"{GUESTS}.colour_rx_state_": wrong}})
    await tab.send(update, {"vars": {f"{GUESTS}.tongue_rx_state_": "it", f"{GUESTS}.colour_rx_state_": None}})
    await tab.until(lambda: '"it"' in json.dumps(tab.updates))
    assert {type(tab.sees[name]) for name in ("colour", "tongue")} == {str}
