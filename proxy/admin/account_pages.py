"""What the pages about one account have in common."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from aiohttp import web

from proxy.admin import access, pages
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import TokenError
from proxy.services import Services
from proxy.store.base import AccountId
from proxy.tokens.account import Account

STORE_FAILED: Final = "The token store is not available. See the log"
NO_ACCOUNT: Final = "The configuration has no such credential, or the account name is invalid"


class AccountPages:
    def __init__(self, services: Services, *, has_status_page: bool = True) -> None:
        self.services = services
        self.public_url = services.config.public_url
        self.home = f"{self.public_url}/" if has_status_page else ""

    def account(self, request: web.Request) -> Account:
        """The account in the path. Raises HTTPNotFound."""
        return self.named(request, request.match_info.get("account", "default"))

    def named(self, request: web.Request, name: str) -> Account:
        """The account `name` of the credential in the path. Raises HTTPNotFound."""
        credential = request.match_info["credential"]
        if credential in self.services.config.credentials and ACCOUNT_NAME.fullmatch(name):
            with suppress(TokenError):  # a reload has just removed it
                return self.services.tokens.account(credential, name)
        page = pages.message("Not found", NO_ACCOUNT, self.home)
        raise web.HTTPNotFound(text=page, content_type="text/html")

    def routes_of(self, key: AccountId) -> list[str]:
        """The names of the routes that use the account, or may."""
        return [
            route.name
            for route in self.services.config.routes
            if route.credential == key.credential
            and (route.account == key.account or not isinstance(route.account, str))
        ]

    def login_page(self, key: AccountId) -> str:
        """Where a person begins to log in to the account."""
        return f"{self.public_url}/login/{key}"

    def failed(
        self, title: str, sentence: str, *, status: int, again: str = "", word: str = ""
    ) -> web.Response:
        """`again`: the address of the next step, if there is one; `word`: on its button."""
        page = pages.message(title, sentence, self.home, again=again, again_word=word or "Try again")
        return access.html(page, status)
