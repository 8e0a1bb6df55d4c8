"""Redeems codes: each once, also if the page is reloaded meanwhile, here or at another worker."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from azure_auth.auth.cookies.flow_cookies import FlowCookie
from azure_auth.auth.entra.client import LONGEST_WAIT_SECONDS, Client
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.background import Background
from azure_auth.auth.sessions.flows import FLOW_SECONDS, Flow, OneTime, Outcome
from azure_auth.auth.sessions.sealing import ticket_of
from azure_auth.auth.sessions.store.contract import KNOWN, OVER
from azure_auth.errors import AuthError, FlowExpired, FlowTaken, FlowUnknown, StoreUnavailable, TooManyRequests

_POLL_SECONDS, _MAX_POLL_SECONDS = 0.2, 2.0
"""The first and the longest wait between two look-ups of an outcome; each wait is twice the one before."""
_CLOCKS_DIFFER = 60.0


class Redemptions:
    """Consumes flows, and keeps the outcome of each under its ticket."""

    def __init__(
        self, client: Client, flows: OneTime[Flow], tickets: OneTime[Outcome], clock: Callable[[], float]
    ) -> None:
        """Redeem codes through `client`; `clock` counts seconds since 1970."""
        self._client, self._flows, self._tickets, self._clock = client, flows, tickets, clock
        self._background = Background()

    async def redeem(
        self, answer: Mapping[str, str], cookie: FlowCookie, address: str, signed_in: Identity | None
    ) -> str:
        """Return the ticket of a flow. A reload cancels the caller, but not the redemption."""
        state = answer["state"]
        try:
            return await self._background.finish(self._redeem(state, answer, cookie, address))
        except FlowTaken:
            return await self._redeemed_before(state, cookie, signed_in)

    async def settle(self) -> None:
        """Wait for the redemptions that are running."""
        if self._background.tasks:
            await asyncio.wait(self._background.tasks, timeout=LONGEST_WAIT_SECONDS)

    async def _redeem(self, state: str, answer: Mapping[str, str], cookie: FlowCookie, address: str) -> str:
        try:
            flow = await self._flows.consume(state, cookie.binding)
        except FlowUnknown as unknown:
            if type(unknown) is FlowUnknown and cookie.age(self._clock()) >= FLOW_SECONDS - _CLOCKS_DIFFER:
                raise FlowExpired("by the store's clock") from None
            raise
        ticket, asked = ticket_of(state, cookie.binding), self._clock()
        try:
            identity = await self._client.redeem(flow.msal, answer)
        except AuthError as failure:
            failure.return_to = flow.return_to
            with suppress(StoreUnavailable, TooManyRequests):
                outcome = Outcome(flow.return_to, failure=failure)
                await self._tickets.put(ticket, cookie.binding, outcome, address, OVER)
            raise
        outcome = Outcome(flow.return_to, identity, asked=asked, begun=flow.begun, browser=flow.browser)
        await self._tickets.put(ticket, cookie.binding, outcome, address, KNOWN)
        return ticket

    async def _redeemed_before(self, state: str, cookie: FlowCookie, signed_in: Identity | None) -> str:
        """Return the ticket of a flow that an earlier call consumed; wait while that call, on any worker, redeems it.

        If the outcome is already known, a signed-in user gets the ticket only if it is their own.
        """
        ticket, waits = ticket_of(state, cookie.binding), 0
        while True:
            try:
                outcome = await self._tickets.peek(ticket, cookie.binding)
            except FlowTaken:  # its session was fetched
                raise
            except FlowUnknown:
                await asyncio.sleep(min(_POLL_SECONDS * 2**waits, _MAX_POLL_SECONDS))
                waits += 1
            else:
                someone_else = outcome.identity is None or (signed_in and signed_in.key != outcome.identity.key)
                if signed_in and someone_else and not waits:
                    raise FlowTaken("another session stands")
                if outcome.failure:
                    raise outcome.failure
                return ticket
            with suppress(FlowTaken):
                await self._flows.peek(state, cookie.binding)
