"""The summary of a start, with many routes and of every kind."""

import io

import pytest

from proxy.admin.summary import MOST, place_of_route, summarize
from proxy.commands.start_summary import LISTED, start_summary
from proxy.config.load import load
from proxy.generation import own_names
from proxy.services import open_services

HEAD = """
[server]
state_dir = "state"
{server}
[store]
url = "memory:"
[credentials.c]
issuer = "https://login.example"
client_id = "app"
"""
ROUTE = """
[[routes]]
name = "r{number}"
{place}
upstream = "https://api.example/base"
credential = "c"
"""


@pytest.fixture
def configured(tmp_path):
    def make(*places, server=""):
        path = tmp_path / "config.toml"
        routes = (ROUTE.format(number=number, place=place) for number, place in enumerate(places))
        path.write_text(HEAD.format(server=server) + "".join(routes))
        return load(path, {}).config

    return make


async def summary_of(config):
    from proxy.admin.summary import configured as listening

    async with open_services(config) as services:
        await services.tokens.start()
        return summarize(services, listening(config), own_names(config))


async def test_many_routes_are_listed_in_part(configured):
    count = MOST + 7
    summary = await summary_of(configured(*(f'path = "/p{number}"' for number in range(count))))
    fields = summary.fields()
    assert len(fields["routes"]) == MOST
    assert fields["routes_left_out"] == 7
    said = start_summary(summary, io.StringIO())
    assert f"and {count - LISTED} more routes" in said
    assert said.count("https://api.example/base") == LISTED
    assert "1 of 1 accounts can't serve yet" in said  # one account, however many routes
    assert summary.sentence.startswith(
        "token-proxy is ready, but 1 of 1 accounts can't serve yet: c/default: "
    )


async def test_accounts_that_requests_name_are_no_reason_to_wait(configured):
    account = 'account = { header = "X-Remote-User" }'
    summary = await summary_of(configured(f'path = "/team"\n{account}'))
    assert summary.sentence == "token-proxy is ready"
    (route,) = summary.fields()["routes"]
    assert (route["account"], route["state"]) == ("(by X-Remote-User)", None)
    assert "c/(by X-Remote-User)" in start_summary(summary, io.StringIO())


async def test_without_routes_the_summary_says_so(configured):
    summary = await summary_of(configured())
    assert "there are no routes yet" in start_summary(summary, io.StringIO())


@pytest.mark.parametrize(
    ("place", "server", "expected"),
    [
        ('path = "/crm"', "", "http://127.0.0.1:8080/crm"),
        ('path = "/"', "", "http://127.0.0.1:8080/"),
        ('host = "api.localhost"', "", "http://api.localhost:8080"),
        ('listen = "127.0.0.1:9000"', "", "http://127.0.0.1:9000"),
        ('listen = "unix:/run/own.sock"', "", "unix:/run/own.sock /"),
        ('path = "/crm"', 'listen = "unix:/run/data.sock"', "unix:/run/data.sock /crm"),
        ('path = "/crm"', 'listen = ["unix:/run/data.sock", "[::1]:80"]', "http://[::1]:80/crm"),
    ],
)
def test_the_place_of_a_route(configured, place, server, expected):
    from proxy.admin.summary import configured as listening

    config = configured(place, server=server)
    assert place_of_route(config.routes[0], listening(config), list(own_names(config))) == expected
