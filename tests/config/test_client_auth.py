"""The keys of client authentication: what they allow, and each fault."""

import shutil
from pathlib import Path

import pytest
import trustme

from proxy.config.client_auth import BY_KEY, USES
from proxy.oauth.client_auth import METHODS
from tests.fakes import signing

from .conftest import Complaints, Load

MINIMAL = '[credentials.crm]\nclient_id = "app"\nissuer = "https://login.example"\n'
BY_HAND = (
    '[credentials.crm]\nclient_id = "app"\ntoken_endpoint = "https://login.example/t"\n'
    'authorization_endpoint = "https://login.example/a"\n'
)
SECRET = 'client_secret = { env = "SECRET" }\n'
KEY = 'client_key = { file = "rsa.pem" }\n'
EC = 'client_key = { file = "p256.pem" }\n'
ASSERTION = 'client_assertion = { file = "jwt" }\n'
TLS = 'tls = { cert = "client.pem", key = "client.key" }\n'
ENVIRON = {"SECRET": "s3cret"}
CHOOSE = "choose another client_auth, or leave"
ONE_OF = "are given: expected one of them"


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for kind in ("rsa", "p256", "weak"):
        (tmp_path / f"{kind}.pem").write_text(signing.pem(kind))
    (tmp_path / "key.jwk").write_text(signing.jwk("p256", kid="from-the-jwk"))
    (tmp_path / "locked.pem").write_text(signing.pem("p256", password=b"x"))
    (tmp_path / "jwt").write_text("a.b.c")
    client = trustme.CA().issue_cert("client.example")
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))


ALLOWED = [  # keys, the methods that they allow
    ("", ("none",)),
    (SECRET, ("client_secret_basic", "client_secret_post", "client_secret_jwt")),
    (KEY, ("private_key_jwt",)),
    (ASSERTION, ("private_key_jwt",)),
    (TLS, ("tls_client_auth", "self_signed_tls_client_auth")),
    (TLS + SECRET, ("client_secret_basic", "client_secret_post", "client_secret_jwt")),  # for the network
    (TLS + KEY, ("private_key_jwt",)),
    ('tls = { ca = "client.pem" }\n', ("none",)),
    *(
        (keys + f'client_auth = "{method}"\n', (method,))
        for method, keys in {
            "client_secret_jwt": SECRET,
            "private_key_jwt": KEY,
            "tls_client_auth": TLS,
            "self_signed_tls_client_auth": TLS,
            "none": TLS,
        }.items()
    ),
    (TLS + SECRET + 'client_auth = "client_secret_post"\n', ("client_secret_post",)),
    (ASSERTION + 'client_auth = "private_key_jwt"\n', ("private_key_jwt",)),
    (KEY + 'grant = "client_credentials"\n', ("private_key_jwt",)),
    (ASSERTION + 'grant = "client_credentials"\n', ("private_key_jwt",)),
    (TLS + 'grant = "client_credentials"\n', ("tls_client_auth", "self_signed_tls_client_auth")),
]


@pytest.mark.parametrize(("keys", "methods"), ALLOWED)
def test_the_keys_say_how_the_client_can_authenticate(
    keys: str, methods: tuple[str, ...], load_text: Load
) -> None:
    crm = load_text(MINIMAL + keys, ENVIRON).config.credentials["crm"]
    assert (crm.authentications, crm.authentication) == (methods, methods[0])


FAULTS = [  # keys from line 4, complaints
    (
        'client_auth = "client_secret_jwt"',
        ['1:1: client_secret is missing - client_auth = "client_secret_jwt" sends one'],
    ),
    (
        'client_auth = "private_key_jwt"',
        [
            (
                '1:1: client_key is missing - client_auth = "private_key_jwt" signs with one, or '
                'client_assertion = { file = "…" } sends what the platform has signed'
            )
        ],
    ),
    *(
        (
            f'tls = {{ ca = "client.pem" }}\nclient_auth = "{method}"',
            [
                (
                    f'1:1: tls.cert is missing - client_auth = "{method}" presents one: '
                    'tls = { cert = "…", key = "…" }'
                )
            ],
        )
        for method in ("tls_client_auth", "self_signed_tls_client_auth")
    ),
    (SECRET + KEY, [f"1:1: client_secret and client_key {ONE_OF}"]),
    (KEY + ASSERTION, [f"1:1: client_key and client_assertion {ONE_OF}"]),
    (
        KEY + ASSERTION + 'client_auth = "private_key_jwt"',
        [f"6:15: client_key and client_assertion {ONE_OF}"],
    ),
    (
        SECRET + KEY + 'client_auth = "private_key_jwt"',
        [f"6:15: private_key_jwt does not use client_secret - {CHOOSE} client_secret out"],
    ),
    (
        KEY + TLS + 'client_auth = "tls_client_auth"',
        [f"6:15: tls_client_auth does not use client_key - {CHOOSE} client_key out"],
    ),
    (
        ASSERTION + 'client_auth = "none"',
        [f"5:15: none does not use client_assertion - {CHOOSE} client_assertion out"],
    ),
    ('client_key_id = "7"', ["1:1: client_key is missing - client_key_id is its id"]),
    (KEY + 'client_key_id = ""', ["5:17: expected the key's id: a string of ASCII"]),
    (KEY + 'client_key_id = "é"', ["5:17: expected the key's id: a string of ASCII"]),
    (KEY + 'assertion_audience = "token"', ['5:22: expected "issuer" or "endpoint"']),
    (
        KEY + 'assertion_alg = "ES256"',
        ["5:17: it does not fit the key: expected RS256 or PS256 or RS384 or PS384 or RS512 or PS512"],
    ),
    (EC + 'assertion_alg = "RS256"', ["5:17: it does not fit the key: expected ES256"]),
    (SECRET + 'assertion_alg = "none"', ["5:17: it does not fit the key: expected HS256 or HS384 or HS512"]),
    (
        'client_key = { file = "weak.pem" }',
        ["4:14: an RSA key of 1024 bits is too weak: expected 2048 or more"],
    ),
    (
        'client_key = { file = "locked.pem" }',
        ["4:14: the key has a password: expected a private key: PEM without a password, or a JWK in JSON"],
    ),
    (
        'client_key = { file = "jwt" }',
        ["4:14: not a private key: expected a private key: PEM without a password, or a JWK in JSON"],
    ),
    (
        'client_key = { env = "NOTHING" }',
        ["4:14: the environment variable NOTHING is not set - set it before token-proxy starts"],
    ),
    *(
        (
            f"client_assertion = {value}",
            ['4:20: expected a file that the platform writes: { file = "name" }'],
        )
        for value in ('"a.b.c"', '{ env = "SECRET" }', "{ file = 5 }", '{ file = "jwt", env = "SECRET" }')
    ),
    ('tls = { cert = "client.pem" }', ["4:7: key is missing - cert and key go together"]),
    ('tls = { key = "client.key" }', ["4:7: cert is missing - cert and key go together"]),
    (
        'token_params = { client_assertion = "x" }',
        ["4:18: token-proxy sends this parameter itself - leave it out"],
    ),
    (
        'grant = "client_credentials"',
        ['1:1: client_secret is missing - grant = "client_credentials" needs one, or client_auth = "none"'],
    ),
]


@pytest.mark.parametrize(("keys", "expected"), FAULTS)
def test_a_fault_says_what_to_do(keys: str, expected: list[str], complaints: Complaints) -> None:
    assert sorted(complaints(MINIMAL + keys, ENVIRON)) == sorted(expected)


def test_a_file_of_the_platform_must_be_there(complaints: Complaints, tmp_path: Path) -> None:
    (found,) = complaints(MINIMAL + 'client_assertion = { file = "gone" }')
    assert found == f"4:20: there is no file {tmp_path}/gone - check the name"


def test_without_an_issuer_the_audience_is_the_endpoint(complaints: Complaints, load_text: Load) -> None:
    assert load_text(BY_HAND + KEY).config.credentials["crm"].assertion_audience is None
    found = complaints(BY_HAND + KEY + 'assertion_audience = "issuer"')
    assert found == ['1:1: issuer is missing - or assertion_audience = "endpoint"']


def test_a_key_may_be_written_into_the_file_with_a_warning(load_text: Load) -> None:
    pem = signing.pem("p256").replace("\n", "\\n")
    loaded = load_text(f'{MINIMAL}client_key = "{pem}"\n')
    assert [each.message for each in loaded.warnings] == [
        'a secret in the configuration file itself - use { env = "NAME" } or { file = "name" }'
    ]


def test_the_id_of_a_jwk_is_known(load_text: Load) -> None:
    crm = load_text(MINIMAL + 'client_key = { file = "key.jwk" }').config.credentials["crm"]
    assert crm.client_key is not None
    assert crm.client_key.kid == "from-the-jwk"


def test_without_secrets_nothing_needs_to_be_there(tmp_path: Path) -> None:
    from proxy.config.load import load

    for name in ("rsa.pem", "jwt", "client.pem", "client.key"):
        (tmp_path / name).unlink()
    path = tmp_path / "config.toml"
    for keys in (KEY + 'assertion_alg = "ES256"\n', ASSERTION, TLS, SECRET):
        path.write_text(MINIMAL + keys)
        assert load(path, {}, secrets=False).config


def test_another_key_in_the_file_makes_another_credential(load_text: Load, tmp_path: Path) -> None:
    before = load_text(MINIMAL + KEY).config.credentials["crm"]
    assert load_text(MINIMAL + KEY).config.credentials["crm"] == before
    shutil.copy(tmp_path / "p256.pem", tmp_path / "rsa.pem")
    assert load_text(MINIMAL + KEY).config.credentials["crm"] != before


def test_the_tables_of_methods_agree() -> None:
    assert set(USES) == set(METHODS)
    assert {method for methods in BY_KEY.values() for method in methods} == set(USES) - {"none"}
    assert all(key in BY_KEY for keys in USES.values() for key in keys)
