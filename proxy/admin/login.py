"""Pages to log in and out. A GET changes nothing; changes need a POST from one of our own pages.

The exceptions are the two GETs that carry a secret which counts once: a ticket begins the login of a command,
a callback ends a login.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp import web

from proxy.admin import access, forms, navigation, pages, peers
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import LoginFailed, StoreError, TokenError
from proxy.services import Services
from proxy.tokens.account import Account
from proxy.tokens.login.ends import Cancelled, End
from proxy.tokens.login.logins import CALLBACK, DEVICE, TICKET_USED
from proxy.tokens.login.pending import UnknownLogin
from proxy.tokens.login.takeover import Takeover

STORE_FAILED: Final = "The token store is not available. See the log"
NO_DEVICE_LOGIN: Final = (
    "This browser waits for no login on another device: it was started elsewhere, is over, or the server has "
    "been restarted since. Start it again"
)
NO_ACCOUNT: Final = "The configuration has no such credential, or the account name is invalid"


class LoginPages:
    def __init__(self, services: Services, *, has_status_page: bool = True) -> None:
        self._services = services
        self._public_url = services.config.public_url
        self._home = f"{self._public_url}/" if has_status_page else ""

    def routes(self) -> list[web.RouteDef]:
        routes = self.callback_routes()
        for tail in ("{credential}", "{credential}/{account}"):
            routes += [
                web.get(f"/login/{tail}", self.explain),
                web.post(f"/login/{tail}", self.begin),
                web.post(f"/logout/{tail}", self.logout),
                web.post(f"/refresh/{tail}", self.refresh),
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
            navigation.check_name(request, self._public_url)
            return await self.accept(request)
        account = self._account(request)
        navigation.check_name(request, self._public_url)
        # from the form on the status page
        if "account" in request.query and "account" not in request.match_info:
            raise web.HTTPSeeOther(f"/login/{self._named(request, request.query['account']).key}")
        if DEVICE in request.query:
            return await self._on_device(request, account)
        ways_in = access.ways_in(request, access.visitor_of(request))
        redirect_uri = self._services.logins.redirect_uri(account.key.credential)
        render = partial(pages.login_page, account, redirect_uri, self._home, ways_in=ways_in)
        response = access.form_page(request, render)
        response.headers.update(access.LOGIN_HEADERS)
        return response

    async def _on_device(self, request: web.Request, account: Account) -> web.Response:
        """The codes of this browser's login on another device, or its end."""
        browser = access.browser_of(request)
        login = self._services.logins.on_device(account.key, browser=browser) if browser else None
        if login is None:
            return self._failed(NO_DEVICE_LOGIN, status=404)
        if not login.is_over:
            return access.form_page(request, partial(pages.device_page, login, self._home))
        return await self._end(request, "", login.ended())

    async def begin(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        key, browser = self._account(request).key, access.browser_of(request)
        if not browser or navigation.is_posted_elsewhere(request, self._public_url):
            return access.see_other(f"{self._public_url}/login/{key}")
        return await self._begun(self._services.logins.begin(key, browser=browser))

    async def accept(self, request: web.Request) -> web.Response:
        """The invitation of a command. Unknown visitors may ask, so it tells no name of a credential."""
        navigation.check_meant(request)
        try:
            key = self._account(request).key
        except web.HTTPNotFound:
            return self._failed(TICKET_USED, status=400)
        browser = access.browser_of(request) or access.new_browser(request)
        ticket = request.query.get("ticket", "")
        is_own = peers.is_own(peers.uid_of(request.transport))
        accepting = self._services.logins.accept(key, ticket, browser=browser, by_own_user=is_own)
        response = await self._begun(accepting)
        access.set_browser(request, response, browser)
        return response

    async def _begun(self, beginning: Awaitable[str]) -> web.Response:
        try:
            return access.see_other(await beginning)
        except LoginFailed as error:
            return self._failed(str(error), status=400 if isinstance(error, UnknownLogin) else 502)
        except StoreError:
            return self._failed(STORE_FAILED, status=503)

    async def callback(self, request: web.Request) -> web.Response:
        navigation.check_meant(request)
        browser = access.browser_of(request)
        ending = self._services.logins.finish(request.query, browser, path=request.path)
        return await self._end(request, browser, ending)

    async def decide(self, request: web.Request) -> web.Response:
        """Replace the tokens of an account of another person, or cancel, as the form says."""
        await access.check_post(request, self._public_url)
        browser, form = access.browser_of(request), await forms.read(request)
        ticket, replace = form.get("ticket", ""), form.get("decision") == "replace"
        deciding = self._services.logins.decide(ticket, browser, replace=replace)
        return await self._end(request, browser, deciding)

    async def _end(self, request: web.Request, browser: str, ending: Awaitable[End]) -> web.Response:
        try:
            end = await ending
        except LoginFailed as error:
            return self._failed(str(error), status=400)
        except StoreError:
            return self._failed(STORE_FAILED, status=503)
        if isinstance(end, Cancelled):
            sentence = f"Nothing has changed: {end.key} keeps its tokens."
            return access.html(pages.message("Cancelled", sentence, self._home))
        if isinstance(end, Takeover):
            render, status = partial(pages.undecided_page, end), 409
        else:
            diagnosis = self._services.tokens.account(*end.key).diagnosis()
            render, status = partial(pages.logged_in_page, end.key, end.principal, diagnosis, self._home), 200
        return access.form_page(request, render, browser=browser, status=status)

    async def logout(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        try:
            remains = await self._services.logins.log_out(self._account(request).key)
        except LoginFailed as error:
            return self._failed(str(error), status=400)
        except StoreError:
            return self._failed(STORE_FAILED, status=503)
        if remains:
            sentence = f"{remains[:1].upper()}{remains[1:]}."
            return access.html(pages.message("Logged out", sentence, self._home))
        return _to_status_page()

    async def refresh(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        try:
            await self._services.tokens.refresh_now(self._account(request))
        except TokenError as error:
            return self._failed(str(error), status=503)
        return _to_status_page()

    def _account(self, request: web.Request) -> Account:
        return self._named(request, request.match_info.get("account", "default"))

    def _named(self, request: web.Request, name: str) -> Account:
        """Raises HTTPNotFound."""
        credential = request.match_info["credential"]
        if credential in self._services.config.credentials and ACCOUNT_NAME.fullmatch(name):
            with suppress(TokenError):  # a reload has just removed it
                return self._services.tokens.account(credential, name)
        page = pages.message("Not found", NO_ACCOUNT, self._home)
        raise web.HTTPNotFound(text=page, content_type="text/html")

    def _failed(self, sentence: str, *, status: int) -> web.Response:
        return access.html(pages.message("Request failed", sentence, self._home), status)


def _to_status_page() -> web.Response:
    return access.see_other("/")
