"""Pages to disconnect an account and to refresh its token. A GET changes nothing."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from cachetools import TTLCache

from proxy import tasks
from proxy.admin import access, forms, navigation, pages
from proxy.admin.account_pages import STORE_FAILED, AccountPages
from proxy.admin.sessions import Ground
from proxy.admin.status_page import link, read_query
from proxy.errors import LoginFailed, ProxyError, StoreError, TokenError
from proxy.services import Services
from proxy.store.base import AccountId

NOT_STORED: Final = "The token of {key} is in the configuration: to end its use, change or remove it there"
NOTHING: Final = "There is nothing to disconnect: {key} has no tokens"
REPEATED_FOR: Final = 120.0  # seconds; a form that is sent again within them has the result of the first time
MOST_REPEATED: Final = 1000  # forms remembered; some 300 KiB


class LogoutPages(AccountPages):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        # By account and form. A double click sends a form twice, and a login may come in between.
        self._done: TTLCache[tuple[AccountId, str], asyncio.Task[str | ProxyError]] = TTLCache(
            MOST_REPEATED, REPEATED_FOR, timer=services.clock.boot
        )

    def routes(self) -> list[web.RouteDef]:
        routes: list[web.RouteDef] = []
        for tail in ("{credential}", "{credential}/{account}"):
            routes += [
                web.get(f"/logout/{tail}", self.explain),
                web.post(f"/logout/{tail}", self.log_out),
                web.post(f"/refresh/{tail}", self.refresh),
            ]
        return routes

    async def explain(self, request: web.Request) -> web.Response:
        key = self.account(request).key
        navigation.check_name(request, self.public_url)
        if not self.services.config.is_stored(key.credential):
            return access.html(pages.message("Nothing to disconnect", NOT_STORED.format(key=key), self.home))
        account = await self.services.tokens.look_at(key)
        if account.held.token is None and not account.unreadable:
            if account.behind:
                return self.failed("Disconnect failed", STORE_FAILED, status=503)
            return access.html(pages.message("Nothing to disconnect", NOTHING.format(key=key), self.home))
        ways_in = access.ways_in(request, access.visitor_of(request))
        routes = self.routes_of(key)
        render = partial(pages.logout_page, account, self.home, routes=routes, ways_in=ways_in)
        return access.form_page(request, render)

    async def log_out(self, request: web.Request) -> web.Response:
        await access.check_post(request, self.public_url)
        key = self.account(request).key
        try:
            remains = await self._once(key, await _form_of(request))
        except LoginFailed as error:
            return self.failed("Disconnect failed", str(error), status=400)
        except StoreError:
            return self.failed("Disconnect failed", STORE_FAILED, status=503)
        if remains:
            return access.html(pages.message("Disconnected", remains, self.home))
        return access.see_other("/")

    async def _once(self, key: AccountId, form: str) -> str:
        """As Logins.log_out; again for the same form, its result. A program's requests have no form."""
        if not form:
            return await self.services.logins.log_out(key)
        task = self._done.get((key, form))
        if task is None:
            task = self._done[key, form] = tasks.spawn(self._outcome(key), f"log out of {key}")
        outcome = await asyncio.shield(task)
        if isinstance(outcome, ProxyError):
            self._done.pop((key, form), None)  # so that it may be tried again
            raise outcome
        return outcome

    async def _outcome(self, key: AccountId) -> str | ProxyError:
        try:
            return await self.services.logins.log_out(key)
        except (LoginFailed, StoreError) as error:
            return error

    async def refresh(self, request: web.Request) -> web.Response:
        await access.check_post(request, self.public_url)
        account = self.account(request)
        try:
            await self.services.tokens.refresh_now(account)
        except TokenError as error:
            diagnosis = account.diagnosis()
            again = self.login_page(account.key) if diagnosis.can_log_in else ""
            sentence = diagnosis.text or str(error)
            title = f"Refresh of {account.key} failed"
            return self.failed(title, sentence, status=503, again=again, word="Reconnect")
        form = await forms.read(request) if await _form_of(request) else {}
        return access.see_other(link("/", read_query(dict(parse_qsl(form.get("view", ""))))))


async def _form_of(request: web.Request) -> str:
    """Identifies the page whose form was sent; empty for a program with the admin key."""
    visitor = access.visitor_of(request)
    if visitor is not None and visitor.ground is Ground.KEY:
        return ""
    return (await forms.read(request)).get("csrf", "")
