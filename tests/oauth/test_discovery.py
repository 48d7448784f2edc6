"""Discovery of an issuer's endpoints, and the documents that are trusted."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from aiohttp import web

from proxy.errors import AuthorizationServerError
from proxy.oauth import discovery
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants.base import refresh_form
from proxy.oauth.token import Token
from proxy.secret import Secret

OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
HOUR = 3600


def metadata(issuer: str, **members: object) -> dict[str, object]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "revocation_endpoint": f"{issuer}/revoke",
        **members,
    }


async def outcome_of(asking) -> tuple[str, str]:
    with pytest.raises(AuthorizationServerError) as caught:
        await asking
    return caught.value.outcome, caught.value.error


PLACES = [  # path of the issuer, path of the document
    ("", OAUTH),
    ("", OPENID),
    ("/", OAUTH),  # the slash is a part of the issuer
    ("/tenant", f"{OAUTH}/tenant"),
    ("/tenant", f"/tenant{OPENID}"),
    ("/tenant/", f"{OAUTH}/tenant"),
    ("/a/b", f"{OAUTH}/a/b"),
    ("/tenant", f"/tenant{OAUTH}"),
    ("/tenant", f"{OPENID}/tenant"),
    ("/tenant/", f"/tenant{OAUTH}"),
]


@pytest.mark.parametrize(("path", "place"), PLACES)
async def test_all_four_well_known_places_are_tried(puppet, servers, credential, path, place):
    issuer = puppet.url + path
    puppet.says(place, metadata(issuer))
    found = await servers.endpoints(credential(issuer=issuer))
    assert found.token_endpoint == f"{issuer}/token"
    assert found.authorization_endpoint == f"{issuer}/authorize"
    assert found.revocation_endpoint == f"{issuer}/revoke"
    assert found.issuer == issuer
    assert not found.iss_in_callback


@pytest.mark.parametrize(
    "first", [b"<html>", b"[]", b'{"issuer": "https://else.example"}', b"\xff", b"[" * 200_000]
)
async def test_after_an_unusable_first_document_the_second_counts(puppet, servers, credential, first):
    async def say(_request):
        return web.Response(body=first)

    puppet.answers[OAUTH] = say
    puppet.says(OPENID, metadata(puppet.url))
    assert (await servers.endpoints(credential(issuer=puppet.url))).token_endpoint == f"{puppet.url}/token"


@pytest.mark.parametrize("named", ["https://else.example", "{}/", "{}/tenant", "", None, 7])
async def test_a_document_that_speaks_for_another_issuer_is_not_believed(puppet, servers, credential, named):
    name = named.format(puppet.url) if isinstance(named, str) else named
    puppet.says(OAUTH, {**metadata(puppet.url), "issuer": name})
    puppet.says(OPENID, {**metadata(puppet.url), "issuer": name})
    asking = servers.endpoints(credential(issuer=puppet.url))
    assert await outcome_of(asking) == ("misconfigured", "issuer_mismatch")


DIFFERENCES = [  # the issuer in the document, hint
    ("{}/", "slash"),
    ("{}//", "slash"),
    ("{loopback}", "loopback"),
    ("{}/{{tenantid}}/v2.0", "template"),
    ("https://else.example", ""),
    ("{}/t", ""),
    (None, ""),
    (7, ""),
]


@pytest.mark.parametrize(("named", "hint"), DIFFERENCES)
async def test_a_mismatch_has_a_hint_how_the_issuers_differ(puppet, servers, credential, named, hint):
    loopback = puppet.url.replace("127.0.0.1", "localhost")
    name = named.format(puppet.url, loopback=loopback) if isinstance(named, str) else named
    puppet.says(OAUTH, {**metadata(puppet.url), "issuer": name})
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.endpoints(credential(issuer=puppet.url))
    assert (caught.value.error, caught.value.hint) == ("issuer_mismatch", hint)


UNSAFE = [
    "http://login.example/token",
    "http://localhost.evil.example/token",
    "http://localhost:80@evil.example/token",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "--help",
    "$(calc)",
    "https://login.example/\r\nSet-Cookie: a=b",
    "https://login.example/ a",
    "https://login.example/\t",
    "https://user:password@login.example/",
    "https://login.example/#fragment",
    "https://[::1",
    "https://",
    "//login.example/",
    "",
    7,
    ["https://login.example/"],
]


@pytest.mark.parametrize("url", UNSAFE)
@pytest.mark.parametrize("name", ["token_endpoint", "authorization_endpoint"])
async def test_an_unsafe_endpoint_is_never_used_and_fails_only_requests_that_need_it(
    puppet, servers, credential, monkeypatch, name, url
):
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # has no effect
    puppet.says(OAUTH, metadata(puppet.url, **{name: url}))
    client = credential(issuer=puppet.url)
    found = await servers.endpoints(client)
    assert getattr(found, name) is None
    with pytest.raises(AuthorizationServerError) as caught:
        found.get(name)
    assert (caught.value.outcome, caught.value.error) == ("misconfigured", "unsafe_endpoint")
    for other in {"token_endpoint", "authorization_endpoint", "revocation_endpoint"} - {name}:
        assert found.get(other) == metadata(puppet.url)[other]
    if name == "token_endpoint":
        asking = servers.token(client, refresh_form((), Secret("R0")))
        assert await outcome_of(asking) == ("misconfigured", "unsafe_endpoint")
    by_hand = await servers.endpoints(credential(issuer=puppet.url, **{name: "https://login.example/x"}))
    assert by_hand.get(name) == "https://login.example/x"


@pytest.mark.parametrize("url", ["http://login.example/revoke", 7])
async def test_an_unsafe_revocation_endpoint_blocks_revocation_alone(puppet, servers, credential, url):
    puppet.says(OAUTH, metadata(puppet.url, revocation_endpoint=url))
    puppet.says("/token", {"access_token": "AT-1", "token_type": "Bearer"})
    client = credential(issuer=puppet.url)
    await servers.token(client, refresh_form((), Secret("R0")))
    asking = servers.revoke(client, Secret("R0"), "refresh_token")
    assert await outcome_of(asking) == ("misconfigured", "unsafe_endpoint")


@pytest.mark.parametrize("url", [*UNSAFE, 5, None])
async def test_an_introspection_endpoint_that_is_not_safe_is_passed_over(puppet, servers, credential, url):
    puppet.says(OAUTH, metadata(puppet.url, introspection_endpoint=url))
    found = await servers.endpoints(credential(issuer=puppet.url))
    assert (found.introspection_endpoint, found.token_endpoint) == (None, f"{puppet.url}/token")


async def test_introspection_is_discovered_or_given_by_hand(puppet, servers, credential):
    puppet.says(OAUTH, metadata(puppet.url, introspection_endpoint="https://x.example/found"))
    found = await servers.endpoints(credential(issuer=puppet.url))
    assert found.introspection_endpoint == "https://x.example/found"
    client = credential(issuer=puppet.url, introspection_endpoint="https://x.example/by-hand")
    assert (await servers.endpoints(client)).introspection_endpoint == "https://x.example/by-hand"


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example/token?tenant=1",
        "http://127.0.0.1:1/t",
        "http://[::1]:1/t",
        "http://localhost/t",
    ],
)
async def test_https_is_safe_and_so_is_this_machine(puppet, servers, credential, url):
    puppet.says(OAUTH, metadata(puppet.url, token_endpoint=url))
    assert (await servers.endpoints(credential(issuer=puppet.url))).token_endpoint == url


async def test_configured_endpoints_are_not_overridden_and_need_no_discovery(puppet, servers, credential):
    puppet.says(OAUTH, metadata(puppet.url))
    puppet.says("/by-hand", {"access_token": "AT-1", "token_type": "Bearer"})
    client = credential(issuer=puppet.url, token_endpoint=f"{puppet.url}/by-hand")
    await servers.token(client, refresh_form((), Secret("R0")))
    assert puppet.hits == ["POST /by-hand"]
    found = await servers.endpoints(client)
    assert found.token_endpoint == f"{puppet.url}/by-hand"
    assert found.authorization_endpoint == f"{puppet.url}/authorize"


async def test_a_document_is_asked_for_once_an_hour(puppet, servers, credential, clock):
    puppet.says(OAUTH, metadata(puppet.url))
    client = credential(issuer=puppet.url)
    for _ in range(3):
        await servers.endpoints(client)
    assert len(puppet.hits) == 1
    clock.advance(HOUR)
    await servers.endpoints(client)
    assert len(puppet.hits) == 2


async def test_the_old_copy_is_used_while_the_server_has_no_valid_document(
    puppet, servers, credential, clock
):
    puppet.says(OAUTH, metadata(puppet.url))
    client = credential(issuer=puppet.url)
    await servers.endpoints(client)
    puppet.says(OAUTH, {}, status=503)
    clock.advance(HOUR)
    for _ in range(3):
        assert (await servers.endpoints(client)).token_endpoint == f"{puppet.url}/token"
    assert len(puppet.hits) == 3  # the first, and one at each URL: not again for every request
    clock.advance(discovery.RETRY_AFTER)
    puppet.says(OAUTH, metadata(puppet.url, token_endpoint=f"{puppet.url}/moved"))
    assert (await servers.endpoints(client)).token_endpoint == f"{puppet.url}/moved"


async def test_a_document_trusted_by_one_ca_is_not_used_with_another(puppet, servers, credential, tmp_path):
    puppet.says(OAUTH, metadata(puppet.url))
    await servers.endpoints(credential(issuer=puppet.url))
    (tmp_path / "ca.pem").write_text("")
    await servers.endpoints(credential(issuer=puppet.url, tls={"ca": str(tmp_path / "ca.pem")}))
    assert len(puppet.hits) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(make_puppet, puppet, servers, credential, status):
    async with make_puppet() as elsewhere:
        elsewhere.says(OAUTH, metadata(puppet.url))

        async def redirect(_request):
            return web.Response(status=status, headers={"Location": elsewhere.url + OAUTH})

        puppet.answers[OAUTH] = puppet.answers[OPENID] = redirect
        asking = servers.endpoints(credential(issuer=puppet.url))
        assert await outcome_of(asking) == ("transient", "discovery_redirect")
        assert elsewhere.hits == []


async def test_the_promise_to_name_itself_in_the_callback_is_read(puppet, servers, credential):
    puppet.says(OAUTH, metadata(puppet.url, authorization_response_iss_parameter_supported=True))
    assert (await servers.endpoints(credential(issuer=puppet.url))).iss_in_callback


async def test_without_an_issuer_there_is_nothing_to_discover(servers, credential):
    client = credential(token_endpoint="https://x.example/t", authorization_endpoint="https://x.example/a")
    found = await servers.endpoints(client)
    assert found.issuer is None
    assert found.token_endpoint == "https://x.example/t"
    assert found.authorization_endpoint == "https://x.example/a"
    assert found.revocation_endpoint is None


HTML = b"<!doctype html><title>Not here</title>"
SEARCHES = [  # responses of the four URLs, in their order; the error of the search
    ([(404, b"")] * 4, ("transient", "discovery_not_found")),
    ([(404, b""), (405, b""), (410, b""), (404, HTML)], ("transient", "discovery_not_found")),
    ([(404, b""), (200, HTML), (404, b""), (404, b"")], ("transient", "discovery_not_json")),
    ([(404, b""), (503, b""), (404, b""), (404, b"")], ("transient", "discovery")),
    ([(404, b""), (302, b""), (404, b""), (200, HTML)], ("transient", "discovery_redirect")),
    ([(200, b'{"issuer": "x"}'), (302, b""), (404, b""), (503, b"")], ("misconfigured", "issuer_mismatch")),
]


@pytest.mark.parametrize(("responses", "name"), SEARCHES)
async def test_a_search_without_a_document_fails_with_the_most_specific_error(
    puppet, servers, credential, responses, name
):
    places = [f"{OAUTH}/t", f"/t{OPENID}", f"/t{OAUTH}", f"{OPENID}/t"]
    for place, (status, body) in zip(places, responses, strict=True):

        async def say(_request, status=status, body=body):
            return web.Response(status=status, body=body)

        puppet.answers[place] = say
    assert await outcome_of(servers.endpoints(credential(issuer=f"{puppet.url}/t"))) == name
    assert puppet.hits == [f"GET {place}" for place in places]


async def test_an_issuer_without_a_path_has_two_places_and_a_good_document_ends_the_search(
    puppet, servers, credential
):
    with pytest.raises(AuthorizationServerError):
        await servers.endpoints(credential(issuer=puppet.url))
    assert puppet.hits == [f"GET {OAUTH}", f"GET {OPENID}"]
    puppet.says(OAUTH, metadata(puppet.url))
    await servers.endpoints(credential(issuer=puppet.url))
    assert puppet.hits[2:] == [f"GET {OAUTH}"]


async def test_a_server_that_is_not_there_is_asked_once(servers, credential):
    asking = servers.endpoints(credential(issuer="http://127.0.0.1:1/t"))
    assert await outcome_of(asking) == ("transient", "unreachable")


async def test_after_a_lost_connection_the_next_url_is_tried(puppet, servers, credential):
    async def drop(request):
        request.transport.close()
        return web.Response()

    puppet.answers[OAUTH] = drop
    puppet.says(OPENID, metadata(puppet.url))
    assert (await servers.endpoints(credential(issuer=puppet.url))).issuer == puppet.url


ODD_DOCUMENTS = {
    "gzip": (gzip.compress, {"Content-Encoding": "gzip"}),
    "gzip, not said": (gzip.compress, {}),
    "deflate": (zlib.compress, {"Content-Encoding": "deflate"}),
    "byte-order mark": (lambda body: b"\xef\xbb\xbf" + body, {}),
    "Latin-1": (lambda body: body[:-1] + b', "op_tos": "\xe9"}', {}),
    "UTF-16": (lambda body: body.decode().encode("utf-16"), {}),
    "a name twice": (lambda body: body[:-1] + b', "x": 1, "x": 2}', {}),
    "NaN": (lambda body: body[:-1] + b', "x": NaN}', {}),
    "NUL": (lambda body: body + b"\0", {}),
    "HTML type": (lambda body: body, {"Content-Type": "text/html"}),
}


@pytest.mark.parametrize(("change", "headers"), ODD_DOCUMENTS.values(), ids=ODD_DOCUMENTS)
async def test_a_document_is_read_like_a_token_response(puppet, servers, credential, caplog, change, headers):
    async def say(_request):
        return web.Response(body=change(json.dumps(metadata(puppet.url)).encode()), headers=headers)

    puppet.answers[OAUTH] = say
    found = await servers.endpoints(credential(issuer=puppet.url))
    assert found.token_endpoint == f"{puppet.url}/token"
    odd = [record for record in caplog.records if "discovery document" in record.message]
    assert len(odd) == (0 if "Content-Type" in headers else 1)


async def test_two_issuers_in_one_document_are_a_mismatch(puppet, servers, credential):
    async def say(_request):
        body = json.dumps(metadata(puppet.url))
        return web.Response(body=(body[:-1] + ', "issuer": "https://else.example"}').encode())

    puppet.answers[OAUTH] = puppet.answers[OPENID] = say
    asking = servers.endpoints(credential(issuer=puppet.url))
    assert await outcome_of(asking) == ("misconfigured", "issuer_mismatch")


# -- endpoints known from before


@pytest.mark.parametrize("away", ["404", "503", "mismatch", "html"])
async def test_the_endpoint_that_gave_a_token_refreshes_it_while_discovery_fails(
    puppet, fetcher, clock, credential, away
):
    puppet.says(OAUTH, metadata(puppet.url, token_endpoint_auth_methods_supported=["client_secret_post"]))
    forms = []

    async def give(request):
        forms.append(await request.text())
        return web.json_response({"access_token": "AT-1", "token_type": "Bearer", "refresh_token": "R1"})

    puppet.answers["/token"] = give
    client = credential(issuer=puppet.url, client_secret="s")
    form = refresh_form((), Secret("R0"))
    token = await AuthorizationServers(fetcher, clock).token(client, form)
    del puppet.answers[OAUTH]
    if away == "mismatch":
        puppet.says(OAUTH, metadata("https://else.example"))
    elif away != "404":
        puppet.says(OAUTH, {} if away == "503" else [], status=503 if away == "503" else 200)
    again = AuthorizationServers(fetcher, clock)  # after a restart: nothing is in memory
    with pytest.raises(AuthorizationServerError):
        await again.token(client, form)
    before = len(puppet.hits)
    for _ in range(3):
        token = await again.token(client, form, before=token)
    assert puppet.hits[before:] == ["POST /token"] * 3  # and discovery is not tried each time
    assert all("client_secret=s" in each for each in forms)  # authenticated as in the metadata
    clock.advance(discovery.RETRY_AFTER)
    puppet.says(OAUTH, metadata(puppet.url, token_endpoint=f"{puppet.url}/moved"))
    puppet.says("/moved", {"access_token": "AT-2", "token_type": "Bearer"})
    moved = await again.token(client, form, before=token)
    assert (moved.access_token.reveal(), moved.token_endpoint) == ("AT-2", f"{puppet.url}/moved")


@pytest.mark.parametrize("url", ["", "http://login.example/token", "nonsense"])
async def test_an_endpoint_from_before_that_is_not_safe_is_not_used(puppet, servers, credential, url):
    before = Token(None, Secret("R0"), puppet.url, "web", 0.0, 0.0, "b", token_endpoint=url)
    asking = servers.token(credential(issuer=puppet.url), refresh_form((), Secret("R0")), before=before)
    assert await outcome_of(asking) == ("transient", "discovery_not_found")


@pytest.mark.parametrize(("methods", "is_told"), [(["plain"], 1), ([], 1), (["S256"], 0), (None, 0)])
async def test_a_server_that_denies_s256_is_warned_about_once(
    puppet, servers, credential, caplog, methods, is_told
):
    document = {"issuer": puppet.url, "code_challenge_methods_supported": methods}
    puppet.says(OAUTH, document)
    client = credential(issuer=puppet.url)
    for _ in range(2):
        await servers.endpoints(client)
    assert caplog.text.count("it does not offer PKCE with S256") == is_told
