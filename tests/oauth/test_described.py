"""Described logins against servers that behave as their documentation says, and against lying ones."""

from __future__ import annotations

import gzip
import json
import ssl
import warnings
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web
from joserfc import jwk, jwt

from proxy.config.load import load
from proxy.config.model import Limits
from proxy.config.steps import Jwt
from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError
from proxy.oauth import described
from proxy.oauth.binding import client_of, is_bound
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.fetch import Fetcher
from proxy.oauth.grants import GRANTS
from proxy.secret import Secret
from tests.fakes import signing
from tests.fakes.two_step import GitHubApp, Tableau, Toast, Veeva
from tests.fakes.two_step.github_app import INSTALLATION

FORM = GRANTS["request"].form(None, None)
SERVERS = [GitHubApp, Tableau, Toast, Veeva]
LIFETIMES = {GitHubApp: 3600, Tableau: 14400, Toast: 3600, Veeva: 1200}
ROUTE = '[[routes]]\npath = "/x"\nupstream = "http://127.0.0.1:1"\ncredential = "x"\n'


def configured(folder, text, environ):
    file = folder / "config.toml"
    file.write_text(f"[credentials.x]\n{text}\n{ROUTE}")
    return load(file, environ).config.credentials["x"]


@pytest.fixture
def log_in(tmp_path, clock):
    """`async with log_in(Server, changes={old: new}) as (server, credential)`."""

    @asynccontextmanager
    async def log_in(kind, changes=None, environ=None):
        server = kind(clock)
        async with running(server.application()) as url:
            text = server.configuration(url)
            for old, new in (changes or {}).items():
                assert old in text
                text = text.replace(old, new)
            yield server, configured(tmp_path, text, {**server.environment, **(environ or {})})

    return log_in


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_login_gives_a_token_and_its_lifetime(log_in, servers, clock, kind):
    async with log_in(kind) as (server, credential):
        token = await servers.token(credential, FORM)
        assert server.active(token.access_token.reveal())
        assert token.lifetime == pytest.approx(LIFETIMES[kind], abs=2)
        assert (token.refresh_token, token.grant, token.issued_at) == (None, "request", clock.wall())
        assert is_bound(token, credential)
        again = await servers.token(credential, FORM)
        assert again.access_token != token.access_token
        assert server.logins == 2


@pytest.mark.parametrize("kind", [GitHubApp, Tableau, Toast])
async def test_a_wrong_secret_is_misconfigured_and_names_the_step(log_in, servers, kind):
    wrong = {name: "wrong-secret-value" for name in kind().environment if "SECRET" in name}
    if kind is GitHubApp:
        wrong = {"GITHUB_APP_KEY": GitHubApp().pem}  # another app's
    async with log_in(kind, environ=wrong) as (server, credential):
        with pytest.raises(AuthorizationServerError) as caught:
            await servers.token(credential, FORM)
        assert (caught.value.outcome, caught.value.error) == ("misconfigured", "step_refused")
        assert (caught.value.hint, caught.value.about) == ("step1", "account")
        assert server.logins == 0


async def test_a_refusal_with_status_200_is_misconfigured(log_in, servers):
    async with log_in(Veeva, environ={"VAULT_PASSWORD": "no"}) as (_, credential):
        with pytest.raises(AuthorizationServerError) as caught:
            await servers.token(credential, FORM)
        assert (caught.value.outcome, caught.value.error) == ("misconfigured", "step_token")


async def test_the_jwt_is_as_github_wants_it_and_new_for_each_login(log_in, servers):
    async with log_in(GitHubApp) as (server, credential):
        await servers.token(credential, FORM)
        await servers.token(credential, FORM)
        assert len(server.seen) == 2
        assert {request.path for request in server.requests} == {
            "/repos/octo/cat/installation",
            f"/app/installations/{INSTALLATION}/access_tokens",
        }


@pytest.mark.parametrize(
    ("old", "new", "error", "step"),
    [
        ("{step1.id}", "41", "step_failed", "step2"),
        ('["cat"]', '["dog"]', "step_failed", "step2"),
        ("{step1.id}", "{step1.nothing}", "step_value", "step2"),
        ('"token"', '"tokens.0.token"', "step_token", "step2"),
        ("lifetime = 540", "lifetime = 900", "step_refused", "step1"),
    ],
)
async def test_a_wrong_description_is_misconfigured_and_names_its_step(
    log_in, servers, old, new, error, step
):
    async with log_in(GitHubApp, {old: new}) as (_, credential):
        with pytest.raises(AuthorizationServerError) as caught:
            await servers.token(credential, FORM)
        assert (caught.value.outcome, caught.value.error, caught.value.hint) == ("misconfigured", error, step)


LATER = {"Retry-After": "7"}
RESPONSES = [  # status, header fields, body, outcome, error, seconds
    (500, {}, b"", "transient", "http_500", None),
    (503, LATER, b"<html>", "transient", "http_503", 7),
    (429, {}, b"{}", "transient", "http_429", None),
    (429, LATER, b"{}", "transient", "http_429", 7),
    (403, LATER, b'{"message": "You have exceeded a secondary rate limit"}', "transient", "http_403", 7),
    (401, {}, b"{}", "misconfigured", "step_refused", None),
    (403, {}, b"<html>no</html>", "misconfigured", "step_refused", None),
    (400, {}, b"", "misconfigured", "step_failed", None),
    (404, {}, b"{}", "misconfigured", "step_failed", None),
    (422, {}, b"{}", "misconfigured", "step_failed", None),
    (301, {"Location": "/elsewhere"}, b"", "misconfigured", "step_redirect", None),
    (307, {"Location": "/elsewhere"}, b"", "misconfigured", "step_redirect", None),
    (200, {}, b"<html>maintenance</html>", "transient", "step_not_json", None),
    (200, {}, b"", "transient", "step_not_json", None),
    (200, {}, b'{"token": "a"', "transient", "step_not_json", None),
    (200, {}, b"[" * 100_000, "transient", "step_not_json", None),
    (200, {}, b'"' + b"x" * 300_000 + b'"', "transient", "step_not_json", None),
    (200, {}, b'{"token": ""}', "misconfigured", "step_token", None),
    (200, {}, b'{"token": "a b"}', "misconfigured", "step_token", None),
    (200, {}, b'{"token": "a\\r\\nX: y"}', "misconfigured", "step_token", None),
    (200, {}, b'{"token": 7}', "misconfigured", "step_token", None),
    (200, {}, b'{"token": {"token": "x"}}', "misconfigured", "step_token", None),
    (200, {}, b"[]", "misconfigured", "step_token", None),
    (200, {}, b"null", "misconfigured", "step_token", None),
]
ONE_STEP = (
    'grant = "request"\nsteps = [{{ url = "{}/login", json = {{}} }}]\nresponse = {{ token = "token" }}'
)


@pytest.mark.parametrize(("status", "headers", "body", "outcome", "error", "pause"), RESPONSES)
async def test_a_response_without_a_token(
    tmp_path, puppet, servers, status, headers, body, outcome, error, pause
):
    async def respond(_request):
        return web.Response(status=status, headers=headers, body=body)

    puppet.answers["/login"] = respond
    puppet.says("/elsewhere", {"token": "t"})
    credential = configured(tmp_path, ONE_STEP.format(puppet.url), {})
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(credential, FORM)
    found = caught.value
    assert (found.outcome, found.error, found.retry_after) == (outcome, error, pause)
    assert found.__cause__ is None
    assert puppet.hits == ["POST /login"]


ENDS = [  # `response`, the response, the lifetime
    ('expires_in = "in"', {"in": 90}, 90),
    ('expires_in = "a.in"', {"a": {"in": "90"}}, 90),
    ('expires_at = "at"', {"at": 1_764_288_090}, 90),
    ('expires_at = "at"', {"at": 1_764_288_090_000}, 90),
    ('expires_at = "at"', {"at": "2025-11-28T00:01:30Z"}, 90),
    ('expires_at = "at"', {"at": "2025-11-28T01:01:30+01:00"}, 90),
    ('expires_at = "a.1.at"', {"a": [0, {"at": "1764288090"}]}, 90),
    ('expires_at = "at"', {}, None),
    ('expires_at = "at"', {"at": "soon"}, None),
    ('expires_at = "at"', {"at": 1_764_287_000}, None),
    ('expires_in = "in"', {"in": None}, None),
]


@pytest.mark.parametrize(("place", "response", "lifetime"), ENDS)
async def test_the_time_of_expiry(tmp_path, puppet, servers, caplog, place, response, lifetime):
    async def respond(_request):  # the server's clock counts
        dated = {"Date": "Fri, 28 Nov 2025 00:00:00 GMT"}
        return web.json_response({"token": "t", **response}, headers=dated)

    puppet.answers["/login"] = respond
    text = ONE_STEP.format(puppet.url).replace('"token" }', f'"token", {place} }}')
    token = await servers.token(configured(tmp_path, text, {}), FORM)
    assert token.lifetime == lifetime
    assert ("no_expiry" in caplog.text) == (lifetime is None)


async def test_a_compressed_response_and_a_byte_order_mark_are_read(tmp_path, puppet, servers):
    credential = configured(tmp_path, ONE_STEP.format(puppet.url), {})
    for body in (
        gzip.compress(b'{"token": "t"}'),
        b'\xef\xbb\xbf{"token": "t"}',
        '{"token": "t"}'.encode("utf-16"),
    ):

        async def respond(_request, body=body):
            return web.Response(body=body)

        puppet.answers["/login"] = respond
        assert (await servers.token(credential, FORM)).access_token.reveal() == "t"


async def test_each_step_asks_before_it_sends(tmp_path, puppet, servers):
    """The lease may have passed to another process meanwhile: then nothing more is sent."""
    puppet.says("/one", {"id": 1})
    puppet.says("/two", {"token": "t"})
    text = f"""grant = "request"
steps = [{{ method = "GET", url = "{puppet.url}/one" }}, {{ url = "{puppet.url}/two", json = {{}} }}]
response = {{ token = "token" }}"""
    credential = configured(tmp_path, text, {})
    calls = []

    def before_send():
        calls.append(len(puppet.hits))
        if len(calls) == 2:
            raise LookupError

    with pytest.raises(LookupError):
        await servers.token(credential, FORM, before_send)
    assert (calls, puppet.hits) == ([0, 1], ["GET /one"])


async def test_an_unreachable_host_names_its_step(tmp_path, servers):
    credential = configured(tmp_path, ONE_STEP.format("http://127.0.0.1:1"), {})
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(credential, FORM)
    assert (caught.value.outcome, caught.value.error, caught.value.hint) == (
        "transient",
        "unreachable",
        "step1",
    )
    assert caught.value.about == "server"


async def test_the_servers_certificate_is_checked_and_a_private_authority_can_be_trusted(tmp_path, clock):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = Toast(clock)
    async with (
        running(server.application(), ssl_context=context) as url,
        Fetcher(Limits(authorization_server_connect=30, authorization_server_total=60)) as fetcher,
    ):
        servers = AuthorizationServers(fetcher, clock)
        trusting = server.configuration(url) + 'tls = { ca = "ca.pem" }'
        token = await servers.token(configured(tmp_path, trusting, server.environment), FORM)
        assert server.active(token.access_token.reveal())
        with pytest.raises(AuthorizationServerError) as caught:
            await servers.token(configured(tmp_path, server.configuration(url), server.environment), FORM)
    assert (caught.value.error, caught.value.outcome, server.logins) == ("tls", "transient", 1)


async def test_tokens_are_bound_to_the_description_but_not_to_its_secrets(log_in, servers):
    async with log_in(Toast) as (_, credential):
        token = await servers.token(credential, FORM)
    same = credential.model_copy(update={"secrets": {}, "refresh_at": 0.5, "name": "renamed"})
    assert is_bound(token, same)
    assert client_of(same) == client_of(credential)
    other = credential.response.model_copy(update={"token": "token.idToken"})
    for change in ({"response": other}, {"steps": credential.steps * 2}):
        changed = credential.model_copy(update=change)
        assert not is_bound(token, changed)
        assert client_of(changed) != client_of(credential)


async def test_no_secret_is_in_what_prints_a_credential(log_in):
    async with log_in(Toast) as (server, credential):
        for secret in server.environment.values():
            assert secret not in repr(credential)
            assert secret not in json.dumps(str(credential.secrets))


KEYS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "rsa"),
    "ES256": "p256",
    "ES384": "p384",
    "ES512": "p521",
    "EdDSA": "ed25519",
}


@pytest.mark.parametrize("alg", [*KEYS, "HS256", "HS384", "HS512"])
def test_a_jwt_of_each_algorithm_can_be_verified(alg):
    secret = "" if alg in KEYS else "k" * 64
    description = Jwt.model_validate(
        {
            "alg": alg,
            "key": signing.pem(KEYS[alg]) if alg in KEYS else secret,
            "key_id": "2027",
            "claims": {"iss": "{secret.APP}", "scope": ["a", "b"], "n": 7},
            "lifetime": 300,
        }
    )
    compact = described.signed(description, {"APP": Secret("12345")}, 1_764_288_000.9)
    with warnings.catch_warnings(action="ignore"):  # joserfc's, of names and sizes
        key = jwk.import_key(signing.public_pem(KEYS[alg]) if alg in KEYS else secret, KTY[alg[:2]])
        token = jwt.decode(compact, key, algorithms=[alg])
    assert token.header == {"alg": alg, "typ": "JWT", "kid": "2027"}
    jti = token.claims.pop("jti")
    assert len(jti) >= 16
    assert token.claims == {
        "iss": "12345",
        "scope": ["a", "b"],
        "n": 7,
        "iat": 1_764_287_940,
        "exp": 1_764_288_300,
    }


KTY = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP", "HS": "oct"}
