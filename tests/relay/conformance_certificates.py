"""Invalid certificates for a server called localhost on this machine."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from trustme import CA, KeyType

SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")  # RFC 8017 appendix C
SHA1_WITH_RSA = bytes.fromhex("2a864886f70d010105")
DAY = dt.timedelta(days=1)


def now():
    return dt.datetime.now(dt.UTC)


def issued(context, authority, folder, *names, **options):
    authority.issue_cert(*names, **options).configure_cert(context)


def expired(context, authority, folder):
    issued(context, authority, folder, "localhost", not_before=now() - 9 * DAY, not_after=now() - DAY)


def not_yet_valid(context, authority, folder):
    issued(context, authority, folder, "localhost", not_before=now() + DAY, not_after=now() + 9 * DAY)


def of_an_unknown_ca(context, authority, folder):
    issued(context, CA(), folder, "localhost")


def of_a_namesake(context, authority, folder):
    """An authority with the name of the trusted one, and another key."""
    issued(context, CA(organization_name="known"), folder, "localhost")


def from_below_a_leaf(context, authority, folder):
    """A chain with an issuer that is not a CA."""
    leaf = authority.issue_cert("localhost")
    below = _builder(leaf_name(leaf), "localhost").sign(
        serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None), hashes.SHA256()
    )
    _serve(context, folder, below, _KEY, leaf.cert_chain_pems[0].bytes())


def leaf_name(leaf):
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).subject


def self_signed(context, authority, folder):
    _serve(context, folder, _builder(_NAME, "localhost").sign(_KEY, hashes.SHA256()), _KEY)


def for_clients(context, authority, folder):
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])
    _serve(
        context,
        folder,
        _signed(authority, _builder(_subject(authority), "localhost").add_extension(usage, False)),
        _KEY,
    )


def for_nobody(context, authority, folder):
    """Only a common name, as certificates once had, and no subjectAltName."""
    _serve(context, folder, _signed(authority, _builder(_subject(authority))), _KEY)


def with_a_wildcard(context, authority, folder, name):
    """Needed because trustme issues valid certificates only."""
    _serve(context, folder, _signed(authority, _builder(_subject(authority), name)), _KEY)


def with_a_short_key(context, authority, folder):
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    key = rsa.generate_private_key(65537, 1024)
    _serve(context, folder, _signed(authority, _builder(_subject(authority), "localhost", key=key)), key)


def signed_with_sha1(context, authority, folder):
    """cryptography no longer signs such a certificate: the algorithm identifier is replaced by hand."""
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    good = _signed(authority, _builder(_subject(authority), "localhost"))
    body = good.tbs_certificate_bytes.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    signature = _key_of(authority).sign(body, padding.PKCS1v15(), hashes.SHA1())
    whole = good.public_bytes(serialization.Encoding.DER).replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    _serve(context, folder, x509.load_der_x509_certificate(whole.replace(good.signature, signature)), _KEY)


def authority_of_rsa():
    return CA(organization_name="known", key_type=KeyType.RSA)


_KEY = ec.generate_private_key(ec.SECP256R1())
_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])


def _subject(authority):
    return x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject


def _key_of(authority):
    return serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)


def _builder(issuer, *names, key=_KEY):
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if not names:
        return builder
    return builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
    )


def _signed(authority, builder):
    return builder.sign(_key_of(authority), hashes.SHA256())


def _serve(context, folder, certificate, key, chain=b""):
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
        + chain
    )
    context.load_cert_chain(file)
