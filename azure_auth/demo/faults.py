"""Faults of the demo directory, switched on over HTTP: for tests, and for developers who want to watch.

POST   /faults  {"endpoint": "token", "status": 503, "headers": {"Retry-After": "60"}}
DELETE /faults  ends all of them
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth.demo.id_tokens import FORGERIES

ENDPOINTS = {
    "openid-configuration": "discovery",
    "keys": "keys",
    "authorize": "authorize",
    "token": "token",
    "logout": "logout",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong at one endpoint.

    Attributes:
        endpoint: One of the values of `ENDPOINTS`.
        delay: Seconds to wait before anything else.
        status: The HTTP status to answer with, instead of what the endpoint would say.
        headers: Headers of that answer.
        body: Text of that answer.
        aadsts: A refusal with this AADSTS number; at `authorize` it leads back to the app once a person is chosen.
        error: OAuth's error code of that refusal.
        forge: At `token`, the name of a forgery of `demo.id_tokens`.
        roll_over: At `keys`, replaces the signing key, once.
    """

    endpoint: str
    delay: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""
    aadsts: int | None = None
    error: str | None = None
    forge: str | None = None
    roll_over: bool = False


class Faults:
    """Wraps the directory; one fault for each endpoint at a time."""

    def __init__(self, app: ASGIApp, roll_over: Callable[[], None]) -> None:
        """Let everything pass to `app` until told otherwise; `roll_over` replaces the signing key."""
        self._app = app
        self._roll_over = roll_over
        self._faults: dict[str, Fault] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Apply the endpoint's fault; one that the endpoint itself must bring about is left in the scope."""
        if scope["type"] != "http":
            return
        last = scope["path"].rpartition("/")[2]
        if last == "faults":
            await (await self._control(Request(scope, receive)))(scope, receive, send)
            return
        fault = self._faults.get(ENDPOINTS.get(last, ""))
        if fault:
            await asyncio.sleep(fault.delay)
            if fault.status:
                await Response(fault.body, fault.status, dict(fault.headers))(scope, receive, send)
                return
        await self._app({**scope, "fault": fault}, receive, send)

    async def _control(self, request: Request) -> Response:
        # A foreign page's form can send no JSON, and its script no JSON without asking first.
        if request.method == "POST" and request.headers.get("content-type") == "application/json":
            try:
                fault = Fault(**await request.json())
            except (TypeError, ValueError) as why:
                return JSONResponse({"error": str(why)}, 400)
            if fault.endpoint not in ENDPOINTS.values() or (fault.forge and fault.forge not in FORGERIES):
                return JSONResponse({"endpoints": [*ENDPOINTS.values()], "forgeries": [*FORGERIES]}, 400)
            if fault.roll_over:
                self._roll_over()
            self._faults[fault.endpoint] = fault
        elif request.method == "DELETE":
            self._faults.clear()
        elif request.method != "GET":
            return JSONResponse({"error": "POST a fault as application/json, or DELETE all"}, 400)
        return JSONResponse({name: _shown(fault) for name, fault in self._faults.items()})


def _shown(fault: Fault) -> dict[str, Any]:
    return {name: getattr(fault, name) for name in Fault.__dataclass_fields__ if name != "endpoint"}
