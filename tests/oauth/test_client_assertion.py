"""JWTs that authenticate the client, verified with its public key as a server would, at every endpoint."""

import base64
import json
import warnings
from email.utils import formatdate
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import JWKRegistry, OctKey

from proxy.config.signing_keys import read_signing_key
from proxy.errors import AuthorizationServerError
from proxy.oauth.client_auth.client_assertion import BACKDATED, LIFETIME, TYPE
from proxy.oauth.grants.base import refresh_form
from proxy.secret import Secret
from tests.fakes import signing

SECRET = "a secret of thirty-two characters"


def verified(text, key, *algorithms):
    with warnings.catch_warnings(action="ignore"):
        return jwt.decode(text, key, algorithms=list(algorithms))


def public(kind):
    return JWKRegistry.import_key(signing.public_pem(kind), read_signing_key(signing.pem(kind)).kind)


class Server:
    """Takes every client, and keeps the forms and fields of its posts."""

    def __init__(self, puppet, **metadata):
        self.url, self.forms, self.fields = puppet.url, [], []
        endpoints = {
            f"{name}_endpoint": f"{puppet.url}/{name}" for name in ("token", "revocation", "introspection")
        }
        puppet.says(
            "/.well-known/oauth-authorization-server", {"issuer": puppet.url, **endpoints, **metadata}
        )
        for name in ("token", "revocation", "introspection"):
            puppet.answers[f"/{name}"] = self.take

    async def take(self, request):
        self.forms.append(parse_qsl(await request.text()))
        self.fields.append(request.headers)
        return web.json_response({"access_token": "A", "token_type": "Bearer", "active": True, "exp": 4e9})

    async def visit(self, servers, client):
        """One request to each endpoint; the assertions sent."""
        token = await servers.token(client, refresh_form((), Secret("R0")))
        await servers.revoke(client, Secret("R0"), "refresh_token")
        await servers.introspected_lifetime(client, Secret("A"))
        assert len(self.forms) == 3
        assert not any("Authorization" in fields for fields in self.fields)
        for form in self.forms:
            assert len(dict(form)) == len(form)
            assert "client_secret" not in dict(form)
            assert (dict(form)["client_id"], dict(form)["client_assertion_type"]) == ("web", TYPE)
        return token, [dict(form)["client_assertion"] for form in self.forms]


ALGORITHMS = [  # key, offered by the server, assertion_alg, what signs
    ("rsa", None, None, "RS256"),
    ("rsa", ["PS256"], None, "PS256"),
    ("rsa", ["ES256", "PS256", "RS256"], None, "RS256"),
    ("rsa", ["ES256"], None, "RS256"),  # none of ours: the metadata may be wrong
    ("rsa", [], None, "RS256"),
    ("rsa", "PS512", None, "PS512"),
    ("rsa", ["RS256"], "PS256", "PS256"),
    ("p256", ["RS256"], None, "ES256"),
    ("p384", None, None, "ES384"),
    ("p521", None, None, "ES512"),
    ("ed25519", None, None, "EdDSA"),
    ("ed25519", ["Ed25519"], None, "Ed25519"),
]


@pytest.mark.parametrize(("kind", "offered", "configured", "used"), ALGORITHMS)
async def test_the_key_signs_with_what_the_server_offers(
    puppet, servers, credential, kind, offered, configured, used
):
    more = {} if offered is None else {"token_endpoint_auth_signing_alg_values_supported": offered}
    server = Server(puppet, **more)
    client = credential(issuer=puppet.url, client_key=signing.pem(kind), assertion_alg=configured)
    token, sent = await server.visit(servers, client)
    assert {verified(each, public(kind), used).header["alg"] for each in sent} == {used}
    assert (token.auth_method, token.auth_algorithm) == ("private_key_jwt", used)


async def test_each_request_has_a_jwt_of_its_own_that_lives_for_minutes(puppet, servers, credential, clock):
    server = Server(puppet)
    client = credential(issuer=puppet.url, client_key=signing.pem("p256"), client_key_id="2027-01")
    tokens = [verified(each, public("p256"), "ES256") for each in (await server.visit(servers, client))[1]]
    for token in tokens:
        assert token.header == {"alg": "ES256", "typ": "JWT", "kid": "2027-01"}
        assert {name: token.claims[name] for name in ("iss", "sub", "aud")} == {
            "iss": "web",
            "sub": "web",
            "aud": puppet.url,
        }
        assert token.claims.keys() == {"iss", "sub", "aud", "jti", "iat", "exp"}
        assert token.claims["exp"] - token.claims["iat"] == LIFETIME + BACKDATED
    assert len({token.claims["jti"] for token in tokens}) == 3
    assert len({each.claims["jti"] for each in tokens if len(each.claims["jti"]) >= 22}) == 3


async def test_the_first_one_is_of_our_clock_and_later_ones_of_the_servers(
    puppet, servers, credential, clock
):
    server = Server(puppet)
    client = credential(issuer=puppet.url, client_key=signing.pem("p256"))
    issued = [
        verified(each, public("p256"), "ES256").claims["iat"]
        for each in (await server.visit(servers, client))[1]
    ]
    assert issued[0] == int(clock.wall() - BACKDATED)
    heard = clock.heard[puppet.url] + clock.boot()  # the real time: the fake clock is far from it
    assert abs(issued[1] - (heard - BACKDATED)) <= 1
    assert abs(heard - clock.wall()) > 3600


class Timely(Server):
    """Its clock is `ahead` of `clock`, and it refuses JWTs of another time."""

    def __init__(self, puppet, clock, ahead):
        super().__init__(puppet)
        self._now = lambda: clock.wall() + ahead
        self.accepted = []

    async def take(self, request):
        response = await super().take(request)
        claims = verified(dict(self.forms[-1])["client_assertion"], public("p256"), "ES256").claims
        self.accepted.append(claims["iat"] <= self._now() < claims["exp"])
        if not self.accepted[-1]:
            response = web.json_response({"error": "invalid_client"}, status=401)
        response.headers["Date"] = formatdate(self._now(), usegmt=True)
        return response


@pytest.mark.parametrize("ahead", [600, -600])
async def test_a_server_whose_clock_differs_gets_jwts_of_its_own_time(
    puppet, servers, credential, clock, ahead
):
    server = Timely(puppet, clock, ahead)
    client = credential(issuer=puppet.url, client_key=signing.pem("p256"))
    await servers.token(client, refresh_form((), Secret("R0")))
    assert server.accepted == [False, True]  # the second by the Date of the refusal
    await servers.revoke(client, Secret("R0"), "refresh_token")
    assert server.accepted == [False, True, True]


async def test_where_the_clocks_agree_a_refused_jwt_is_not_sent_again(puppet, servers, credential, clock):
    server = Server(puppet)

    async def refuse(request):
        await Server.take(server, request)
        date = formatdate(clock.wall(), usegmt=True)
        return web.json_response({"error": "invalid_client"}, status=401, headers={"Date": date})

    puppet.answers["/token"] = refuse
    client = credential(issuer=puppet.url, client_key=signing.pem("p256"))
    with pytest.raises(AuthorizationServerError):
        await servers.token(client, refresh_form((), Secret("R0")))
    assert len(server.forms) == 1


async def test_the_key_id_is_that_of_the_jwk_unless_it_is_configured(puppet, servers, credential):
    key = signing.jwk("p256", kid="from-the-jwk")
    for more, kid in (({}, "from-the-jwk"), ({"client_key_id": "other"}, "other")):
        server = Server(puppet)
        client = credential(issuer=puppet.url, client_key=key, **more)
        _, sent = await server.visit(servers, client)
        assert {verified(each, public("p256"), "ES256").header["kid"] for each in sent} == {kid}


async def test_a_certificate_beside_the_key_is_named_in_the_header(puppet, servers, credential):
    text = signing.pem("rsa") + signing.certificate("rsa")
    server = Server(puppet)
    _, sent = await server.visit(servers, credential(issuer=puppet.url, client_key=text))
    thumbprint = read_signing_key(text).thumbprint
    assert [verified(each, public("rsa"), "RS256").header["x5t#S256"] for each in sent] == [thumbprint] * 3


@pytest.mark.parametrize("by_hand", [False, True])
async def test_the_audience_by_switch_is_the_token_endpoint_at_every_endpoint(
    puppet, servers, credential, by_hand
):
    server = Server(puppet)
    endpoints = {
        f"{name}_endpoint": f"{puppet.url}/{name}" for name in ("token", "revocation", "introspection")
    }
    where = {**endpoints, "authorization_endpoint": f"{puppet.url}/a"} if by_hand else {"issuer": puppet.url}
    client = credential(**where, client_key=signing.pem("p256"), assertion_audience="endpoint")
    _, sent = await server.visit(servers, client)
    audiences = [verified(each, public("p256"), "ES256").claims["aud"] for each in sent]
    assert audiences == [f"{puppet.url}/token"] * 3


async def test_without_an_issuer_the_default_audience_is_the_token_endpoint(puppet, servers, credential):
    server = Server(puppet)
    client = credential(
        token_endpoint=f"{puppet.url}/token",
        authorization_endpoint=f"{puppet.url}/a",
        client_key=signing.pem("p256"),
    )
    await servers.token(client, refresh_form((), Secret("R0")))
    sent = dict(server.forms[0])["client_assertion"]
    assert verified(sent, public("p256"), "ES256").claims["aud"] == f"{puppet.url}/token"


@pytest.mark.parametrize(
    ("offered", "configured", "algorithm"),
    [
        (["client_secret_jwt"], None, "HS256"),
        (["client_secret_jwt"], "HS512", "HS512"),
        (None, None, None),
        (["client_secret_jwt", "client_secret_post"], None, None),  # what needs no signature comes first
    ],
)
async def test_a_secret_signs_where_the_server_offers_nothing_simpler(
    puppet, servers, credential, offered, configured, algorithm
):
    more = {} if offered is None else {"token_endpoint_auth_methods_supported": offered}
    server = Server(puppet, **more)
    client = credential(issuer=puppet.url, client_secret=SECRET, assertion_alg=configured)
    if algorithm is None:
        token = await servers.token(client, refresh_form((), Secret("R0")))
        assert token.auth_method in {"client_secret_basic", "client_secret_post"}
        return
    token, sent = await server.visit(servers, client)
    key = OctKey.import_key(SECRET.encode())
    assert {verified(each, key, algorithm).claims["aud"] for each in sent} == {puppet.url}
    assert token.auth_method == "client_secret_jwt"


async def test_a_client_id_in_token_params_is_not_sent_twice(puppet, servers, credential):
    server = Server(puppet)
    client = credential(issuer=puppet.url, client_key=signing.pem("p256"), token_params={"client_id": "web"})
    await server.visit(servers, client)


# -- what the platform writes


def platform_jwt(**claims):
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{part}.{part}.c2ln"


async def test_the_file_of_the_platform_is_read_for_each_use(puppet, servers, credential, tmp_path):
    path = tmp_path / "token"
    server = Server(puppet)
    client = credential(issuer=puppet.url, client_assertion=path)
    for number in range(3):
        path.write_text(platform_jwt(jti=number) + "\n")
        server.forms.clear()
        assert (await server.visit(servers, client))[1] == [platform_jwt(jti=number)] * 3


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\n",
        b"no jwt",
        b"a.b",
        b"a.b.c.d.e",
        b"a.b.c\nd",
        b"\xff\xfe",
        b"a.b." + b"c" * 70_000,
        "folder",
    ],
)
async def test_a_file_without_a_jwt_sends_nothing(puppet, servers, credential, tmp_path, content):
    path = tmp_path / "token"
    path.mkdir() if content == "folder" else None if content is None else path.write_bytes(content)
    server = Server(puppet)
    client = credential(issuer=puppet.url, client_assertion=path)
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(client, refresh_form((), Secret("R0")))
    error = caught.value
    assert (error.outcome, error.error, error.reached) == ("transient", "client_assertion", False)
    assert not error.is_lost
    assert server.forms == []
    assert "POST /token" not in puppet.hits


# -- a server that refuses it

HINTS = [  # keys, hint
    ({"client_key": signing.pem("p256")}, "client_key"),
    ({"client_secret": SECRET, "client_auth": "client_secret_jwt"}, "client_secret_jwt"),
    ({"client_assertion": "FILE"}, "client_assertion"),
    ({"client_auth": "none"}, ""),
]


@pytest.mark.parametrize(("keys", "hint"), HINTS)
async def test_a_refusal_hints_at_the_key_in_use(puppet, servers, credential, tmp_path, keys, hint):
    (tmp_path / "token").write_text(platform_jwt())
    keys = {name: tmp_path / "token" if value == "FILE" else value for name, value in keys.items()}
    Server(puppet)
    puppet.says("/token", {"error": "invalid_client"}, status=401)
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(credential(issuer=puppet.url, **keys), refresh_form((), Secret("R0")))
    assert (caught.value.error, caught.value.hint) == ("invalid_client", hint)


async def test_while_discovery_fails_the_algorithm_is_that_of_the_last_token(
    puppet, servers, credential, clock
):
    server = Server(puppet, token_endpoint_auth_signing_alg_values_supported=["PS256"])
    client = credential(issuer=puppet.url, client_key=signing.pem("rsa"))
    token, _ = await server.visit(servers, client)
    del puppet.answers["/.well-known/oauth-authorization-server"]
    other = type(servers)(servers._fetcher, clock)  # a restarted process
    server.forms.clear()
    await other.token(client, refresh_form((), Secret("R0")), before=token)
    assert verified(dict(server.forms[0])["client_assertion"], public("rsa"), "PS256")
