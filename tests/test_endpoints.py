"""The endpoint that will really run decides who may ask; private ones need our exact origin and our cookie."""

import asyncio
import itertools
import re
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from behind import connections
from conftest import APP, ROOT
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from azure_auth.auth.identity import Identity
from azure_auth.auth.policy import cross_origin, public, who
from azure_auth.auth.sign_in import SignIn

pytestmark = pytest.mark.anyio
ADA = Identity("t", "ada", "Ada Lovelace")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
OURS = {"Origin": APP}


class Site:
    """Connections in front of an app, and the cookie of a signed-in user."""

    def __init__(self, sign_in: SignIn, cookie: str, api: Starlette) -> None:
        self.cookie = f"azure_auth_session={cookie}"
        self.sessions = sign_in.sessions
        self.connections = connections(api, sign_in, api=api)
        self.streams = self.connections._streams

    async def ask(self, method: str, path: str, *, owner: bool = False, **options: object) -> httpx.Response:
        headers = {**({"Cookie": self.cookie} if owner else {}), **options.pop("headers", OURS)}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.connections), base_url=APP) as http:
            return await http.request(method, path, headers=headers, **options)


@pytest.fixture
async def site(sign_in) -> Callable[..., Site]:
    cookie = await sign_in.sessions.start(ADA, "", None)
    return lambda *routes, **options: Site(sign_in, cookie, Starlette(routes=list(routes), **options))


def said(what: str) -> Callable[[Request], PlainTextResponse]:
    """A new endpoint that says something."""

    async def endpoint(_: Request) -> PlainTextResponse:
        return PlainTextResponse(what)

    return endpoint


@pytest.mark.parametrize(("open_", "closed"), list(itertools.permutations(METHODS, 2)))
@pytest.mark.parametrize("order", [1, -1])
async def test_each_method_has_its_own_answer(site, open_, closed, order):
    """An anonymous client gets a public method and not the private one beside it, in both orders of the routes."""
    routes = [
        Route("/rows", public(said("open")), methods=[open_]),
        Route("/rows", said("closed"), methods=[closed]),
    ][::order]
    there = site(*routes)
    assert (await there.ask(open_, "/rows")).text == "open"
    refused = await there.ask(closed, "/rows")
    assert (refused.status_code, refused.text) == (401, "Sign in first.")
    assert (await there.ask(closed, "/rows", owner=True)).text == "closed"


@pytest.mark.parametrize(("taken", "other"), list(itertools.permutations(METHODS, 2)))
async def test_a_method_that_nothing_takes_is_refused(site, taken, other):
    """405 on a public path, and for a signed-in user; 401 for an anonymous client on a private path."""
    there = site(
        Route("/open", public(said("open")), methods=[taken]),
        Route("/closed", said("closed"), methods=[taken]),
        Route("/{rest:path}", said("everything else"), methods=["OPTIONS"]),
    )
    assert (await there.ask(other, "/open")).status_code == 405
    assert (await there.ask(other, "/open", owner=True)).status_code == 405
    assert (await there.ask(other, "/closed")).status_code == 401
    answer = await there.ask(other, "/closed", owner=True)
    assert (answer.status_code, taken in answer.headers["allow"]) == (405, True)


class Derived(Starlette):
    """A developer's own app; it may do anything."""


class Passing(BaseHTTPMiddleware):
    """A developer's middleware that does nothing."""

    async def dispatch(self, request, call_next):
        return await call_next(request)


def rows() -> list[Route]:
    return [Route("/open", public(said("open"))), Route("/closed", said("closed"))]


def fast() -> FastAPI:
    app = FastAPI()

    @app.get("/open")
    @public
    def open_() -> str:
        return "open"

    @app.get("/closed")
    def closed() -> str:
        return "closed"

    return app


def elsewhere() -> FastAPI:
    app = fast()
    app.root_path = "/other"
    return app


def including() -> FastAPI:
    router, app = APIRouter(), FastAPI()
    router.add_api_route("/open", public(lambda: "open"))
    router.add_api_route("/closed", lambda: "closed")
    app.include_router(router)
    return app


class Rows(HTTPEndpoint):
    async def get(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("open")


FOLLOWED = {
    "routes": lambda: rows(),
    "a mount of routes": lambda: [Mount("/x", routes=rows())],
    "a router": lambda: [Mount("/x", Router(rows()))],
    "an app": lambda: [Mount("/x", Starlette(routes=rows()))],
    "an app in an app": lambda: [Mount("/x", Starlette(routes=[Mount("/y", Starlette(routes=rows()))]))],
    "known middleware": lambda: [Mount("/x", Starlette(routes=rows(), middleware=[Middleware(GZipMiddleware)]))],
    "FastAPI": lambda: [Mount("/x", fast())],
    "a class": lambda: [Route("/open", public(type("Open", (Rows,), {}))), Route("/closed", type("C", (Rows,), {}))],
}
UNKNOWN = {
    "a derived app": lambda: [Mount("/x", Derived(routes=rows()))],
    "unknown middleware": lambda: [Mount("/x", Starlette(routes=rows(), middleware=[Middleware(Passing)]))],
    "middleware of a mount": lambda: [Mount("/x", routes=rows(), middleware=[Middleware(GZipMiddleware)])],
    "middleware of a router": lambda: [Mount("/x", Router(rows(), middleware=[Middleware(GZipMiddleware)]))],
    "FastAPI's included router": lambda: [Mount("/x", including())],
    "FastAPI elsewhere": lambda: [Mount("/x", elsewhere())],
    "any other app": lambda: [Mount("/x", lambda scope, receive, send: said("open")(scope)(scope, receive, send))],
    "a host": lambda: [Host("localhost", Starlette(routes=rows()))],
}


def prefix_of(routes: list[object]) -> str:
    """Where the endpoints are."""
    prefix = ""
    while isinstance(routes[0], Mount):
        prefix, routes = prefix + routes[0].path, routes[0].routes or [None]
    return prefix


@pytest.mark.parametrize("kind", FOLLOWED)
async def test_the_endpoint_is_found_through_mounts_and_routers(site, kind):
    """An endpoint's own mark counts wherever it is mounted; what is beside it stays private."""
    routes = FOLLOWED[kind]()
    there, prefix = site(*routes), prefix_of(routes)
    assert "open" in (await there.ask("GET", f"{prefix}/open")).text
    for path in ("/closed", "/nothing"):
        assert (await there.ask("GET", prefix + path)).status_code == 401
    assert (await there.ask("GET", f"{prefix}/closed", owner=True)).status_code == 200


@pytest.mark.parametrize("kind", UNKNOWN)
async def test_what_cannot_be_followed_is_private_as_a_whole(site, kind):
    """A public mark inside does not count, only one of the whole app; a signed-in user gets an answer."""
    there = site(*(routes := UNKNOWN[kind]()))
    path = "/open" if isinstance(routes[0], Host) else "/x/open"
    assert (await there.ask("GET", path)).status_code == 401
    if kind not in ("any other app", "FastAPI elsewhere"):
        assert "open" in (await there.ask("GET", path, owner=True)).text
    if isinstance(routes[0], Mount) and kind == "a derived app":
        public(routes[0].app)
        assert (await there.ask("GET", path)).text == "open"


async def test_middleware_around_all_endpoints_makes_all_private(site):
    """It may lead a request elsewhere; Starlette's own middleware does not."""
    assert (await site(*rows(), middleware=[Middleware(Passing)]).ask("GET", "/open")).status_code == 401
    assert (await site(*rows(), middleware=[Middleware(GZipMiddleware)]).ask("GET", "/open")).text == "open"


async def test_a_developers_route_for_everything_is_private_where_reflex_is_open(site, sign_in):
    """The path of a page, of the health check or of the socket does not make that route public."""
    there = site(Route("/{path:path}", said("everything"), methods=["GET", "POST"]))
    for path in ("/", "/ping", "/_event/", "/_upload"):
        assert (await there.ask("GET", path)).status_code == 401, path
        assert (await there.ask("GET", path, owner=True)).text == "everything", path


ORIGINS = {
    "our page": (OURS, True),
    "a sibling": ({"Origin": "http://localhost:3999"}, False),
    "null": ({"Origin": "null"}, False),
    "two": ([("Origin", APP), ("Origin", "http://evil.example")], False),
    "nobody": ({}, False),
}


@pytest.mark.parametrize("sender", ORIGINS)
@pytest.mark.parametrize("method", [*METHODS, "TRACE", "PROPFIND"])
async def test_what_changes_something_needs_our_exact_origin(site, sender, method):
    """With a session cookie, because a form on another port sends it too; reading needs no Origin."""
    headers, is_ours = ORIGINS[sender]
    endpoints = [Route(f"/{name}", mark(said("done")), methods=[method]) for name, mark in MARKS.items()]
    there = site(*endpoints)
    headers = httpx.Headers([*(headers.items() if isinstance(headers, dict) else headers), ("Cookie", there.cookie)])
    is_read = method == "GET"
    for name, passes in (
        ("closed", is_ours or (is_read and sender == "nobody")),
        ("open", is_ours or is_read),
        ("anywhere", True),
    ):
        answer = await there.ask(method, f"/{name}", headers=headers)
        assert (answer.status_code, answer.text) == ((200, "done") if passes else (403, REFUSED)), name


REFUSED = "Only for the pages of this site."
MARKS = {"closed": lambda endpoint: endpoint, "open": public, "anywhere": cross_origin}


async def test_a_client_that_is_no_browser_needs_no_origin_where_it_needs_no_session(site):
    """A public POST needs no cookie and no Origin; with a session cookie, even a bad one, it needs the Origin."""
    there = site(Route("/hook", public(said("done")), methods=["POST"]))
    assert (await there.ask("POST", "/hook", headers={})).text == "done"
    for cookie in ("azure_auth_session=x", "a=b; azure_auth_session=", f"{there.cookie}; {there.cookie}"):
        assert (await there.ask("POST", "/hook", headers={"Cookie": cookie})).status_code == 403
    assert (await there.ask("POST", "/hook", headers={"Cookie": "theirs=1"})).text == "done"


@pytest.mark.parametrize("asked_by", ["same-site", "cross-site", "same-origin", "none"])
@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("a page in a tab", NAVIGATION),
        ("an image", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
        ("a frame", {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}),
        ("a prefetch", {**NAVIGATION, "Sec-Purpose": "prefetch"}),
        ("our page elsewhere", {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", **OURS}),
    ],
)
async def test_other_sites_load_no_private_answer(site, asked_by, what, headers):
    """Except by a link that opens a tab, and by our own pages, which have another port in development."""
    told: list[object] = []

    def telling() -> Callable[[Request], PlainTextResponse]:
        return lambda request: told.append(who(request)) or PlainTextResponse("told")

    there = site(Route("/closed", telling()), Route("/open", public(telling())))
    is_let = asked_by in ("same-origin", "none") or what in ("a page in a tab", "our page elsewhere")
    headers = {**headers, "Sec-Fetch-Site": asked_by}
    answer = await there.ask("GET", "/closed", owner=True, headers=headers)
    assert answer.status_code == (200 if is_let else 403)
    assert (await there.ask("GET", "/open", owner=True, headers=headers)).status_code == 200
    assert told[-1] == (ADA if is_let else None)


async def test_an_endpoint_knows_who_asks_and_sees_no_cookie_of_ours(site):
    """Other cookies stay; all of ours are removed; an anonymous client is None."""
    seen: list[tuple[object, dict[str, str], str]] = []

    def look() -> Callable[[Request], PlainTextResponse]:
        return lambda it: seen.append((who(it), it.cookies, str(it.scope))) or PlainTextResponse()

    there = site(Route("/closed", look()), Route("/open", public(look())), Route("/hook", cross_origin(look())))
    ours = f"{there.cookie}; azure_auth_browser=b; azure_auth_flow_00=f; azure_auth_known=k"
    for path in ("/closed", "/open", "/hook"):
        await there.ask("GET", path, headers={**OURS, "Cookie": f"theirs=1; {ours}; more=2=3"})
        assert seen[-1][:2] == (None if path == "/hook" else ADA, {"theirs": "1", "more": "2=3"})
        assert there.cookie[-43:] not in seen[-1][2]
    await there.ask("GET", "/open", headers={"Cookie": "azure_auth_session=x; theirs=1"})
    assert seen[-1][:2] == (None, {"theirs": "1"})


async def test_a_full_jar_of_others_locks_nobody_out(site):
    """60 kB of cookies of a sibling site are removed, and the user gets the answer; above 64 kB, an explanation."""
    seen: list[int] = []

    async def look(request: Request) -> PlainTextResponse:
        seen.append(len(request.headers.get("cookie", "")))
        return PlainTextResponse(who(request).name)

    there = site(Route("/closed", look))
    for size, status in ((7_000, 200), (60_000, 200), (65_000, 431)):
        jar = "; ".join(f"theirs{number:04}={'x' * 88}" for number in range(size // 100))
        answer = await there.ask("GET", "/closed", headers={"Cookie": f"{jar}; {there.cookie}"})
        assert answer.status_code == status, size
    assert answer.text.startswith("Your browser sends too many cookies")
    assert [bool(size) for size in seen] == [True, False]


async def connected(site: Site, path: str, headers: dict[str, str], *, hold: asyncio.Event | None = None) -> list[dict]:
    """Shake hands; return what was sent."""
    sent: list[dict] = []
    messages = [{"type": "websocket.connect"}]

    async def receive() -> dict:
        if messages:
            return messages.pop(0)
        if hold:
            await hold.wait()
        while len(sent) < 2 and "websocket.close" not in [message["type"] for message in sent]:
            await asyncio.sleep(0)
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "path": path, "query_string": b"", "headers": raw, "client": ("127.0.0.1", 1)}
    await site.connections(scope, receive, send)
    return sent


@pytest.mark.parametrize("sender", ORIGINS)
@pytest.mark.parametrize("owner", [True, False])
async def test_a_developers_websocket_is_as_private_as_a_request(site, sender, owner):
    """`@public` opens it to anonymous clients, a session to its user; a page of another origin gets neither."""
    headers, is_ours = ORIGINS[sender]
    if sender == "two":
        headers = {"Origin": "http://evil.example"}
    there = site(*(WebSocketRoute(f"/{name}", mark(echoing())) for name, mark in MARKS.items()))
    headers = {**headers, **({"Cookie": there.cookie} if owner else {})}
    expected = {
        "closed": owner and is_ours,
        "open": is_ours or (sender == "nobody" and not owner),
        "anywhere": True,
    }
    for name, is_let in expected.items():
        sent = await connected(there, f"/{name}", headers)
        assert sent[0]["type"] == ("websocket.accept" if is_let else "websocket.close"), name
        if is_let:
            assert sent[1]["text"] == str(ADA if owner and name != "anywhere" else None)
    assert (await connected(there, "/nothing", headers))[0]["type"] == "websocket.close" or (owner and is_ours)


def echoing() -> Callable[..., object]:
    """A new websocket endpoint."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(str(who(websocket)))
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()

    return endpoint


@pytest.mark.parametrize("end", ["the session", "the cookie's value"])
async def test_a_websocket_ends_with_its_session_or_cookie_value(site, end):
    """Whatever its handler waits for; it is closed with 1008, so the page can reconnect."""
    there = site(WebSocketRoute("/closed", echoing()))
    hold = asyncio.Event()
    task = asyncio.create_task(connected(there, "/closed", {"Cookie": there.cookie, **OURS}, hold=hold))
    while not there.streams._by_session:
        await asyncio.sleep(0)
    ((stream,),) = there.streams._by_session.values()
    assert stream.endless
    if end == "the session":
        await there.sessions.end(stream.session, "signed_out")
    else:
        stream.handle = "of an earlier value"
        there.streams.stop_if_over(stream)
    sent = await asyncio.wait_for(task, 2)
    assert sent[-1] == {"type": "websocket.close", "code": 1008}
    assert not there.streams._by_session
    hold.set()


async def test_the_endpoints_of_readme_run_as_they_stand(site):
    """Pasted into an app, they are private, public, open to all origins, and mounted."""
    text = (ROOT / "README.md").read_text().partition("## Add an endpoint")[2]
    (code,) = re.findall(r"```python\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    api = Starlette()
    exec(compile(code, "README.md", "exec"), {"api": api, "public": public})  # what the file has already
    there = site(*api.routes)
    assert (await there.ask("GET", "/api/report")).status_code == 401
    assert (await there.ask("GET", "/api/report", owner=True)).json() == {"for": "Ada Lovelace"}
    for path in ("/api/status", "/shop/prices"):
        assert (await there.ask("GET", path)).json() == {"ok": True}
    foreign = {"Origin": "https://other.example"}
    assert (await there.ask("POST", "/api/hook", owner=True, headers=foreign, content=b"xyz")).json() == {"bytes": 3}
    headers = {"Cookie": there.cookie, **OURS}
    assert (await connected(there, "/api/live", headers))[1]["text"] == "Hello Ada Lovelace"
    assert (await connected(there, "/api/live", OURS))[0]["type"] == "websocket.close"
