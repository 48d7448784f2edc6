"""Sessions for browsers: by a launch link, or by the admin key in a form."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from aiohttp import web

from proxy.admin import access, forms, gate, launch, navigation, own_errors, pages
from proxy.admin.sessions import SESSIONS
from proxy.errors import StoreError
from proxy.services import Services

WRONG_KEY: Final = "That is not the admin key."
TOO_MANY: Final = "Too many wrong keys came from where you are. Wait a few seconds."
USED: Final = (
    f"This link was used already, or is older than {launch.VALID_SAID}. Run `token-proxy open` for another"
)
STORE_FAILED: Final = "The token store is not available. See the log"
_OWN_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~@+-]+/?)*")  # of a page; never of another host


class SignInPages:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._public_url = services.config.public_url

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(gate.SIGN_IN, self.page),
            web.post(gate.SIGN_IN, self.sign_in),
            web.post("/sign-out", self.sign_out),
            web.get(f"{launch.PATH}/{{token}}", self.launch),
        ]

    async def page(self, request: web.Request) -> web.Response:
        return _form(request, back_to=_own_path(request.query.get("next", "")))

    async def sign_in(self, request: web.Request) -> web.Response:
        await access.check_form(request, self._public_url)
        form, sessions = await forms.read(request), request.app[SESSIONS]
        back_to = _own_path(form.get("next", ""))
        if self._services.config.server.admin_key is None:
            return _form(request, back_to=back_to)
        try:
            is_admin = sessions.try_key(request, form.get("key", "").strip())
        except web.HTTPTooManyRequests as error:
            response = _form(request, back_to=back_to, refused=TOO_MANY, status=429)
            response.headers["Retry-After"] = error.headers["Retry-After"]
            return response
        if not is_admin:
            return _form(request, back_to=back_to, refused=WRONG_KEY, status=403)
        response = access.see_other(back_to)
        sessions.begin(response, sessions.new_browser(request), "k")
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        await access.check_form(request, self._public_url)
        response = access.see_other("/")
        request.app[SESSIONS].end(response)
        return response

    async def launch(self, request: web.Request) -> web.Response:
        """The redirect takes the token out of the address bar."""
        navigation.check_meant(request)
        try:
            is_valid = await launch.use(self._services.store, request.match_info["token"])
        except StoreError:
            return access.html(
                pages.message("Sign-in failed", STORE_FAILED, own_errors.home_of(request)), 503
            )
        sessions = request.app[SESSIONS]
        if not is_valid:
            return access.html(pages.message("Link not valid", USED, own_errors.home_of(request)), 403)
        response = access.see_other("/")
        response.headers["Referrer-Policy"] = "no-referrer"
        sessions.begin(response, sessions.browser_of(request) or sessions.new_browser(request), "l")
        return response


def _own_path(given: str) -> str:
    return given if _OWN_PATH.fullmatch(given) else "/"


def _form(request: web.Request, *, back_to: str, refused: str = "", status: int = 200) -> web.Response:
    ways_in = request.app[SESSIONS].ways_in()
    home = own_errors.home_of(request)
    render = partial(pages.sign_in_page, ways_in, home, back_to=back_to, refused=refused)
    return access.form_page(request, render, status=status)
