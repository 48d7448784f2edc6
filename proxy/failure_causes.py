"""The causes of failed connections, in our own words: from codes (errno, OpenSSL's), never from a text. Pure.

The text of an exception may repeat what a peer sent; a code is from a fixed list. So a cause can be shown
in logs, responses and labels of metrics.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple


class Cause(NamedTuple):
    """`code`: usable as the label of a metric. `proxy_error`: a name of RFC 9209 section 2.3."""

    code: str
    sentence: str
    proxy_error: str


def cause_of(error: BaseException) -> Cause:
    """The cause of an exception from a look-up, a connection, a TLS handshake, or an open connection."""
    match error:
        case ssl.SSLCertVerificationError():
            return _BY_VERIFY_CODE.get(getattr(error, "verify_code", 0), BAD_CERTIFICATE)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return TLS_ENDED
        case ssl.SSLError():
            return _of_tls_reason(getattr(error, "reason", None) or "")  # only OpenSSL sets it
        case socket.gaierror():
            return _BY_LOOKUP.get(error.errno or 0, LOOKUP_FAILED)
        case OSError() if error.errno is not None:
            return _BY_ERRNO.get(error.errno, UNREACHABLE)
        case TimeoutError():
            return TIMEOUT
        case EOFError():
            return CLOSED
        case OSError():  # several addresses, which failed for different reasons
            return UNREACHABLE
    return OTHER


def _of_tls_reason(reason: str) -> Cause:
    """`reason`: OpenSSL's name of the error, from its own list also where the peer's alert is the cause."""
    return _BY_TLS_REASON.get(reason) or (TLS_ALERT if "_ALERT_" in reason else TLS_FAILED)


_CERTIFICATE: Final = "tls_certificate_error"
_TLS: Final = "tls_protocol_error"
_ALERT: Final = "tls_alert_received"

UNREACHABLE: Final = Cause("unreachable", "no address of the host can be reached", "destination_unavailable")
TIMEOUT: Final = Cause("timeout", "no response in time", "connection_timeout")
CLOSED: Final = Cause("closed", "the peer closed the connection", "connection_terminated")
OTHER: Final = Cause("other", "unexpected failure", "proxy_internal_error")

INCOMPLETE: Final = Cause("incomplete", "the response is incomplete", "http_response_incomplete")
MALFORMED: Final = Cause("malformed", "malformed HTTP response", "http_protocol_error")
PROXY_REFUSED: Final = Cause(
    "egress_refused", "the egress proxy refuses the connection", "destination_unavailable"
)

REFUSED: Final = Cause("refused", "connection refused", "connection_refused")
RESET: Final = Cause("reset", "connection reset by the peer", "connection_terminated")
CONNECT_TIMEOUT: Final = Cause("connect_timeout", "connecting takes too long", "connection_timeout")
NO_ROUTE: Final = Cause("no_network_route", "no route to the host", "destination_ip_unroutable")
FORBIDDEN: Final = Cause(
    "not_permitted", "this machine does not permit the connection", "destination_ip_prohibited"
)
NO_SOCKET: Final = Cause("no_such_socket", "no such unix socket", "destination_unavailable")
QUEUE_FULL: Final = Cause("queue_full", "the listener's queue is full", "connection_limit_reached")
OUT_OF_FILES: Final = Cause("out_of_files", "this process has too many open files", "proxy_internal_error")
OUT_OF_PORTS: Final = Cause("out_of_ports", "no local address or port is free", "proxy_internal_error")

_BY_ERRNO: Final[Mapping[int, Cause]] = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: RESET,
    errno.ECONNABORTED: RESET,
    errno.EPIPE: CLOSED,
    errno.ENOTCONN: CLOSED,
    errno.ETIMEDOUT: CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: NO_ROUTE,
    errno.ENETUNREACH: NO_ROUTE,
    errno.EHOSTDOWN: NO_ROUTE,
    errno.ENETDOWN: NO_ROUTE,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.ENOENT: NO_SOCKET,
    errno.ENOTSOCK: NO_SOCKET,
    errno.EAGAIN: QUEUE_FULL,
    errno.EMFILE: OUT_OF_FILES,
    errno.ENFILE: OUT_OF_FILES,
    errno.EADDRNOTAVAIL: OUT_OF_PORTS,
    errno.EADDRINUSE: OUT_OF_PORTS,
}

NO_SUCH_HOST: Final = Cause("no_such_host", "no such host", "dns_error")
LOOKUP_UNAVAILABLE: Final = Cause(  # no response, or SERVFAIL: the resolver does not tell these apart
    "lookup_unavailable", "temporary failure of the name server", "dns_error"
)
LOOKUP_FAILED: Final = Cause("lookup_failed", "the name can't be resolved", "dns_error")

_BY_LOOKUP: Final[Mapping[int, Cause]] = {
    socket.EAI_NONAME: NO_SUCH_HOST,
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): NO_SUCH_HOST,
    getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NONAME): NO_SUCH_HOST,
    socket.EAI_AGAIN: LOOKUP_UNAVAILABLE,
}


def _unverified(code: str, sentence: str) -> Cause:
    return Cause(code, f"certificate verify failed: {sentence}", _CERTIFICATE)


BAD_CERTIFICATE: Final = _unverified("certificate_invalid", "invalid certificate")
EXPIRED: Final = _unverified("certificate_expired", "certificate has expired")
NOT_YET_VALID: Final = _unverified("certificate_not_yet_valid", "certificate is not yet valid")
SELF_SIGNED: Final = _unverified("certificate_self_signed", "self-signed certificate")
UNKNOWN_CA: Final = _unverified("certificate_unknown_authority", "unknown certificate authority")
WRONG_NAME: Final = _unverified("certificate_wrong_name", "certificate is for another host name")
REVOKED: Final = _unverified("certificate_revoked", "certificate is revoked")
TOO_WEAK: Final = _unverified("certificate_too_weak", "key or signature of a certificate is too weak")
WRONG_PURPOSE: Final = _unverified("certificate_wrong_purpose", "certificate is not for servers")

_BY_VERIFY_CODE: Final[Mapping[int, Cause]] = {  # X509_V_ERR_* of <openssl/x509_vfy.h>
    2: UNKNOWN_CA,  # UNABLE_TO_GET_ISSUER_CERT
    9: NOT_YET_VALID,  # CERT_NOT_YET_VALID
    10: EXPIRED,  # CERT_HAS_EXPIRED
    18: SELF_SIGNED,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: UNKNOWN_CA,  # SELF_SIGNED_CERT_IN_CHAIN: the authority's own certificate, which is not trusted
    20: UNKNOWN_CA,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: UNKNOWN_CA,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    23: REVOKED,  # CERT_REVOKED
    26: WRONG_PURPOSE,  # INVALID_PURPOSE
    62: WRONG_NAME,  # HOSTNAME_MISMATCH
    64: WRONG_NAME,  # IP_ADDRESS_MISMATCH
    66: TOO_WEAK,  # EE_KEY_TOO_SMALL
    67: TOO_WEAK,  # CA_KEY_TOO_SMALL
    68: TOO_WEAK,  # CA_MD_TOO_WEAK
}

TLS_FAILED: Final = Cause("tls_failed", "TLS handshake failed", _TLS)
TLS_ENDED: Final = Cause("tls_ended", "the peer closed the connection during TLS", _TLS)
TLS_ALERT: Final = Cause("tls_alert", "the peer refused the TLS handshake", _ALERT)
NOT_TLS: Final = Cause("not_tls", "the peer does not speak TLS at this port", _TLS)
TLS_VERSION: Final = Cause("tls_version", "the peer supports no TLS version of ours (1.2 or later)", _TLS)
TLS_CIPHER: Final = Cause("tls_cipher", "no common TLS cipher or parameters", _TLS)
TLS_REFUSED: Final = Cause(
    "tls_refused",
    "the peer refused the TLS handshake: no common cipher, or a client certificate is needed",
    _ALERT,
)
CLIENT_CERTIFICATE_NEEDED: Final = Cause(
    "client_certificate_needed", "the peer requires a client certificate", _ALERT
)
CLIENT_CERTIFICATE_REFUSED: Final = Cause(
    "client_certificate_refused", "the peer does not accept our client certificate", _ALERT
)
NAME_UNKNOWN_TO_PEER: Final = Cause("tls_unknown_name", "the peer does not know this host name", _ALERT)

_BY_TLS_REASON: Final[Mapping[str, Cause]] = {  # of <openssl/sslerr.h>, as ssl.SSLError.reason names them
    "CERTIFICATE_VERIFY_FAILED": BAD_CERTIFICATE,
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "HTTP_REQUEST": NOT_TLS,
    "HTTPS_PROXY_REQUEST": NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": NOT_TLS,
    "RECORD_LAYER_FAILURE": NOT_TLS,
    "UNEXPECTED_EOF_WHILE_READING": TLS_ENDED,
    "UNSUPPORTED_PROTOCOL": TLS_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": TLS_VERSION,
    "NO_PROTOCOLS_AVAILABLE": TLS_VERSION,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": TLS_REFUSED,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": TLS_CIPHER,
    "NO_SHARED_CIPHER": TLS_CIPHER,
    "WRONG_SIGNATURE_TYPE": TLS_CIPHER,
    "DH_KEY_TOO_SMALL": TLS_CIPHER,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": CLIENT_CERTIFICATE_NEEDED,
    "SSLV3_ALERT_BAD_CERTIFICATE": CLIENT_CERTIFICATE_REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": CLIENT_CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": CLIENT_CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": CLIENT_CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": CLIENT_CERTIFICATE_REFUSED,
    "TLSV1_ALERT_UNKNOWN_CA": CLIENT_CERTIFICATE_REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": CLIENT_CERTIFICATE_REFUSED,
    "TLSV1_UNRECOGNIZED_NAME": NAME_UNKNOWN_TO_PEER,
}
