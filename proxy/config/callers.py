"""[callers.NAME]: the programs that may use this proxy, and what each of them may do.

A caller is identified by a key, a client certificate, or the user or group of its process on a unix socket;
`networks` narrows these. Rules about several tables are in caller_checks.py.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator
from pydantic.json_schema import SkipJsonSchema

from proxy import caller_keys
from proxy.config.address import read_host
from proxy.config.base import NameOfTable
from proxy.config.policy import PolicyTable
from proxy.config.references import REFERENCE, read_secret
from proxy.config.values import ACCOUNT_NAME, AccountName, Name, text_of
from proxy.secret import Secret

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ALL: Final = "*"
_KEY: Final = re.compile(r"[\x21-\x7e]{20,}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+")
_EMAIL: Final = re.compile(r"[\x21-\x3f\x41-\x7e]+@[A-Za-z0-9.-]+")
_ADDRESS: Final = re.compile(r"[0-9.]+")  # a certificate has these as another kind of name
_LARGEST_ID: Final = 2**32 - 2  # of a user or group; the next one stands for "none"


def _listed(value: object) -> object:
    """One value is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _key(value: object, info: ValidationInfo) -> Secret:
    secret = read_secret(value, info)
    if not _KEY.fullmatch(secret.reveal()):
        raise ValueError(
            "expected a key: one line of at least 20 visible characters, as `token-proxy caller-key` makes"
        )
    if secret.reveal().startswith(caller_keys.SIGNED.decode()):
        raise ValueError(
            "a signed key is accepted while it is valid, and must not be configured: expected a key that "
            "`token-proxy caller-key` makes without --ttl"
        )
    return secret


def _digest(value: object) -> str:
    text = text_of(value)
    if not _DIGEST.fullmatch(text):
        raise ValueError("expected the SHA-256 of the whole key: 64 hexadecimal digits")
    return text.lower()


def read_certificate_name(text: str) -> tuple[str, str]:
    """Kind and comparable form of the subjectAltName that `text` stands for. Raises ValueError."""
    kind = _kind_of_name(text)
    if not kind:
        raise ValueError("expected a name in its certificate: a URI, a DNS name or an e-mail address")
    return comparable_name(kind, text)


def comparable_name(kind: str, text: str) -> tuple[str, str]:
    """A subjectAltName (RFC 5280 section 4.2.1.6) as compared: hosts in lower case, everything else exactly.

    `kind`: as the module `ssl` names it.
    """
    if kind == "DNS":
        return kind, text.lower()
    if kind == "email":
        local, at, domain = text.rpartition("@")
        return kind, local + at + domain.lower()
    return kind, text


def _kind_of_name(text: str) -> str:
    if ":" in text:
        return "URI" if _URI.fullmatch(text) else ""
    if "@" in text:
        return "email" if _EMAIL.fullmatch(text) else ""
    return "DNS" if read_host(text) and not _ADDRESS.fullmatch(text) else ""


def _certificate_name(value: object) -> str:
    text = text_of(value)
    read_certificate_name(text)
    return text


def read_network(text: str) -> Network:
    """`10.1.0.0/16`, `fd00::/8` or one address. Raises ValueError."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"expected a network: {_without_host_bits(text)}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("expected an IPv4 network in its usual notation: 10.1.0.0/16")
    return network


def _without_host_bits(text: str) -> str:
    try:
        return f"{ipaddress.ip_network(text, strict=False)}, or one address without a length"
    except ValueError:
        return "10.1.0.0/16, fd00::/8 or one address"


def _network(value: object) -> Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    return read_network(text_of(value))


def covers_everything(networks: tuple[Network, ...]) -> bool:
    """Whether the networks are, in all, every address of a version."""
    four = ipaddress.collapse_addresses(each for each in networks if isinstance(each, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(each for each in networks if isinstance(each, ipaddress.IPv6Network))
    return any(each.prefixlen == 0 for each in four) or any(each.prefixlen == 0 for each in six)


def _account(value: object) -> str:
    text = text_of(value)
    if text != ALL and not ACCOUNT_NAME.fullmatch(text):
        raise ValueError('expected an account name: letters, digits and . _ @ + -; or ["*"] for all')
    return text


_STRING: Final[dict[str, Any]] = {"type": "string"}

CallerKey = Annotated[Secret, PlainValidator(_key), WithJsonSchema(REFERENCE)]
KeyDigest = Annotated[str, PlainValidator(_digest), WithJsonSchema(_STRING)]
CertificateName = Annotated[str, PlainValidator(_certificate_name), WithJsonSchema(_STRING)]
Id = Annotated[int, Field(ge=0, le=_LARGEST_ID, strict=True)]
NetworkValue = Annotated[Network, PlainValidator(_network), WithJsonSchema(_STRING)]
NameOfAccount = Annotated[str, PlainValidator(_account), WithJsonSchema(_STRING)]
Listed = BeforeValidator(_listed)


class Caller(PolicyTable):
    """A program that may use this proxy. Once there is one, a request that fits no caller is refused."""

    name: SkipJsonSchema[NameOfTable] = ""
    key: Annotated[tuple[CallerKey, ...], Listed] = Field(
        (), description="A key, or a list of keys: one line of at least 20 visible characters each."
    )
    key_sha256: Annotated[tuple[KeyDigest, ...], Listed] = Field(
        (), description="The SHA-256 of a key in hexadecimal digits, or a list."
    )
    certificate: Annotated[tuple[CertificateName, ...], Listed] = Field(
        (),
        description="A URI, DNS or e-mail subjectAltName of its client certificate, or a list; "
        "on TLS listeners with client_ca.",
    )
    uid: Annotated[tuple[Id, ...], Listed] = Field(
        (), description="The user id of its process, or a list; on unix sockets."
    )
    gid: Annotated[tuple[Id, ...], Listed] = Field(
        (), description="A group id of its process, or a list; on unix sockets."
    )
    networks: Annotated[tuple[NetworkValue, ...], Listed] = Field(
        (), description="Networks that it must call from, beside its identity. Alone they identify it."
    )
    routes: tuple[Name, ...] | None = Field(None, description="The routes that it may use. Default: all.")
    accounts: tuple[NameOfAccount, ...] = Field(
        (),
        description='The accounts that it may name where a route has account = { header = "…" }; '
        'default: none; ["*"]: all.',
    )
    account: AccountName | None = Field(
        None,
        description="Its account on routes with account = { caller = true }. Default: the caller's name.",
    )
    tokens: tuple[Name, ...] = Field(
        (),
        description="The credentials whose access tokens it may fetch, at /.token-proxy/token/NAME of a data "
        "listener. Default: none.",
    )
    not_before: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] | None = Field(
        None, description="Unix time in seconds; signed keys made earlier are not accepted."
    )

    @field_validator("key", "key_sha256", "certificate", "uid", "gid", "networks", mode="after")
    @classmethod
    def _is_not_empty(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if not value:
            raise ValueError("an empty list: expected at least one item")
        return value

    @field_validator("accounts")
    @classmethod
    def _all_stands_alone(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if ALL in value and len(value) > 1:
            raise ValueError('"*" already means all accounts: expected ["*"], or names only')
        return value

    @property
    def digests(self) -> frozenset[bytes]:
        """The SHA-256 of each of its keys."""
        return self._given_digests | self._named_digests

    @property
    def unseen_digests(self) -> frozenset[bytes]:
        """Of these the keys themselves are not known."""
        return self._named_digests - self._given_digests

    @property
    def _given_digests(self) -> frozenset[bytes]:
        return frozenset(caller_keys.digest_of(key.reveal().encode("ascii")) for key in self.key)

    @property
    def _named_digests(self) -> frozenset[bytes]:
        return frozenset(bytes.fromhex(digest) for digest in self.key_sha256)

    @property
    def own_keys(self) -> tuple[Secret, ...]:
        """Its keys that do not begin with our prefix."""
        prefix = caller_keys.PREFIX.decode()
        return tuple(key for key in self.key if not key.reveal().startswith(prefix))

    @property
    def is_network(self) -> bool:
        """Whether its networks are its only identity."""
        others = self.key, self.key_sha256, self.certificate, self.uid, self.gid
        return bool(self.networks) and not any(others) and self.not_before is None

    def can_do_without_certificate(self, *, unix: bool) -> bool:
        """Whether it can be identified otherwise, on a unix socket or elsewhere."""
        has_key = bool(self.key or self.key_sha256) or self.not_before is not None
        return has_key or self.is_network or (unix and bool(self.uid or self.gid))

    @property
    def own_account(self) -> str:
        """Its account on routes with account = { caller = true }."""
        return self.account or self.name
