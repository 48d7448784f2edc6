"""All outputs agree on an account, in each of its states."""

import asyncio
import json
import re
from dataclasses import dataclass, field

import pytest

from proxy.demo import faults

MAIL = """
[credentials.mail]
issuer = "{issuer}"
grant = "refresh_token"
client_id = "demo-app"
client_secret = {{ file = "{state}/secret" }}
refresh_token = "never-issued"

[[routes]]
path = "/mail"
upstream = "http://127.0.0.1:9"
credential = "mail"
"""
NOBODY_LISTENS = "http://127.0.0.1:9"
PATHS = {"person": "/demo/x", "machine": "/machine/x", "mail": "/mail/x"}
BUTTON = r'(?:href="(?:http://127\.0\.0\.1:\d+)?|action=")/(\w+)/{}/default"'


def give_issuer(bench, credential, issuer):
    before, table, after = bench.path.read_text().partition(f"[credentials.{credential}]")
    changed = re.sub(r'issuer = "[^"]*"', f'issuer = "{issuer}"', after, count=1)
    bench.path.write_text(before + table + changed)
    bench.edit("[log]", "[log]")  # load it again


async def nobody_has_logged_in(_bench):
    pass


async def logged_in(bench):
    await bench.log_in()


async def refresh_token_refused(bench):
    bench.server.script(faults.Fault(change={"expires_in": 1}))
    await bench.log_in()
    bench.server.script(*[faults.NAMED["invalid-grant"]] * 3)


async def seed_refused(bench):
    await bench.log_in()
    text = MAIL.format(issuer=bench.server.issuer, state=bench.config.server.state_dir)
    bench.path.write_text(bench.path.read_text() + text)
    bench.edit("[log]", "[log]")


async def no_refresh_token(bench):
    bench.server.script(faults.Fault(change={"refresh_token": None, "expires_in": 1}))
    await bench.log_in()


async def server_unreachable(bench):
    await bench.log_in()
    give_issuer(bench, "machine", NOBODY_LISTENS)


async def server_down_from_the_start(bench):
    await bench.log_in()
    bench.server.script(*[faults.NAMED["outage"]] * 20)


async def client_refused(bench):
    await bench.log_in()
    bench.server.script(*[faults.NAMED["invalid-client"]] * 3)


async def issuer_is_wrong(bench):
    await bench.log_in()
    give_issuer(bench, "machine", bench.server.issuer.replace("127.0.0.1", "localhost"))


async def never_asked(bench):
    await bench.log_in()


@dataclass(frozen=True)
class Truth:
    arrange: object
    name: str = "machine"
    problem: str | None = None  # the ending; None: the request is served
    token: int = 0  # exit codes
    status: int = 0
    buttons: list = field(default_factory=list)
    told: str = ""
    untold: tuple = ()  # in no output


UNAVAILABLE, MISCONFIGURED, LOGIN = "token-unavailable", "credential-misconfigured", "login-required"
SECRET, LOG_IN = "client_secret", "log in"
TRUTHS = [
    Truth(nobody_has_logged_in, "person", LOGIN, 3, 3, ["login"], "nobody has logged in yet", (SECRET,)),
    Truth(
        refresh_token_refused,
        "person",
        LOGIN,
        3,
        3,
        ["login", "logout"],
        "refuses the refresh token",
        (SECRET,),
    ),
    Truth(
        no_refresh_token, "person", LOGIN, 3, 3, ["login", "logout"], "gave no refresh token", ("refuses",)
    ),
    Truth(logged_in, "person", None, 0, 0, ["refresh", "logout"]),
    Truth(seed_refused, "mail", LOGIN, 3, 3, ["logout"], "credentials.mail.refresh_token", (LOG_IN, SECRET)),
    Truth(never_asked, buttons=[], told="no token has been requested yet"),
    Truth(
        server_unreachable,
        "machine",
        UNAVAILABLE,
        1,
        1,
        ["refresh"],
        "(unreachable: connection refused, 3 failures in a row since ",
        ("no token has been requested yet", LOG_IN, SECRET),
    ),
    Truth(
        server_down_from_the_start,
        "machine",
        UNAVAILABLE,
        1,
        1,
        ["refresh"],
        "reports an internal error (http_503, 3 failures in a row since ",
        ("no token has been requested yet", LOG_IN, SECRET),
    ),
    Truth(
        client_refused,
        "machine",
        MISCONFIGURED,
        1,
        1,
        ["refresh"],
        SECRET,
        (LOG_IN, "no token has been requested yet"),
    ),
    Truth(issuer_is_wrong, "machine", MISCONFIGURED, 1, 1, ["refresh"], "another issuer", (SECRET, LOG_IN)),
]


@pytest.mark.parametrize("truth", TRUTHS, ids=[truth.arrange.__name__ for truth in TRUTHS])
async def test_all_outputs_agree_on_an_account(bench, truth):
    await truth.arrange(bench)
    async with bench.serving() as services:
        problem = await meet(bench, truth, services.tokens)
        status = await (await bench.get(f"{bench.admin}/api/status")).json()
        page = await (await bench.get(f"{bench.admin}/")).text()
        metrics = await (await bench.get(f"{bench.admin}/metrics")).text()
        ready = await (await bench.get(f"{bench.admin}/readyz")).json()
        shown = await bench.call("status")
    token = await bench.call("token", truth.name)
    (entry,) = [each for each in status["tokens"] if each["credential"] == truth.name]
    needs_person, can_log_in = truth.status == 3, truth.name == "person"
    url = f"{bench.admin}/login/{truth.name}/default"

    assert problem.get("type") == (truth.problem and f"urn:token-proxy:problem:{truth.problem}")
    assert problem.get("login_url") == (url if truth.problem == LOGIN and can_log_in else None)
    assert entry["needs_person"] == needs_person
    assert entry["login_url"] == (url if needs_person and can_log_in else None)
    sample = f'token_proxy_login_required{{account="default",credential="{truth.name}"}}'
    assert f"{sample} {float(needs_person)}" in metrics
    assert re.findall(BUTTON.format(truth.name), page) == truth.buttons
    assert (shown.exit_code, token.exit_code) == (truth.status, truth.token)
    assert entry["serves"] == (truth.problem is None)
    is_unready = truth.name in [reason["credential"] for reason in ready["reasons"]]
    assert is_unready == (truth.problem is not None)

    everywhere = (str(entry["reason"]), str(entry["remedy"]), problem.get("detail", ""), token.stderr)
    assert truth.told in " ".join(everywhere[:2])
    assert truth.problem is None or truth.told in problem["detail"]
    for text in everywhere:
        assert not [words for words in truth.untold if words in text.lower()], text
    assert entry["reason"] is None or entry["reason"] in shown.stdout
    assert entry["remedy"] is None or entry["remedy"] in shown.stdout


async def meet(bench, truth, tokens):
    """Bring the account into the state; the problem document of a request, empty if it is served."""
    if truth.arrange is never_asked:
        return {}
    account = tokens.account(truth.name, "default")
    while truth.arrange in (no_refresh_token, refresh_token_refused) and account.is_usable:
        await asyncio.sleep(0.05)
    response = await bench.get(bench.data + PATHS[truth.name])
    return await response.json() if response.status == 503 else {}


async def test_a_login_that_ends_is_logged_with_its_login_url(bench):
    await no_refresh_token(bench)
    process = await bench.run()
    word = '"event": "login_required"'
    if not (told := [line for line in process.log if word in line]):  # else it came before the event `start`
        told.append(await process.until(word))
    event = json.loads(told[0])
    assert (event["level"], event["credential"], event["account"]) == ("error", "person", "default")
    assert event["login_url"] == f"{bench.admin}/login/person/default"
    assert "run `token-proxy login person`" in event["message"]
    process.signal()
    assert await process.end() == 0
    assert process.events().count("login_required") == 1
