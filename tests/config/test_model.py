"""Properties of a valid configuration."""

import pytest
from pydantic import ValidationError

from proxy.config.address import Address
from proxy.config.model import Config, Credential, Limits, Route, Server, UpstreamTLS
from proxy.secret import Secret

from .conftest import Load

CREDENTIAL = '[credentials.crm]\nclient_id = "app"\nissuer = "https://login.example"\n'
ROUTE = '[[routes]]\nupstream = "https://api.example"\ncredential = "crm"\n'
REQUIRED = [  # required = …, the routes' places and accounts, what follows
    ("", [], False),
    ("", ['path = "/a"'], True),
    ("", ['path = "/a"\naccount = "alice"'], True),
    ("", ['path = "/a"\naccount = { header = "X" }'], False),
    ("", ['path = "/a"\naccount = { header = "X" }', 'path = "/b"'], True),
    ("required = true", [], True),
    ("required = false", ['path = "/a"'], False),
]
PUBLIC_URLS = [  # [server], public_url, where a command could take the callback
    ("", "http://127.0.0.1:8081", Address("127.0.0.1", 8081)),
    ('admin = "[::1]:9"', "http://[::1]:9", Address("::1", 9)),
    ('admin = "localhost:9"', "http://localhost:9", Address("localhost", 9)),
    ('public_url = "http://localhost/"', "http://localhost", Address("localhost", 80)),
    ('public_url = "https://proxy.example/"', "https://proxy.example", None),
    ('public_url = "https://localhost:8443"', "https://localhost:8443", None),  # a TLS proxy has the port
]


@pytest.mark.parametrize(("required", "routes", "expected"), REQUIRED)
def test_a_credential_with_a_fixed_account_is_required(
    required: str, routes: list[str], expected: bool, load_text: Load
) -> None:
    text = f"{CREDENTIAL}{required}\n" + "".join(f"{ROUTE}{route}\n" for route in routes)
    assert load_text(text).config.required("crm") is expected


@pytest.mark.parametrize(("server", "url", "callback"), PUBLIC_URLS)
def test_the_public_url(server: str, url: str, callback: Address | None, load_text: Load) -> None:
    config = load_text(f"[server]\n{server}").config
    assert config.public_url == url
    assert config.callback_address == callback


def test_the_host_of_the_public_url_has_no_brackets(load_text: Load) -> None:
    assert load_text('server.admin = "[::1]:9"').config.public_host == "::1"


def test_admin_tls_makes_the_public_url_https(load_text: Load) -> None:
    config = load_text('[server]\nadmin_tls = { cert = "config.toml", key = "config.toml" }').config
    assert config.public_url == "https://127.0.0.1:8081"
    assert config.callback_address == Address("127.0.0.1", 8081)


def test_models_can_be_built_in_code() -> None:
    credential = Credential(
        name="crm", client_id="app", client_secret=Secret("s"), issuer="https://a.example"
    )
    route = Route(path="/x", upstream="https://api.example", credential="crm", tls=UpstreamTLS())
    config = Config(
        server=Server(listen=Address("127.0.0.1", 0), admin=Address("127.0.0.1", 0)),
        credentials={"crm": credential},
        routes=(route,),
        limits=Limits(idle=1),
    )
    assert config.credentials["crm"].name == "crm"
    assert config.routes[0].name == "x"


def test_nothing_is_changed_after_loading() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Limits().idle = 5.0


def test_no_secret_is_in_a_representation() -> None:
    credential = Credential(
        client_id="app",
        client_secret=Secret("s3cret"),
        refresh_token=Secret("s3cret"),
        grant="refresh_token",
        token_endpoint="https://login.example",
        token_params={"password": "s3cret"},
    )
    assert "s3cret" not in f"{credential!r} {credential}"
