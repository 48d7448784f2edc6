"""Private keys that sign JWTs: PEM, or a JWK in JSON (RFC 7517).

As in values.py, a fault is a ValueError whose message holds nothing of the key. What signs is oauth/jwt.py.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.references import REFERENCE, load_context, read_secret
from proxy.secret import Secret

HMAC: Final = ("HS256", "HS384", "HS512")  # with a shared secret
RSA: Final = ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512")
_OF_CURVE: Final[Mapping[str, tuple[str, ...]]] = {  # by cryptography's name of the curve
    "secp256r1": ("ES256",),
    "secp384r1": ("ES384",),
    "secp521r1": ("ES512",),
    "secp256k1": ("ES256K",),
}
ED25519: Final = ("EdDSA", "Ed25519")  # RFC 8037; RFC 9864 has the second
ED448: Final = ("EdDSA", "Ed448")
_SMALLEST_RSA: Final = 2048  # bits; RFC 7518 section 3.3
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)
EXPECTED: Final = "expected a private key: PEM without a password, or a JWK in JSON"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and what its file says besides."""

    secret: Secret  # PEM (PKCS #8)
    kind: str  # "RSA", "EC" or "OKP" (RFC 7518 section 6.1, RFC 8037)
    algorithms: tuple[str, ...]  # that it can sign with (RFC 7518), the usual one first
    kid: str = ""  # of a JWK
    thumbprint: str = ""  # of the certificate in the same file: x5t#S256 (RFC 7515 section 4.1.8)


# In place of a key that is not read: it may be of any kind.
_UNREAD: Final = SigningKey(
    Secret("unread"),
    "RSA",
    (*RSA, *(each for curve in _OF_CURVE.values() for each in curve), *ED25519, *ED448),
)


def read_signing_key(text: str) -> SigningKey:
    """Raises ValueError."""
    text = text.strip()
    if text.startswith("{"):
        return _of_jwk(text)
    if "\n" not in text:
        text = text.replace("\\n", "\n")  # as in an environment variable
    certificate = _CERTIFICATE.search(text)
    return _made(_of_pem(text), thumbprint=_thumbprint(certificate[0]) if certificate else "")


def _of_pem(text: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 (as below)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 (rare)

    if "PUBLIC KEY-----" in text and "PRIVATE KEY-----" not in text:
        raise ValueError("this is a public key: the private one is needed to sign")
    try:
        return load_pem_private_key(text.encode(), None)
    except TypeError:
        raise ValueError(f"the key has a password: {EXPECTED}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"not a private key: {EXPECTED}") from None


def _of_jwk(text: str) -> SigningKey:
    from joserfc.errors import JoseError  # noqa: PLC0415 (large, and JWKs are rare)
    from joserfc.jwk import OctKey, import_key  # noqa: PLC0415 (as above)

    not_usable = ValueError(f"not a JWK of a private key: {EXPECTED}")
    try:
        members = json.loads(text)
        kid, algorithm = members.get("kid", ""), members.get("alg")
        if members["kty"] == "oct":
            raise not_usable
        key = import_key(members)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        raise not_usable from None
    if isinstance(key, OctKey):
        raise not_usable
    if not key.is_private:
        raise ValueError("this JWK is a public key: the private one is needed to sign")
    made = _made(key.private_key, kid=kid)
    if algorithm is None:
        return made
    if algorithm not in made.algorithms:
        raise ValueError("its `alg` does not fit the key: " + _expected(made.algorithms))
    return replace(made, algorithms=(algorithm,))


def _made(key: Any, *, kid: str = "", thumbprint: str = "") -> SigningKey:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 (rare)
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    kind, algorithms = _kind(key)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey(Secret(pem.decode("ascii")), kind, algorithms, kid, thumbprint)


def _kind(key: Any) -> tuple[str, tuple[str, ...]]:
    """As in SigningKey: `kind` and `algorithms`."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey  # noqa: PLC0415 (rare)
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415

    match key:
        case RSAPrivateKey() if key.key_size < _SMALLEST_RSA:
            raise ValueError(
                f"an RSA key of {key.key_size} bits is too weak: expected {_SMALLEST_RSA} or more"
            )
        case RSAPrivateKey():
            return "RSA", RSA
        case EllipticCurvePrivateKey() if key.curve.name in _OF_CURVE:
            return "EC", _OF_CURVE[key.curve.name]
        case Ed25519PrivateKey():
            return "OKP", ED25519
        case Ed448PrivateKey():
            return "OKP", ED448
    raise ValueError("this kind of key can't sign a JWT: expected RSA, EC (P-256, P-384, P-521) or Ed25519")


def _thumbprint(certificate: str) -> str:
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 (rare)
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    try:
        digest = load_pem_x509_certificate(certificate.encode("ascii")).fingerprint(SHA256())
    except ValueError:
        raise ValueError(
            "the certificate beside the key can't be read: expected PEM, or only the key"
        ) from None
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _expected(names: tuple[str, ...]) -> str:
    return "expected " + " or ".join(names)


def _signing_key(value: object, info: ValidationInfo) -> SigningKey:
    if isinstance(value, SigningKey):
        return value
    secret = read_secret(value, info)
    if isinstance(value, dict) and not load_context(info).secrets:
        return _UNREAD
    return read_signing_key(secret.reveal())


SigningKeyValue = Annotated[SigningKey, PlainValidator(_signing_key), WithJsonSchema(REFERENCE)]
