"""[[routes]]"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from proxy.config.address import Address, Egress, Upstream
from proxy.config.base import MissingKey, Table
from proxy.config.limits import Pause
from proxy.config.listeners import ListenAddress
from proxy.config.policy import PolicyTable
from proxy.config.references import EgressProxy, ExistingFile
from proxy.config.route_fields import AUTHORIZATION, DroppedField, SetFields, plain
from proxy.config.route_variables import VariableName, default_variable
from proxy.config.upstream_hosts import AllowedHost, HostPattern, UpstreamValue
from proxy.config.values import (
    AccountName,
    FieldName,
    HostName,
    Name,
    PageOrigin,
    PathPrefix,
)
from proxy.secret import Secret

EXPOSED: Final = "http would expose the token to the network: expected https, or plaintext = true"


RESERVED: Final = "/.token-proxy/"  # requests to this proxy itself: relay/token_requests.py


class UpstreamTLS(Table):
    """TLS to the upstream."""

    ca: ExistingFile | None = Field(None, description="Trust this authority instead of the system's.")
    cert: ExistingFile | None = Field(None, description="The client certificate chain, PEM.")
    key: ExistingFile | None = Field(
        None, description="The certificate's private key, PEM.", validate_default=True
    )
    server_name: HostName | None = Field(
        None, description="The name in the upstream's certificate, if not its host."
    )

    @field_validator("key")
    @classmethod
    def _goes_with_cert(cls, value: object, info: ValidationInfo) -> object:
        if "cert" in info.data and (info.data["cert"] is None) != (value is None):
            raise MissingKey(f"{'key' if value is None else 'cert'} is missing - cert and key go together")
        return value


class AccountOfCaller(Table):
    """Each caller has an account of its own: `account` of [callers.NAME]."""

    caller: Literal[True] = Field(description="true: the account is the caller's own.")


class AccountHeader(Table):
    """The caller names the account in a header field of each request."""

    header: FieldName = Field(description='The field\'s name, e.g. "Token-Proxy-Account".')


def _known_kind(value: object) -> object:
    if not isinstance(value, str | dict | AccountHeader | AccountOfCaller):
        raise ValueError('expected an account: a name, { header = "…" } or { caller = true }')  # noqa: TRY004 (for pydantic)
    return value


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "a name"
    by_caller = isinstance(value, AccountOfCaller) or (isinstance(value, dict) and "caller" in value)
    return "the caller's" if by_caller else "a field's"


AccountValue = Annotated[
    Annotated[AccountName, Tag("a name")]
    | Annotated[AccountHeader, Tag("a field's")]
    | Annotated[AccountOfCaller, Tag("the caller's")],
    Discriminator(_kind),
    BeforeValidator(_known_kind),
]


def default_name(route: Mapping[str, Any]) -> str:
    """A name made from the path, the host or the listener's port; "root" for the path /."""
    listen = route.get("listen") or ""
    socket = listen.get("unix") if isinstance(listen, Mapping) else listen
    place = next(
        (str(route[key]) for key in ("path", "host") if str(route.get(key) or "/") != "/"),
        str(socket).rpartition(":")[2],
    )
    slug = re.sub(r"[^a-z0-9]+", "-", place.lower()).strip("-")
    return slug[:63].rstrip("-") or "root"


def _not_reserved(path: str | None) -> str | None:
    if path is not None and f"{path}/".startswith(RESERVED):
        raise ValueError(f"requests below {RESERVED} are for this proxy itself: expected another path")
    return path


def _is_here(upstream: Upstream) -> bool:
    return upstream.scheme == "http" and upstream.is_local


class Route(PolicyTable):
    """Which requests go to which upstream, with which token."""

    name: Name = Field(
        "",
        description="The route's name, which is the `route` label of metrics. Default: made from path, "
        "host or listener.",
    )
    path: Annotated[PathPrefix | None, AfterValidator(_not_reserved)] = Field(
        None, description="A path prefix; matches whole segments."
    )
    host: HostName | None = Field(None, description="The host name by which callers address this route.")
    listen: ListenAddress | None = Field(
        None,
        description="A listener of its own; every request there belongs to this route.",
        validate_default=True,
    )
    plaintext: StrictBool = Field(
        default=False, description="Allow http to an upstream that is not on this machine."
    )
    upstream: UpstreamValue = Field(
        description='"https://host/base" or "unix:/path.sock:/base"; "{instance_url}/base" where the token '
        "response names the host."
    )
    upstream_hosts: tuple[AllowedHost, ...] = Field(
        (),
        description="The hosts that a token response may name, where `upstream` has a placeholder: * is one "
        "whole label, ** one or more.",
        validate_default=True,
    )
    credential: Name = Field(
        description="The credential whose token is attached: a NAME of [credentials.NAME]."
    )
    account: AccountValue = Field(
        "default",
        description="The account's name, or the header field that names it, or { caller = true }.",
    )
    strip_path: StrictBool = Field(
        default=True, description="Send /crm/x as upstream/x rather than upstream/crm/x."
    )
    websocket: StrictBool = Field(
        default=False, description="Allow upgrades to WebSocket; otherwise the Upgrade field is ignored."
    )
    forwarded: StrictBool = Field(
        default=False, description="Send X-Forwarded-For, -Proto and -Host of the caller to the upstream."
    )
    origins: tuple[PageOrigin, ...] = Field(
        (), description='Web pages that may call this route, by their origins: "https://app.example".'
    )
    headers: SetFields = Field(
        {}, description="Fields that the upstream requires beside the token; they replace the caller's."
    )
    drop: tuple[DroppedField, ...] = Field(
        (), description="Fields of the caller that do not go upstream, like an SDK's dummy key."
    )
    caller_authorization: Literal["replace", "pass"] = Field(
        "replace",
        description="What becomes of the caller's Authorization: the token replaces it, or, where the token "
        'goes elsewhere, "pass" sends it upstream.',
    )
    env: VariableName | None = Field(
        None,
        description="The environment variable in which `exec` gives a program the base URL of this route. "
        "Default: {ROUTE}_BASE_URL.",
    )
    half_closed: Pause | None = Field(
        None, description="half_closed of [limits], for callers of this route. Default: the value there."
    )
    tls: UpstreamTLS | None = Field(
        None, description="TLS to the upstream. Default: the system's trust store."
    )
    proxy: EgressProxy | None = Field(
        None,
        description='An egress proxy through which to reach the upstream, by CONNECT. "none": no proxy. '
        "Default: server.proxy.",
    )

    @property
    def variable(self) -> str:
        """The environment variable in which `exec` gives a program the base URL."""
        return self.env or default_variable(self.name)

    @model_validator(mode="before")
    @classmethod
    def _has_a_name(cls, data: Any) -> Any:
        return {**data, "name": default_name(data)} if isinstance(data, dict) and "name" not in data else data

    @field_validator("listen")
    @classmethod
    def _has_one_place(cls, value: Address | None, info: ValidationInfo) -> Address | None:
        places = [info.data[key] for key in ("path", "host") if key in info.data]
        if value is not None and any(places):
            raise ValueError(
                "a route's own listener takes every request there - leave out path and host, or listen"
            )
        if value is None and len(places) == 2 and not any(places):
            raise MissingKey("path is missing - or host, or listen")
        return value

    @field_validator("upstream")
    @classmethod
    def _is_safe_for_tokens(cls, value: Upstream, info: ValidationInfo) -> Upstream:
        if value.scheme == "http" and not value.is_local and info.data.get("plaintext") is False:
            raise ValueError(EXPOSED)
        if value.field and info.data.get("plaintext"):
            raise ValueError("a host from a token response is always reached by https - leave plaintext out")
        return value

    @field_validator("upstream_hosts")
    @classmethod
    def _lists_hosts(cls, value: tuple[HostPattern, ...], info: ValidationInfo) -> tuple[HostPattern, ...]:
        upstream = info.data.get("upstream")
        if upstream is None:
            return value
        if upstream.field and not value:
            raise MissingKey(
                "upstream_hosts is missing - a token response names the host: list the allowed ones"
            )
        if value and not upstream.field:
            raise ValueError(
                'this upstream is fixed - leave upstream_hosts out, or write "{instance_url}/base"'
            )
        return value

    @field_validator("headers")
    @classmethod
    def _is_not_the_accounts(cls, value: dict[str, Secret], info: ValidationInfo) -> dict[str, Secret]:
        account = info.data.get("account")
        if isinstance(account, AccountHeader) and plain(account.header) in map(plain, value):
            raise ValueError(f"callers name the account in {account.header}: expected other fields")
        return value

    @field_validator("caller_authorization")
    @classmethod
    def _is_not_removed(cls, value: str, info: ValidationInfo) -> str:
        names = {plain(name) for key in ("headers", "drop") for name in info.data.get(key, ())}
        if value == "pass" and AUTHORIZATION in names:
            raise ValueError('this route replaces or drops Authorization: expected "replace"')
        return value

    @field_validator("tls")
    @classmethod
    def _goes_with_https(cls, value: UpstreamTLS | None, info: ValidationInfo) -> UpstreamTLS | None:
        if value is not None and "upstream" in info.data and info.data["upstream"].scheme == "http":
            raise ValueError("this upstream is not https - leave tls out")
        if (
            value is not None
            and value.server_name
            and "upstream" in info.data
            and info.data["upstream"].field
        ):
            raise ValueError(
                "a token response names the host, which its certificate must have: leave server_name out"
            )
        return value

    @field_validator("proxy")
    @classmethod
    def _leads_out(cls, value: Egress | None, info: ValidationInfo) -> Egress | None:
        upstream = info.data.get("upstream")
        if value is not None and upstream and _is_here(upstream):
            raise ValueError("this upstream is on this machine - leave proxy out")
        return value

    @property
    def can_be_proxied(self) -> bool:
        """Whether `proxy` may be set."""
        return not _is_here(self.upstream)
