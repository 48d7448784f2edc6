"""[limits]: every limit and time, each with its default and its reason. Seconds and bytes."""

from __future__ import annotations

from math import isnan
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from proxy.config.base import Table


def _a_number(value: float) -> float:
    if isnan(value):
        raise ValueError("not a number that can be used - expected digits, or inf")
    return value


# strict: no text that looks like a number
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, strict=True)]
# 0: none; inf: for ever
Pause = Annotated[float, Field(ge=0, strict=True), AfterValidator(_a_number)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]  # more is a slip of the keyboard
Days = Annotated[float, Field(gt=0, le=3650 * 86400.0, allow_inf_nan=False, strict=True)]  # in seconds
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False, strict=True)]  # in a second


class Limits(Table):
    """Every limit and time, each with its reason. Times in seconds, sizes in bytes."""

    token_wait: Seconds = Field(
        15.0, description="A request waits this long for a token: most callers give up at 30."
    )
    authorization_server_connect: Seconds = Field(
        3.0, description="To connect to an authorization server: it is near, or it is down."
    )
    authorization_server_total: Seconds = Field(
        10.0, description="For its whole answer; below token_wait, so that waiting requests learn of it."
    )
    authorization_server_rate: Rate = Field(
        50.0,
        description="Refreshes by one client at one server in a second: 100 000 accounts of an hour need 35.",
    )
    connect: Seconds = Field(5.0, description="To reach an upstream, TLS included: two lost packets fit.")
    first_byte: Seconds = Field(60.0, description="An upstream's thinking time; nginx's default too.")
    body_stall: Seconds = Field(
        300.0, description="No byte of a body for this long ends the request; event streams pause."
    )
    half_closed: Pause = Field(
        2.0,
        description="A caller that has ended its side is gone after this long without a byte of a response: "
        "a client that has timed out looks just like that. 0: at once; inf: it is waited for.",
    )
    header_time: Seconds = Field(20.0, description="For a caller's header: who needs more holds us up.")
    idle: Seconds = Field(75.0, description="A caller's connection between requests; nginx's default too.")
    upstream_idle: Seconds = Field(
        55.0, description="An upstream connection between requests; below the 60 that many servers keep one."
    )
    shutdown: Seconds = Field(
        25.0, description="For what is in flight at SIGTERM; below Kubernetes' grace of 30."
    )
    field_size: Count = Field(32768, description="A header field: the largest tokens and cookies fit.")
    header_size: Count = Field(131072, description="A whole header: four of the largest fields.")
    fields: Count = Field(
        200, description="The number of header fields; no browser or gateway sends as many."
    )
    spool: Count = Field(65536, description="A body up to this size is kept, to be sent again after a 401.")
    connections: Count = Field(
        10000, description="Callers' connections to a process: 100 MB in all, and up to two open files each."
    )
    waiting: Count = Field(10000, description="Requests that wait for a token: as many as connections.")
    pool: Count = Field(
        128, description="Idle upstream connections kept for one route and account: a burst's worth."
    )
    account_idle: Days = Field(
        7 * 86400.0,
        description="An account unused for so long is refreshed only when it is used again, or to keep its "
        "refresh token alive; accounts that routes name always are.",
    )
    account_labels: Count = Field(
        100, description="A credential's accounts shown by name in metrics; more are only counted."
    )

    @field_validator("header_size")
    @classmethod
    def _holds_a_field(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("field_size", 0):
            raise ValueError(
                "a header can't be smaller than one of its fields - at least field_size is meant"
            )
        return value
