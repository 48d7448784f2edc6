"""[server], [store] and [log]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from proxy.config.address import Address
from proxy.config.admin import AddressText, AdminKey, AdminTrusts
from proxy.config.base import Computed, MissingKey, Table
from proxy.config.callers import Listed, Network, NetworkValue, covers_everything
from proxy.config.listeners import ListenAddress
from proxy.config.references import AuditFile, EgressProxy, ExistingFile, SealingKey, StateDirectory, StoreUrl
from proxy.config.values import SHARED_STORES, HostName, Origin
from proxy.secret import Secret


class ListenerTLS(Table):
    """Serve TLS on a listener."""

    cert: ExistingFile = Field(description="The certificate chain, PEM.")
    key: ExistingFile = Field(description="The certificate's private key, PEM.")
    client_ca: ExistingFile | None = Field(
        None,
        description="The authority of client certificates. They are required, unless callers can be "
        "identified otherwise.",
    )
    certificates_optional: SkipJsonSchema[Annotated[bool, Computed]] = False  # see Config.listener_tls


def _as_list(value: object) -> object:
    if isinstance(value, str | int | Address | dict) and not isinstance(value, bool):
        return [value]
    if not isinstance(value, list | tuple):
        raise ValueError('expected "host:port", "[::1]:port", "unix:/path", or a list of these')  # noqa: TRY004 (for pydantic)
    return value


def _one_or_more(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    if not addresses:  # not min_length: pydantic counts valid items only, and would report two faults
        raise ValueError("an empty list: expected at least one address")
    return addresses


Listeners = Annotated[tuple[ListenAddress, ...], BeforeValidator(_as_list), AfterValidator(_one_or_more)]


class Server(Table):
    """Where this process listens."""

    listen: Listeners = Field(
        "127.0.0.1:8080",
        description='The data listener: "host:port", "[::1]:port", "unix:/path" or { unix = "/path", '
        'mode = "0660", group = "apps" }; a list is allowed. Beyond this machine only with callers or '
        "`anyone`.",
        validate_default=True,
    )
    admin: AddressText = Field(
        "127.0.0.1:8081",
        description="The admin listener: status page, logins, metrics and health. Beyond this machine only "
        "with admin_key or admin_tls.client_ca.",
        validate_default=True,
    )
    health: AddressText | None = Field(
        None,
        description='The health listener, at any address, like "0.0.0.0:9102": GET and HEAD of /metrics, '
        "/healthz, /readyz and /startupz, and nothing else. No one needs to be known there.",
    )
    quit: StrictBool = Field(
        default=False,
        description="Allow POST /quitquitquit on the health listener, from this machine (or pod) only: it "
        "ends the process as SIGTERM does. For the sidecar of a job.",
    )
    health_accounts: StrictBool = Field(
        default=True,
        description="Whether the health listener names accounts, in /metrics and /readyz; without names, "
        "`accounts` still counts those of each credential by state.",
    )
    public_url: Origin | None = Field(
        None,
        description='Where a browser reaches `admin`; the redirect URI is this + "/callback". '
        "Default: the address of `admin`.",
        validate_default=True,
    )
    allowed_hosts: tuple[HostName, ...] = Field((), description="Further names accepted in the Host field.")
    state_dir: StateDirectory = Field(
        None,
        description="Directory of the store. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/token-proxy, "
        "else ~/.local/state/token-proxy.",
        validate_default=True,
    )
    tls: ListenerTLS | None = Field(None, description="Serve TLS on the data listeners.")
    admin_tls: ListenerTLS | None = Field(None, description="Serve TLS on the admin listener.")
    admin_key: AdminKey | None = Field(
        None,
        description="The key to the admin listener: people give it in a form, programs as Authorization: "
        "Bearer.",
    )
    admin_trusts: AdminTrusts | None = Field(
        None, description="A proxy in front of the admin listener that has authenticated the person."
    )

    plaintext: StrictBool = Field(
        default=False,
        description="Allow data listeners beyond this machine without TLS although callers have keys.",
    )
    proxy: EgressProxy | None = Field(
        None,
        description="The egress proxy of credentials and routes that name none; see `proxy` there.",
    )
    anyone: Annotated[tuple[NetworkValue, ...], Listed] = Field(
        (),
        description="Networks whose requests need no identity, like a compose network; never with [callers].",
    )

    @field_validator("quit", "health_accounts")
    @classmethod
    def _goes_with_a_health_listener(cls, value: bool, info: ValidationInfo) -> bool:
        is_default = value == cls.model_fields[str(info.field_name)].default
        if not is_default and info.data.get("health", "with a fault of its own") is None:
            raise ValueError('this is for the health listener: expected health too, like "0.0.0.0:9102"')
        return value

    @field_validator("anyone")
    @classmethod
    def _is_not_the_world(cls, value: tuple[Network, ...]) -> tuple[Network, ...]:
        if not value:
            raise ValueError("an empty list: expected at least one network, or leave the key out")
        if covers_everything(value):
            raise ValueError("these are all addresses: expected the networks of your own programs only")
        return value

    @field_validator("public_url")
    @classmethod
    def _has_a_default(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and "admin" in info.data and info.data["admin"].is_unix:
            raise MissingKey("public_url is missing - a browser can't connect to a unix socket")
        return value

    @property
    def has_other_ways_in(self) -> bool:
        """Whether visitors of the admin listener may be known without a client certificate."""
        return self.admin_key is not None or self.admin_trusts is not None


def _scheme(url: Secret) -> str:
    return url.reveal().partition(":")[0]


class StoreConfig(Table):
    """Where tokens are stored."""

    url: StoreUrl = Field(
        "sqlite:tokens.db",
        description='"sqlite:NAME" (relative to state_dir), "postgresql://…", "redis://…" or "rediss://…" to '
        'share it between hosts, or "memory:", which is lost at the end of the process. By reference if it '
        "holds a password.",
        validate_default=True,
    )
    key: SealingKey | None = Field(
        None,
        description="The key that encrypts the tokens: 32 bytes in base64. "
        "Default: state_dir/store.key, created on first start; required for a shared store.",
        validate_default=True,
    )

    @field_validator("key")
    @classmethod
    def _is_given_for_a_shared_store(cls, value: Secret | None, info: ValidationInfo) -> Secret | None:
        url = info.data.get("url")
        if value is None and url is not None and _scheme(url) in SHARED_STORES:
            raise MissingKey("key is missing - a store shared by several hosts needs a key they share")
        return value

    @property
    def scheme(self) -> str:
        """The kind of the store: sqlite, postgresql, redis, rediss or memory."""
        return _scheme(self.url)

    @property
    def is_memory(self) -> bool:
        """Whether it is lost with the process, and no other process shares it."""
        return self.scheme == "memory"

    @property
    def is_shared(self) -> bool:
        """Whether several hosts can share it."""
        return self.scheme in SHARED_STORES


class Log(Table):
    """The log, written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is logged. Requests are logged at info."
    )
    format: Literal["auto", "text", "json"] = Field(
        "auto", description='"auto": text on a terminal, else JSON.'
    )
    audit: AuditFile | None = Field(
        None,
        description='Audit log: a file, relative to this one, or "-" for the standard output. JSON lines: '
        "one for each request with its decision, and for logins and logouts.",
    )
    audit_required: StrictBool = Field(
        default=False,
        description="Refuse requests (503) while the audit log can't be written, and start only if it can be "
        "opened.",
    )

    @field_validator("audit_required")
    @classmethod
    def _has_a_file(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "audit" in info.data and info.data["audit"] is None:
            raise MissingKey("audit is missing - audit_required needs an audit log")
        return value
