"""Logging in and out on the page. A GET starts nothing; what changes something is a POST from our own page."""

from __future__ import annotations

from aiohttp import web

from proxy.admin import access, pages
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import LoginFailed, StoreError, TokenError
from proxy.state import State
from proxy.tokens.account import Account

_STORE_FAILED = "The token store can't be used now; see the log."


class LoginPages:
    def __init__(self, state: State) -> None:
        self._state = state
        self._public_url = state.config.public_url
        self._secure = self._public_url.startswith("https:")

    def routes(self) -> list[web.RouteDef]:
        routes = [web.get("/callback", self.callback)]
        for tail in ("{credential}", "{credential}/{account}"):
            routes += [
                web.get(f"/login/{tail}", self.explain),
                web.post(f"/login/{tail}", self.begin),
                web.post(f"/logout/{tail}", self.logout),
                web.post(f"/refresh/{tail}", self.refresh),
            ]
        return routes

    async def explain(self, request: web.Request) -> web.Response:
        account = self._account(request)
        browser = access.browser_of(request)
        response = _html(pages.login_page(account, access.csrf_token(browser)))
        access.remember(response, browser, secure=self._secure)
        return response

    async def begin(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        account = self._account(request)
        try:
            begun = await self._state.logins.begin(account.key, browser=access.browser_of(request))
        except LoginFailed as error:
            return _failed(str(error), status=502)
        except StoreError:
            return _failed(_STORE_FAILED, status=503)
        return web.Response(status=303, headers={"Location": begun.url})

    async def callback(self, request: web.Request) -> web.Response:
        browser = request.cookies.get(access.BROWSER_COOKIE, "")
        try:
            key = await self._state.logins.finish(request.query, browser)
        except LoginFailed as error:
            return _failed(str(error), status=400)
        except StoreError:
            return _failed(_STORE_FAILED, status=503)
        sentence = f"{key} now has tokens, and they are kept fresh. You can close this page."
        return _html(pages.message_page("Logged in", sentence))

    async def logout(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        try:
            await self._state.logins.log_out(self._account(request).key)
        except StoreError:
            return _failed(_STORE_FAILED, status=503)
        return _back()

    async def refresh(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        try:
            await self._state.tokens.refresh_now(self._account(request))
        except TokenError as error:
            return _failed(str(error), status=503)
        return _back()

    def _account(self, request: web.Request) -> Account:
        credential = request.match_info["credential"]
        name = request.match_info.get("account", "default")
        if credential not in self._state.config.credentials or not ACCOUNT_NAME.fullmatch(name):
            raise web.HTTPNotFound(
                text="the configuration has no such credential, or this is no account's name\n"
            )
        return self._state.tokens.account(credential, name)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status)


def _failed(sentence: str, *, status: int) -> web.Response:
    return _html(pages.message_page("That did not work", sentence[:1].upper() + sentence[1:] + "."), status)


def _back() -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})
