"""explain: it says what then happens to such a request, and nothing is sent."""

import aiohttp
import pytest
import yarl

from proxy.demo import faults

DONE, FAILED = 0, 1
KEY = "tpk_" + "k" * 43
POLICY = """\
path = "/demo"
methods = ["GET", "POST"]
allow = ["/messages/**", "/labels"]
deny = ["/messages/*/send"]
"""
CALLERS = f"""
[callers.build]
key = "{KEY}"
deny = ["/labels"]
[callers.report]
key = "tpk_report-report-report"
routes = ["machine"]
"""


async def explained(bench, *arguments):
    """The exit code, and the lines by their names."""
    done = await bench.call("explain", *arguments)
    assert done.stderr in {"", *[done.stderr] * ("warning" in done.stderr)}
    lines = [(line[:12].strip(), line[12:]) for line in done.stdout.splitlines()]
    return done.exit_code, dict(lines)


def ending(lines):
    return lines["outcome"].split(": ")[1].split()[-1] if lines["outcome"].startswith("refused") else ""


@pytest.fixture
async def ready(bench):
    """Somebody has logged in, and the routes have policies."""
    bench.edit('path = "/demo"\n', POLICY)
    await bench.log_in()
    return bench


async def test_every_line_of_a_request_that_passes(ready):
    code, lines = await explained(ready, "GET", "/demo/messages/1?x=y")
    assert code == DONE
    api = next(route.upstream for route in ready.config.routes)
    assert lines.pop("token").startswith("valid, expires in ")
    assert lines == {
        "config": str(ready.path),
        "request": "GET /demo/messages/1?x=y",
        "route": "demo (path = /demo)",
        "upstream": f"GET http://{api.authority}/messages/1?x=y",
        "caller": "none is asked for",
        "policy": "the route's permits it by /messages/**",
        "credential": "person",
        "account": "default",
        "outcome": "passes",
    }


DECIDED = [
    ("GET", "/demo/messages/1/send", "deny has /messages/*/send"),
    ("GET", "/demo/messages/1%252Fsend", "deny has /messages/*/send"),
    ("GET", "/demo/drafts", "no pattern of allow fits"),
    ("DELETE", "/demo/labels", "the route's policy does not permit this method: see its `methods`"),
]


@pytest.mark.parametrize(("method", "path", "why"), DECIDED)
async def test_it_names_what_decided(ready, method, path, why):
    code, lines = await explained(ready, method, path)
    assert (code, ending(lines)) == (FAILED, "policy-denied")
    assert lines["outcome"].endswith(why)
    assert "token" not in lines


REQUESTS = [  # method, path
    ("GET", "/demo/messages/1"),
    ("POST", "/demo/messages"),
    ("DELETE", "/demo/messages/1"),
    ("GET", "/demo/labels"),
    ("GET", "/demo/%6cabels"),
    ("GET", "/demo/drafts"),
    ("GET", "/demo/messages/1;x/send"),
    ("GET", "/machine/x"),
    ("GET", "/nowhere"),
    ("GET", "/demo/%2e%2e/machine"),
    ("FETCH", "/demo/messages/1"),
]


async def test_it_says_what_then_happens(ready):
    """Each request is explained, then sent: the same ending."""
    foreseen = [ending((await explained(ready, *request))[1]) for request in REQUESTS]
    async with ready.serving():
        happened = [await sent(ready, *request) for request in REQUESTS]
    assert foreseen == happened
    assert set(foreseen) == {"", "policy-denied", "no-route", "bad-request", "method-refused"}


async def sent(bench, method, path, **headers):
    url = yarl.URL(bench.data + path, encoded=True)
    async with aiohttp.ClientSession(headers=headers) as session, session.request(method, url) as response:
        if response.content_type != "application/problem+json":
            return ""
        return (await response.json())["type"].rpartition(":")[2]


async def test_callers(ready):
    ready.path.write_text(ready.path.read_text() + CALLERS)
    ready.edit('path = "/demo"', 'path = "/demo"')  # loads it again
    code, lines = await explained(ready, "GET", "/demo/labels")
    assert (code, ending(lines)) == (FAILED, "caller-unknown")
    assert "--caller: build, report" in lines["outcome"]
    code, lines = await explained(ready, "GET", "/demo/messages/1", "--caller", "build")
    assert (code, lines["caller"], lines["outcome"]) == (DONE, "build", "passes")
    assert lines["policy"] == "the route's permits it by /messages/**, the caller's permits it"
    code, lines = await explained(ready, "GET", "/demo/labels", "--caller", "build")
    assert (code, ending(lines)) == (FAILED, "policy-denied")
    assert lines["outcome"].endswith("the caller's policy does not permit this path: deny has /labels")
    code, lines = await explained(ready, "GET", "/demo/labels", "--caller", "report")
    assert (code, ending(lines)) == (FAILED, "caller-denied")
    async with ready.serving():
        key = {"Token-Proxy-Key": KEY}
        assert await sent(ready, "GET", "/demo/labels") == "caller-unknown"
        assert await sent(ready, "GET", "/demo/labels", **key) == "policy-denied"
        assert await sent(ready, "GET", "/demo/messages/1", **key) == ""


@pytest.mark.parametrize(("callers", "remedy"), [("", "there are none"), (CALLERS, "did you mean 'build'?")])
async def test_an_unknown_caller(bench, callers, remedy):
    bench.path.write_text(bench.path.read_text() + callers)
    done = await bench.call("explain", "GET", "/demo", "--caller", "build2")
    assert (done.exit_code, done.stdout) == (FAILED, "")
    assert done.stderr.endswith(f"token-proxy: the configuration has no caller 'build2': {remedy}\n")


async def test_a_url_names_a_listener_by_its_port(ready):
    data = ready.config.server.listen[0]
    ready.edit('[[routes]]\npath = "/machine"', '[[routes]]\nlisten = "127.0.0.2:4711"\nname = "own"')
    for url, route in (
        ("http://127.0.0.2:4711/demo/x", "own (listen = 127.0.0.2:4711)"),
        ("http://localhost:4711", "own (listen = 127.0.0.2:4711)"),
        (f"http://{data}/demo/labels#part", "demo (path = /demo)"),
        ("http://localhost/demo/labels", "demo (path = /demo)"),
    ):
        code, lines = await explained(ready, "get", url)
        assert (code, lines["route"]) == (DONE, route), url
    code, lines = await explained(ready, "GET", "https://api.example/demo/labels")
    assert (code, ending(lines)) == (FAILED, "host-refused")


async def test_the_admin_and_the_health_listener_relay_nothing(bench):
    bench.edit("[server]\n", '[server]\nhealth = "0.0.0.0:9102"\n')
    for name, url in (("admin", bench.admin), ("health", "http://127.0.0.1:9102")):
        done = await bench.call("explain", "GET", f"{url}/demo")
        assert (done.exit_code, done.stdout) == (FAILED, "")
        assert done.stderr.endswith(f"is the {name} listener's: expected a URL of a data listener\n")


@pytest.mark.parametrize("url", ["", "demo", "ftp://localhost/demo", "localhost:8080/demo"])
async def test_what_is_no_url(bench, url):
    done = await bench.call("explain", "GET", url)
    assert (done.exit_code, done.stdout) == (FAILED, "")
    assert done.stderr.startswith("token-proxy: expected a URL of this proxy")


async def test_how_its_token_is(bench):
    """Without a login, with one, refused by the authorization server: as the problem document says."""
    code, lines = await explained(bench, "GET", "/demo/x")
    assert (code, lines["token"], ending(lines)) == (FAILED, "absent", "login-required")
    assert lines["outcome"].endswith("run `token-proxy login person`")
    code, lines = await explained(bench, "GET", "/machine/x")
    assert (code, lines["token"], lines["outcome"]) == (DONE, "absent", "passes")
    assert not bench.server.token_requests
    async with bench.serving() as services:
        bench.server.script(*[faults.NAMED["invalid-client"]] * 3)
        account = services.tokens.account("machine", "default")
        services.tokens.refresh_behind(account)
        while account.flight is not None:
            await account.flight
        code, lines = await explained(bench, "GET", "/machine/x")
        assert (code, ending(lines)) == (FAILED, await sent(bench, "GET", "/machine/x"))
        assert ending(lines) == "credential-misconfigured"


async def test_an_account_that_each_request_names(bench):
    bench.edit('credential = "person"', 'credential = "person"\naccount = { header = "X-Remote-User" }')
    code, lines = await explained(bench, "GET", "/demo/x")
    assert code == DONE
    assert lines["account"] == "named by each request, in the field x-remote-user"
    assert lines["outcome"] == "passes, if it names an account that has a token"


NAMING = [
    ("none", FAILED, "", "caller-denied"),
    ("two", DONE, "; this caller may name ann, bob", ""),
    ("all", DONE, "", ""),
]


@pytest.mark.parametrize(("caller", "expected", "may_name", "refused"), NAMING)
async def test_which_accounts_a_caller_may_name(bench, caller, expected, may_name, refused):
    bench.edit('credential = "person"', 'credential = "person"\naccount = { header = "X-Remote-User" }')
    accounts = {"none": "[]", "two": '["ann", "bob"]', "all": '["*"]'}
    tables = "".join(
        f'[callers.{name}]\nkey = "tpk_{name:x>20}"\naccounts = {listed}\n'
        for name, listed in accounts.items()
    )
    bench.path.write_text(bench.path.read_text() + tables)
    code, lines = await explained(bench, "GET", "/demo/x", "--caller", caller)
    assert (code, ending(lines)) == (expected, refused)
    assert lines["account"] == f"named by each request, in the field x-remote-user{may_name}"


async def test_a_token_that_names_no_upstream(bench):
    api = next(route.upstream for route in bench.config.routes)
    bench.edit(f'upstream = "{api}"\n', 'upstream = "{instance_url}"\nupstream_hosts = ["a.example"]\n')
    await bench.log_in()
    code, lines = await explained(bench, "GET", "/demo/labels")
    assert (code, ending(lines)) == (FAILED, "credential-misconfigured")
    assert lines["upstream"] == "GET {instance_url}/labels"
    assert "instance_url of the token response is missing" in lines["outcome"]
