"""/readyz and /api/status in all states of the tokens."""

import json
from contextlib import suppress

import pytest

from proxy.demo import faults
from proxy.errors import StoreError, TokenError
from proxy.oauth.token import Principal
from proxy.store.base import AccountId, Record
from proxy.tokens.saved import records

KEYS = {
    "credential": str,
    "account": str,
    "grant": str,
    "owner": str | None,
    "state": str,
    "generation": int,
    "issued_at": float | None,
    "expires_at": float | None,
    "refresh_due_at": float | None,
    "refresh_expires_at": float | None,
    "last_refresh": dict,
    "failures": int,
    "failing_since": float | None,
    "next_try_at": float | None,
    "last_unauthorized_at": float | None,
    "reason": str | None,
    "remedy": str | None,
    "needs_person": bool,
    "serves": bool,
    "needs_attention": bool,
    "actions": list,
    "login_url": str | None,
    "routes": list,
}
IDLE = "[credentials.person]\nrefresh_token_idle = 5184000"
LOGIN_URL = "http://127.0.0.1:8081/login/person/default"
ONLY_MACHINE = """
[[routes]]
path = "/other"
upstream = "http://127.0.0.1:9"
credential = "machine"
"""


def without_person_route(text):
    return text.partition("[[routes]]")[0] + ONLY_MACHINE


def required(credential, value):
    return lambda text: text.replace(
        f"[credentials.{credential}]", f"[credentials.{credential}]\nrequired = {value}"
    )


# -- /api/status


async def test_status_has_exactly_the_keys_of_the_contract(house):
    await house.give()
    status = json.loads(json.dumps(await house.health.status()))
    assert status.keys() == {"version", "now", "ready", "tokens", "counts", "attention", "joinable", "next"}
    assert (status["version"], status["now"], status["ready"], status["next"]) == (
        1,
        house.clock.now,
        True,
        None,
    )
    assert status["counts"] == {"person": {"valid": 1}, "machine": {"absent": 1}}
    for entry in status["tokens"]:
        assert entry.keys() == KEYS.keys()
        assert all(isinstance(entry[name], kind) for name, kind in KEYS.items()), entry
        assert entry["last_refresh"] == {"at": None, "outcome": None, "error": None}


async def test_a_fresh_login_is_valid_and_has_its_expiry(house):
    await house.give()
    entry = await house.entry()
    assert (entry["state"], entry["generation"], entry["failures"], entry["routes"]) == (
        "valid",
        1,
        0,
        ["demo"],
    )
    assert (entry["issued_at"], entry["expires_at"]) == (house.clock.now, house.clock.now + 60)
    assert house.clock.now < entry["refresh_due_at"] < entry["expires_at"]
    assert (entry["reason"], entry["login_url"]) == (None, None)


async def test_a_scope_that_was_not_granted_is_named_while_the_token_is_good(a_house):
    def more_scopes(text):
        return text.replace('scopes = ["api"]', 'scopes = ["api", "mail", "files"]', 1)

    async with a_house(more_scopes) as house:
        await house.give(scope="api")
        entry = await house.entry()
        assert (entry["state"], entry["reason"]) == (
            "valid",
            "the server did not grant the scopes: mail, files",
        )
        house.clock.now += 55
        assert (await house.entry())["reason"] == "a refresh is due"


async def test_the_end_of_a_refresh_token_is_that_of_the_server_or_the_configuration(a_house):
    async with a_house(lambda text: text.replace("[credentials.person]", IDLE)) as house:
        await house.give()
        assert (await house.entry())["refresh_expires_at"] == house.clock.now + 5184000
        house.server.script(faults.Fault(change={"refresh_expires_in": 600}))
        await house.refresh()
        assert (await house.entry())["refresh_expires_at"] == house.clock.now + 600
        shown = house.services.metrics.registry.get_sample_value(
            "token_proxy_refresh_token_expiry_timestamp_seconds",
            {"credential": "person", "account": "default"},
        )
        assert shown == house.clock.now + 600


async def test_nothing_shown_is_a_token(house):
    await house.give()
    held = house.account().held.token
    shown = json.dumps(await house.health.status())
    assert held.access_token.reveal() not in shown
    assert held.refresh_token.reveal() not in shown


async def test_before_a_login_the_login_page_is_named(house):
    entry = await house.entry()
    assert (entry["state"], entry["generation"], entry["login_url"]) == ("absent", 0, LOGIN_URL)
    assert entry["reason"] == "nobody has logged in yet"


async def test_client_credentials_need_no_login(house):
    entry = await house.entry("machine")
    assert (entry["state"], entry["reason"], entry["login_url"]) == (
        "absent",
        "no token has been requested yet",
        None,
    )
    assert (entry["needs_person"], entry["serves"], entry["actions"]) == (False, True, [])


async def test_a_transient_failure_of_a_refresh_is_shown_with_its_error(house):
    await house.give()
    house.server.script(*[faults.NAMED["too-many-requests"]] * 3)
    house.clock.now += 50
    await house.refresh()
    entry = await house.entry()
    assert (entry["state"], entry["failures"]) == ("stale", 1)
    assert entry["last_refresh"] == {"at": house.clock.now, "outcome": "transient", "error": "http_429"}
    assert entry["reason"] == (
        "a refresh is due, and the last one failed: "
        "the authorization server limits the rate of requests (http_429)"
    )
    assert entry["remedy"].startswith("nothing to do: next try at ")
    assert entry["login_url"] is None
    house.clock.now += 10
    assert (await house.entry())["state"] == "expired"


async def test_a_server_that_is_down_from_the_start_is_shown_with_since_when_and_the_next_try(house):
    """Not as "no token has been requested yet" (grant client_credentials: no record tells of it)."""
    begun = house.clock.now
    house.server.script(*[faults.NAMED["outage"]] * 24)  # the first refresh sends three requests
    for _ in range(22):
        await house.refresh("machine")
        house.clock.now += 1
    entry = await house.entry("machine")
    assert (entry["state"], entry["generation"], entry["grant"]) == ("absent", 0, "client_credentials")
    assert (entry["failures"], entry["failing_since"]) == (24, begun)
    assert house.clock.now < entry["next_try_at"] <= house.clock.now + 120
    assert (entry["serves"], entry["needs_attention"], entry["needs_person"]) == (False, True, False)
    assert entry["last_refresh"]["outcome"] == "transient"
    assert "24 failures in a row since" in entry["reason"]
    assert "next try at" in entry["remedy"]
    house.clock.now += 300
    await house.refresh("machine")
    entry = await house.entry("machine")
    assert (entry["failures"], entry["failing_since"], entry["next_try_at"]) == (0, None, None)
    assert (entry["state"], entry["needs_attention"]) == ("valid", False)


async def test_refusals_that_are_not_final_yet_have_their_beginning(house):
    await house.give()
    begun = house.clock.now
    house.server.script(faults.NAMED["invalid-grant"])
    await house.refresh()
    house.clock.now += 3
    entry = await house.entry()
    assert (entry["failures"], entry["failing_since"], entry["state"]) == (1, begun, "stale")
    assert entry["next_try_at"] > house.clock.now


async def test_the_last_401_to_a_current_token_is_shown_and_told(house):
    await house.give()
    tokens, account = house.services.tokens, house.account()
    first = tokens.ready(account)
    assert (await house.entry())["last_unauthorized_at"] is None
    changes = tokens.changes.subscribe()
    house.clock.now += 1
    assert await tokens.reject(account, first) is not first
    assert (await house.entry())["last_unauthorized_at"] == house.clock.now
    assert changes.take() == {account.key}
    at, second = house.clock.now, tokens.ready(account)
    house.clock.now += 1
    assert tokens.reject(account, first) is not None, "to one that was replaced: a replay"
    assert (await house.entry())["last_unauthorized_at"] == at
    for _ in range(3):
        assert tokens.reject(account, second) is None, "it passes: there was a refresh a moment ago"
    assert (await house.entry())["last_unauthorized_at"] == house.clock.now
    assert changes.take() == frozenset(), "an upstream that refuses every request is no news each time"
    house.clock.now += 20
    tokens.reject(account, second)
    assert changes.take() == {account.key}


async def test_the_owner_is_named_as_the_server_names_them(house):
    await house.give(principal=Principal("https://issuer", "7", "Ann <a@example.com>"))
    await house.give(name="ben", principal=Principal("https://issuer", "248289761001", ""))
    assert (await house.entry())["owner"] == "Ann <a@example.com>"
    assert (await house.entry(name="ben"))["owner"] == "248289761001"
    await house.services.tokens.forget(AccountId("person", "default"))
    assert (await house.entry())["owner"] is None


async def test_an_account_needs_attention_exactly_if_it_does_not_serve_or_somebody_must_act(house):
    await house.give()
    await house.give(name="refused")
    await house.give(name="short", refresh_token=False)
    await house.give(name="fine", lifetime=6000.0)
    assert not (await house.entry())["needs_attention"]
    assert (await house.entry(name="short"))["needs_attention"] is False
    house.server.script(faults.NAMED["invalid-client"])
    with suppress(TokenError):
        await house.services.tokens.refresh_now(house.account(name="refused"))
    refused = await house.entry(name="refused")
    assert (refused["serves"], refused["needs_person"], refused["needs_attention"]) == (True, False, True)
    house.clock.now += 61
    attention = {
        entry["account"]: entry["needs_attention"]
        for entry in (await house.health.status())["tokens"]
        if entry["credential"] == "person"
    }
    # the expired one with a refresh token is refreshed with the next request
    assert attention == {"default": False, "refused": True, "short": True, "fine": False}


async def test_joinable_are_the_credentials_whose_requests_name_the_account_in_their_order(a_house):
    def more(text):
        route = (
            '[[routes]]\npath = "/{0}"\nupstream = "http://127.0.0.1:9"\ncredential = "{0}"\naccount = {1}\n'
        )
        secret = 'issuer = "http://127.0.0.1:9"\nclient_id = "x"\nclient_secret = "y"\n'
        return (
            text
            + f"[credentials.zoo]\n{secret}[credentials.art]\n{secret}"
            + route.format("art", '{ header = "X-User" }')
            + route.format("zoo", '{ header = "X-User" }')
        )

    async with a_house(more) as house:
        status = await house.health.status()
        assert status["joinable"] == ["zoo", "art"]
        assert not [entry for entry in status["tokens"] if entry["credential"] in status["joinable"]]


async def test_a_refresh_that_works_clears_what_failed_before(house):
    await house.give()
    house.server.script(faults.NAMED["too-many-requests"])
    await house.refresh()
    await house.refresh()
    entry = await house.entry()
    assert (entry["state"], entry["failures"], entry["generation"]) == ("valid", 0, 2)
    assert entry["last_refresh"] == {"at": house.clock.now, "outcome": "success", "error": None}


async def test_a_refused_refresh_token_asks_for_a_login(house):
    await house.give()
    house.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    for _ in range(2):  # one might be a mistake
        await house.refresh()
        house.clock.now += 31
    entry = await house.entry()
    assert (entry["state"], entry["login_url"]) == ("login_required", LOGIN_URL)
    assert entry["refresh_due_at"] is None


async def test_a_refused_client_is_a_fault_of_the_configuration(house):
    await house.give()
    house.server.script(faults.NAMED["invalid-client"])
    await house.refresh()
    entry = await house.entry()
    assert (entry["state"], entry["login_url"]) == ("misconfigured", None)
    assert entry["reason"] == "the authorization server does not accept this client (invalid_client)"
    assert "client_secret" in entry["remedy"]


async def test_an_expired_token_without_a_refresh_token_asks_for_a_login(house):
    await house.give(refresh_token=False)
    house.clock.now += 60
    entry = await house.entry()
    assert entry["login_url"] == LOGIN_URL
    assert entry["reason"] == "the access token has expired, and the server gave no refresh token"


async def test_a_token_of_another_client_counts_as_absent(a_house):
    async with a_house() as house:
        await house.give()
        record = await house.services.store.get(AccountId("person", "default"))
        body = record.body.replace(b"demo-app", b"app-before")
        await house.services.store.put(
            Record(record.key, 2, record.state, record.due_at, record.expires_at, body), expected=1
        )
        await house.services.tokens._accounts.load(house.account())
        entry = await house.entry()
        other_client = "the stored tokens are from another server or client than the configured one"
        assert (entry["state"], entry["login_url"], entry["reason"]) == ("absent", LOGIN_URL, other_client)


async def test_a_credential_that_no_route_uses_is_shown_all_the_same(a_house):
    async with a_house(without_person_route) as house:
        entry = await house.entry()
        assert (entry["state"], entry["login_url"], entry["routes"]) == ("absent", LOGIN_URL, [])


async def test_an_unreadable_record_is_shown_as_such_and_requires_no_login(house, monkeypatch):
    await house.give()
    await house.give(name="anna")
    house.services.tokens._accounts._recent.pop(AccountId("person", "anna"))

    async def get_many(keys):
        return [Record(key, 0, "unreadable", None, None, b"") for key in keys]

    monkeypatch.setattr(house.services.store, "get_many", get_many)
    entry = await house.entry(name="anna")
    assert (entry["state"], entry["login_url"]) == ("misconfigured", None)
    assert entry["reason"] == "its record in the store can't be read"
    assert entry["remedy"] == (
        "restore the store's key; if it is in place, run `token-proxy logout person --account anna`, "
        "which sets the record aside, then run `token-proxy login person --account anna`"
    )
    assert "logout" in entry["actions"]
    assert (await house.entry())["state"] == "valid"


async def test_a_seed_that_is_not_adopted_yet_is_shown_as_if_it_were(a_house):
    """The command `status` without a server; the next start adopts the seed."""

    def seeded(text):
        return text.replace(
            'grant = "authorization_code"', 'grant = "refresh_token"\nrefresh_token = "seed"', 1
        )

    async with a_house(seeded) as house:
        key = AccountId("person", "default")
        record = await house.services.store.get(key)
        shown = records.view(None, house.services.config.credentials["person"], house.clock)
        assert (shown.state, shown.generation) == ("valid", 1)
        assert shown.token.refresh_token.reveal() == "seed"
        assert await house.services.store.get(key) == record


async def test_while_the_store_fails_what_is_in_memory_is_shown(house, monkeypatch):
    await house.give()

    async def broken(*_):
        raise StoreError("the disk is gone")

    for name in ("outlines", "get_many", "counts"):
        monkeypatch.setattr(house.services.store, name, broken)
    status = await house.health.status()
    assert status["ready"]
    assert status["counts"]["person"] == {"valid": 1}


# -- /readyz


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("too-many-requests", "valid"),
        ("invalid-client", "misconfigured"),
        ("invalid-grant", "stale"),  # one might be a mistake
    ],
)
async def test_while_a_token_is_valid_no_failure_of_its_refresh_makes_it_unready(house, fault, state):
    await house.give()
    house.server.script(*[faults.NAMED[fault]] * 3)
    await house.refresh()
    assert (await house.entry())["state"] == state
    assert house.health.not_ready() == []
    house.clock.now += 60
    assert [reason["credential"] for reason in house.health.not_ready()] == ["person"]


async def test_before_a_login_it_is_not_ready_and_names_the_reason(house):
    assert house.health.not_ready() == [{"credential": "person", "account": "default", "state": "absent"}]
    await house.give()
    assert house.health.ready


async def test_client_credentials_are_ready_until_a_request_for_a_token_fails(a_house):
    async with a_house(without_person_route) as house:
        assert house.health.ready
        house.server.script(faults.NAMED["invalid-client"])
        await house.refresh("machine")
        reason = {"credential": "machine", "account": "default", "state": "misconfigured"}
        assert house.health.not_ready() == [reason]
        await house.refresh("machine")
        assert house.health.ready


@pytest.mark.parametrize(
    ("edit", "waits_for"),
    [
        (required("person", "false"), []),
        (required("person", "true"), [("person", "default")]),
        (lambda text: required("person", "true")(without_person_route(text)), [("person", "default")]),
        (without_person_route, []),
        (
            lambda text: required("person", "true")(text).replace(
                'credential = "person"', 'credential = "person"\naccount = "anna"'
            ),
            [("person", "anna")],
        ),
        (
            lambda text: text.replace(
                'credential = "person"', 'credential = "person"\naccount = { header = "Who" }'
            ),
            [],
        ),
    ],
    ids=["not required", "required", "no route", "no route by default", "another account", "by header"],
)
async def test_readiness_waits_for_the_fixed_accounts_of_required_credentials(a_house, edit, waits_for):
    async with a_house(edit) as house:
        reasons = house.health.not_ready()
        assert [(reason["credential"], reason["account"]) for reason in reasons] == waits_for


async def test_readyz_is_exactly_its_document(world):
    response = await world.get("/readyz")
    reasons = [{"credential": "person", "account": "default", "state": "absent"}]
    assert (response.status, await response.json()) == (503, {"ready": False, "reasons": reasons})
    await world.browser.log_in()
    response = await world.get("/readyz")
    assert (response.status, await response.json()) == (200, {"ready": True, "reasons": []})


async def test_healthz_is_always_ok(world):
    response = await world.get("/healthz")
    assert (response.status, await response.text()) == (200, "ok")
