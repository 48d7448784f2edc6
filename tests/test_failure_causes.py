"""Causes are told by codes, of real failures; never by a text."""

import asyncio
import errno
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from proxy import failure_causes
from proxy.failure_causes import Cause, cause_of

CAUSES = [value for value in vars(failure_causes).values() if isinstance(value, Cause)]
RFC_9209 = {
    *("dns_timeout", "dns_error", "destination_not_found", "destination_unavailable"),
    *("destination_ip_prohibited", "destination_ip_unroutable", "connection_refused"),
    *("connection_terminated", "connection_timeout", "connection_limit_reached"),
    *("http_response_incomplete", "http_protocol_error"),
    *("tls_protocol_error", "tls_certificate_error", "tls_alert_received", "proxy_internal_error"),
}


def server_context(authority, name="localhost", **dates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name, **dates).configure_cert(context)
    return context


def client_context(authority=None):
    context = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(context)
    return context


def failure_of(server, client, name="localhost"):
    """The exception of a client whose handshake with such a server fails, or whose first read does."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        try:
            step(ours)
        except ssl.SSLError as error:
            return error
        with suppress(ssl.SSLError):  # their side of it
            step(theirs)
    raise AssertionError("it did not fail")


def step(side):
    """As far as it gets. With TLS 1.3 a server refuses a certificate after the client's handshake."""
    with suppress(ssl.SSLWantReadError):
        side.do_handshake()
        side.read(1)


def failure_of_handshake(response):
    """The exception of a client whose peer sends this, and closes the connection."""
    received = ssl.MemoryBIO()
    client = client_context().wrap_bio(received, ssl.MemoryBIO(), server_hostname="localhost")
    received.write(response)
    received.write_eof()
    with pytest.raises(ssl.SSLError) as raised:
        client.do_handshake()
    return raised.value


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def test_an_unknown_authority(authority):
    error = failure_of(server_context(authority), client_context())
    assert cause_of(error) == (
        "certificate_unknown_authority",
        "certificate verify failed: unknown certificate authority",
        "tls_certificate_error",
    )


def test_a_certificate_that_has_expired(authority):
    past = datetime.now(UTC) - timedelta(days=1)
    error = failure_of(server_context(authority, not_after=past), client_context(authority))
    assert cause_of(error).sentence == "certificate verify failed: certificate has expired"


def test_a_certificate_that_is_not_yet_valid(authority):
    soon = datetime.now(UTC) + timedelta(days=1)
    error = failure_of(server_context(authority, not_before=soon), client_context(authority))
    assert cause_of(error).code == "certificate_not_yet_valid"


def test_a_certificate_for_another_name(authority):
    error = failure_of(server_context(authority, "other.example"), client_context(authority))
    assert cause_of(error).code == "certificate_wrong_name"


def test_a_certificate_for_another_address(authority):
    error = failure_of(server_context(authority), client_context(authority), name="127.0.0.1")
    assert cause_of(error).code == "certificate_wrong_name"


def test_a_self_signed_certificate(tmp_path):
    pem = tmp_path / "own.pem"
    pem.write_bytes(self_signed())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    cause = cause_of(failure_of(context, client_context()))
    assert cause.sentence == "certificate verify failed: self-signed certificate"


def test_a_server_without_tls():
    error = failure_of_handshake(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert cause_of(error).code == "not_tls"


def test_a_server_that_wants_a_client_certificate(authority):
    server = server_context(authority)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    assert cause_of(failure_of(server, client_context(authority))).code == "client_certificate_needed"


def test_a_server_that_refuses_our_client_certificate(authority):
    server = server_context(authority)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    client = client_context(authority)
    trustme.CA().issue_cert("us").configure_cert(client)
    assert cause_of(failure_of(server, client)).code == "client_certificate_refused"


def test_a_server_with_old_tls_only(authority):
    server = server_context(authority)
    server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_2
    client = client_context(authority)
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    assert cause_of(failure_of(server, client)).code == "tls_version"


def test_a_server_that_hangs_up_in_the_handshake():
    assert cause_of(failure_of_handshake(b"")).code == "tls_ended"


def test_a_refused_connection():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(OSError) as raised:
            socket.create_connection(bound.getsockname())
    assert cause_of(raised.value) == ("refused", "connection refused", "connection_refused")


def test_a_missing_socket(tmp_path):
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError) as raised:
        client.connect(str(tmp_path / "none.sock"))
    assert cause_of(raised.value).code == "no_such_socket"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (socket.EAI_NONAME, "no_such_host"),
        (socket.EAI_NODATA, "no_such_host"),
        (socket.EAI_AGAIN, "lookup_unavailable"),
        (socket.EAI_FAIL, "lookup_failed"),
    ],
)
def test_a_name_that_can_not_be_resolved(number, code):
    assert cause_of(socket.gaierror(number, "text")).code == code
    assert cause_of(socket.gaierror(number, "text")).proxy_error == "dns_error"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "timeout"),
        (TimeoutError(errno.ETIMEDOUT, "text"), "connect_timeout"),
        (ConnectionResetError(errno.ECONNRESET, "text"), "reset"),
        (BrokenPipeError(errno.EPIPE, "text"), "closed"),
        (OSError("Multiple exceptions: [Errno 111] refused, [Errno 101] unreachable"), "unreachable"),
        (OSError(errno.ENETUNREACH, "text"), "no_network_route"),
        (OSError(errno.EMFILE, "text"), "out_of_files"),
        (OSError(errno.EXDEV, "a code that no connection gives"), "unreachable"),
        (asyncio.IncompleteReadError(b"part", 10), "closed"),
        (ssl.SSLError(1, "no reason"), "tls_failed"),
        (ValueError("anything"), "other"),
        (ssl.SSLCertVerificationError("without a code"), "certificate_invalid"),
    ],
)
def test_other_failures(error, code):
    assert cause_of(error).code == code


@given(st.text(), st.integers(-50, 200) | st.none())
def test_no_cause_repeats_a_text(text, number):
    for kind in (OSError, socket.gaierror, ssl.SSLError, ConnectionError, TimeoutError, RuntimeError):
        error = kind(number, text) if number is not None else kind(text)
        assert cause_of(error) in CAUSES


def test_an_alert_that_is_not_in_the_table():
    error = ssl.SSLError(1, "text")
    error.reason = "TLSV1_ALERT_SOMETHING_NEW"
    assert cause_of(error).code == "tls_alert"


def test_causes_are_told_apart_and_named_as_in_the_rfc():
    assert len({cause.code for cause in CAUSES}) == len(CAUSES) > 30
    assert len({cause.sentence for cause in CAUSES}) == len(CAUSES)
    assert {cause.proxy_error for cause in CAUSES} <= RFC_9209
    assert all(cause.code.replace("_", "").isalnum() and cause.code.islower() for cause in CAUSES)


def self_signed():
    """A certificate and its key, as PEM, by the library that trustme is built on."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
