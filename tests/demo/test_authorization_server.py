from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import aiohttp
import pytest
from authlib.oauth2 import rfc8414, rfc9207

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.journal import fingerprint
from proxy.demo.serve import running

HARD_SECRET = "p+a%40 s:/=&é"


async def test_a_login_gives_tokens_that_are_alices(world: Any) -> None:
    back = await world.click("alice")
    assert back["state"] == "xyz"
    assert back["iss"] == world.server.issuer
    status, tokens = await world.exchange(back["code"])
    assert status == 200
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 60
    assert tokens["scope"] == "api"
    assert world.server.active(tokens["access_token"]) == "alice"
    assert world.server.active(tokens["refresh_token"]) is None


async def test_the_token_response_is_not_cacheable(world: Any) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": (await world.log_in())["refresh_token"]}
    auth = {"Authorization": "Basic " + base64.b64encode(b"web:s3cret").decode()}
    async with world.http.post("/token", data=form, headers=auth) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"] == "application/json"


async def test_without_a_scope_the_client_gets_all_it_may_have(world: Any) -> None:
    _, tokens = await world.exchange((await world.click("bob", scope=None))["code"])
    assert tokens["scope"] == "api mail"


async def test_a_code_works_once_and_its_second_use_revokes_the_tokens_of_the_first(world: Any) -> None:
    code = (await world.click("alice"))["code"]
    _, tokens = await world.exchange(code)
    assert (await world.exchange(code))[1]["error"] == "invalid_grant"
    assert world.server.active(tokens["access_token"]) is None


async def test_a_code_ends_after_a_minute(world: Any) -> None:
    code = (await world.click("alice"))["code"]
    world.clock.now += 60
    assert (await world.exchange(code))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("verifier", "error"),
    [("w" * 43, "invalid_grant"), ("short", "invalid_request"), ("", "invalid_request")],
)
async def test_a_wrong_verifier_is_refused(world: Any, verifier: str, error: str) -> None:
    code = (await world.click("alice"))["code"]
    status, answer = await world.exchange(code, verifier)
    assert (status, answer["error"]) == (400, error)


SENT_BACK = [  # a change of the authorization request, and the error that the client gets
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"scope": "everything"}, "invalid_scope"),
    ({"response_type": "token"}, "unsupported_response_type"),
]


@pytest.mark.parametrize(("change", "error"), SENT_BACK)
async def test_a_request_that_cannot_be_granted_goes_back_with_an_error(
    world: Any, change: dict[str, str | None], error: str
) -> None:
    query = world.authorize_query(**change)
    async with world.http.get("/authorize", params=query, allow_redirects=False) as answer:
        assert answer.status == 302
        back = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert (back["error"], back["state"], back["iss"]) == (error, "xyz", world.server.issuer)


NOT_SENT_BACK = [
    {"client_id": "nobody"},
    {"client_id": None},
    {"redirect_uri": "http://127.0.0.1:8081/elsewhere"},
    {"redirect_uri": 'http://evil.example/"<é>'},
    {"response_type": "é"},
]


@pytest.mark.parametrize("change", NOT_SENT_BACK)
async def test_an_unverified_client_gets_no_redirect(world: Any, change: dict[str, str | None]) -> None:
    query = world.authorize_query(**change)
    async with world.http.get("/authorize", params=query, allow_redirects=False) as answer:
        assert answer.status == 400
        assert answer.content_type == "text/html"
    async with world.http.post(
        "/authorize", params=query, data={"user": "alice"}, allow_redirects=False
    ) as answer:
        assert answer.status == 400


async def test_the_client_learns_of_a_refusal(world: Any) -> None:
    back = await world.click("")
    assert back["error"] == "access_denied"
    assert back["state"] == "xyz"


async def test_only_known_users_can_log_in(world: Any) -> None:
    query = world.authorize_query()
    async with world.http.post("/authorize", params=query, data={"user": "mallory"}) as answer:
        assert answer.status == 400


async def test_an_access_token_ends_with_its_lifetime(world: Any) -> None:
    access_token = (await world.log_in())["access_token"]
    world.clock.now += 59
    assert world.server.active(access_token) == "alice"
    assert world.server.expires_in(access_token) == 1
    world.clock.now += 1
    assert world.server.active(access_token) is None


async def test_each_refresh_gives_a_new_pair(world: Any) -> None:
    first = await world.log_in()
    status, second = await world.refresh(first["refresh_token"])
    assert status == 200
    assert second["refresh_token"] != first["refresh_token"]
    assert world.server.active(first["access_token"]) == "alice"
    assert world.server.active(second["access_token"]) == "alice"
    assert (await world.refresh(second["refresh_token"]))[0] == 200


async def test_a_reused_refresh_token_ends_the_whole_family(world: Any) -> None:
    other_login = await world.log_in()
    first = await world.log_in()
    _, second = await world.refresh(first["refresh_token"])
    assert (await world.refresh(first["refresh_token"]))[1]["error"] == "invalid_grant"
    assert (await world.refresh(second["refresh_token"]))[1]["error"] == "invalid_grant"
    assert world.server.active(first["access_token"]) is None
    assert world.server.active(second["access_token"]) is None
    assert world.server.active(other_login["access_token"]) == "alice"
    assert world.server.families_revoked == 1


async def test_within_the_grace_a_spent_refresh_token_gets_the_same_pair(a_world: Any) -> None:
    async with a_world(grace=30) as world:
        first = await world.log_in()
        _, second = await world.refresh(first["refresh_token"])
        world.clock.now += 29
        assert await world.refresh(first["refresh_token"]) == (200, second | {"expires_in": 31})
        world.clock.now += 1
        assert (await world.refresh(first["refresh_token"]))[1]["error"] == "invalid_grant"
        assert world.server.families_revoked == 1


async def test_a_repetition_never_returns_an_expired_access_token(a_world: Any) -> None:
    async with a_world(grace=600) as world:
        first = await world.log_in()
        _, second = await world.refresh(first["refresh_token"])
        world.clock.now += 60
        _, again = await world.refresh(first["refresh_token"])
        assert again["refresh_token"] == second["refresh_token"]
        assert again["expires_in"] == 60
        assert world.server.active(again["access_token"]) == "alice"
        await world.refresh(second["refresh_token"])
        world.clock.now += 60
        _, again = await world.refresh(first["refresh_token"])
        assert world.server.token_record(fingerprint(again["access_token"])).generation == 2


async def test_without_rotation_a_refresh_token_stays(a_world: Any) -> None:
    async with a_world(rotation=False) as world:
        first = await world.log_in()
        for _ in range(2):
            status, answer = await world.refresh(first["refresh_token"])
            assert status == 200
            assert "refresh_token" not in answer


async def test_a_refresh_may_narrow_the_scope_of_its_access_token_only(world: Any) -> None:
    _, first = await world.exchange((await world.click("alice", scope="api mail"))["code"])
    _, second = await world.refresh(first["refresh_token"], scope="mail")
    assert second["scope"] == "mail"
    _, third = await world.refresh(second["refresh_token"])
    assert third["scope"] == "api mail"


async def test_a_refresh_cannot_widen_the_scope_and_costs_nothing(world: Any) -> None:
    first = await world.log_in()
    assert (await world.refresh(first["refresh_token"], scope="mail"))[1]["error"] == "invalid_scope"
    assert (await world.refresh(first["refresh_token"]))[0] == 200


async def test_another_clients_refresh_token_is_refused_and_costs_its_owner_nothing(world: Any) -> None:
    tokens = await world.log_in()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "cli"}
    for _ in range(2):
        async with world.http.post("/token", data=form) as answer:
            assert (await answer.json())["error"] == "invalid_grant"
    assert (await world.refresh(tokens["refresh_token"]))[0] == 200


@pytest.mark.parametrize("encode", [quote_plus, lambda text: quote(text, safe="")])
@pytest.mark.parametrize("secret", ["s3cret", HARD_SECRET])
async def test_basic_credentials_are_form_encoded(a_world: Any, secret: str, encode: Any) -> None:
    client = Client("robot:é", secret, grants=("client_credentials",))
    pair = f"{encode(client.client_id)}:{encode(secret)}"
    headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    async with a_world(clients=(client,)) as world:
        form = {"grant_type": "client_credentials"}
        async with world.http.post("/token", data=form, headers=headers) as answer:
            tokens = await answer.json()
            assert answer.status == 200
        assert "refresh_token" not in tokens
        assert world.server.active(tokens["access_token"]) == "robot:é"
        assert world.server.token_requests[0].client_id == "robot:é"


async def test_a_secret_in_the_form(a_world: Any) -> None:
    client = Client("robot", HARD_SECRET, "client_secret_post", grants=("client_credentials",))
    form = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": HARD_SECRET}
    async with a_world(clients=(client,)) as world, world.http.post("/token", data=form) as answer:
        assert answer.status == 200


REFUSED_CLIENTS = [
    ({"Authorization": "Basic " + base64.b64encode(b"robot:wrong").decode()}, {}),
    ({"Authorization": "Basic " + base64.b64encode(b"nobody:s3cret").decode()}, {}),
    ({"Authorization": "Basic " + base64.b64encode(b"robot:\xff").decode()}, {}),
    ({"Authorization": "Basic !"}, {}),
    ({"Authorization": "Basic é"}, {}),
    ({"Authorization": "Bearer s3cret"}, {}),
    ({}, {}),
    ({}, {"client_id": "robot"}),
    ({}, {"client_id": "robot", "client_secret": "s3cret"}),  # registered for basic only
]


@pytest.mark.parametrize(("headers", "form"), REFUSED_CLIENTS)
async def test_an_unauthenticated_client_is_refused(
    world: Any, headers: dict[str, str], form: dict[str, str]
) -> None:
    form = {"grant_type": "client_credentials", **form}
    async with world.http.post("/token", data=form, headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert (await answer.json())["error"] == "invalid_client"


async def test_a_public_client_has_no_client_credentials_grant(a_world: Any) -> None:
    client = Client("cli", auth_method="none", grants=("client_credentials",))
    form = {"grant_type": "client_credentials", "client_id": "cli"}
    async with a_world(clients=(client,)) as world, world.http.post("/token", data=form) as answer:
        assert (await answer.json())["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "never issued"}, "invalid_grant"),
    ],
)
async def test_an_invalid_token_request_gets_the_right_error(
    world: Any, form: dict[str, str], error: str
) -> None:
    status, answer = await world.token(**form)
    assert (status, answer["error"]) == (400, error)


async def test_the_token_endpoint_takes_forms_only(world: Any) -> None:
    async with world.http.post("/token", json={"grant_type": "client_credentials"}) as answer:
        assert answer.status == 400
    async with world.http.get("/token", params={"grant_type": "client_credentials"}) as answer:
        assert answer.status == 405


@pytest.mark.parametrize(("kind", "alive_after"), [("refresh_token", None), ("access_token", "alice")])
async def test_revocation(world: Any, kind: str, alive_after: str | None) -> None:
    """An access token is revoked alone, a refresh token with its family (RFC 7009)."""
    first = await world.log_in()
    _, second = await world.refresh(first["refresh_token"])
    auth = {"Authorization": "Basic " + base64.b64encode(b"web:s3cret").decode()}
    form = {"token": second[kind], "token_type_hint": kind}
    for _ in range(2):
        async with world.http.post("/revoke", data=form, headers=auth) as answer:
            assert answer.status == 200
    assert world.server.active(second["access_token"]) is None
    assert world.server.active(first["access_token"]) == alive_after


async def test_only_its_client_can_revoke_a_token(world: Any) -> None:
    tokens = await world.log_in()
    async with world.http.post("/revoke", data={"token": tokens["refresh_token"]}) as answer:
        assert answer.status == 401
    form = {"token": tokens["refresh_token"], "client_id": "cli"}
    async with world.http.post("/revoke", data=form) as answer:
        assert answer.status == 400
    assert world.server.active(tokens["access_token"]) == "alice"


async def test_an_unknown_token_counts_as_revoked(world: Any) -> None:
    async with world.http.post("/revoke", data={"token": "x", "client_id": "cli"}) as answer:
        assert answer.status == 200


async def test_the_metadata_is_valid_and_has_the_endpoints(world: Any) -> None:
    async with world.http.get("/.well-known/oauth-authorization-server") as answer:
        metadata = rfc8414.AuthorizationServerMetadata(await answer.json())
    metadata.validate(metadata_classes=[rfc9207.AuthorizationServerMetadata])
    assert metadata["issuer"] == world.server.issuer
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    async with world.http.post(metadata["token_endpoint"]) as answer:
        assert answer.status == 400
    async with world.http.post(metadata["revocation_endpoint"]) as answer:
        assert answer.status == 401


async def test_a_foreign_host_field_changes_nothing(world: Any) -> None:
    path = "/.well-known/oauth-authorization-server"
    async with world.http.get(path, headers={"Host": "evil.example"}) as answer:
        assert (await answer.json())["issuer"] == world.server.issuer


async def test_tokens_can_be_issued_without_a_login(world: Any) -> None:
    tokens = world.server.issue("web", "bob")
    status, answer = await world.refresh(tokens["refresh_token"])
    assert status == 200
    assert world.server.active(answer["access_token"]) == "bob"


async def test_the_operator_can_revoke_a_token_or_its_family(world: Any) -> None:
    first = world.server.issue("web", "bob")
    _, second = await world.refresh(first["refresh_token"])
    world.server.revoke(second["access_token"])
    assert world.server.active(second["access_token"]) is None
    assert world.server.active(first["access_token"]) == "bob"
    world.server.revoke_family(second["access_token"])
    assert world.server.active(first["access_token"]) is None
    assert (await world.refresh(second["refresh_token"]))[1]["error"] == "invalid_grant"
    assert world.server.families_revoked == 1


async def test_a_revocation_can_be_scheduled(world: Any) -> None:
    tokens = world.server.issue("web", "bob")
    world.server.revoke_family(tokens["access_token"], after=30)
    (decided,) = world.server.revocations
    assert (decided.at, decided.reason) == (1030.0, "server")
    world.clock.now += 29
    assert world.server.active(tokens["access_token"]) == "bob"
    assert world.server.families_revoked == 0
    world.clock.now += 1
    assert world.server.judge(tokens["access_token"], world.clock.now)[0] == "revoked"
    assert (await world.refresh(tokens["refresh_token"]))[1]["error"] == "invalid_grant"
    assert world.server.token_requests[-1].outcome == "refused"
    assert world.server.families_revoked == 1


async def test_a_login_revoked_before_its_scheduled_revocation_counts_once(world: Any) -> None:
    tokens = world.server.issue("web", "bob")
    world.server.revoke_family(tokens["access_token"], after=30)
    world.clock.now += 10
    world.server.revoke_family(tokens["access_token"])
    world.server.revoke_family(tokens["access_token"], after=5)
    assert [revocation.at for revocation in world.server.revocations] == [1030.0, 1010.0]
    world.clock.now += 30
    assert world.server.families_revoked == 1


async def test_grace_lifetime_and_rotation_can_be_changed_while_it_runs(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    await world.refresh(token)
    world.server.grace = 30
    world.server.access_token_lifetime = 7
    assert (await world.refresh(token))[0] == 200
    world.server.rotation = False
    _, answer = await world.refresh(world.server.issue("web", "bob")["refresh_token"])
    assert answer["expires_in"] == 7
    assert "refresh_token" not in answer
    assert (world.server.grace, world.server.access_token_lifetime, world.server.rotation) == (30, 7, False)


async def test_tokens_are_in_no_log_line(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    tokens = await world.log_in()
    await world.refresh(tokens["refresh_token"])
    assert tokens["access_token"] not in caplog.text
    assert tokens["refresh_token"] not in caplog.text


async def test_a_restart_keeps_the_tokens() -> None:
    server = AuthorizationServer(clients=[Client("cli", auth_method="none")])
    async with running(server.application()) as url:
        tokens = server.issue("cli", "alice")
    port = urlsplit(url).port
    assert port is not None
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "cli"}
    async with running(server.application(), port=port) as again:
        assert again == url == server.issuer
        async with aiohttp.ClientSession() as http, http.post(f"{again}/token", data=form) as answer:
            assert answer.status == 200


async def test_a_given_issuer_is_kept() -> None:
    app = AuthorizationServer(clients=[], issuer="https://login.example").application()
    path = "/.well-known/oauth-authorization-server"
    async with running(app) as url, aiohttp.ClientSession(url) as http, http.get(path) as answer:
        assert (await answer.json())["token_endpoint"] == "https://login.example/token"
