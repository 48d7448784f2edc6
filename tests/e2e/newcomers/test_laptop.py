"""A developer on a laptop, who has read README.md: from a file with typos to an app that calls the API."""

import json
import re

import pytest

from proxy.demo import started
from tests.e2e.newcomers.shell import CTRL_C, log_in_at_demo, shell
from tests.e2e.processes import free_port

pytestmark = pytest.mark.e2e

WITH_TYPOS = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"

[credentials.crm]
isuer = "{issuer}"
client_id = {{ env = "OAUTH_CLIENT_ID" }}
client_secret = {{ env = "OAUTH_CLIENT_SECRET" }}
scopes = ["api"]

[[routes]]
path = "crm"
upstream = "{api}"
credential = "crn"
"""
LOGIN = re.compile(r"http://127\.0\.0\.1:\d+/login/crm/default\?ticket=\S+")


def hello(printed):
    return json.loads(printed)["hello"]


def test_a_developer_on_a_laptop(tmp_path):
    data, admin = free_port(), free_port()
    redirect = f"--redirect-uri=http://127.0.0.1:{admin}/callback"
    with (
        started("--client=app:s3cret", redirect, "--lifetime=3600") as server,
        shell(tmp_path / "me", OAUTH_CLIENT_ID="app") as me,
    ):
        # There is nothing yet, and the command says how to begin.
        assert "Give a file with -c FILE" in me.run("token-proxy run", 2)

        # A first file. `check` finds all that is wrong with it, and says what to write instead.
        me.write(
            "config.toml", WITH_TYPOS.format(data=data, admin=admin, issuer=server.issuer, api=server.api)
        )
        faults = me.run("token-proxy check", 2)
        for place, advice in (
            ("config.toml:7:1", "did you mean 'issuer'?"),
            ("config.toml:9:17", "the environment variable OAUTH_CLIENT_SECRET is not set"),
            ("config.toml:13:8", "expected a path prefix: /name"),
        ):
            assert re.search(f"{place}: .*{re.escape(advice)}", faults), faults
        me.edit("config.toml", "isuer", "issuer")
        me.edit("config.toml", '"crm"\nup', '"/crm"\nup')
        me.variables["OAUTH_CLIENT_SECRET"] = "s3cret"
        assert "'crm'" in me.run("token-proxy check", 2), "the last one, which the others had hidden"
        me.edit("config.toml", '"crn"', '"crm"')
        assert me.run("token-proxy check").startswith("config.toml: no faults (1 credential, 1 route)\n")
        told = me.run("token-proxy check -v")
        assert f"# redirect URI to register: http://127.0.0.1:{admin}/callback" in told

        # It runs in one terminal, and says what to do next.
        proxy = me.start("token-proxy run --watch", terminal=True)
        summary = proxy.shows("/launch/")
        assert f"http://127.0.0.1:{data}/crm  → {server.api}" in summary
        assert "nobody has logged in yet; run `token-proxy login crm`" in summary
        assert f"status page  http://127.0.0.1:{admin}/" in summary
        assert "nobody has logged in yet" in me.run("token-proxy status", 3)
        call = f"curl -s http://127.0.0.1:{data}/crm/contacts"
        assert json.loads(me.run(call))["login_url"] == f"http://127.0.0.1:{admin}/login/crm/default"

        # The login, in another terminal and a browser.
        login = me.start("token-proxy login crm --no-browser")
        login.shows("paste the URL")
        (link,) = LOGIN.findall(login.text)
        assert log_in_at_demo(link).status == 200
        login.shows("logged in: crm/default has tokens")
        assert login.end() == 0
        assert hello(me.run(call)) == "alice"
        assert "valid" in me.run("token-proxy status")

        # An app needs nothing but its variable.
        app = """token-proxy exec -- sh -c 'curl -s "$CRM_BASE_URL/contacts"'"""
        assert hello(me.run(app)) == "alice"

        # The file is edited while it runs: a mistake changes nothing, and the next edit is taken up.
        me.edit("config.toml", 'path = "/crm"', 'paht = "/sales"')
        proxy.shows("did you mean 'path'?")
        assert hello(me.run(call)) == "alice"
        me.edit("config.toml", "paht", "path")
        proxy.shows("reloaded the configuration")
        assert hello(me.run(call.replace("/crm/", "/sales/"))) == "alice"
        assert json.loads(me.run(call))["title"] == "No route"

        # It ends by Ctrl-C. The next start needs no login.
        proxy.types(CTRL_C)
        assert proxy.end() == 0
        again = me.start("token-proxy run", terminal=True)
        assert "all accounts can serve" in again.shows("/launch/")
        assert hello(me.run(call.replace("/crm/", "/sales/"))) == "alice"
        again.types(CTRL_C)
        assert again.end() == 0
