# mypy: allow-untyped-calls
"""Grants of the demo's server without a login page: JWT bearer, token exchange, password."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, InvalidScopeError, grants
from authlib.oauth2.rfc6749.errors import UnauthorizedClientError
from authlib.oauth2.rfc6749.grants import BaseGrant, TokenEndpointMixin
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

from proxy.demo.clients import TOKEN_EXCHANGE, Client

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
LONGEST: Final = 3600  # seconds of an assertion, as at Google
_METHODS: Final = ["client_secret_basic", "client_secret_post"]
_ANY_METHOD: Final = [*_METHODS, "none"]


class Trust:
    """The keys (PEM, public) of the issuers whose assertions are accepted, and the assertions seen."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.claims: list[dict[str, Any]] = []  # of the accepted assertions
        self.headers: list[dict[str, Any]] = []
        self._seen: set[str] = set()

    def check(self, assertion: str, audience: str, now: float) -> dict[str, Any]:
        """Its claims. Raises InvalidGrantError."""
        try:
            pem = self.keys[str(_claims_of(assertion).get("iss"))]
            kind = "EC" if "BEGIN PUBLIC KEY" in pem and len(pem) < 300 else "RSA"
            token = jwt.decode(assertion, jwk.JWKRegistry.import_key(pem, kind), ["RS256", "ES256"])
            header = jws.extract_compact(assertion.encode()).headers()
        except (JoseError, KeyError, ValueError, TypeError):
            raise InvalidGrantError("The assertion is not signed by a known issuer.") from None
        claims = token.claims
        is_timely = claims["iat"] <= now < claims["exp"] <= claims["iat"] + LONGEST
        if claims.get("aud") != audience or not is_timely or claims["jti"] in self._seen:
            raise InvalidGrantError("The assertion is for another server, too old, or used.")
        self._seen.add(claims["jti"])
        self.claims.append(claims)
        self.headers.append(header)
        return claims


def _claims_of(assertion: str) -> Mapping[str, Any]:
    part = assertion.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(claims, dict):
        raise TypeError("no claims")
    return claims


class JWTBearerGrant(BaseGrant, TokenEndpointMixin):
    """RFC 7523 section 2.1. The issuer of an assertion is the client."""

    GRANT_TYPE: Any = JWT_BEARER
    server: Any
    request: Any

    def validate_token_request(self) -> None:
        assertion = self.request.form.get("assertion")
        if not assertion:
            raise InvalidRequestError("An assertion is required.")
        now = self.server.ledger.wall()
        claims = self.server.trust.check(assertion, f"{self.server.issuer}/token", now)
        scope = claims.get("scope") or self.request.form.get("scope", "api")
        self.request.client = Client(claims["iss"], grants=(JWT_BEARER,), scopes=tuple(scope.split()))
        self.request.user = claims.get("sub", claims["iss"])
        self.request.granted = scope

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        token = self.generate_token(scope=self.request.granted, include_refresh_token=False)
        self.save_token(token)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class TokenExchangeGrant(BaseGrant, TokenEndpointMixin):
    """RFC 8693. The subject is an access token of this server; the new one is its subject's, too."""

    GRANT_TYPE: Any = TOKEN_EXCHANGE
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS
    server: Any
    request: Any

    def validate_token_request(self) -> None:
        form = self.request.form
        client = self.authenticate_token_endpoint_client()
        if not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError
        if form.get("subject_token_type") != ACCESS_TOKEN:
            raise InvalidRequestError("This subject_token_type is not supported.")
        subject = self.server.ledger.subject_of(form.get("subject_token", ""))
        if subject is None:  # RFC 8693 section 2.2.2
            raise InvalidRequestError("The subject_token is not valid.")
        scope = client.get_allowed_scope(form.get("scope"))
        if scope is None:
            raise InvalidScopeError
        self.request.client, self.request.user, self.request.granted = client, subject, scope

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        token = self.generate_token(scope=self.request.granted, include_refresh_token=False)
        self.save_token(token)
        self.server.exchanges.append(dict(self.request.form))
        return 200, {**token, "issued_token_type": ACCESS_TOKEN}, self.TOKEN_RESPONSE_HEADER


class PasswordGrant(grants.ResourceOwnerPasswordCredentialsGrant):
    """RFC 6749 section 4.3."""

    server: Any
    TOKEN_ENDPOINT_AUTH_METHODS = _ANY_METHOD

    def authenticate_user(self, username: str, password: str) -> str:
        expected = self.server.passwords.get(username)
        if expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
            raise InvalidGrantError("The username or the password is wrong.")
        return username
