"""A page as a developer adds it: nothing in it asks who is there, but for the line that shows the person."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import reflex as rx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from azure_auth.auth import State, cross_origin, public, who
from azure_auth.components.frame import frame, heading

CANARY = "salaries-of-everybody"
WORK = Path(".data/work")
"""What handlers did, besides changing state: one line each."""
QUERIES = Path(".data/queries")
"""A line for each time that a var asked a database."""


def note(what: str) -> None:
    WORK.parent.mkdir(exist_ok=True)
    with WORK.open("a") as work:
        work.write(f"{what}\n")


class Reports(State):
    """A page's own state that shows something of the person."""

    rows: list[str] = []
    ticks: int = 0

    @rx.var(cache=False)
    def owner(self) -> str:
        who = self._who()
        return f"Reports for {who.name}" if who else ""

    @rx.event
    def load(self):
        note("load")
        self.rows = [CANARY]

    @rx.event
    def add(self, row: str):
        note("add")
        self.rows = [*self.rows, row]

    @rx.event(background=True)
    async def tick(self):
        for _ in range(200):
            note("tick")
            async with self:
                self.ticks += 1
            await asyncio.sleep(0.05)

    @rx.event
    async def slow(self):
        note("slow begins")
        await asyncio.sleep(1.5)
        note("slow ends")
        self.rows = ["slow"]

    @rx.event
    def breaks(self):
        raise ZeroDivisionError("text of the exception")

    @rx.event
    async def receive(self, files: list[rx.UploadFile]):
        note("receive")
        self.rows = [(await file.read()).decode() for file in files]


class Plain(rx.State):
    """A state that knows nothing of sign-in."""

    opened: int = 0

    @rx.var(cache=False)
    def computed(self) -> str:
        return f"{CANARY} computed" if self.opened >= 0 else ""

    @rx.var
    def cached(self) -> str:
        return f"{CANARY} cached {self.opened}"

    @rx.event
    def open(self):
        note("open")
        self.opened += 1


@public
class Guests(rx.State):
    """A state of a page for everybody."""

    names: list[str] = []
    colour: str = rx.LocalStorage("green")
    tongue: str = rx.Cookie("en")

    @rx.event
    @public
    async def leave(self, files: list[rx.UploadFile]):
        note("leave")
        self.names = [*self.names, *[str(file.name) for file in files]]

    @rx.event
    async def take(self, files: list[rx.UploadFile]):
        note(f"take {len(files)}")


class Drawer(rx.State):
    """What a person's browser keeps for a page that needs somebody signed in."""

    colour: str = rx.LocalStorage("red")


@public
def guests() -> rx.Component:
    return frame(
        heading("Guests"),
        rx.foreach(Guests.names, rx.el.p),
        rx.el.p(Guests.colour, " ", Guests.tongue, " ", Drawer.colour),
        rx.upload(rx.el.p("Drop"), id="guest"),
        rx.el.button("Leave", on_click=Guests.leave(rx.upload_files(upload_id="guest"))),
    )


class Costly(rx.State):
    """A state with a var that asks a database, and a handler with types."""

    slid: list[float] = []

    @rx.var(cache=False)
    def rows_there_are(self) -> int:
        QUERIES.parent.mkdir(exist_ok=True)
        with QUERIES.open("a") as queries:
            queries.write("query\n")
        return 7

    @rx.event
    def count(self, step: int, more: list[str], by: dict[str, int] | None = None):
        note(f"count {step} {len(more)} {by}")

    @rx.event
    def slide(self, value: list[int | float]):
        """Keep how many values came, and the last one."""
        self.slid = [self.slid[0] + 1 if self.slid else 1, value[0]]


class Tally(rx.ComponentState):
    """A component with a state of its own."""

    kept: str = f"{CANARY} of a component"

    @rx.var
    def told(self) -> str:
        return f"{CANARY} told by a component"

    @classmethod
    def get_component(cls) -> rx.Component:
        return rx.el.p(cls.kept, cls.told)


def reports() -> rx.Component:
    return frame(
        heading("Reports"),
        rx.el.p(Reports.owner, id="owner"),
        rx.el.p(Costly.rows_there_are, id="rows"),
        rx.el.p(Plain.computed, " ", Plain.cached, id="plain"),
        rx.foreach(Reports.rows, rx.el.p),
        rx.el.p(Reports.ticks, id="ticks"),
        Tally.create(),
        rx.el.input(aria_label="Draft"),
        rx.el.button("Tick", on_click=Reports.tick),
        rx.el.button("Break", on_click=Reports.breaks),
        rx.el.button("Add", on_click=Reports.add("one more")),
        rx.upload(rx.el.p("Drop"), id="drop"),
        rx.el.button("Upload", on_click=Reports.receive(rx.upload_files(upload_id="drop"))),
    )


async def _lines(number: int, wait: float) -> AsyncIterator[str]:
    for _ in range(number):
        await asyncio.sleep(wait)
        yield "a line of text\n"


async def figures_for_all(_: Request) -> PlainTextResponse:
    return PlainTextResponse("for all")


async def stream(_: Request) -> StreamingResponse:
    return StreamingResponse(_lines(900, 0.1), media_type="text/event-stream")


async def download(_: Request) -> StreamingResponse:
    return StreamingResponse(_lines(20, 0.1), headers={"Content-Length": str(20 * len("a line of text\n"))})


async def figures(_: Request) -> PlainTextResponse:
    return PlainTextResponse(CANARY)


@cross_origin
async def hook(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{who(request)} {len(await request.body())}")


async def written(request: Request) -> PlainTextResponse:
    note("written")
    return PlainTextResponse(f"{who(request)} {len(await request.body())}")


def socket_endpoint(name: str) -> Callable[[WebSocket], Awaitable[None]]:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        person = who(websocket)
        await websocket.send_text(f"{name} {person.name if person else None}")
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    return endpoint


@public
async def waits(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("waiting")
    await websocket.receive_text()


@public
async def pushes(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text("tick")
        await asyncio.sleep(0.05)


async def later(_: Request) -> PlainTextResponse:
    await asyncio.sleep(1.5)
    return PlainTextResponse(CANARY)


def add(app: rx.App, api: Starlette) -> None:
    app.add_page(reports, route="/reports", title="Reports", on_load=[Reports.load, Plain.open])
    app.add_page(guests, route="/guests", title="Guests")
    api.routes.append(Route("/api/both", public(figures_for_all)))
    api.routes.append(Route("/api/both", written, methods=["POST"]))
    api.routes.append(Route("/api/hook", hook, methods=["POST"]))
    api.routes.append(WebSocketRoute("/ws/waits", waits))
    api.routes.append(WebSocketRoute("/ws/pushes", pushes))
    api.routes.append(WebSocketRoute("/ws/open", public(socket_endpoint("open"))))
    api.routes.append(WebSocketRoute("/ws/closed", socket_endpoint("closed")))
    app.add_page(frame(heading("Built already")), route="/built", title="Built")
    for route in (figures, stream, download, later):
        api.routes.append(Route(f"/api/{route.__name__}", route))
