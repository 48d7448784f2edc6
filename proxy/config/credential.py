"""[credentials.NAME]"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, StrictBool, Tag, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from proxy.config.base import MissingKey, NameOfTable, Table
from proxy.config.grants import REQUIREMENTS
from proxy.config.references import EgressProxy, ExistingFile, PublicValue, SecretValue
from proxy.config.values import Endpoint, Issuer, Scope

Grant = Literal["authorization_code", "refresh_token", "client_credentials"]
ClientAuth = Literal["client_secret_basic", "client_secret_post", "none"]

# What the program itself sends, for each kind of request; "uri" is a name inside Authlib's function for it.
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
            raise ValueError("the program sends this parameter itself - another one is meant")
        return name

    return AfterValidator(check)


# Seconds. Ten years, as in oauth/answer.py: more is a slip of the keyboard, or milliseconds.
Lifetime = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False, strict=True)]
REFRESH_AT: Final = 0.8

ParameterValue = Annotated[
    Annotated[str, Tag("a text")] | Annotated[list[str], Tag("a list")],
    Discriminator(lambda value: "a list" if isinstance(value, list) else "a text"),
]


class AuthorizationServerTLS(Table):
    """For calls to the authorization server."""

    ca: ExistingFile = Field(description="Trust this authority instead of the system's.")


class Credential(Table):
    """One OAuth client at one authorization server."""

    name: SkipJsonSchema[NameOfTable] = ""
    grant: Grant = Field("authorization_code", description="How tokens are got.")
    issuer: Issuer | None = Field(
        None, description="The authorization server; discovery (RFC 8414, OpenID) fills its endpoints."
    )
    token_endpoint: Endpoint | None = Field(
        None, description="By hand, where there is no discovery.", validate_default=True
    )
    authorization_endpoint: Endpoint | None = Field(
        None, description="By hand; for grant authorization_code.", validate_default=True
    )
    revocation_endpoint: Endpoint | None = Field(None, description="By hand; used by logout.")
    introspection_endpoint: Endpoint | None = Field(
        None, description="By hand; asked how long a token lives (RFC 7662) where nothing else says it."
    )
    client_id: PublicValue = Field(description="The client's id at the authorization server.")
    client_secret: SecretValue | None = Field(None, description="Its secret, by reference.")
    client_auth: ClientAuth | None = Field(
        None,
        description="How the client proves itself. Default: client_secret_basic with a secret, else none.",
        validate_default=True,
    )
    basic_encoding: Literal["rfc6749", "raw"] = Field(
        "rfc6749", description='"raw" for servers that do not decode what RFC 6749 section 2.3.1 encodes.'
    )
    refresh_token: SecretValue | None = Field(
        None,
        description="With grant refresh_token: a seed, adopted when it differs from the last one.",
        validate_default=True,
    )
    scopes: tuple[Scope, ...] = Field((), description="What to ask for.")
    authorize_params: dict[Annotated[str, _none_of(LOGIN_PARAMETERS)], ParameterValue] = Field(
        {}, description='Extra parameters of the login, e.g. access_type = "offline".'
    )
    token_params: dict[Annotated[str, _none_of(TOKEN_PARAMETERS)], ParameterValue] = Field(
        {},
        description="Extra parameters of token requests, e.g. audience.",
        repr=False,  # some servers want a password or an assertion there
    )
    access_token_lifetime: Lifetime | None = Field(
        None,
        description="Seconds. Counts instead of what the server says of its access tokens: for servers that "
        "say nothing, or say it in milliseconds.",
    )
    refresh_at: Annotated[float, Field(gt=0.1, le=0.95, allow_inf_nan=False, strict=True)] = Field(
        REFRESH_AT, description="The share of its life after which a token is refreshed ahead of time."
    )
    # more than the five seconds before its expiry in which a token is no longer attached
    refresh_window: Annotated[Lifetime, Field(gt=5)] | None = Field(
        None,
        description="Seconds. Refresh in the last so many of a token's life and not before, for servers that "
        "refuse an early refresh.",
    )
    refresh_token_idle: Lifetime | None = Field(
        None,
        description="Seconds without a refresh after which a refresh token dies, where its server does "
        "not say.",
    )
    refresh_token_lifetime: Lifetime | None = Field(
        None,
        description="Seconds from a login after which it has to be repeated, however much was refreshed "
        "since.",
    )
    keep_alive: StrictBool = Field(
        True,
        description="Refresh an account that nobody uses in time before its refresh token dies of it.",
    )
    required: StrictBool | None = Field(
        None, description="Counts for /readyz. Default: true if a route with a fixed account uses it."
    )
    tls: AuthorizationServerTLS | None = Field(None, description="For calls to the authorization server.")
    proxy: EgressProxy | None = Field(
        None,
        description="The network's HTTP proxy for these calls; what is on this machine is called directly.",
    )

    @property
    def authentication(self) -> ClientAuth:
        """How the client proves itself: as given, or what its secret suggests."""
        return self.client_auth or ("client_secret_basic" if self.client_secret else "none")

    @field_validator("token_endpoint")
    @classmethod
    def _asks_somewhere_for_tokens(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("issuer", "") is None:
            raise MissingKey("issuer is missing - or token_endpoint, where there is no discovery")
        return value

    @field_validator("authorization_endpoint")
    @classmethod
    def _sends_a_person_somewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        grant = REQUIREMENTS.get(info.data.get("grant", ""))
        by_hand = grant is not None and grant.logs_in and info.data.get("issuer", "") is None
        if (
            value is None and by_hand and "token_endpoint" in info.data
        ):  # else the issuer is asked for already
            raise MissingKey("authorization_endpoint is missing - or issuer, where there is discovery")
        return value

    @field_validator("client_auth")
    @classmethod
    def _proves_itself(cls, value: ClientAuth | None, info: ValidationInfo) -> ClientAuth | None:
        if "client_secret" not in info.data:
            return value
        has_secret = info.data["client_secret"] is not None
        if value == "none" and has_secret:
            raise ValueError("none sends no secret - another client_auth is meant, or no client_secret")
        if value not in {None, "none"} and not has_secret:
            raise MissingKey(f'client_secret is missing - client_auth = "{value}" sends one')
        name = info.data.get("grant", "")
        if value is None and not has_secret and name in REQUIREMENTS and REQUIREMENTS[name].needs_secret:
            raise MissingKey(
                f'client_secret is missing - grant = "{name}" wants one, or client_auth = "none"'
            )
        return value

    @field_validator("refresh_window")
    @classmethod
    def _opens_during_the_life(cls, value: float | None, info: ValidationInfo) -> float | None:
        life = info.data.get("access_token_lifetime")
        if value is not None and life is not None and value >= life:
            raise ValueError("it begins before the token does - less than access_token_lifetime is meant")
        if value is not None and info.data.get("refresh_at", REFRESH_AT) != REFRESH_AT:
            raise ValueError("refresh_at says when already - one of the two is meant")
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
    def _outlives_idleness(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and value < (info.data.get("refresh_token_idle") or 0):
            raise ValueError("shorter than refresh_token_idle - at least as long is meant")
        return value

    @field_validator("refresh_token")
    @classmethod
    def _has_a_seed(cls, value: object, info: ValidationInfo) -> object:
        name = info.data.get("grant", "")
        grant = REQUIREMENTS.get(name)
        if grant is not None and grant.has_seed and value is None:
            raise MissingKey(f'refresh_token is missing - grant = "{name}" begins with one')
        if grant is not None and not grant.has_seed and value is not None:
            raise ValueError('only for grant = "refresh_token" - change the grant, or leave the key out')
        return value
