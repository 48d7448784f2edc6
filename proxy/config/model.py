"""The configuration as the program sees it: one frozen pydantic model for each table of the file.

Each table has its own module; this one puts them together. A model states what a key may hold and the
reason for its default; rules about several tables are in checks.py. The names of the keys are the contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from proxy.config import upstream_hosts
from proxy.config.address import DEFAULT_PORTS, Address, Egress, is_loopback
from proxy.config.base import Computed, Table
from proxy.config.callers import Caller
from proxy.config.client_auth import AuthorizationServerTLS, ClientAuth
from proxy.config.credential import Credential, Grant
from proxy.config.grants import REQUIREMENTS
from proxy.config.limits import Limits
from proxy.config.notify import Notify
from proxy.config.route import AccountHeader, AccountOfCaller, Route, UpstreamTLS
from proxy.config.server import ListenerTLS, Log, Server, StoreConfig
from proxy.config.values import Name

__all__ = [
    "AccountHeader",
    "AccountOfCaller",
    "AuthorizationServerTLS",
    "Caller",
    "ClientAuth",
    "Config",
    "Credential",
    "Grant",
    "Limits",
    "ListenerTLS",
    "Log",
    "Notify",
    "Route",
    "Server",
    "StoreConfig",
    "UpstreamTLS",
]

ENVIRONMENT: Final = "environment"


def _many(value: object) -> object:
    if isinstance(value, dict):
        raise ValueError("a single table: expected [[routes]] with two brackets, one for each route")  # noqa: TRY004 (for pydantic)
    return value


def _default_proxy(info: ValidationInfo) -> Egress | None:
    server = info.data.get("server")
    return server.proxy if isinstance(server, Server) else None


class Config(Table):
    """The whole file."""

    path: SkipJsonSchema[Annotated[Path | None, Computed]] = Path("config.toml")  # None: no file
    digest: SkipJsonSchema[Annotated[str, Computed]] = ""  # SHA-256 in hex, of what it was read from
    server: Server = Field(  # not Server(): its defaults depend on the environment
        {}, description="Where this process listens, and where it keeps its files.", validate_default=True
    )
    store: StoreConfig = Field(default_factory=StoreConfig, description="Where tokens are stored, encrypted.")
    credentials: dict[Name, Credential] = Field({}, description="OAuth clients by name: [credentials.NAME].")
    routes: Annotated[tuple[Route, ...], BeforeValidator(_many)] = Field(
        (), description="Which requests go to which upstream, with which token."
    )
    callers: dict[Name, Caller] = Field(
        {},
        description="The programs that may use this proxy, by name: [callers.NAME]. Without any, all may.",
    )
    notify: Notify | None = Field(
        None,
        description="Report that an account needs a person, and that it works again: by a program, or to a "
        "URL.",
    )
    limits: Limits = Field(
        default_factory=Limits, description="Limits and timeouts: times in seconds, sizes in bytes."
    )
    log: Log = Field(
        default_factory=Log, description="The log, which is written to stderr, and the audit log."
    )

    @field_validator("credentials")
    @classmethod
    def _named(cls, credentials: dict[str, Credential]) -> dict[str, Credential]:
        return {name: found.model_copy(update={"name": name}) for name, found in credentials.items()}

    @field_validator("credentials")
    @classmethod
    def _proxied(cls, credentials: dict[str, Credential], info: ValidationInfo) -> dict[str, Credential]:
        default = _default_proxy(info)
        if default is None:
            return credentials
        return {
            name: found if "proxy" in found.model_fields_set else found.model_copy(update={"proxy": default})
            for name, found in credentials.items()
        }

    @field_validator("routes")
    @classmethod
    def _proxied_routes(cls, routes: tuple[Route, ...], info: ValidationInfo) -> tuple[Route, ...]:
        default = _default_proxy(info)
        if default is None:
            return routes
        return tuple(
            route
            if "proxy" in route.model_fields_set or not route.can_be_proxied
            else route.model_copy(update={"proxy": default})
            for route in routes
        )

    @field_validator("callers")
    @classmethod
    def _named_callers(cls, callers: dict[str, Caller]) -> dict[str, Caller]:
        return {name: found.model_copy(update={"name": name}) for name, found in callers.items()}

    def is_stored(self, credential: str) -> bool:
        """Whether its tokens are in the store: not those of a credential that has been removed, nor values of
        the configuration itself, though there may be records of an earlier grant.
        """
        found = self.credentials.get(credential)
        return found is not None and not REQUIREMENTS[found.grant].is_fixed

    def with_upstream_fields(self) -> Self:
        """With the members of token responses that routes need, in each credential."""
        fields = upstream_hosts.fields_by_credential((each.credential, each.upstream) for each in self.routes)
        changed = {
            name: self.credentials[name].model_copy(update={"upstream_fields": found})
            for name, found in fields.items()
        }
        return self.model_copy(update={"credentials": self.credentials | changed}) if changed else self

    def required(self, credential: str) -> bool:
        """Whether /readyz requires this credential."""
        wanted = self.credentials[credential].required
        if wanted is not None:
            return wanted
        return any(route.credential == credential and isinstance(route.account, str) for route in self.routes)

    def listener_tls(self, address: Address) -> ListenerTLS | None:
        """TLS of a data listener. Client certificates are optional where a caller can do without."""
        tls = self.server.tls
        callers = self.callers.values()
        if tls is None or not any(each.can_do_without_certificate(unix=address.is_unix) for each in callers):
            return tls
        return tls.model_copy(update={"certificates_optional": True})

    @property
    def admin_listener_tls(self) -> ListenerTLS | None:
        """TLS of the admin listener. Client certificates are optional where there are other ways in."""
        tls = self.server.admin_tls
        if tls is None or not self.server.has_other_ways_in:
            return tls
        return tls.model_copy(update={"certificates_optional": True})

    @property
    def place(self) -> str:
        """Where it is from, in messages: its file, or "environment"."""
        return str(self.path) if self.path is not None else ENVIRONMENT

    @property
    def public_url(self) -> str:
        """The admin listener's URL for browsers, without a trailing slash."""
        scheme = "https" if self.server.admin_tls else "http"
        return self.server.public_url or f"{scheme}://{self.server.admin}"

    @property
    def public_host(self) -> str:
        return urlsplit(self.public_url).hostname or ""

    def redirect_uri(self, credential: Credential) -> str:
        """Where authorization servers send the browser after a login (RFC 6749 section 3.1.2)."""
        is_shared = credential.callback == "shared"
        if credential.registers and "callback" not in credential.model_fields_set:
            is_shared = False  # nobody has to register it, and it separates servers (RFC 9700 section 4.4)
        own = "" if is_shared else f"/{credential.name}"
        return f"{self.public_url}/callback{own}"

    @property
    def callback_address(self) -> Address | None:
        """Where the login command can receive the callback itself: public_url, if on this machine."""
        parts = urlsplit(self.public_url)
        host = parts.hostname or ""
        is_ours = (parts.scheme == "https") == (self.server.admin_tls is not None)  # else a TLS proxy's
        if not is_loopback(host) or not is_ours:
            return None
        return Address(host, parts.port or DEFAULT_PORTS[parts.scheme])
