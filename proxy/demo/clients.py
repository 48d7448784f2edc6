"""Clients of the demo's authorization server (members as in RFC 7591)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628 section 3.4


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client, with the methods of Authlib's `ClientMixin`."""

    client_id: str
    client_secret: str = field(default="", repr=False)  # "": a public client
    auth_method: str = "client_secret_basic"  # or client_secret_post, none
    redirect_uris: tuple[str, ...] = ()
    grants: tuple[str, ...] = ("authorization_code", "refresh_token")
    scopes: tuple[str, ...] = ("api",)

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str | None:
        return self.redirect_uris[0] if len(self.redirect_uris) == 1 else None

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """The requested scopes, or all; None if the client may not have one of them."""
        wanted = scope.split() if scope else self.scopes
        return " ".join(wanted) if set(wanted) <= set(self.scopes) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return hmac.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method == self.auth_method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.grants

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grants
