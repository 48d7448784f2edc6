"""The configuration as the program sees it: one frozen pydantic model a table of the file.

A model says what a key may hold and why its default is what it is; what several keys must agree on is in
checks.py. The names are the contract: a key that is not here is a fault.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, StrictBool, model_validator

from proxy.config.address import Address, is_loopback
from proxy.config.values import (
    AccountName,
    AddressValue,
    Directory,
    ExistingFile,
    FieldName,
    HostName,
    Name,
    PathPrefix,
    PublicValue,
    Scope,
    SecretValue,
    ServerUrl,
    UpstreamValue,
)

Seconds = Annotated[float, Field(gt=0, le=86400, strict=True)]  # strict: no text that looks like a number
Count = Annotated[int, Field(gt=0, strict=True)]
Parameters = dict[str, str | list[str]]


class Table(BaseModel):
    """What all tables have in common: unknown keys are faults, and nothing is changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ListenerTLS(Table):
    """Serve TLS on a listener."""

    cert: ExistingFile = Field(description="The certificate chain, PEM.")
    key: ExistingFile = Field(description="Its private key, PEM.")
    client_ca: ExistingFile | None = Field(
        None, description="Ask callers for a certificate of this authority."
    )


class AuthorizationServerTLS(Table):
    ca: ExistingFile = Field(description="Trust this authority instead of the system's.")


class UpstreamTLS(Table):
    ca: ExistingFile | None = Field(None, description="Trust this authority instead of the system's.")
    cert: ExistingFile | None = Field(None, description="Our own certificate, PEM.")
    key: ExistingFile | None = Field(None, description="Its private key, PEM.")
    server_name: HostName | None = Field(
        None, description="The name in the upstream's certificate, if not its host."
    )


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def default_state_dir() -> Path:
    """$STATE_DIRECTORY (systemd), else $XDG_STATE_HOME/token-proxy, else ~/.local/state/token-proxy."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":", maxsplit=1)[0])  # systemd separates several by colons
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "token-proxy"


class Server(Table):
    """Where this process listens."""

    listen: Annotated[tuple[AddressValue, ...], BeforeValidator(_one_or_more)] = Field(
        (Address("127.0.0.1", 8080),),
        description='The data listener: "host:port", "[::1]:port" or "unix:/path"; a list is allowed.',
        min_length=1,
    )
    admin: AddressValue = Field(
        Address("127.0.0.1", 8081), description="The status page, logins, metrics and health."
    )
    public_url: ServerUrl | None = Field(
        None, description='Where a browser reaches `admin`; the redirect URI is this + "/callback".'
    )
    allowed_hosts: tuple[HostName, ...] = Field((), description="More names that a Host field may carry.")
    state_dir: Directory = Field(
        default_factory=default_state_dir,
        description="Where the store lives. Default: $STATE_DIRECTORY, $XDG_STATE_HOME/token-proxy, "
        "~/.local/state/token-proxy.",
    )
    tls: ListenerTLS | None = Field(None, description="Serve TLS on the data listeners.")
    admin_tls: ListenerTLS | None = Field(None, description="Serve TLS on the admin listener.")


class StoreConfig(Table):
    """Where tokens are kept."""

    url: Annotated[str, Field(strict=True)] = Field(
        "sqlite:tokens.db", description='"sqlite:NAME" (relative to state_dir) or "memory:".'
    )
    key: SecretValue | None = Field(
        None,
        description="32 bytes, base64, that seal the tokens. Default: state_dir/store.key, made on first start.",
    )


Grant = Literal["authorization_code", "refresh_token", "client_credentials"]
ClientAuth = Literal["client_secret_basic", "client_secret_post", "none"]


class Credential(Table):
    """One OAuth client at one authorization server."""

    _name: str = PrivateAttr("")  # the table's key; set by load.py
    issuer: ServerUrl | None = Field(None, description="Discovery (RFC 8414, OpenID) fills the endpoints.")
    authorization_endpoint: ServerUrl | None = Field(None, description="By hand, as the next two.")
    token_endpoint: ServerUrl | None = None
    revocation_endpoint: ServerUrl | None = None
    grant: Grant = Field("authorization_code", description="How tokens are got.")
    client_id: PublicValue = Field(description="The client's id at the authorization server.")
    client_secret: SecretValue | None = Field(None, description="Its secret, by reference.")
    client_auth: ClientAuth | None = Field(
        None,
        description="How the client proves itself. Default: client_secret_basic with a secret, else none.",
    )
    basic_encoding: Literal["rfc6749", "raw"] = Field(
        "rfc6749", description='"raw" for servers that do not decode what RFC 6749 section 2.3.1 encodes.'
    )
    refresh_token: SecretValue | None = Field(
        None, description="With grant refresh_token: a seed, adopted when it differs from the last one."
    )
    scopes: tuple[Scope, ...] = Field((), description="What to ask for.")
    authorize_params: Parameters = Field(
        default_factory=dict, description='Extra parameters of the login, e.g. access_type = "offline".'
    )
    token_params: Parameters = Field(
        default_factory=dict, description="Extra parameters of token requests, e.g. audience."
    )
    refresh_at: Annotated[float, Field(ge=0.1, le=0.95, strict=True)] = Field(
        0.8, description="The share of its life after which a token is refreshed ahead of time."
    )
    required: StrictBool | None = Field(
        None, description="Counts for /readyz. Default: true if a route with a fixed account uses it."
    )
    tls: AuthorizationServerTLS | None = Field(None, description="For calls to the authorization server.")

    @property
    def name(self) -> str:
        return self._name

    @property
    def authentication(self) -> ClientAuth:
        """How the client proves itself: as given, or what its secret suggests."""
        return self.client_auth or ("client_secret_basic" if self.client_secret else "none")


class AccountHeader(Table):
    """The account is named by the caller, in a field of each request."""

    header: FieldName = Field(description='The field\'s name, e.g. "Token-Proxy-Account".')


class Route(Table):
    """Which requests go where, with which token."""

    name: Name = Field(
        "", description="The value of the `route` label. Default: made from path, host or listener."
    )
    path: PathPrefix | None = Field(None, description="A prefix on segment borders.")
    host: HostName | None = Field(None, description="The name that the caller uses for this proxy.")
    listen: AddressValue | None = Field(
        None, description="A listener of its own: everything there is this route's."
    )
    upstream: UpstreamValue = Field(description='"https://host/base" or "unix:/path.sock:/base".')
    credential: Name = Field(description="Whose token to attach.")
    account: AccountName | AccountHeader = Field(
        "default", description="An account, or where the caller names it."
    )
    strip_path: StrictBool = Field(
        default=True, description="Send /crm/x as upstream/x rather than upstream/crm/x."
    )
    plaintext: StrictBool = Field(
        default=False, description="Allow http to an upstream that is not on this machine."
    )
    tls: UpstreamTLS | None = Field(None, description="For the upstream. Default: the system's trust store.")

    @model_validator(mode="before")
    @classmethod
    def _name_it(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "name" in data:
            return data
        place = next((data[key] for key in ("path", "host", "listen") if isinstance(data.get(key), str)), "")
        slug = re.sub(r"[^a-z0-9]+", "-", place.lower()).strip("-")
        return {**data, "name": slug[:63].rstrip("-") or "root"}


class Limits(Table):
    """Every limit and time, each with its reason. Times in seconds, sizes in bytes."""

    token_wait: Seconds = Field(
        15.0, description="A request waits this long for a token: most callers give up at 30."
    )
    authorization_server_connect: Seconds = Field(3.0, description="It is near, or it is down.")
    authorization_server_total: Seconds = Field(
        10.0, description="For an answer; below token_wait, above the slowest."
    )
    connect: Seconds = Field(5.0, description="To an upstream, TLS included: two lost packets fit.")
    first_byte: Seconds = Field(60.0, description="An upstream's thinking time; nginx's default too.")
    body_stall: Seconds = Field(
        300.0, description="No byte of a body for this long ends it; event streams pause."
    )
    header_time: Seconds = Field(20.0, description="For a caller's header: more is a slow-loris.")
    idle: Seconds = Field(
        75.0, description="A caller's connection between two requests; nginx's default too."
    )
    upstream_idle: Seconds = Field(
        55.0, description="An upstream connection; below the 60 that many servers keep one."
    )
    shutdown: Seconds = Field(
        25.0, description="For what is in flight at SIGTERM; below Kubernetes' grace of 30."
    )
    field_size: Count = Field(32768, description="A header field: the largest tokens and cookies fit.")
    header_size: Count = Field(131072, description="A whole header.")
    fields: Count = Field(200, description="The number of header fields.")
    spool: Count = Field(65536, description="A body up to this size is kept, to be sent again after a 401.")
    connections: Count = Field(
        10000, description="Callers' connections; below the usual limit of open files."
    )
    waiting: Count = Field(10000, description="Requests that wait for a token.")
    pool: Count = Field(128, description="Idle upstream connections kept for one route and account.")
    account_labels: Count = Field(
        100, description="Accounts a credential shown by name in metrics; more are counted."
    )


class Log(Table):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Requests are logged at info."
    )
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, else JSON."
    )


class Config(Table):
    """The whole file."""

    _path: Path = PrivateAttr(Path("config.toml"))  # set by load.py
    server: Server = Field(default_factory=lambda: Server())
    store: StoreConfig = Field(default_factory=lambda: StoreConfig())
    credentials: dict[Name, Credential] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    limits: Limits = Field(default_factory=lambda: Limits())
    log: Log = Field(default_factory=lambda: Log())

    @property
    def path(self) -> Path:
        return self._path

    def loaded_from(self, path: Path) -> Self:
        """Tell the parts what they are called: the file's name and the tables' are not keys inside them."""
        self._path = path
        for name, credential in self.credentials.items():
            credential._name = name  # noqa: SLF001 (its own model, set here only)
        return self

    def required(self, credential: str) -> bool:
        """Whether /readyz waits for it."""
        wanted = self.credentials[credential].required
        if wanted is not None:
            return wanted
        return any(route.credential == credential and isinstance(route.account, str) for route in self.routes)

    @property
    def public_url(self) -> str:
        """Without a slash at the end."""
        scheme = "https" if self.server.admin_tls else "http"
        return (self.server.public_url or f"{scheme}://{self.server.admin}").rstrip("/")

    @property
    def public_host(self) -> str:
        return urlsplit(self.public_url).hostname or ""

    @property
    def callback_address(self) -> Address | None:
        """Where a command could take the callback itself: public_url, if that is on this machine."""
        parts = urlsplit(self.public_url)
        if parts.hostname is None or not is_loopback(parts.hostname) or parts.path:
            return None
        return Address(parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme])
