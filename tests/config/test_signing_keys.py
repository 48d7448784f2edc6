"""Private keys as they are written in files: each kind, and each fault."""

import base64
import hashlib
import ssl

import pytest

from proxy.config.signing_keys import ED448, ED25519, EXPECTED, RSA, read_signing_key
from tests.fakes import signing

KINDS = [
    ("rsa", "RSA", RSA),
    ("p256", "EC", ("ES256",)),
    ("p384", "EC", ("ES384",)),
    ("p521", "EC", ("ES512",)),
    ("k256", "EC", ("ES256K",)),
    ("ed25519", "OKP", ED25519),
    ("ed448", "OKP", ED448),
]


@pytest.mark.parametrize(("kind", "name", "algorithms"), KINDS)
def test_a_key_says_what_it_can_sign_with(kind, name, algorithms):
    texts = [signing.pem(kind), "\n " + signing.pem(kind) + "\n\n"]
    texts += [signing.pem(kind, "traditional")] if not kind.startswith("ed") else []
    texts += [signing.jwk(kind)] if kind != "k256" else []
    found = [read_signing_key(text) for text in texts]
    assert {(each.kind, each.algorithms, each.kid) for each in found} == {(name, algorithms, "")}
    assert len({each.secret for each in found}) == 1  # the same key, however it is written


def test_line_ends_of_windows_and_of_an_environment_variable_do_no_harm():
    text = signing.pem("p256")
    for each in (text.replace("\n", "\r\n"), text.replace("\n", "\\n")):
        assert read_signing_key(each) == read_signing_key(text)


def test_a_jwk_may_name_its_key_id_and_its_algorithm():
    key = read_signing_key(signing.jwk("rsa", kid="2027-01", alg="PS256"))
    assert (key.kid, key.algorithms) == ("2027-01", ("PS256",))


def test_the_certificate_in_the_file_gives_the_thumbprint():
    for text in (
        signing.certificate("rsa") + signing.pem("rsa"),
        signing.pem("rsa") + signing.certificate("rsa"),
    ):
        key = read_signing_key(text)
        assert len(base64.urlsafe_b64decode(key.thumbprint + "=")) == 32
        assert key.secret == read_signing_key(signing.pem("rsa")).secret


def test_the_thumbprint_is_the_sha_256_of_the_certificate():
    certificate = signing.certificate("p256")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()
    key = read_signing_key(signing.pem("p256") + certificate)
    assert key.thumbprint == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


FAULTS = [
    ("", f"not a private key: {EXPECTED}"),
    ("hunter2", f"not a private key: {EXPECTED}"),
    ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", f"not a private key: {EXPECTED}"),
    (signing.pem("p256", password=b"x"), f"the key has a password: {EXPECTED}"),
    (
        signing.public_pem("p256"),
        "this is a public key: the private one is needed to sign",
    ),
    (signing.certificate("p256"), f"not a private key: {EXPECTED}"),
    (signing.pem("weak"), "an RSA key of 1024 bits is too weak: expected 2048 or more"),
    *(
        (
            signing.pem(kind),
            "this kind of key can't sign a JWT: expected RSA, EC (P-256, P-384, P-521) or Ed25519",
        )
        for kind in ("p224", "x25519", "dsa")
    ),
    ("{", f"not a JWK of a private key: {EXPECTED}"),
    ("{}", f"not a JWK of a private key: {EXPECTED}"),
    ('{"kty": "oct", "k": "AAAA"}', f"not a JWK of a private key: {EXPECTED}"),
    ('{"kty": ["RSA"]}', f"not a JWK of a private key: {EXPECTED}"),
    ('{"kty": "RSA", "n": 5}', f"not a JWK of a private key: {EXPECTED}"),
    (signing.jwk("p256", is_private=False), "this JWK is a public key: the private one is needed to sign"),
    (signing.jwk("p256", alg="ES384"), "its `alg` does not fit the key: expected ES256"),
    (signing.jwk("p256", alg=["ES256"]), f"not a JWK of a private key: {EXPECTED}"),
    (signing.jwk("p256", kid=5), f"not a JWK of a private key: {EXPECTED}"),
    (
        signing.pem("p256") + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "the certificate beside the key can't be read: expected PEM, or only the key",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), FAULTS)
def test_a_fault_says_what_is_expected_and_holds_nothing_of_the_key(text, sentence):
    with pytest.raises(ValueError) as caught:
        read_signing_key(text)
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
def test_no_repr_shows_the_key(kind):
    assert "PRIVATE" not in repr(read_signing_key(signing.pem(kind)))
