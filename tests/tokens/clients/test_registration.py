"""A client is registered once, used as the server said, and replaced when it ends (RFC 7591)."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.errors import LoginFailed, LoginRequired
from proxy.store.base import AccountId
from tests.tokens.clients.conftest import KEY, log_in
from tests.tokens.conftest import HOUR
from tests.tokens.login.test_logins import BROWSER, approve, refused

DAY = 86400
CALLBACK = "http://127.0.0.1:8081/callback/docs"


def grants_of(world) -> list[tuple[str, str]]:
    return [(request.grant_type, request.client_id) for request in world.auth.token_requests]


async def test_a_login_needs_nothing_but_the_url(docs, world):
    account = await log_in(docs)
    (asked,) = world.auth.registrations
    assert asked == {
        "client_name": "token-proxy",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [CALLBACK],
        "application_type": "native",
        "token_endpoint_auth_method": "client_secret_basic",
    }
    docs.clock.advance(HOUR)
    assert docs.is_good(await docs.tokens.get(account))
    assert grants_of(world) == [("authorization_code", "client-1"), ("refresh_token", "client-1")]


async def test_the_authorization_request_names_the_mcp_server_as_the_resource(docs, world):
    begun = await docs.logins.begin(KEY, browser=BROWSER)
    sent = parse_qs(urlsplit(begun).query)
    assert (sent["resource"], sent["client_id"]) == ([world.mcp.url], ["client-1"])
    assert begun.startswith(f"{world.auth.issuer}/authorize?")


async def test_all_logins_and_processes_share_one_client(make_docs, world):
    async with make_docs() as one, make_docs() as other:
        urls = await asyncio.gather(
            *(side.logins.begin(KEY, browser=BROWSER) for side in (one, other) for _ in range(5))
        )
        assert len(world.auth.registered) == 1
        assert {parse_qs(urlsplit(url).query)["client_id"][0] for url in urls} == {"client-1"}
        account = await log_in(one, AccountId("docs", "ann"))
        other.clock.advance(HOUR)
        assert other.is_good(await other.tokens.get(other.tokens.account("docs", "ann")))
        assert account.registration.client_id == "client-1"
    async with make_docs() as restarted:
        await log_in(restarted)
    assert len(world.auth.registered) == 1


async def test_two_processes_that_begin_at_once_with_one_file_register_once(make_docs, world, open_sqlite):
    stores = [await open_sqlite() for _ in range(3)]
    async with (
        make_docs(store=stores[0]) as a,
        make_docs(store=stores[1]) as b,
        make_docs(store=stores[2]) as c,
    ):
        await asyncio.gather(*(side.logins.begin(KEY, browser=BROWSER) for side in (a, b, c)))
    assert world.auth.registered == ["client-1"]


async def test_nothing_in_the_store_shows_the_secret(docs, world, store):
    await log_in(docs)
    secret = world.auth.known["client-1"].client_secret
    inner = store._store
    records = await inner.page(None, 100)
    assert len(records) == 2
    assert all(secret.encode() not in record.body for record in records)


METHODS = [  # offered by the metadata, in the response, used
    (["client_secret_post", "none"], None, "client_secret_post"),
    (["none"], None, "none"),
    (None, "none", "none"),
    (["client_secret_basic"], "client_secret_post", "client_secret_post"),
    (["private_key_jwt"], "client_secret_basic", "client_secret_basic"),
]


@pytest.mark.parametrize(("offered", "said", "used"), METHODS)
async def test_the_method_of_authentication_is_that_of_the_response(docs, world, offered, said, used):
    world.auth.metadata = {"token_endpoint_auth_methods_supported": offered}
    if said is not None:
        world.auth.response = {"token_endpoint_auth_method": said}
    account = await log_in(docs)  # the server accepts no other than that of its response
    assert account.registration.auth_method == used
    docs.clock.advance(HOUR)
    assert docs.is_good(await docs.tokens.get(account))


async def test_a_configured_method_is_asked_for(make_docs, world):
    async with make_docs('client_auth = "client_secret_post"') as side:
        await log_in(side)
    assert world.auth.registrations[0]["token_endpoint_auth_method"] == "client_secret_post"


REFUSALS = [  # the response, the code of the failure
    ((400, {"error": "invalid_redirect_uri"}), "invalid_redirect_uri"),
    ((400, {"error": "invalid_client_metadata"}), "invalid_client_metadata"),
    ((400, {"error": "<b>of its own</b>"}), "registration_refused"),
    ((401, {"error": "invalid_token"}), "registration_refused"),
    ((403, "no"), "registration_refused"),
    ((404, "no"), "no_registration"),
    ((302, "no"), "registration_redirect"),
    ((500, "no"), "registration"),
    ((429, "no"), "registration"),
    ((200, {"client_name": "without an id"}), "registration"),
    ((200, ["client_id"]), "registration"),
    ((201, {"client_id": 7}), "registration"),
    ((201, {"client_id": "a\nb"}), "registration"),
    ((201, {"client_id": "a", "client_secret": "b\r\nc"}), "registration"),
    ((201, {"client_id": "a", "token_endpoint_auth_method": "private_key_jwt"}), "registration_method"),
    ((201, {"client_id": "a", "token_endpoint_auth_method": "client_secret_basic"}), "registration_method"),
]


@pytest.mark.parametrize(("response", "error"), REFUSALS)
async def test_a_failed_registration_says_why_and_what_to_do(docs, world, response, error):
    world.auth.refuse_registration = response
    with pytest.raises(LoginFailed) as caught:
        await docs.logins.begin(KEY, browser=BROWSER)
    assert caught.value.error == error
    assert f"({error})" in str(caught.value)
    assert "; " in str(caught.value)
    assert "own" not in str(caught.value)
    world.auth.refuse_registration = None
    assert await log_in(docs)


async def test_a_server_that_registers_nobody_asks_for_a_client_id(make_docs, docs, world):
    world.auth.metadata = {"registration_endpoint": None}
    sentence = await refused(docs.logins.begin(KEY, browser=BROWSER))
    assert sentence.endswith("register a client there, and set credentials.docs.client_id")
    async with make_docs('client_id = "mine"') as side:
        assert "client_id=mine" in await side.logins.begin(KEY, browser=BROWSER)
    assert world.auth.registrations == []


@pytest.mark.parametrize(
    "endpoint", ["http://192.0.2.1/register", "javascript:alert(1)", "file:///etc/x", "-x", 7]
)
async def test_an_unsafe_registration_endpoint_is_not_called(docs, world, endpoint):
    world.auth.metadata = {"registration_endpoint": endpoint}
    assert "unsafe_endpoint" in await refused(docs.logins.begin(KEY, browser=BROWSER))


async def test_a_secret_that_ends_is_shown_and_a_login_before_then_gets_another_client(docs, world):
    ends = docs.clock.wall() + 10 * DAY
    world.auth.response = {"client_secret_expires_at": int(ends)}
    account = await log_in(docs)
    assert dict(docs.tokens.client_secret_ends()) == {"docs": int(ends)}
    assert account.diagnosis().text == ""
    docs.clock.advance(8.5 * DAY)
    assert docs.is_good(await docs.tokens.get(account))
    assert account.diagnosis().text.startswith(
        "the client that was registered for its tokens expires at 2027-"
    )
    assert account.diagnosis().can_log_in
    world.auth.response = {}
    await log_in(docs)
    assert account.registration.client_id == "client-2"
    assert account.diagnosis().text == ""
    assert dict(docs.tokens.client_secret_ends()) == {}


async def test_an_end_of_the_registration_ends_its_tokens_without_a_request(docs, world):
    world.auth.response = {"client_secret_expires_at": int(docs.clock.wall() + HOUR)}
    account = await log_in(docs)
    docs.clock.advance(2 * HOUR)
    sent = len(world.auth.token_requests)
    with pytest.raises(LoginRequired, match="the client that was registered for its tokens has expired; run"):
        await docs.tokens.get(account)
    assert len(world.auth.token_requests) == sent
    world.auth.response = {}
    await log_in(docs)
    assert docs.is_good(await docs.tokens.get(account))
    assert world.auth.registered == ["client-1", "client-2"]


async def test_if_no_other_client_can_be_registered_the_present_one_is_used_to_its_end(docs, world):
    world.auth.response = {"client_secret_expires_at": int(docs.clock.wall() + 10 * DAY)}
    await log_in(docs)
    world.auth.refuse_registration = (503, "later")
    docs.clock.advance(9 * DAY)
    account = await log_in(docs)
    assert account.registration.client_id == "client-1"
    docs.clock.advance(1.1 * DAY)
    assert "(registration)" in await refused(docs.logins.begin(KEY, browser=BROWSER))


async def test_a_client_that_the_server_has_forgotten_is_registered_anew_with_the_next_login(
    make_docs, docs, world, caplog
):
    caplog.set_level("INFO")
    account = await log_in(docs)
    world.auth.known.clear()
    docs.clock.advance(HOUR)
    with pytest.raises(LoginRequired) as caught:
        await docs.tokens.get(account)
    assert str(caught.value) == (
        "docs/default: the authorization server does not know the client any more that was registered for "
        "its tokens; run `token-proxy login docs`: another client is registered then"
    )
    assert [record.event for record in caplog.records if "client_" in getattr(record, "event", "")] == [
        "client_registered",
        "client_forgotten",
    ]
    await log_in(docs)
    assert docs.is_good(await docs.tokens.get(account))
    async with make_docs() as restarted:
        docs.clock.advance(HOUR)
        assert restarted.is_good(await restarted.tokens.get(restarted.tokens.account(*KEY)))
    assert world.auth.registered == ["client-1", "client-2"]


async def test_one_mistaken_refusal_of_the_client_costs_no_login(docs, world):
    account = await log_in(docs)
    known = dict(world.auth.known)
    world.auth.known.clear()
    docs.clock.advance(0.85 * HOUR)
    served = docs.tokens.ready(account)
    await docs.landed(account)
    assert docs.tokens.ready(account) is served
    assert "does not know the client any more" in account.diagnosis().text
    assert not account.needs_person
    world.auth.known.update(known)
    docs.clock.advance(61)
    docs.tokens.ready(account)
    await docs.landed(account)
    assert (account.state(), account.held.token.refusal) == ("valid", None)


async def test_a_client_that_is_forgotten_during_a_login_is_replaced_with_the_next(docs, world):
    begun = await docs.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    world.auth.known.clear()
    finishing = docs.logins.finish(callback, BROWSER, path="/callback/docs")
    assert (await refused(finishing)).endswith("start the login again, and another is registered")
    assert (await log_in(docs)).registration.client_id == "client-2"


async def test_a_client_for_itself_is_registered_renewed_and_registered_anew(make_docs, world):
    world.auth.response = {"client_secret_expires_at": int(world.auth.clock.wall() + 10 * HOUR)}
    async with make_docs('grant = "client_credentials"') as side:
        account = side.tokens.account(*KEY)
        assert side.is_good(await side.tokens.get(account))
        assert world.auth.registrations[0]["grant_types"] == ["client_credentials"]
        assert "redirect_uris" not in world.auth.registrations[0]
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert len(world.auth.registered) == 1
        side.clock.advance(8 * HOUR)  # the last fifth of the secret's life
        assert side.is_good(await side.tokens.get(account))
        assert account.registration.client_id == "client-2"
        world.auth.known.clear()
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert account.registration.client_id == "client-3"


async def test_a_logout_revokes_the_tokens_with_the_client_that_they_are_of(docs, world):
    account = await log_in(docs)
    served = await docs.tokens.get(account)
    await docs.logins.log_out(KEY)
    assert not docs.is_good(served)


async def test_another_address_of_the_page_gets_another_client(make_docs, world, tmp_path):
    async with make_docs() as side:
        await log_in(side)
    async with make_docs("[server]\npublic_url = 'https://proxy.example'") as side:
        await side.logins.begin(KEY, browser=BROWSER)
    first, second = world.auth.registrations
    assert second["redirect_uris"] == ["https://proxy.example/callback/docs"]
    assert (first["application_type"], second["application_type"]) == ("native", "web")


async def test_a_logout_of_nothing_gives_up_a_client_that_the_server_no_longer_knows(docs, world):
    """The server tells the person that the client is unknown, not us: no redirect comes."""
    other = await log_in(docs, AccountId("docs", "ann"))
    await log_in(docs)
    await docs.logins.log_out(KEY)
    world.auth.known["client-9"] = world.auth.known.pop("client-1")
    assert "client_id=client-1" in await docs.logins.begin(KEY, browser=BROWSER)
    await docs.logins.log_out(KEY)
    assert (await log_in(docs)).registration.client_id == "client-2"
    assert other.registration.client_id == "client-1"


async def test_a_logout_needs_no_server_to_give_up_a_client(docs, world):
    world.mcp.status = 500
    await docs.logins.log_out(KEY)
    assert docs.tokens.account(*KEY).state() == "absent"


CHANGES = [  # lines of the credential then, and whether its tokens count on
    ("", True),
    ('scopes = ["api"]', True),
    ('client_id = "mine"', False),
    ('grant = "client_credentials"', False),
    ('issuer = "https://other.example"', False),
    ('issuer = "{issuer}"', True),
]


@pytest.mark.parametrize(("lines", "counts"), CHANGES)
async def test_tokens_are_bound_to_the_server_and_client_that_they_came_from(make_docs, world, lines, counts):
    async with make_docs() as side:
        await log_in(side)
    async with make_docs(lines.format(issuer=world.auth.issuer)) as side:
        assert (side.tokens.account(*KEY).held.token is not None) is counts
    world.mcp.url = world.mcp.url.replace("/mcp", "/mcp2")
    async with make_docs() as side:
        assert side.tokens.account(*KEY).held.token is None, "of another MCP server"
