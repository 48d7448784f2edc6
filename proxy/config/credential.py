"""[credentials.NAME]"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, StrictBool, Tag, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from proxy.config.base import MissingKey, NameOfTable, Table
from proxy.config.grants import REQUIREMENTS
from proxy.config.references import EgressProxy, ExistingFile, PublicValue, SecretValue
from proxy.config.values import Endpoint, Issuer, Moment, Scope, TokenType

Grant = Literal["authorization_code", "refresh_token", "client_credentials"]
ClientAuth = Literal["client_secret_basic", "client_secret_post", "none"]

# Parameters that token-proxy sends itself. "uri" is an argument of the Authlib function that takes them.
LOGIN_PARAMETERS: Final = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "uri",
    }
)
TOKEN_PARAMETERS: Final = frozenset(
    {"client_secret", "code", "code_verifier", "grant_type", "redirect_uri", "refresh_token"}
)


def _none_of(ours: frozenset[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name in ours:
            raise ValueError("token-proxy sends this parameter itself - leave it out")
        return name

    return AfterValidator(check)


NONE_SENDS_NOTHING: Final = "none sends no secret - choose another client_auth, or leave client_secret out"
NOT_A_SEED: Final = 'only for grant = "refresh_token" - change the grant, or leave the key out'

# Seconds. Ten years, as in oauth/token_response.py: more is a typo, or milliseconds.
Lifetime = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False, strict=True)]
REFRESH_AT: Final = 0.8

ParameterValue = Annotated[
    Annotated[str, Tag("a string")] | Annotated[list[str], Tag("a list")],
    Discriminator(lambda value: "a list" if isinstance(value, list) else "a string"),
]


class AuthorizationServerTLS(Table):
    """TLS to the authorization server."""

    ca: ExistingFile = Field(description="Trust this authority instead of the system's.")


class Credential(Table):
    """One OAuth client at one authorization server."""

    name: SkipJsonSchema[NameOfTable] = ""
    grant: Grant = Field("authorization_code", description="How tokens are obtained.")
    issuer: Issuer | None = Field(
        None, description="The authorization server; discovery (RFC 8414, OpenID) finds its endpoints."
    )
    token_endpoint: Endpoint | None = Field(
        None, description="Only without discovery.", validate_default=True
    )
    authorization_endpoint: Endpoint | None = Field(
        None, description="Only without discovery; for grant authorization_code.", validate_default=True
    )
    revocation_endpoint: Endpoint | None = Field(None, description="Only without discovery; used by logout.")
    introspection_endpoint: Endpoint | None = Field(
        None,
        description="Only without discovery; asked for a token's lifetime (RFC 7662) where its response "
        "states none.",
    )
    client_id: PublicValue = Field(description="The client's id at the authorization server.")
    client_secret: SecretValue | None = Field(None, description="Its secret, by reference.")
    client_secret_expires: Moment | None = Field(
        None,
        description="When it expires, as a date: for the metric and its alert, as no server tells it in a "
        "response.",
    )
    client_auth: ClientAuth | None = Field(
        None,
        description="How the client authenticates. Default: none without a secret; with one what the "
        "server's metadata offer, client_secret_basic first.",
        validate_default=True,
    )
    basic_encoding: Literal["rfc6749", "raw"] = Field(
        "rfc6749",
        description='"raw" for servers that do not decode the form encoding of RFC 6749 section 2.3.1.',
    )
    refresh_token: SecretValue | None = Field(
        None,
        description="For grant refresh_token: the seed, adopted when it differs from the last one.",
        validate_default=True,
    )
    scopes: tuple[Scope, ...] = Field((), description="Scopes to request.")
    pkce: StrictBool = Field(
        True,
        description="false for servers that refuse PKCE (RFC 7636): then a stolen code can be used.",
    )
    token_types: tuple[TokenType, ...] | None = Field(
        None,
        description='The values of token_type to accept, e.g. ["Bearer", "bot"]. Default: any that needs no '
        "proof of possession, or none.",
    )
    callback: Literal["shared", "own"] = Field(
        "shared",
        description='The redirect URI of logins: "shared" is public_url + "/callback", "own" is that + "/" + '
        "the credential's name. A code that arrives at another credential's is refused, so that no "
        "authorization server gets another one's.",
    )
    authorize_params: dict[Annotated[str, _none_of(LOGIN_PARAMETERS)], ParameterValue] = Field(
        {}, description='Extra parameters of the authorization request, e.g. access_type = "offline".'
    )
    token_params: dict[Annotated[str, _none_of(TOKEN_PARAMETERS)], ParameterValue] = Field(
        {},
        description="Extra parameters of token requests, e.g. audience.",
        repr=False,  # some servers need a password or an assertion there
    )
    access_token_lifetime: Lifetime | None = Field(
        None,
        description="Seconds. Overrides the lifetime that the server states for access tokens: for servers "
        "that state none, or state it in milliseconds.",
    )
    refresh_at: Annotated[float, Field(gt=0.1, le=0.95, allow_inf_nan=False, strict=True)] = Field(
        REFRESH_AT, description="The share of an access token's lifetime after which it is refreshed."
    )
    # more than the last five seconds of a token, in which it is no longer attached
    refresh_window: Annotated[Lifetime, Field(gt=5)] | None = Field(
        None,
        description="Refresh only within this many seconds before expiry, for servers that refuse an early "
        "refresh.",
    )
    refresh_token_idle: Lifetime | None = Field(
        None,
        description="Seconds without a refresh after which a refresh token expires, where its server does "
        "not state it.",
    )
    refresh_token_lifetime: Lifetime | None = Field(
        None,
        description="Seconds after a login until it must be repeated, regardless of refreshes in between.",
    )
    keep_alive: StrictBool = Field(
        True,
        description="Refresh an unused account in time, before its refresh token expires from disuse.",
    )
    required: StrictBool | None = Field(
        None, description="Counts for /readyz. Default: true if a route with a fixed account uses it."
    )
    tls: AuthorizationServerTLS | None = Field(None, description="TLS to the authorization server.")
    proxy: EgressProxy | None = Field(
        None,
        description='An egress proxy for these calls; "none": no proxy. Servers on this machine are called '
        "directly. Default: server.proxy.",
    )

    @property
    def authentication(self) -> ClientAuth:
        """How the client authenticates: as given, or what its secret suggests; see oauth/client_auth.py."""
        return self.client_auth or ("client_secret_basic" if self.client_secret else "none")

    @field_validator("token_endpoint")
    @classmethod
    def _has_a_token_endpoint(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("issuer", "") is None:
            raise MissingKey("issuer is missing - or token_endpoint, where there is no discovery")
        return value

    @field_validator("authorization_endpoint")
    @classmethod
    def _has_an_authorization_endpoint(cls, value: str | None, info: ValidationInfo) -> str | None:
        grant = REQUIREMENTS.get(info.data.get("grant", ""))
        by_hand = grant is not None and grant.logs_in and info.data.get("issuer", "") is None
        if value is None and by_hand and "token_endpoint" in info.data:  # else the issuer is reported
            raise MissingKey("authorization_endpoint is missing - or issuer, where there is discovery")
        return value

    @field_validator("client_auth")
    @classmethod
    def _has_its_secret(cls, value: ClientAuth | None, info: ValidationInfo) -> ClientAuth | None:
        if "client_secret" not in info.data:
            return value
        has_secret = info.data["client_secret"] is not None
        if value == "none" and has_secret:
            raise ValueError(NONE_SENDS_NOTHING)
        if value not in {None, "none"} and not has_secret:
            raise MissingKey(f'client_secret is missing - client_auth = "{value}" sends one')
        name = info.data.get("grant", "")
        if value is None and not has_secret and name in REQUIREMENTS and REQUIREMENTS[name].needs_secret:
            raise MissingKey(
                f'client_secret is missing - grant = "{name}" needs one, or client_auth = "none"'
            )
        return value

    @field_validator("token_types")
    @classmethod
    def _accepts_something(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value == ():
            raise ValueError("an empty list accepts no token - expected a type, or no token_types")
        return value

    @field_validator("refresh_window")
    @classmethod
    def _is_within_the_lifetime(cls, value: float | None, info: ValidationInfo) -> float | None:
        lifetime = info.data.get("access_token_lifetime")
        if value is not None and lifetime is not None and value >= lifetime:
            raise ValueError("longer than the token lives: expected less than access_token_lifetime")
        if value is not None and info.data.get("refresh_at", REFRESH_AT) != REFRESH_AT:
            raise ValueError("refresh_at is set too: expected only one of the two")
        return value

    @field_validator("refresh_token_idle", "refresh_token_lifetime")
    @classmethod
    def _has_refresh_tokens(cls, value: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("grant", "")
        if value is not None and name in REQUIREMENTS and not REQUIREMENTS[name].has_refresh_tokens:
            raise ValueError(f'grant = "{name}" has no refresh tokens - leave the key out')
        return value

    @field_validator("refresh_token_lifetime")
    @classmethod
    def _is_not_below_idle(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and value < (info.data.get("refresh_token_idle") or 0):
            raise ValueError("shorter than refresh_token_idle: expected at least as long")
        return value

    @field_validator("refresh_token")
    @classmethod
    def _has_a_seed(cls, value: object, info: ValidationInfo) -> object:
        name = info.data.get("grant", "")
        grant = REQUIREMENTS.get(name)
        if grant is not None and grant.has_seed and value is None:
            raise MissingKey(f'refresh_token is missing - grant = "{name}" starts from one')
        if grant is not None and not grant.has_seed and value is not None:
            raise ValueError(NOT_A_SEED)
        return value
