# mypy: allow-untyped-calls
"""Authlib's server side, fitted to our clients and ledger.

Authlib decides what is a good request and how a bad one is refused; what is here says where things are
kept, and is stricter where the RFCs of today are: PKCE with S256 always, a refresh token is answered
once. Authlib ships no types, so nothing else calls it, and this module's calls are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error, rfc6749
from authlib.oauth2.rfc6749 import InvalidRequestError, grants
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge

from proxy.demo.clients import Client
from proxy.demo.faults import Answer, Renewal
from proxy.demo.ledger import Code, Ledger, Token, TokenAnswer, new_access_token, new_refresh_token
from proxy.demo.read_request import ReadRequest, basic_credentials

AUTH_METHODS: Final = ["client_secret_basic", "client_secret_post", "none"]
CODE_CHALLENGE_METHODS: Final = ["S256"]
GRANT_TYPES: Final = ["authorization_code", "refresh_token", "client_credentials"]


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person is asked."""

    client_id: str
    scopes: tuple[str, ...]


class Protocol(rfc6749.AuthorizationServer):
    issuer: str

    def __init__(self, clients: Iterable[Client], ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self._clients = {client.client_id: client for client in clients}
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                new_access_token, new_refresh_token, lambda _client, _grant: ledger.lifetime
            ),
        )
        self.register_client_auth_method("client_secret_basic", _authenticate_basic)
        self.register_grant(_AuthorizationCodeGrant, [_S256()])
        self.register_grant(_RefreshTokenGrant)
        self.register_grant(_ClientCredentialsGrant)
        self.register_endpoint(_RevocationEndpoint)

    def ask(self, request: ReadRequest) -> Consent | Answer:
        """What to ask the person; or the answer to a request that can't be granted."""
        grant = self._grant_to_consent_to(request)
        if isinstance(grant, Answer):
            return grant
        return Consent(grant.client.client_id, tuple(grant.request.scope.split()))

    def decide(self, request: ReadRequest, subject: str | None) -> Answer:
        """The way back to the client, with a code; None: the person has said no."""
        grant = self._grant_to_consent_to(request)
        if isinstance(grant, Answer):
            return grant
        return self._answer(self.create_authorization_response(request, grant_user=subject, grant=grant))

    def _grant_to_consent_to(self, request: ReadRequest) -> Any:
        """Authlib's grant, or the answer to a request that can't be granted."""
        try:
            return self.get_consent_grant(request)
        except OAuth2Error as error:
            return self._answer(self.handle_error_response(request, error))
        except ValueError:  # Authlib repeats the response_type in its message, and then refuses that
            refusal = InvalidRequestError("A parameter holds characters that it must not.")
            return self._answer(self.handle_error_response(request, refusal))

    def token(self, request: ReadRequest) -> Answer:
        return self._answer(self.create_token_response(request))

    def revocation(self, request: ReadRequest) -> Answer:
        return self._answer(self.create_endpoint_response("revocation", request))

    def issue(self, client_id: str, subject: str) -> TokenAnswer:
        """Tokens as a login gives them."""
        client = self._clients[client_id]
        answer: TokenAnswer = self.generate_token("authorization_code", client, user=subject)
        self.ledger.save(answer, self.ledger.new_family(client_id, subject, answer["scope"]))
        return answer

    @staticmethod
    def _answer(made: Any) -> Answer:
        assert isinstance(made, Answer)
        return made

    # What Authlib asks of an integration:

    def create_oauth2_request(self, request: ReadRequest) -> ReadRequest:
        return request

    def query_client(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def save_token(self, token: TokenAnswer, request: ReadRequest) -> None:
        client_id = request.client.client_id
        origin: Code | Token | None = request.authorization_code or request.refresh_token
        family = (
            origin.family if origin else self.ledger.new_family(client_id, client_id, token.get("scope", ""))
        )
        renewal = self._renewal(request)
        if renewal != "new":
            token.pop("refresh_token", None)
        self.ledger.save(token, family, request.refresh_token)
        if renewal == "same":
            token["refresh_token"] = request.form["refresh_token"]

    def _renewal(self, request: ReadRequest) -> Renewal:
        if request.refresh_token is None:  # a login
            return "none" if request.renewal == "none" else "new"
        return request.renewal or ("new" if self.ledger.rotation else "none")

    def handle_response(
        self, status: int, body: str | dict[str, Any], headers: Iterable[tuple[str, str]]
    ) -> Answer:
        fields = dict(headers)
        if "Location" in fields:  # RFC 9207: the client learns who sent it back
            fields["Location"] = add_params_to_uri(fields["Location"], [("iss", self.issuer)])
        return Answer(status, body, fields)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""


def _authenticate_basic(query_client: Callable[[str], Client | None], request: ReadRequest) -> Client | None:
    client_id, secret = basic_credentials(request.headers)
    client = query_client(client_id)
    return client if client and client.check_client_secret(secret) else None


class _S256(CodeChallenge):
    SUPPORTED_CODE_CHALLENGE_METHOD = CODE_CHALLENGE_METHODS

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if "code_challenge" not in data or "code_challenge_method" not in data:
            raise InvalidRequestError("A code_challenge with its code_challenge_method is required.")
        super().validate_code_challenge(grant, redirect_uri)


class _AuthorizationCodeGrant(grants.AuthorizationCodeGrant):
    server: Protocol
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    @staticmethod
    def validate_authorization_redirect_uri(request: Any, client: Client) -> str:
        """Authlib's repeats the URI in its message, which fails on a URI with odd characters."""
        uri = request.payload.redirect_uri or client.get_default_redirect_uri()
        if uri is None or not client.check_redirect_uri(uri):
            raise InvalidRequestError("The redirect_uri is not one of this client's.")
        return str(uri)

    def save_authorization_code(self, code: str, request: ReadRequest) -> None:
        ledger = self.server.ledger
        family = ledger.new_family(request.client.client_id, request.user, request.scope)
        challenge = request.payload.data["code_challenge"]
        ledger.add_code(code, Code(family, request.payload.redirect_uri, challenge))

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        return self.server.ledger.redeem(code, client.client_id)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        authorization_code.used = True

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.family.subject


class _RefreshTokenGrant(grants.RefreshTokenGrant):
    request: ReadRequest
    server: Protocol
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True  # Protocol.save_token takes it away again where none is given

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        return self.server.ledger.present(refresh_token, self.request.client.client_id)

    def authenticate_user(self, refresh_token: Token) -> str:
        return refresh_token.family.subject

    def create_token_response(self) -> tuple[int, TokenAnswer, list[tuple[str, str]]]:
        presented: Token = self.request.refresh_token
        if presented.spent_at is not None:  # within the grace, or it were not here
            return 200, self.server.ledger.repeat(presented), self.TOKEN_RESPONSE_HEADER
        made: tuple[int, TokenAnswer, list[tuple[str, str]]] = super().create_token_response()
        return made

    def revoke_old_credential(self, refresh_token: Token) -> None:
        """Saving the new one has spent it."""


class _ClientCredentialsGrant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS[:2]  # RFC 6749 section 4.4: never a public client


class _RevocationEndpoint(RevocationEndpoint):
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, token_string: str, _token_type_hint: str | None) -> Any:
        return self.server.ledger.find(token_string)

    def revoke_token(self, token: Token, _request: ReadRequest) -> None:
        self.server.ledger.revoke(token, "client")
