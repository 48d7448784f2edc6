# mypy: allow-untyped-calls
"""Authlib's server side, connected to the demo's clients and ledger.

Authlib validates requests and composes errors; this module connects its storage, and is stricter where
current RFCs are: always PKCE with S256, and refresh tokens that work once. Authlib ships no types, so no
other module calls it, and the calls in this one are not type-checked.
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
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

from proxy.demo.clients import Client
from proxy.demo.devices import DeviceEndpoint, DeviceGrant, Devices
from proxy.demo.faults import Answer, Renewal
from proxy.demo.ledger import Code, Ledger, Token, TokenAnswer, new_access_token, new_refresh_token
from proxy.demo.read_request import ReadRequest, basic_credentials

AUTH_METHODS: Final = ["client_secret_basic", "client_secret_post", "none"]
CODE_CHALLENGE_METHODS: Final = ["S256"]
GRANT_TYPES: Final = ["authorization_code", "refresh_token", "client_credentials", DEVICE_CODE_GRANT_TYPE]


@dataclass(frozen=True, slots=True)
class Consent:
    """The content of the login page."""

    client_id: str
    scopes: tuple[str, ...]


class Protocol(rfc6749.AuthorizationServer):
    issuer: str

    def __init__(self, clients: Iterable[Client], ledger: Ledger, devices: Devices) -> None:
        super().__init__()
        self.ledger = ledger
        self.devices = devices
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
        self.register_grant(DeviceGrant)
        self.register_endpoint(_RevocationEndpoint)
        device_endpoint: Any = DeviceEndpoint  # Authlib accepts it, whatever its stub says
        self.register_endpoint(device_endpoint)

    def ask(self, request: ReadRequest) -> Consent | Answer:
        """The consent to ask for, or the response to an invalid request."""
        grant = self._grant_to_consent_to(request)
        if isinstance(grant, Answer):
            return grant
        return Consent(grant.client.client_id, tuple(grant.request.scope.split()))

    def decide(self, request: ReadRequest, subject: str | None) -> Answer:
        """The redirect to the client, with a code. `subject` None: the user has refused."""
        grant = self._grant_to_consent_to(request)
        if isinstance(grant, Answer):
            return grant
        return self._answer(self.create_authorization_response(request, grant_user=subject, grant=grant))

    def _grant_to_consent_to(self, request: ReadRequest) -> Any:
        """Authlib's grant, or the response to an invalid request."""
        try:
            return self.get_consent_grant(request)
        except OAuth2Error as error:
            return self._answer(self.handle_error_response(request, error))
        except ValueError:  # Authlib puts the response_type into its message, and then rejects its characters
            refusal = InvalidRequestError("A parameter holds characters that it must not.")
            return self._answer(self.handle_error_response(request, refusal))

    def token(self, request: ReadRequest) -> Answer:
        return self._answer(self.create_token_response(request))

    def revocation(self, request: ReadRequest) -> Answer:
        return self._answer(self.create_endpoint_response("revocation", request))

    def device_authorization(self, request: ReadRequest) -> Answer:
        return self._answer(self.create_endpoint_response("device_authorization", request))

    def issue(self, client_id: str, subject: str) -> TokenAnswer:
        """Issue tokens as after a login."""
        client = self._clients[client_id]
        answer: TokenAnswer = self.generate_token("authorization_code", client, user=subject)
        self.ledger.save(answer, self.ledger.new_family(client_id, subject, answer["scope"]))
        return answer

    @staticmethod
    def _answer(made: Any) -> Answer:
        assert isinstance(made, Answer)
        return made

    # The methods that Authlib requires:

    def create_oauth2_request(self, request: ReadRequest) -> ReadRequest:
        return request

    def query_client(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def save_token(self, token: TokenAnswer, request: ReadRequest) -> None:
        client_id = request.client.client_id
        origin: Code | Token | None = request.authorization_code or request.refresh_token
        subject = request.user or client_id  # without a person, the client itself
        family = (
            origin.family if origin else self.ledger.new_family(client_id, subject, token.get("scope", ""))
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
        if "Location" in fields:  # RFC 9207: tells the client the issuer
            fields["Location"] = add_params_to_uri(fields["Location"], [("iss", self.issuer)])
        return Answer(status, body, fields)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Signals are not used."""


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
        """Authlib's own repeats the URI in its message, and fails for one with invalid characters."""
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
    INCLUDE_NEW_REFRESH_TOKEN = True  # Protocol.save_token removes it again if none is to be issued

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        return self.server.ledger.present(refresh_token, self.request.client.client_id)

    def authenticate_user(self, refresh_token: Token) -> str:
        return refresh_token.family.subject

    def create_token_response(self) -> tuple[int, TokenAnswer, list[tuple[str, str]]]:
        presented: Token = self.request.refresh_token
        if presented.spent_at is not None:  # within the grace, otherwise `present` had refused it
            return 200, self.server.ledger.repeat(presented), self.TOKEN_RESPONSE_HEADER
        made: tuple[int, TokenAnswer, list[tuple[str, str]]] = super().create_token_response()
        return made

    def revoke_old_credential(self, refresh_token: Token) -> None:
        """Nothing to do: saving the new one has spent it."""


class _ClientCredentialsGrant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS[:2]  # RFC 6749 section 4.4: never a public client


class _RevocationEndpoint(RevocationEndpoint):
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, token_string: str, _token_type_hint: str | None) -> Any:
        return self.server.ledger.find(token_string)

    def revoke_token(self, token: Token, _request: ReadRequest) -> None:
        self.server.ledger.revoke(token, "client")
