"""Signed JWTs, verified with the public key by joserfc's own verification."""

import json
import warnings

import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import JWKRegistry, OctKey

from proxy.config.signing_keys import HMAC, read_signing_key
from proxy.oauth import jwt
from proxy.secret import Secret
from tests.fakes import signing

CLAIMS = {"iss": "web", "aud": ["a", "b"], "iat": 1, "nested": {"é": [None, True]}}
WAYS = [
    (kind, algorithm)
    for kind in ("rsa", "p256", "p384", "p521", "k256", "ed25519", "ed448")
    for algorithm in ("", *read_signing_key(signing.pem(kind)).algorithms)
]


def verified(text, key, algorithm):
    with warnings.catch_warnings(action="ignore"):
        return joserfc_jwt.decode(text, key, algorithms=[algorithm])


@pytest.mark.parametrize(("kind", "algorithm"), WAYS)
def test_each_kind_of_key_signs_with_each_of_its_algorithms(kind, algorithm):
    key = read_signing_key(signing.pem(kind))
    text = jwt.signed(CLAIMS, key, algorithm, {"kid": "7"})
    used = algorithm or key.algorithms[0]
    public = JWKRegistry.import_key(signing.public_pem(kind), key.kind)
    token = verified(text, public, used)
    assert token.claims == CLAIMS
    assert token.header == {"typ": "JWT", "alg": used, "kid": "7"}


def test_another_key_does_not_verify_it():
    text = jwt.signed(CLAIMS, read_signing_key(signing.pem("p256")))
    with pytest.raises(BadSignatureError):
        verified(text, JWKRegistry.generate_key("EC", "P-256", private=False), "ES256")


@pytest.mark.parametrize("algorithm", HMAC)
@pytest.mark.parametrize("secret", ["short", "é…" * 20, "x" * 100])
def test_a_shared_secret_signs_whatever_its_length(secret, algorithm):
    text = jwt.signed_with_secret(CLAIMS, Secret(secret), algorithm)
    with warnings.catch_warnings(action="ignore"):
        key = OctKey.import_key(secret.encode())
    assert verified(text, key, algorithm).claims == CLAIMS


def test_a_header_may_hold_a_jwk():
    public = json.loads(signing.jwk("p256", is_private=False))
    text = jwt.signed({}, read_signing_key(signing.pem("p256")), header={"typ": "dpop+jwt", "jwk": public})
    header = verified(text, JWKRegistry.import_key(public), "ES256").header
    assert header == {"typ": "dpop+jwt", "alg": "ES256", "jwk": public}
