"""[credentials.NAME]"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, InstanceOf, StrictBool, WrapValidator
from pydantic.json_schema import SkipJsonSchema

from proxy.config import client_auth as methods
from proxy.config import credential_checks as checks
from proxy.config import grant_keys, mcp_keys
from proxy.config.attach import Attachments
from proxy.config.base import Computed, NameOfTable, Table
from proxy.config.client_auth import AuthorizationServerTLS, ClientAuth, PlatformFile
from proxy.config.credential_checks import REFRESH_AT
from proxy.config.found import Found
from proxy.config.grant_keys import (
    ACCESS_TOKEN,
    AssertionKeyValue,
    Claim,
    ClaimName,
    Subject,
    SubjectField,
    TokenTypeUri,
)
from proxy.config.references import EgressProxy, PublicValue, SecretValue
from proxy.config.signing_keys import SigningKeyValue
from proxy.config.steps import Jwt, Steps, StepSecrets, TokenPlace
from proxy.config.values import Endpoint, Issuer, KeyId, McpServer, Moment, ResourceUri, Scope, TokenType

Grant = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "device_code",
    "jwt_bearer",
    "password",
    "request",
    "static",
    "token_exchange",
]

# Seconds. Ten years, as in oauth/token_response.py: more is a typo, or milliseconds.
Lifetime = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False, strict=True)]


class Credential(Table):
    """One OAuth client at one authorization server."""

    name: SkipJsonSchema[NameOfTable] = ""
    upstream_fields: SkipJsonSchema[Annotated[tuple[str, ...], Computed]] = ()  # see upstream_hosts.py
    # set only by oauth/discovered.py, in a copy
    found: SkipJsonSchema[Annotated[InstanceOf[Found] | None, Computed]] = None
    grant: Grant = Field(
        "authorization_code", description="How tokens are obtained: by a person's login, or without one."
    )
    mcp: Annotated[McpServer | None, AfterValidator(mcp_keys.goes_with_the_grant)] = Field(
        None,
        description="The URL of an MCP server. Discovery finds its authorization server, where a client is "
        "registered unless client_id names one; and it makes the route /NAME, unless a route names the "
        "credential.",
    )
    issuer: Issuer | None = Field(
        None, description="The authorization server; discovery (RFC 8414, OpenID) finds its endpoints."
    )
    key: Annotated[AssertionKeyValue | None, AfterValidator(grant_keys.only_for_its_grant)] = Field(
        None,
        description="For grant jwt_bearer: signs the assertions. A Google service-account key file as it is, "
        "whose token_uri is the token endpoint; or PEM, or a JWK, with client_id.",
    )
    token_endpoint: Annotated[Endpoint | None, AfterValidator(checks.has_a_token_endpoint)] = Field(
        None, description="Where tokens are requested. Only without discovery.", validate_default=True
    )
    authorization_endpoint: Annotated[
        Endpoint | None, AfterValidator(checks.has_an_authorization_endpoint)
    ] = Field(
        None,
        description="Where a login begins in the browser, for grant authorization_code. Only without "
        "discovery.",
        validate_default=True,
    )
    device_authorization_endpoint: Annotated[
        Endpoint | None, AfterValidator(checks.has_a_device_authorization_endpoint)
    ] = Field(
        None,
        description="Where a login begins without a browser, for grant device_code and `token-proxy "
        "login --device`. Only without discovery.",
        validate_default=True,
    )
    revocation_endpoint: Endpoint | None = Field(
        None, description="Where logout revokes tokens (RFC 7009). Only without discovery."
    )
    introspection_endpoint: Endpoint | None = Field(
        None,
        description="Where a token's lifetime is asked for (RFC 7662), if its response states none. "
        "Only without discovery.",
    )
    pushed_authorization_request_endpoint: Endpoint | None = Field(
        None,
        description="Where authorization requests are pushed (RFC 9126), with par. Only without discovery.",
    )
    par: Annotated[StrictBool, AfterValidator(checks.has_logins_to_push)] = Field(
        False,
        description="Push authorization requests (RFC 9126): the browser carries only a reference. On by "
        "itself where the server's metadata require it.",
    )
    dpop: StrictBool = Field(
        False,
        description="Bind the tokens of each account to a key, and prove its possession with each request "
        "(DPoP, RFC 9449). Other tokens are refused.",
    )
    client_id: Annotated[PublicValue, WrapValidator(checks.has_its_client)] = Field(
        None, description="The client's id at the authorization server.", validate_default=True
    )
    client_secret: Annotated[SecretValue, AfterValidator(checks.is_no_document)] | None = Field(
        None, description="The client's secret, by reference; a literal one is warned about."
    )
    client_secret_expires: Moment | None = Field(
        None,
        description="The date on which client_secret expires: for the metric and its alert, as no "
        "server states it in a response.",
    )
    client_key: SigningKeyValue | None = Field(
        None,
        description="The client's private key in place of a secret, by reference: PEM or a JWK. It "
        "signs a JWT for each request (private_key_jwt, RFC 7523).",
    )
    client_key_id: Annotated[KeyId | None, AfterValidator(methods.is_of_a_key)] = Field(
        None,
        description="The id (kid) of client_key at the authorization server. Default: that of the JWK, "
        "else none.",
        validate_default=True,
    )
    client_assertion: PlatformFile | None = Field(
        None,
        description="A JWT that the platform writes and renews, in place of a secret of ours: of Kubernetes, "
        "SPIFFE, a CI system. Its file is read for each use.",
    )
    assertion_audience: Annotated[
        Literal["issuer", "endpoint"] | None, AfterValidator(methods.has_its_audience)
    ] = Field(
        None,
        description="The audience of the JWTs that authenticate the client: the issuer, or the token "
        'endpoint. Default: "issuer" where there is one.',
        validate_default=True,
    )
    assertion_alg: Annotated[str | None, AfterValidator(methods.fits_the_key)] = Field(
        None,
        description="The algorithm of these JWTs. Default: one that fits the key, and that the server's "
        "metadata offer.",
        validate_default=True,
    )
    tls: AuthorizationServerTLS | None = Field(
        None,
        description="TLS to the authorization server; cert and key can authenticate the client (RFC 8705).",
    )
    client_auth: Annotated[ClientAuth | None, AfterValidator(methods.has_its_key)] = Field(
        None,
        description="How the client authenticates. Default: what its keys allow and the server's metadata "
        "offer: with client_secret client_secret_basic first, with client_key or client_assertion "
        "private_key_jwt, with tls.cert alone tls_client_auth, else none.",
        validate_default=True,
    )
    basic_encoding: Literal["rfc6749", "raw"] = Field(
        "rfc6749",
        description='"raw" for servers that do not decode the form encoding of RFC 6749 section 2.3.1.',
    )
    refresh_token: Annotated[SecretValue | None, AfterValidator(checks.has_a_seed)] = Field(
        None,
        description="For grant refresh_token: the first refresh token, by reference. It is adopted when "
        "it differs from the last one given here; else the stored one counts.",
        validate_default=True,
    )
    claims: Annotated[
        dict[ClaimName, Claim],
        AfterValidator(grant_keys.only_for_its_grant),
        AfterValidator(grant_keys.has_its_issuer),
    ] = Field(
        {},
        description="For grant jwt_bearer with a key: more claims of the assertion, or others than iss, sub, "
        "aud and scope as token-proxy sets them.",
        validate_default=True,
    )
    assertion: Annotated[
        PlatformFile | None,
        AfterValidator(grant_keys.only_for_its_grant),
        AfterValidator(grant_keys.has_its_assertion),
    ] = Field(
        None,
        description="For grant jwt_bearer instead of a key: a file with an assertion that the platform "
        "writes; read again for each token request.",
        validate_default=True,
    )
    subject_token: Annotated[
        Subject | None, AfterValidator(grant_keys.only_for_its_grant), AfterValidator(grant_keys.is_needed)
    ] = Field(
        None,
        description='For grant token_exchange: { header = "Authorization" } exchanges each caller\'s own '
        "token, which is taken from that field; { file = … } one that the platform writes.",
        validate_default=True,
    )
    subject_token_type: Annotated[TokenTypeUri, AfterValidator(grant_keys.only_for_its_grant)] = Field(
        ACCESS_TOKEN, description="For grant token_exchange: the subject's type (RFC 8693 section 3)."
    )
    requested_token_type: Annotated[TokenTypeUri | None, AfterValidator(grant_keys.only_for_its_grant)] = (
        Field(
            None, description="For grant token_exchange: the type to ask for. Default: as the server decides."
        )
    )
    audience: Annotated[str | None, AfterValidator(grant_keys.only_for_its_grant)] = Field(
        None, description="For grant token_exchange: the service that the token is for."
    )
    username: Annotated[
        PublicValue | None,
        AfterValidator(grant_keys.only_for_its_grant),
        AfterValidator(grant_keys.is_needed),
    ] = Field(None, description="For grant password: the person's user name.", validate_default=True)
    password: Annotated[
        SecretValue | None,
        AfterValidator(grant_keys.only_for_its_grant),
        AfterValidator(grant_keys.is_needed),
    ] = Field(
        None, description="For grant password: the person's password, by reference.", validate_default=True
    )
    value: Annotated[SecretValue | None, AfterValidator(checks.is_its_own)] = Field(
        None, description="For grant static: the token or key itself, by reference.", validate_default=True
    )
    attach: Attachments = Field(
        (),
        description='Where the token goes: { header = "X-Api-Key", scheme = "" }, { query = "access_token" } '
        'or { basic_user = "x-access-token" }; or a list of these. Default: Authorization: Bearer.',
    )
    scopes: tuple[Scope, ...] = Field((), description="The scopes to request, one per item.")
    pkce: StrictBool = Field(
        True,
        description="false for servers that refuse PKCE (RFC 7636): then a stolen code can be used.",
    )
    token_types: Annotated[tuple[TokenType, ...] | None, AfterValidator(checks.accepts_something)] = Field(
        None,
        description='The values of token_type to accept, e.g. ["Bearer", "bot"]. Default: any that needs no '
        "proof of possession, or none.",
    )
    callback: Literal["shared", "own"] = Field(
        "shared",
        description='The redirect URI of logins: "shared" is public_url + "/callback", "own" is that + '
        '"/" + the credential\'s name. With "own", a code that arrives at the URI of another '
        "credential is refused, so that no authorization server gets a code of another one.",
    )
    authorize_params: checks.LoginParameters = Field(
        {},
        description='Extra parameters of the authorization request, e.g. access_type = "offline"; without '
        "`scopes` also scope, for servers that want commas in it.",
    )
    token_params: checks.TokenParameters = Field(
        {},
        description="Extra parameters of token requests, e.g. audience.",
        repr=False,  # some servers need a password or an assertion there
    )
    resource: Annotated[tuple[ResourceUri, ...], AfterValidator(mcp_keys.names_its_resources)] = Field(
        (),
        description="The APIs that the tokens are for (RFC 8707); sent with each login and each token "
        "request.",
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
    refresh_window: Annotated[
        Annotated[Lifetime, Field(gt=5)] | None, AfterValidator(checks.is_within_the_lifetime)
    ] = Field(
        None,
        description="Refresh only within this many seconds before expiry, for servers that refuse an early "
        "refresh.",
    )
    refresh_token_idle: Annotated[Lifetime | None, AfterValidator(checks.has_refresh_tokens)] = Field(
        None,
        description="Seconds without a refresh after which a refresh token expires, where its server does "
        "not state it.",
    )
    refresh_token_lifetime: Annotated[
        Lifetime | None, AfterValidator(checks.has_refresh_tokens), AfterValidator(checks.is_not_below_idle)
    ] = Field(
        None,
        description="Seconds after a login until it must be repeated, regardless of refreshes in between.",
    )
    keep_alive: StrictBool = Field(
        True,
        description="Refresh an unused account in time, before its refresh token expires from disuse.",
    )
    required: StrictBool | None = Field(
        None,
        description="Whether /readyz requires this credential. Default: true if a route with a fixed "
        "account uses it.",
    )
    steps: Steps = Field(
        (),
        description="For grant request: the requests, in order; the last one's response has the token.",
        repr=False,
    )
    jwt: Jwt | None = Field(None, description="For grant request: how the JWT of {jwt} is made.", repr=False)
    secrets: StepSecrets = Field({}, description="For grant request: the values of {secret.NAME}.")
    response: TokenPlace | None = Field(
        None, description="For grant request: where the last response has the token and its expiry."
    )
    proxy: EgressProxy | None = Field(
        None,
        description='An egress proxy for these calls; "none": no proxy. Servers on this machine are called '
        "directly. Default: server.proxy.",
    )

    @property
    def authentications(self) -> tuple[ClientAuth, ...]:
        """How the client can authenticate: as given, or what its keys allow, the default first."""
        return (self.client_auth,) if self.client_auth else methods.allowed_by(self.__dict__)

    @property
    def authentication(self) -> ClientAuth:
        """How it authenticates if the server's metadata don't say more; see oauth/client_auth."""
        return self.authentications[0]

    @property
    def subject_field(self) -> bytes:
        """The field, in lower case, in which each caller gives its own token; empty where they give none."""
        return self.subject_token.field if isinstance(self.subject_token, SubjectField) else b""

    @property
    def principal(self) -> str:
        """Who gets the tokens: the client, and the person or service that it acts for, where that is known.

        Tokens of another one are never used.
        """
        issuer = self.claims.get("iss") or (self.key.issuer if self.key else "")
        names = (self.client_id or issuer, self.claims.get("sub"), self.username)
        return " ".join(str(name) for name in names if name)

    @property
    def registers(self) -> bool:
        """Whether its client is registered by token-proxy itself (RFC 7591)."""
        is_registered = self.found is not None and self.found.registration is not None
        return self.mcp is not None and (not self.client_id or is_registered)
