"""[server], [store] and [log]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from proxy.config.address import Address
from proxy.config.base import MissingKey, Table
from proxy.config.references import ExistingFile, SealingKey, StateDirectory
from proxy.config.values import SHARED_STORES, HostName, LocalAddress, Origin, StoreUrl
from proxy.secret import Secret


class ListenerTLS(Table):
    """Serve TLS on a listener."""

    cert: ExistingFile = Field(description="The certificate chain, PEM.")
    key: ExistingFile = Field(description="Its private key, PEM.")
    client_ca: ExistingFile | None = Field(
        None, description="Ask callers for a certificate of this authority."
    )


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Address) else value


def _one_or_more(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    if not addresses:  # not min_length: pydantic counts only what is valid, and would complain twice
        raise ValueError("an empty list - at least one address is meant")
    return addresses


Listeners = Annotated[tuple[LocalAddress, ...], BeforeValidator(_as_list), AfterValidator(_one_or_more)]


class Server(Table):
    """Where this process listens."""

    listen: Listeners = Field(
        "127.0.0.1:8080",
        description='The data listener: "host:port", "[::1]:port" or "unix:/path"; a list is allowed.',
        validate_default=True,
    )
    admin: LocalAddress = Field(
        "127.0.0.1:8081",
        description="The status page, logins, metrics and health.",
        validate_default=True,
    )
    public_url: Origin | None = Field(
        None,
        description='Where a browser reaches `admin`; the redirect URI is this + "/callback". '
        "Default: the address of `admin`.",
        validate_default=True,
    )
    allowed_hosts: tuple[HostName, ...] = Field((), description="More names that a Host field may carry.")
    state_dir: StateDirectory = Field(
        None,
        description="Where the store lives. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/token-proxy, "
        "else ~/.local/state/token-proxy.",
        validate_default=True,
    )
    tls: ListenerTLS | None = Field(None, description="Serve TLS on the data listeners.")
    admin_tls: ListenerTLS | None = Field(None, description="Serve TLS on the admin listener.")

    @field_validator("public_url")
    @classmethod
    def _a_socket_has_no_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and "admin" in info.data and info.data["admin"].is_unix:
            raise MissingKey("public_url is missing - a browser can't reach a unix socket by itself")
        return value


class StoreConfig(Table):
    """Where tokens are kept."""

    url: StoreUrl = Field(
        "sqlite:tokens.db",
        description='"sqlite:NAME" (relative to state_dir), "postgresql://…", "redis://…" or "rediss://…" to '
        'share it between hosts, or "memory:" to lose all at the end.',
    )
    key: SealingKey | None = Field(
        None,
        description="32 bytes, base64, that seal the tokens. "
        "Default: state_dir/store.key, made on first start; a shared store must be given one.",
        validate_default=True,
    )

    @field_validator("key")
    @classmethod
    def _is_the_same_on_every_host(cls, value: Secret | None, info: ValidationInfo) -> Secret | None:
        if value is None and str(info.data.get("url", "")).partition(":")[0] in SHARED_STORES:
            raise MissingKey("key is missing - a store that hosts share is sealed with one they share too")
        return value


class Log(Table):
    """What is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Requests are logged at info."
    )
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, else JSON."
    )
