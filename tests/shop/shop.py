"""Somebody's Reflex app, with a page, a state and an HTTP endpoint. It knows nothing of sign-in."""

import reflex as rx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Basket(rx.State):
    """What somebody wants to buy."""

    goods: list[str] = []

    @rx.event
    def add(self, goods: str):
        """Put something in."""
        self.goods = [*self.goods, goods]


def index() -> rx.Component:
    """Return the page."""
    return rx.el.main(
        rx.el.h1("Shop"),
        rx.el.button("Add tea", on_click=Basket.add("tea")),
        rx.el.ul(rx.foreach(Basket.goods, rx.el.li)),
    )


async def stock(_: Request) -> JSONResponse:
    """Return what there is."""
    return JSONResponse({"tea": 3})


app = rx.App(api_transformer=Starlette(routes=[Route("/api/stock", stock)]))
app.add_page(index, route="/", title="Shop")
