"""Certificates that authenticate the client (RFC 8705), as the server sees them."""

import ssl
from urllib.parse import parse_qsl

import pytest
import trustme
from aiohttp import web

from proxy.config.model import AuthorizationServerTLS
from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError
from proxy.oauth.grants.base import refresh_form
from proxy.secret import Secret
from tests.fakes import signing

METADATA = "/.well-known/oauth-authorization-server"
NAMES = ("token", "revocation", "introspection")


class Servers:
    """A host that asks for no certificate, and one that requires it; both serve every endpoint."""

    def __init__(self, folder):
        self.authority, self.clients = trustme.CA(), trustme.CA()
        self.seen, self.metadata = [], {}
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = self.clients.issue_cert("client.example")
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        (folder / "own.pem").write_text(signing.certificate("p256"))
        (folder / "own.key").write_text(signing.pem("p256"))
        self.tls = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}

    def context(self, *, asks):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        if asks:
            self.clients.configure_trust(context)
            context.load_verify_locations(cadata=signing.certificate("p256"))
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def respond(self, request):
        peer = request.transport.get_extra_info("peercert")
        form = dict(parse_qsl(await request.text()))
        if request.path == METADATA:
            return web.json_response(self.metadata)
        self.seen.append((request.url.port, request.path, bool(peer), form))
        return web.json_response({"access_token": "A", "token_type": "Bearer", "active": True, "exp": 4e9})

    def app(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.respond)
        return app


@pytest.fixture
async def both(tmp_path):
    made = Servers(tmp_path)
    async with (
        running(made.app(), ssl_context=made.context(asks=False)) as made.plain,
        running(made.app(), ssl_context=made.context(asks=True)) as made.strict,
    ):
        made.metadata = {
            "issuer": made.plain,
            **{f"{name}_endpoint": f"{made.plain}/{name}" for name in NAMES},
            "mtls_endpoint_aliases": {f"{name}_endpoint": f"{made.strict}/{name}" for name in NAMES},
        }
        yield made


async def visit(servers, client):
    token = await servers.token(client, refresh_form((), Secret("R0")))
    await servers.revoke(client, Secret("R0"), "refresh_token")
    await servers.introspected_lifetime(client, Secret("A"))
    return token


METHODS = [  # client_auth, offered by the server, what is used
    (None, None, "tls_client_auth"),
    (None, ["self_signed_tls_client_auth"], "self_signed_tls_client_auth"),
    (None, ["private_key_jwt"], "tls_client_auth"),
    ("tls_client_auth", ["self_signed_tls_client_auth"], "tls_client_auth"),
    ("self_signed_tls_client_auth", None, "self_signed_tls_client_auth"),
    ("none", None, "none"),  # only the tokens are bound to the certificate
]


@pytest.mark.parametrize(("configured", "offered", "used"), METHODS)
async def test_the_certificate_goes_to_the_aliases_with_the_client_id(
    both, servers, credential, configured, offered, used
):
    if offered is not None:
        both.metadata["token_endpoint_auth_methods_supported"] = offered
    client = credential(issuer=both.plain, tls=both.tls, client_auth=configured)
    token = await visit(servers, client)
    port = int(both.strict.rpartition(":")[2])
    assert [seen[:3] for seen in both.seen] == [(port, f"/{name}", True) for name in NAMES]
    assert all(form["client_id"] == "web" for *_, form in both.seen)
    assert (token.auth_method, token.token_endpoint) == (used, f"{both.strict}/token")


async def test_a_self_signed_certificate_is_sent_too(both, servers, credential, tmp_path):
    tls = {"ca": both.tls["ca"], "cert": tmp_path / "own.pem", "key": tmp_path / "own.key"}
    await visit(servers, credential(issuer=both.plain, tls=tls))
    assert [seen[2] for seen in both.seen] == [True] * 3


async def test_without_a_certificate_the_aliases_are_not_used(both, servers, credential):
    await visit(servers, credential(issuer=both.plain, tls={"ca": both.tls["ca"]}))
    port = int(both.plain.rpartition(":")[2])
    assert [seen[:3] for seen in both.seen] == [(port, f"/{name}", False) for name in NAMES]


async def test_a_certificate_for_the_network_leaves_the_secret_in_place(both, servers, credential):
    client = credential(issuer=both.plain, tls=both.tls, client_secret="s", client_auth="client_secret_post")
    await visit(servers, client)
    assert [(seen[2], seen[3]["client_secret"]) for seen in both.seen] == [(True, "s")] * 3


async def test_a_signed_jwt_names_the_endpoint_that_other_clients_know(both, servers, credential):
    client = credential(
        issuer=both.plain, tls=both.tls, client_key=signing.pem("p256"), assertion_audience="endpoint"
    )
    await servers.token(client, refresh_form((), Secret("R0")))
    from joserfc import jwt
    from joserfc.jwk import JWKRegistry

    sent = both.seen[0][3]["client_assertion"]
    claims = jwt.decode(sent, JWKRegistry.import_key(signing.public_pem("p256"), "EC")).claims
    assert claims["aud"] == f"{both.plain}/token"


@pytest.mark.parametrize("aliases", [None, [], "x", {"token_endpoint": None}, {"other": "https://a.example"}])
async def test_odd_aliases_are_left_aside(both, servers, credential, aliases):
    both.metadata["mtls_endpoint_aliases"] = aliases
    await visit(servers, credential(issuer=both.plain, tls=both.tls))
    assert {seen[0] for seen in both.seen} == {int(both.plain.rpartition(":")[2])}


async def test_an_unsafe_alias_is_not_used_and_not_passed_over(both, servers, credential):
    both.metadata["mtls_endpoint_aliases"] = {"token_endpoint": "http://login.example/token"}
    with pytest.raises(AuthorizationServerError) as caught:
        await visit(servers, credential(issuer=both.plain, tls=both.tls))
    assert caught.value.error == "unsafe_endpoint"
    assert both.seen == []


async def test_a_configured_endpoint_counts_more_than_an_alias(both, servers, credential):
    client = credential(issuer=both.plain, token_endpoint=f"{both.plain}/token", tls=both.tls)
    await servers.token(client, refresh_form((), Secret("R0")))
    assert both.seen[0][0] == int(both.plain.rpartition(":")[2])


async def test_a_server_that_misses_the_certificate_gets_no_request(both, servers, credential):
    client = credential(
        token_endpoint=f"{both.strict}/token",
        tls={"ca": both.tls["ca"]},
        grant="refresh_token",
        refresh_token=Secret("R"),
    )
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(client, refresh_form((), Secret("R0")))
    # the alert may arrive behind the reset of the connection, as the request was sent already (TLS 1.3)
    assert (caught.value.error, caught.value.outcome) in {
        ("tls", "transient"),
        ("connection_lost", "transient"),
    }
    assert both.seen == []


async def test_files_that_are_no_pair_send_nothing(both, servers, credential, tmp_path):
    tls = {**both.tls, "key": tmp_path / "own.key"}
    client = credential(
        token_endpoint=f"{both.strict}/token", tls=tls, grant="refresh_token", refresh_token=Secret("R")
    )
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(client, refresh_form((), Secret("R0")))
    assert (caught.value.error, caught.value.reached) == ("tls_files", False)


async def test_another_certificate_is_used_from_the_next_request_on(both, servers, credential, fetcher):
    from proxy.oauth.fetch import tls_context

    client = credential(issuer=both.plain, tls=both.tls)
    await visit(servers, client)
    settings = client.tls
    assert isinstance(settings, AuthorizationServerTLS)
    both.clients.issue_cert("new.example").private_key_and_cert_chain_pem.write_to_path(str(settings.cert))
    settings.key.write_bytes(settings.cert.read_bytes())
    servers.use(fetcher._limits, {settings: tls_context(settings)}, {settings})
    await visit(servers, client)
    assert len(both.seen) == 6
