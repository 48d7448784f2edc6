"""The endings of the proxy's own responses: one row for each, with its cause and its cure. Pure.

Problem documents have the title, and link to the page of the ending: the admin listener shows the whole row
at /help/ENDING. In texts, `...` marks a command, a key or a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PATH: Final = "/help"  # on the admin listener


@dataclass(frozen=True, slots=True)
class Ending:
    """`statuses`: of HTTP. `cause`: one or two sentences. `cures`: steps, the most likely first."""

    name: str
    statuses: tuple[int, ...]
    title: str
    cause: str
    cures: tuple[str, ...]

    @property
    def status(self) -> str:
        return " or ".join(map(str, self.statuses))


_EXPLAIN: Final = (
    "Run `token-proxy explain METHOD URL`: it shows which route, caller and policy a request meets, and "
    "sends nothing."
)
_RETRY: Final = "Send the request again after the seconds in `Retry-After`. Most HTTP clients can do that."
_LOG_HAS_CAUSE: Final = (
    "Read `detail`: it names the cause. The proxy's log has it as event `upstream_failed`, with the address."
)

_TABLE: Final = (
    Ending(
        "bad-request",
        (400,),
        "Malformed or ambiguous request",
        "The request breaks a rule of HTTP, or could be read in two ways. Such requests are not passed on, "
        "as the upstream might read them in the other way.",
        (
            (
                "Read `detail`: it names the rule. Correct the program that sends the request, or update its "
                "HTTP library."
            ),
            "With a path such as `/crm/../admin` or `/crm/%2e%2e/admin`: send the path without dot segments.",
        ),
    ),
    Ending(
        "header-too-large",
        (431,),
        "Request header too large",
        "The header of the request, or one of its fields, is larger than permitted, or has too many fields.",
        (
            "Send fewer or shorter fields. Cookies are the usual reason.",
            "If the program needs them, raise `field_size`, `header_size` or `fields` in `[limits]`.",
        ),
    ),
    Ending(
        "method-refused",
        (405, 501),
        "Method not supported",
        "TRACE and CONNECT are never passed on, since the response to TRACE would show the token. 501: the "
        "method is not one that the HTTP parser knows.",
        (
            "Use another method.",
            (
                "If the program uses CONNECT, it treats token-proxy as a forward proxy (HTTPS_PROXY). Set "
                "its base URL instead: `token-proxy run` prints the URL of each route."
            ),
        ),
    ),
    Ending(
        "host-refused",
        (421,),
        "Host not allowed",
        "The `Host` field is not a name of this proxy. Web pages can point a name of their own at this "
        "machine; the check keeps them out.",
        (
            "Use `127.0.0.1`, `localhost`, or the `host` of a route in the URL.",
            "If programs reach the proxy by another name, add it to `allowed_hosts` in `[server]`.",
        ),
    ),
    Ending(
        "browser-refused",
        (403,),
        "For programs, not for browsers",
        "The request comes from a web browser. The data listener adds tokens to whatever arrives, so that a "
        "web page must not be able to use it.",
        (
            "To look at the tokens, open the status page, which is on another port.",
            "To try a route by hand, use `curl`.",
            "If a web page is to call a route, list its origin in `origins` of the route.",
        ),
    ),
    Ending(
        "caller-unknown",
        (401,),
        "Caller not recognised",
        "The configuration has `[callers]`, and the request has no key, certificate, user or address of one. "
        "On a route with `subject_token`: the caller's own token is missing, or is not accepted.",
        (
            "Send the caller's key in the field `Token-Proxy-Key`, or where the program puts its API key.",
            "If the key has expired, or was lost: `token-proxy caller-key NAME` makes another one.",
            "If the key is right, check `networks` and `not_before` of the caller.",
        ),
    ),
    Ending(
        "caller-denied",
        (403,),
        "Not for this caller",
        "The caller is known, but its table does not list this route, this account or this token.",
        (
            "Add it to `routes`, `accounts` or `tokens` of `[callers.NAME]`, as `detail` says.",
            _EXPLAIN,
        ),
    ),
    Ending(
        "loop",
        (508,),
        "The request came back to this proxy",
        "The upstream of the route is this proxy itself, directly or through another server.",
        ("Correct `upstream` of the route.",),
    ),
    Ending(
        "no-route",
        (404,),
        "No route",
        "No route of the configuration matches the host and the path of the request.",
        (
            (
                "Check the base URL of the program: `token-proxy run` prints the URL of each route, and so "
                "does `token-proxy check -v`."
            ),
            "Paths are case-sensitive, and a prefix ends at a slash: `/crm` takes `/crm/x`, and not `/crmx`.",
            _EXPLAIN,
        ),
    ),
    Ending(
        "policy-denied",
        (403,),
        "Not permitted by a policy",
        "`methods`, `allow` or `deny` of the route or of the caller do not permit this request.",
        (
            "If it should pass, change `methods`, `allow` or `deny` of the route, or of `[callers.NAME]`.",
            _EXPLAIN,
        ),
    ),
    Ending(
        "account-invalid",
        (400,),
        "Account missing or invalid",
        "On this route each request names its account in a field. The field is missing, is there twice, or "
        "holds no name of an account.",
        (
            (
                "Send the field that `detail` names, once: letters, digits and `. _ @ + -`, beginning with a "
                "letter or digit."
            ),
            'If the route has one account only, set `account = "default"` there.',
        ),
    ),
    Ending(
        "login-required",
        (503,),
        "A person must log in",
        "There is no valid token, and only a person can get one: nobody has logged in yet, the authorization "
        "server has ended the login, or it gave no refresh token. Retrying does not help.",
        (
            "Open `login_url`, or run `token-proxy login CREDENTIAL --account ACCOUNT`.",
            "Without `login_url`: `detail` names the key of the configuration that needs a new value.",
            (
                "If logins end too soon, ask for a refresh token: the scope `offline_access` with "
                '`authorize_params = { prompt = "consent" }`, or for Google `authorize_params = { '
                'access_type = "offline", prompt = "consent" }`.'
            ),
        ),
    ),
    Ending(
        "token-unavailable",
        (503,),
        "No valid token now",
        "The token has expired, and the authorization server can't be reached, is busy, or fails. The proxy "
        "keeps trying.",
        (
            _RETRY,
            (
                "`token-proxy status` shows the cause, since when, and the next try. The button Try now on "
                "the status page tries at once."
            ),
            "If the address is wrong, correct `issuer` or `token_endpoint` of the credential.",
        ),
    ),
    Ending(
        "credential-misconfigured",
        (503,),
        "The credential's configuration must change",
        "The authorization server refuses this client or this request, or the configuration names a wrong "
        "address. Retrying does not help before something is changed.",
        (
            (
                "Read `detail`: it names the error code and the key to change. `token-proxy status` says the "
                "same."
            ),
            (
                "After a change at the authorization server, press Try now on the status page. A changed "
                "configuration file is read on SIGHUP."
            ),
        ),
    ),
    Ending(
        "overloaded",
        (503,),
        "Too many connections or requests",
        "A limit of this process is reached (connections, waiting requests, open files), or it is stopping.",
        (
            _RETRY,
            (
                "If that happens often, raise the limit that `detail` names, in `[limits]` or by `ulimit "
                "-n`, or run more processes."
            ),
        ),
    ),
    Ending(
        "upstream-unreachable",
        (502,),
        "Upstream can't be reached",
        "No connection to the upstream can be made: its name is unknown, nothing listens there, or the "
        "network between fails.",
        (_LOG_HAS_CAUSE, "Check `upstream` of the route, and that the upstream runs."),
    ),
    Ending(
        "upstream-tls",
        (502,),
        "TLS with the upstream failed",
        "The upstream's certificate is not trusted, has expired, or is for another name; or the two sides "
        "found no common TLS version.",
        (
            _LOG_HAS_CAUSE,
            "For a certificate of a private authority: `tls = { ca = FILE }` in the route.",
            "For one with another name: `tls = { server_name = NAME }` in the route.",
        ),
    ),
    Ending(
        "upstream-protocol",
        (502,),
        "Malformed upstream response",
        "The upstream closed the connection before its response, or sent something that is not HTTP/1.1.",
        (
            _LOG_HAS_CAUSE,
            "Check the scheme and the port in `upstream` of the route.",
            "Send the request again, if it may be sent twice: the upstream may have acted on it.",
        ),
    ),
    Ending(
        "upstream-timeout",
        (504,),
        "Upstream too slow",
        "The upstream did not accept a connection, or did not respond, in time.",
        (
            _LOG_HAS_CAUSE,
            "If the upstream needs longer, raise `connect`, `first_byte` or `body_stall` in `[limits]`.",
            "Send the request again, if it may be sent twice: the upstream may have acted on it.",
        ),
    ),
    Ending(
        "caller-timeout",
        (408,),
        "The request's body stopped arriving",
        "The caller began to send a body, and stopped for longer than `body_stall` in `[limits]`.",
        (
            "Check the program and its network. A body must be as long as its `Content-Length`.",
            "If pauses are to be expected, raise `body_stall` in `[limits]`.",
        ),
    ),
    Ending(
        "expectation-failed",
        (417,),
        "Unknown expectation",
        "The field `Expect` has a value other than `100-continue`.",
        ("Leave the field `Expect` out.",),
    ),
    Ending(
        "internal-error",
        (500,),
        "Internal error",
        "The proxy failed in a way that was not foreseen.",
        (
            "The proxy's log has the details. Please report them.",
            "Send the request again, if it may be sent twice: the upstream may have acted on it.",
        ),
    ),
)

ENDINGS: Final[Mapping[str, Ending]] = {ending.name: ending for ending in _TABLE}


def help_url(public_url: str, ending: str) -> str:
    """The page of an ending: `documentation` of its problem documents."""
    return f"{public_url}{PATH}/{ending}"
