"""[limits]: sizes in bytes and times in seconds, each with its default and the reason for it.

Limits without a need to change are constants of the modules that they protect.
"""

from __future__ import annotations

from math import isnan
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from proxy.config.base import Table


def _a_number(value: float) -> float:
    if isnan(value):
        raise ValueError("expected a number, or inf")
    return value


# strict: no string that looks like a number
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, strict=True)]
# 0: none; inf: for ever
Pause = Annotated[float, Field(ge=0, strict=True), AfterValidator(_a_number)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]  # more is a typo
Days = Annotated[float, Field(gt=0, le=3650 * 86400.0, allow_inf_nan=False, strict=True)]  # in seconds
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False, strict=True)]  # in a second


class Limits(Table):
    """Limits and timeouts. Times in seconds, sizes in bytes."""

    token_wait: Seconds = Field(
        15.0, description="How long a request waits for a token; most callers give up after 30."
    )
    authorization_server_connect: Seconds = Field(
        3.0,
        description="Connect timeout for authorization servers; one that takes longer is treated as down.",
    )
    authorization_server_total: Seconds = Field(
        10.0,
        description="Timeout for an authorization server's whole response; below token_wait, so that "
        "requests get the error.",
    )
    authorization_server_rate: Rate = Field(
        50.0,
        description="Refreshes per second of one client at one server; 100 000 accounts with tokens of an "
        "hour need 35.",
    )
    connect: Seconds = Field(
        5.0, description="Connect timeout for upstreams, TLS included; allows for two lost packets."
    )
    first_byte: Seconds = Field(
        60.0,
        description="Timeout until the first byte of an upstream's response; nginx has the same default.",
    )
    body_stall: Seconds = Field(
        300.0, description="Longest pause within a body; long, as event streams pause."
    )
    half_closed: Pause = Field(
        2.0,
        description="After this long without a byte of a response, a caller that has ended its side counts "
        "as gone, as a client that has timed out looks the same. 0: at once; inf: never.",
    )
    header_time: Seconds = Field(
        20.0,
        description="How long a caller may take to send a request header; a slower one would take up a "
        "connection.",
    )
    admin_connections: Count = Field(
        64,
        description="Connections of the admin listener; a browser opens six, a scraper one. Fewer if there "
        "are few open files. At the limit, idle ones are closed for new ones.",
    )
    admin_header_time: Seconds = Field(
        20.0,
        description="How long a request header may take on the admin and the health listener, and how "
        "long a connection there may be idle; as header_time, but for people and scrapers.",
    )
    health_connections: Count = Field(
        32,
        description="Connections of the health listener; two scrapers and the probes of a pod are five, each "
        "for a moment. Fewer if there are few open files. At the limit, idle ones are closed for new ones.",
    )
    idle: Seconds = Field(
        75.0,
        description="How long a caller's connection may be idle between requests; nginx has the same "
        "default.",
    )
    upstream_idle: Seconds = Field(
        55.0,
        description="How long an upstream connection stays open between requests; many servers close "
        "theirs after 60.",
    )
    shutdown: Seconds = Field(
        25.0, description="Time for the requests in flight at SIGTERM to complete; Kubernetes kills after 30."
    )
    field_size: Count = Field(
        32768, description="Size of one header field; fits the largest tokens and cookies."
    )
    header_size: Count = Field(131072, description="Size of a whole header; four of the largest fields.")
    fields: Count = Field(
        200, description="Number of header fields of one message; no browser or gateway sends as many."
    )
    spool: Count = Field(
        65536, description="A request body up to this size is kept, for a replay after a 401."
    )
    connections: Count = Field(
        10000, description="Callers' connections per process; 100 MB in all, and up to two open files each."
    )
    waiting: Count = Field(
        10000, description="Number of requests waiting for a token; as many as connections."
    )
    pool: Count = Field(
        128,
        description="Upstream connections per route and account that stay idle for upstream_idle. What a "
        "burst needs beyond them stays for 10 s after its last use.",
    )
    dials: Count = Field(
        1024,
        description="Connections to an upstream being opened at once, per route and account; requests wait "
        "for the first that is open or free again. 64 at first, more while the upstream accepts them and "
        "this process has time for them. 1024 open 5000 a second if a handshake takes 200 ms, which is more "
        "than a core can.",
    )
    account_idle: Days = Field(
        7 * 86400.0,
        description="An account unused for this long is refreshed only on use, or to keep its refresh token "
        "alive; accounts named by routes are always refreshed.",
    )
    account_labels: Count = Field(
        100, description="Accounts per credential shown by name in metrics; beyond that they are counted."
    )

    @field_validator("header_size")
    @classmethod
    def _holds_a_field(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("field_size", 0):
            raise ValueError("smaller than a single field: expected at least field_size")
        return value
