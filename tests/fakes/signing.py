"""Private keys of each kind, made anew."""

from __future__ import annotations

import datetime as dt
import functools
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import JWKRegistry

MAKERS = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "weak": lambda: rsa.generate_private_key(65537, 1024),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "k256": lambda: ec.generate_private_key(ec.SECP256K1()),
    "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(2048),
}
FORMS = {"pkcs8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL}


@functools.cache
def private(kind):
    """The same key for each test of a process: RSA keys take a while."""
    return MAKERS[kind]()


def pem(kind, form="pkcs8", password=None):
    protection = NoEncryption() if password is None else BestAvailableEncryption(password)
    return private(kind).private_bytes(Encoding.PEM, FORMS[form], protection).decode()


def public_pem(kind):
    return private(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(kind, *, is_private=True, **members):
    """JSON; `kind` one of RSA, EC or Ed25519."""
    kty = {"rsa": "RSA", "ed25519": "OKP", "ed448": "OKP", "weak": "RSA"}.get(kind, "EC")
    return json.dumps({**JWKRegistry.import_key(pem(kind), kty).as_dict(private=is_private), **members})


@functools.cache
def certificate(kind):
    """Self-signed, PEM; the same for each test of a process."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(
        name, name, private(kind).public_key(), 7, now, now + dt.timedelta(days=1)
    ).sign(private(kind), hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()
