"""More precise next steps than those of a code alone: by its hint, or by the cause of a failed connection.

Pure. They are format strings, as the rows of failures.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy import failure_causes as causes
from proxy.config.steps import MOST_STEPS
from proxy.oauth.binding import ENDPOINTS

_IN_TABLE: Final = "credentials.{credential}."

# By code and AuthorizationServerError.hint: a more precise next step than that of the code alone.
_OF_CODES: Final[dict[tuple[str, str], str]] = {
    **{
        (
            "unsafe_endpoint",
            name,
        ): f"set {_IN_TABLE}{name}, or ask the server's operator to correct its metadata"
        for name in ENDPOINTS
    },
    ("issuer_mismatch", "slash"): f"the two differ only in the slash at the end: correct {_IN_TABLE}issuer",
    ("issuer_mismatch", "loopback"): (
        f"the two differ only in localhost and 127.0.0.1: correct {_IN_TABLE}issuer"
    ),
    ("issuer_mismatch", "template"): (
        f"the server's has a placeholder in braces: set {_IN_TABLE}issuer to the issuer of your tenant"
    ),
    ("invalid_client", "basic_encoding"): (
        "check client_id and client_secret of credentials.{credential}, or set basic_encoding = "
        '"raw" there; some servers need client_auth = "client_secret_post"'
    ),
    ("invalid_client", "client_key"): (
        "check client_id, client_key and client_key_id of credentials.{credential}, and that the public key "
        'is registered; some servers need assertion_audience = "endpoint" there'
    ),
    ("invalid_client", "client_assertion"): (
        "check that the platform still renews the file client_assertion of credentials.{credential}, and "
        "that the server trusts its issuer, subject and audience for this client_id"
    ),
    ("invalid_client", "client_secret_jwt"): (
        "check client_id and client_secret of credentials.{credential}; some servers need "
        'assertion_audience = "endpoint" there'
    ),
    ("invalid_client", "tls"): (
        "check client_id and tls.cert of credentials.{credential}, and that this certificate is the one "
        "registered for the client"
    ),
    ("invalid_client", "client_auth"): (
        "check client_id and client_secret of credentials.{credential}, or set client_auth = "
        '"client_secret_post" there; some servers need basic_encoding = "raw"'
    ),
}
_STEP_HINTS: Final[Mapping[str, str]] = {  # {step}: its number, from 1
    "step_refused": "check the secrets in step {step} of credentials.{{credential}}.steps, and their rights",
    "step_failed": "check step {step} of credentials.{{credential}}.steps: its url, method and body",
    "step_redirect": "correct the url in step {step} of credentials.{{credential}}.steps",
    "step_value": "check the placeholders in step {step} of credentials.{{credential}}.steps",
    "step_not_json": "if this persists, check the url in step {step} of credentials.{{credential}}.steps",
    "dns": "if this persists, check the host in step {step} of credentials.{{credential}}.steps",
}
HINTS: Final[Mapping[tuple[str, str], str]] = _OF_CODES | {
    (code, f"step{number}"): text.format(step=number)
    for code, text in _STEP_HINTS.items()
    for number in range(1, MOST_STEPS + 1)
}

_RENEW: Final = "the server's operator must renew it; if it was renewed, check the clock of this machine"
_BAD: Final = "the server's operator must replace it"
_PRIVATE: Final = f"to trust a private authority, set {_IN_TABLE}tls.ca to the file of its certificate"
_OURS: Final = f"check {_IN_TABLE}tls.cert and tls.key, and that the server trusts them"
_HOST: Final = "check the host in {place}"
_OF_CAUSES: Final[Mapping[str, Mapping[str, str]]] = {  # by code, then by Cause.code
    "tls": {
        causes.SELF_SIGNED.code: _PRIVATE,
        causes.UNKNOWN_CA.code: _PRIVATE,
        causes.EXPIRED.code: _RENEW,
        causes.NOT_YET_VALID.code: "check the clock of this machine",
        causes.WRONG_NAME.code: "check the host in {place}: the certificate is for another one",
        causes.TOO_WEAK.code: _BAD,
        causes.WRONG_PURPOSE.code: _BAD,
        causes.REVOKED.code: _BAD,
        causes.NOT_TLS.code: "check the port in {place}",
        causes.TLS_VERSION.code: "enable TLS 1.2 or 1.3 at the server",
        causes.TLS_CIPHER.code: "enable a current cipher at the server",
        causes.TLS_REFUSED.code: _OURS,
        causes.TLS_ALERT.code: _OURS,
        causes.CLIENT_CERTIFICATE_NEEDED.code: f"set {_IN_TABLE}tls.cert and tls.key",
        causes.CLIENT_CERTIFICATE_REFUSED.code: _OURS,
        causes.NAME_UNKNOWN_TO_PEER.code: _HOST,
    },
    "dns": {
        causes.NO_SUCH_HOST.code: _HOST,
        causes.LOOKUP_FAILED.code: _HOST,
        causes.LOOKUP_UNAVAILABLE.code: "if this persists, check the name servers of this machine",
    },
    "unreachable": {
        causes.REFUSED.code: "if this persists, check that the server runs, and the port in {place}",
        causes.NO_ROUTE.code: "if this persists, check the network of this machine",
        causes.FORBIDDEN.code: "check the firewall of this machine",
        causes.OUT_OF_FILES.code: "raise the limit of open files (ulimit -n)",
    },
    "egress_proxy": {
        causes.REFUSED.code: f"check that the egress proxy runs, and its port in {_IN_TABLE}proxy",
        causes.PROXY_REFUSED.code: f"check the user and password in {_IN_TABLE}proxy, and what it permits",
    },
}
OF_CAUSES: Final[Mapping[tuple[str, str], str]] = {
    (code, cause): text for code, by_cause in _OF_CAUSES.items() for cause, text in by_cause.items()
}
