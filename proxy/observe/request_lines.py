"""The text of a request's log line. Compiled, as it is made for each request.

Numbers are made text without a format: that of a float costs as much as the rest of the line.
"""

from __future__ import annotations

import time
from typing import Final

from proxy.observe.logs import clock_time

REMEMBERED: Final = 1024  # beginnings of lines; an account of an `account` field adds one for each method
UNKNOWN: Final = -1.0  # the time of an upstream that did not respond
_QUICK: Final = 100.0  # milliseconds; the time of nearly every request
_TENTHS: Final = [f"{number / 10:.1f}" for number in range(1001)]  # of a millisecond, up to _QUICK

Names = tuple[str, str, str, str, str]  # route, credential, account, caller, method


class RequestLines:
    """Makes lines in one format. `last`: the Unix time of the last one."""

    __slots__ = ("_json", "_known", "_stamp", "_stamped", "last")

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._known: dict[Names, str] = {}  # the part of a line that requests repeat
        self._stamped = 0  # Unix time in milliseconds
        self._stamp = ""  # the same, as JSON
        self.last = 0.0

    def line(
        self,
        route: str,
        credential: str,
        account: str,  # empty if the request names none
        caller: str,  # empty where callers are not identified
        method: str,
        status: int,
        milliseconds: float,
        upstream: float,  # milliseconds until the upstream's response began; or UNKNOWN
        bytes_in: int,
        bytes_out: int,
        error: str,  # an ending, or empty
        replayed: bool,
        request_id: str,  # a trace id, or empty
        /,
    ) -> str:
        names = route, credential, account, caller, method
        said = self._known.get(names)
        if said is None:
            said = self._remember(names)
        now: float = time.time()
        self.last = now
        if not self._json:
            more = _more_text(error, replayed, request_id)
            took = _tenths(milliseconds) + " ms"
            if upstream >= 0:
                took = f"{took} (upstream {_tenths(upstream)} ms)"
            received, sent = str(bytes_in), str(bytes_out)
            return (
                f"{clock_time(now)} INFO    {said}: {status} in {took}, {received} bytes in, "
                f"{sent} bytes out{more}\n"
            )
        more = _more_json(error, replayed, request_id)
        times = _tenths(milliseconds)
        if upstream >= 0:
            times = f'{times}, "upstream_ms": {_tenths(upstream)}'
        when, code, received, sent = self._json_time(now), str(status), str(bytes_in), str(bytes_out)
        return (
            f'{{"ts": {when}, "level": "info", "event": "request", {said}, "status": {code}, '
            f'"duration_ms": {times}, "bytes_in": {received}, "bytes_out": {sent}{more}}}\n'
        )

    def _json_time(self, now: float) -> str:
        """To the nearest millisecond; the same text serves all lines of one."""
        milliseconds = int(now * 1000 + 0.5)
        if milliseconds != self._stamped:
            self._stamped = milliseconds
            digits = str(milliseconds)
            self._stamp = f"{digits[:-3]}.{digits[-3:]}"
        return self._stamp

    def _remember(self, names: Names) -> str:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        said = (_json_names if self._json else _text_names)(*names)
        self._known[names] = said
        return said


def _tenths(milliseconds: float) -> str:
    """To the nearest tenth."""
    if 0 <= milliseconds < _QUICK:
        return _TENTHS[int(milliseconds * 10 + 0.5)]
    return f"{milliseconds:.1f}"


def _more_json(error: str, replayed: bool, request_id: str) -> str:
    more = f', "request_id": "{request_id}"' if request_id else ""
    if error:
        more = f', "error": "{error}"{more}'
    return f', "replayed": true{more}' if replayed else more


def _more_text(error: str, replayed: bool, request_id: str) -> str:
    more = f", request {request_id}" if request_id else ""
    if error:
        more = f", error {error}{more}"
    return f", replayed{more}" if replayed else more


def _json_names(route: str, credential: str, account: str, caller: str, method: str) -> str:
    named = f', "caller": "{caller}"' if caller else ""
    return (
        f'"message": "{method} on route {route}", "route": "{route}", "credential": "{credential}", '
        f'"account": "{account}"{named}, "method": "{method}"'
    )


def _text_names(route: str, credential: str, account: str, caller: str, method: str) -> str:
    who = f" for {caller}" if caller else ""
    whose = f"account {credential}/{account}" if account else f"credential {credential}"
    return f"{method} on route {route} with {whose}{who}"
