"""Which `iss` is accepted where endpoints are configured by hand: servers as they are, other credentials."""

from __future__ import annotations

import logging

import pytest

from proxy.config.load import load
from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError, LoginFailed
from proxy.oauth.discovery import Endpoints
from proxy.tokens.login.mix_up import OTHER_SERVER, check_issuer
from tests.admin.test_mix_up import Bad

CREDENTIAL = '[credentials.{name}]\nclient_id = "app"\n{server}\n'


def by_hand(authorize, token):
    return f'authorization_endpoint = "{authorize}"\ntoken_endpoint = "{token}"'


GOOGLE = "https://accounts.google.com"
GOOGLE_TOKEN = "https://oauth2.googleapis.com/token"
GOOGLE_BY_HAND = by_hand(f"{GOOGLE}/o/oauth2/v2/auth", GOOGLE_TOKEN)
ENTRA = "https://login.microsoftonline.com"
KEYCLOAK = "https://sso.example/realms"


def entra(tenant):
    return by_hand(f"{ENTRA}/{tenant}/oauth2/v2.0/authorize", f"{ENTRA}/{tenant}/oauth2/v2.0/token")


def keycloak(realm):
    endpoints = f"{KEYCLOAK}/{realm}/protocol/openid-connect"
    return by_hand(f"{endpoints}/auth", f"{endpoints}/token")


OKTA = by_hand("https://login.corp.example/oauth2/v1/authorize", "https://login.corp.example/oauth2/v1/token")
FUSION = by_hand("https://auth.corp.example/oauth2/authorize", "https://auth.corp.example/oauth2/token")
OTHER = 'issuer = "https://other.example"'

ACCEPTED = [  # the server of the login, other credentials, iss
    (GOOGLE_BY_HAND, [], GOOGLE),
    (GOOGLE_BY_HAND, [f'issuer = "{GOOGLE}"'], GOOGLE),  # the same server, once by its issuer
    (GOOGLE_BY_HAND, [OTHER, entra("t-1")], GOOGLE),
    (entra("t-1"), [entra("t-2")], f"{ENTRA}/t-1/v2.0"),
    (entra("t-1"), [f'issuer = "{ENTRA}/t-2/v2.0"'], f"{ENTRA}/t-1/v2.0"),
    (entra("common"), [], f"{ENTRA}/t-1/v2.0"),
    (entra("t-1"), [OTHER], "https://sts.windows.net/t-1/"),  # its version 1
    (keycloak("a"), [keycloak("b")], f"{KEYCLOAK}/a"),
    (OKTA, [OTHER, entra("t-1")], "https://corp.okta.example"),  # a custom domain, the issuer is not
    (OKTA, [OTHER], "https://corp.okta.example/oauth2/default"),
    (FUSION, [OTHER, OKTA], "acme.com"),  # FusionAuth's default
    (FUSION, [OTHER], "https://auth.corp.example:443/oauth2/"),
    (FUSION, [OTHER], "HTTPS://AUTH.corp.example"),
    (FUSION, [OTHER], ""),
    (FUSION, [OTHER], None),
    (FUSION, [FUSION], "https://auth.corp.example"),  # another client of the same server
]
REFUSED = [
    (FUSION, [OTHER], "https://other.example"),
    (FUSION, [OTHER], "https://other.example/tenant"),
    (FUSION, [OTHER], "https://other.example:443/"),
    (FUSION, [GOOGLE_BY_HAND], GOOGLE),
    (FUSION, [OKTA, GOOGLE_BY_HAND], GOOGLE),
    (FUSION, [f'issuer = "{GOOGLE}"'], GOOGLE),
    (entra("t-1"), [entra("t-2")], f"{ENTRA}/t-2/v2.0"),
    (entra("t-1"), [f'issuer = "{ENTRA}/t-2/v2.0"'], f"{ENTRA}/t-2/v2.0"),
    (keycloak("a"), [keycloak("b")], f"{KEYCLOAK}/b"),
    (keycloak("a"), [f'issuer = "{KEYCLOAK}/b"'], f"{KEYCLOAK}/b"),
]


class Servers:
    """Those of real life: discovery of Google alone works here."""

    async def endpoints(self, credential):
        if credential.issuer == GOOGLE:
            return Endpoints(GOOGLE, f"{GOOGLE}/o/oauth2/v2/auth", GOOGLE_TOKEN)
        if credential.issuer is None:
            return Endpoints(None, credential.authorization_endpoint, credential.token_endpoint)
        raise AuthorizationServerError("transient", "unreachable")


@pytest.fixture
def judge(tmp_path):
    async def judge(server, others, iss, servers=None):
        file = tmp_path / "config.toml"
        tables = [("ours", server), *((f"other{n}", other) for n, other in enumerate(others))]
        file.write_text("".join(CREDENTIAL.format(name=name, server=text) for name, text in tables))
        config, servers = load(file).config, servers or Servers()
        ours = config.credentials["ours"]
        await check_issuer(iss, ours, await servers.endpoints(ours), config, servers)

    return judge


@pytest.mark.parametrize(("server", "others", "iss"), ACCEPTED)
async def test_no_server_as_it_is_costs_a_login(judge, server, others, iss):
    await judge(server, others, iss)


@pytest.mark.parametrize(("server", "others", "iss"), REFUSED)
async def test_an_issuer_that_is_another_credentials_is_refused(judge, server, others, iss):
    with pytest.raises(LoginFailed, match=OTHER_SERVER):
        await judge(server, others, iss)


@pytest.mark.parametrize("others", [[], ['grant = "refresh_token"\nrefresh_token = "x"\n' + OTHER]])
async def test_only_credentials_with_logins_count(judge, others):
    await judge(FUSION, others, "https://other.example")


async def test_the_same_server_is_known_by_its_token_endpoint(judge):
    """Entra's issuer has more in common with itself than with its endpoints."""
    same = by_hand(f"{ENTRA}/t-1/oauth2/v2.0/authorize", f"{ENTRA}/t-1/oauth2/v2.0/token")

    class Known(Servers):
        async def endpoints(self, credential):
            if credential.issuer:
                return Endpoints(credential.issuer, token_endpoint=f"{ENTRA}/t-1/oauth2/v2.0/token")
            return await super().endpoints(credential)

    await judge(same, [f'issuer = "{ENTRA}/t-1/v2.0"'], f"{ENTRA}/t-1/v2.0", Known())


async def test_an_issuer_out_of_the_blue_is_warned_about_without_its_text(judge, caplog):
    caplog.set_level(logging.WARNING)
    await judge(FUSION, [OTHER], "https://blue.example")
    assert "ours: the redirect of a login names an issuer that has nothing in common" in caplog.text
    assert "blue" not in caplog.text
    caplog.clear()
    await judge(FUSION, [OTHER], "https://auth.corp.example/x")
    assert caplog.text == ""


async def test_a_malicious_server_is_never_asked_for_what_an_iss_names(make_side):
    """The iss of a callback is compared only: nothing is fetched from it."""
    bad = Bad()
    seen = []

    async def note(request, _response):
        seen.append(request.path)

    application = bad.application()
    application.on_response_prepare.append(note)
    async with running(application) as url, make_side() as side:
        credential = side.config.credentials["crm"]
        endpoints = await side.servers.endpoints(credential)
        with pytest.raises(LoginFailed):
            await check_issuer(url, credential, endpoints, side.config, side.servers)
    assert seen == []
