"""Logging in and out on a page. A GET starts nothing; what changes something is a POST from our own page."""

from __future__ import annotations

from functools import partial
from typing import Final

from aiohttp import web

from proxy.admin import access, pages
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import LoginFailed, StoreError, TokenError
from proxy.state import State
from proxy.tokens.account import Account

STORE_FAILED: Final = "The token store can't be used now. See the log"
NO_ACCOUNT: Final = "The configuration has no such credential, or this is no account's name"


class LoginPages:
    def __init__(self, state: State, *, has_status_page: bool = True) -> None:
        self._state = state
        self._public_url = state.config.public_url
        self._home = f"{self._public_url}/" if has_status_page else ""

    def routes(self) -> list[web.RouteDef]:
        routes = [web.get("/callback", self.callback, allow_head=False)]  # a HEAD would use it up
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
        response = access.form_page(request, self._public_url, partial(pages.login_page, account))
        response.headers.update(access.LOGIN_HEADERS)
        return response

    async def begin(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        account = self._account(request)
        try:
            begun = await self._state.logins.begin(account.key, browser=access.browser_of(request))
        except LoginFailed as error:
            return self._failed(str(error), status=502)
        except StoreError:
            return self._failed(STORE_FAILED, status=503)
        return web.Response(status=303, headers={"Location": begun.url})

    async def callback(self, request: web.Request) -> web.Response:
        try:
            key = await self._state.logins.finish(request.query, access.browser_of(request))
        except LoginFailed as error:
            return self._failed(str(error), status=400)
        except StoreError:
            return self._failed(STORE_FAILED, status=503)
        sentence = f"Tokens for {key} are here, and are kept fresh. You can close this page."
        return _html(pages.message("Logged in", sentence, self._home))

    async def logout(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        try:
            await self._state.logins.log_out(self._account(request).key)
        except StoreError:
            return self._failed(STORE_FAILED, status=503)
        return _to_status_page()

    async def refresh(self, request: web.Request) -> web.Response:
        await access.check_post(request, self._public_url)
        try:
            await self._state.tokens.refresh_now(self._account(request))
        except TokenError as error:
            return self._failed(str(error), status=503)
        return _to_status_page()

    def _account(self, request: web.Request) -> Account:
        credential = request.match_info["credential"]
        name = request.match_info.get("account", "default")
        if credential not in self._state.config.credentials or not ACCOUNT_NAME.fullmatch(name):
            page = pages.message("Not found", NO_ACCOUNT, self._home)
            raise web.HTTPNotFound(text=page, content_type="text/html")
        return self._state.tokens.account(credential, name)

    def _failed(self, sentence: str, *, status: int) -> web.Response:
        return _html(pages.message("That did not work", sentence, self._home), status)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status)


def _to_status_page() -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})
