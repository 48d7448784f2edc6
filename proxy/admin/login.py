"""Pages to log in. A GET changes nothing; changes need a POST from one of our own pages.

The exceptions are the two GETs that carry a secret which counts once: a ticket begins the login of a command,
a callback ends a login.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Final

from aiohttp import web

from proxy.admin import access, forms, navigation, pages, peers
from proxy.admin.account_pages import STORE_FAILED, AccountPages
from proxy.admin.isolation import FEED, MARKS
from proxy.admin.live import STREAMS, event
from proxy.errors import LoginFailed, StoreError
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.login.devices import DeviceLogin
from proxy.tokens.login.ends import Cancelled, End
from proxy.tokens.login.logins import CALLBACK, DEVICE, TICKET_USED
from proxy.tokens.login.pending import UnknownLogin
from proxy.tokens.login.takeover import Takeover

NO_DEVICE_LOGIN: Final = (
    "This browser waits for no login on another device: it was started elsewhere, is over, or the server has "
    "been restarted since. Start it again"
)
FAILED: Final = "Login failed"


class LoginPages(AccountPages):
    def routes(self) -> list[web.RouteDef]:
        routes = self.callback_routes()
        for tail in ("{credential}", "{credential}/{account}"):
            routes += [
                web.get(f"/login/{tail}", self.explain),
                web.post(f"/login/{tail}", self.begin),
                web.get(f"{FEED}/login/{tail}", self.device_events, allow_head=False),
            ]
        return routes

    def command_routes(self) -> list[web.RouteDef]:
        """Sufficient for a login that a command has begun."""
        return [*self.callback_routes(), web.get("/login/{credential}/{account}", self.accept)]

    def callback_routes(self) -> list[web.RouteDef]:
        return [
            web.get(CALLBACK, self.callback),
            web.get(f"{CALLBACK}/{{credential}}", self.callback),
            web.post(CALLBACK, self.decide),
        ]

    async def explain(self, request: web.Request) -> web.Response:
        if "ticket" in request.query:
            navigation.check_name(request, self.public_url)
            return await self.accept(request)
        account = self.account(request)
        navigation.check_name(request, self.public_url)
        # from the form on the status page
        if "account" in request.query and "account" not in request.match_info:
            raise web.HTTPSeeOther(f"/login/{self.named(request, request.query['account']).key}")
        if DEVICE in request.query:
            return await self._on_device(request, account)
        ways_in = access.ways_in(request, access.visitor_of(request))
        redirect_uri = self.services.logins.redirect_uri(account.key.credential)
        routes = self.routes_of(account.key)
        render = partial(pages.login_page, account, redirect_uri, self.home, routes=routes, ways_in=ways_in)
        response = access.form_page(request, render)
        response.headers.update(access.LOGIN_HEADERS)
        return response

    async def _on_device(self, request: web.Request, account: Account) -> web.Response:
        """The codes of this browser's login on another device, or its end."""
        key, browser = account.key, access.browser_of(request)
        login = self._device_login(key, browser)
        if login is None:
            again = self.login_page(key)
            return self.failed(FAILED, NO_DEVICE_LOGIN, status=404, again=again)
        if login.is_over:
            return await self._end(request, "", login.ended())
        feed, now = request.app[MARKS].url(browser, f"/login/{key}"), self.services.clock.wall()
        return access.form_page(request, partial(pages.device_page, login, self.home, feed=feed, now=now))

    def _device_login(self, key: AccountId, browser: str) -> DeviceLogin | None:
        return self.services.logins.on_device(key, browser=browser) if browser else None

    async def device_events(self, request: web.Request) -> web.StreamResponse:
        """A stream that ends with the login: its last page."""
        key = self.account(request).key
        login = self._device_login(key, access.browser_of(request))
        is_told = False

        async def following() -> bytes | None:
            nonlocal is_told
            if is_told or login is None:
                return None
            await login.wait()
            page = await self._end(request, "", login.ended())
            is_told = True
            return event("end", page.text or "")

        return await request.app[STREAMS].send(request, following)

    async def begin(self, request: web.Request) -> web.Response:
        await access.check_post(request, self.public_url)
        key, browser = self.account(request).key, access.browser_of(request)
        if not browser or navigation.is_posted_elsewhere(request, self.public_url):
            return access.see_other(f"{self.public_url}/login/{key}")
        return await self._begun(key, self.services.logins.begin(key, browser=browser))

    async def accept(self, request: web.Request) -> web.Response:
        """The invitation of a command. Unknown visitors may ask, so it tells no name of a credential."""
        navigation.check_meant(request)
        try:
            key = self.account(request).key
        except web.HTTPNotFound:
            return self.failed(FAILED, TICKET_USED, status=400)
        browser = access.browser_of(request) or access.new_browser(request)
        ticket = request.query.get("ticket", "")
        is_own = peers.is_own(peers.uid_of(request.transport))
        accepting = self.services.logins.accept(key, ticket, browser=browser, by_own_user=is_own)
        response = await self._begun(None, accepting)
        access.set_browser(request, response, browser)
        return response

    async def _begun(self, key: AccountId | None, beginning: Awaitable[str]) -> web.Response:
        """`key`: of the account, if its page can begin the login again."""
        try:
            return access.see_other(await beginning)
        except LoginFailed as error:
            status, again = (
                400 if isinstance(error, UnknownLogin) else 502,
                self.login_page(key) if key else "",
            )
            return self.failed(FAILED, str(error), status=status, again=again)
        except StoreError:
            return self.failed(FAILED, STORE_FAILED, status=503)

    async def callback(self, request: web.Request) -> web.Response:
        navigation.check_meant(request)
        browser = access.browser_of(request)
        ending = self.services.logins.finish(request.query, browser, path=request.path)
        return await self._end(request, browser, ending)

    async def decide(self, request: web.Request) -> web.Response:
        """Replace the tokens of an account of another person, or cancel, as the form says."""
        await access.check_post(request, self.public_url)
        browser, form = access.browser_of(request), await forms.read(request)
        ticket, replace = form.get("ticket", ""), form.get("decision") == "replace"
        deciding = self.services.logins.decide(ticket, browser, replace=replace)
        return await self._end(request, browser, deciding)

    async def _end(self, request: web.Request, browser: str, ending: Awaitable[End]) -> web.Response:
        try:
            end = await ending
        except LoginFailed as error:
            return self.failed(FAILED, str(error), status=400)
        except StoreError:
            return self.failed(FAILED, STORE_FAILED, status=503)
        if isinstance(end, Cancelled):
            sentence = f"Nothing has changed: {end.key} keeps its tokens."
            return access.html(pages.message("Cancelled", sentence, self.home))
        if isinstance(end, Takeover):
            render, status = partial(pages.undecided_page, end, self.home), 409
        else:
            diagnosis = self.services.tokens.account(*end.key).diagnosis()
            render, status = partial(pages.logged_in_page, end.key, end.principal, diagnosis, self.home), 200
        return access.form_page(request, render, browser=browser, status=status)
