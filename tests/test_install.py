"""`install` on apps of all kinds: what it takes, what it refuses in words, and what of theirs stays."""

import asyncio
from collections.abc import Callable

import pytest
import reflex as rx
from fastapi import FastAPI
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext
from starlette.applications import Starlette

from azure_auth.auth import core, install
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def app_with(settings) -> Callable[..., rx.App]:
    """Makes an app with these options, and installs sign-in on it."""
    before, services = RegistrationContext.set(RegistrationContext.ensure_context().fork()), core._services

    def make(**options: object) -> rx.App:
        app = rx.App(**options)
        install(app, settings)
        return app

    yield make
    RegistrationContext.reset(before)
    core._services = services


@pytest.mark.parametrize("api", [None, Starlette(), FastAPI()], ids=lambda api: type(api).__name__)
def test_endpoints_of_either_kind_or_none_are_taken(app_with, api):
    """The app's own endpoints keep their place in front of Reflex."""
    app = app_with(api_transformer=api)
    assert api is None or app.api_transformer[-1] is api


@pytest.mark.parametrize("api", [[Starlette()], lambda inner: inner], ids=["a list", "a function"])
def test_what_cannot_be_followed_is_refused(app_with, api):
    """A middleware could answer for any path, so no path could be protected."""
    with pytest.raises(TypeError, match="Starlette or FastAPI"):
        app_with(api_transformer=api)


def test_twice_is_refused_in_words(app_with, settings: Settings):
    """The first call keeps working."""
    app = app_with()
    with pytest.raises(RuntimeError, match="already"):
        install(app, settings)


def test_a_head_of_any_sequence_is_kept(app_with):
    """Reflex takes a tuple as well as a list."""
    title = rx.el.meta(name="description", content="a shop")
    app = app_with(head_components=(title,))
    assert app.head_components[0] is title
    assert len(app.head_components) == 2


async def test_a_handler_of_exceptions_is_still_told(app_with, caplog):
    """An app that reports its errors elsewhere goes on doing so, beside our log and page."""
    told: list[Exception] = []

    def backend(exception: Exception) -> None:
        told.append(exception)

    def frontend(exception: Exception) -> None:
        told.append(exception)

    app = app_with(backend_exception_handler=backend, frontend_exception_handler=frontend)
    first, second = ValueError("one"), ValueError("two")
    context = EventContext(token="key", state_manager=None, enqueue_impl=None, emit_delta_impl=None)
    before = EventContext.set(context)
    try:
        app.backend_exception_handler(first)
        app.frontend_exception_handler(second)
        await asyncio.sleep(0)
    finally:
        EventContext.reset(before)
    assert told == [first, second]
    assert [line.partition(" ")[0] for line in caplog.messages[:2]] == ["handler_failed", "a"]
