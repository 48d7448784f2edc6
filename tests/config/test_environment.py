"""A configuration from environment variables alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.address import Address, read_egress, read_upstream
from proxy.config.credential import Grant
from proxy.config.environment import PREFIX
from proxy.config.load import Loaded, load
from proxy.config.variables import BY_NAME, OTHERS
from proxy.errors import ConfigError
from proxy.secret import Secret

from .conftest import one_of

KEY = "A" * 43 + "="
CALLER_KEY = "tpk_" + "k" * 43
BASE = {
    "UPSTREAM": "https://api.example/v2",
    "ISSUER": "https://login.example",
    "CLIENT_ID": "app",
}
SECRET = "Sesame"  # in every secret below
NOT_URL = "expected a URL: https://host/path"
NOT_ADDRESS = "expected an address: host:port, [::1]:port or unix:/path"
BY_BLANKS = "expected scopes separated by blanks: api offline_access"
EXPOSED = "http would expose the token to the network: expected https, or a configuration file (plaintext)"
FAR = (
    "anyone on the network could use the tokens: expected a loopback address or a unix socket; or "
    "TOKEN_PROXY_ANYONE, or a configuration file with [callers.NAME]"
)
FAULTS: list[tuple[dict[str, str], list[str]]] = [  # changes of BASE; the faults, without "environment: "
    (
        {"UPSTREAM": "", "ISSUER": "", "CLIENT_ID": "", "LISTEN": "127.0.0.1:9000"},
        [
            "UPSTREAM: not set - expected the API's base URL: https://host/path",
            (
                "ISSUER: not set - expected the issuer of the tokens; or TOKEN_PROXY_TOKEN_ENDPOINT, where "
                "there is no discovery"
            ),
            "CLIENT_ID: not set - expected the client's id at the authorization server",
        ],
    ),
    ({"UPSTREAM": "api.example"}, [f'UPSTREAM: {NOT_URL} - did you mean "https://api.example"?']),
    ({"UPSTREAM": "http://api.example"}, [f"UPSTREAM: {EXPOSED}"]),
    ({"UPSTREAM": "https://\udcff"}, ["UPSTREAM: not UTF-8 - expected UTF-8 text"]),
    (
        {"ISSUER": "http://login.example"},
        ["ISSUER: http would expose secrets to the network: expected https (http on loopback only)"],
    ),
    (
        {"ISSUER": "", "TOKEN_ENDPOINT": "https://login.example/token"},
        [
            (
                "AUTHORIZATION_ENDPOINT: not set - expected beside TOKEN_PROXY_TOKEN_ENDPOINT; or "
                "TOKEN_PROXY_ISSUER, where there is discovery"
            )
        ],
    ),
    (
        {"ISSUER": "", "ISUER": "https://login.example"},
        [
            (
                "ISSUER: not set - is TOKEN_PROXY_ISUER misspelt? expected the issuer of the tokens; or "
                "TOKEN_PROXY_TOKEN_ENDPOINT, where there is no discovery"
            )
        ],
    ),
    (
        {"GRANT": "client_credentials", "CLIENT_SECRETS_FILE": "secret"},
        [
            (
                "CLIENT_SECRET: not set - is TOKEN_PROXY_CLIENT_SECRETS_FILE misspelt? expected a secret, "
                "there or by TOKEN_PROXY_CLIENT_SECRET_FILE; or TOKEN_PROXY_CLIENT_AUTH=none"
            )
        ],
    ),
    (
        {"GRANT": "code"},
        [f'GRANT: {one_of(get_args(Grant))} - did you mean "authorization_code"?'],
    ),
    (
        {"GRANT": "static", "CLIENT_ID": "", "ISSUER": ""},
        ["GRANT: it needs what no variable gives: expected another grant, or a configuration file"],
    ),
    (
        {"GRANT": "client_credentials"},
        [
            (
                "CLIENT_SECRET: not set - expected a secret, there or by TOKEN_PROXY_CLIENT_SECRET_FILE; or "
                "TOKEN_PROXY_CLIENT_AUTH=none"
            )
        ],
    ),
    (
        {"GRANT": "refresh_token"},
        [
            (
                "REFRESH_TOKEN: not set - expected the first one, there or by "
                "TOKEN_PROXY_REFRESH_TOKEN_FILE: this grant starts from one"
            )
        ],
    ),
    (
        {"REFRESH_TOKEN": SECRET},
        ["REFRESH_TOKEN: only for TOKEN_PROXY_GRANT=refresh_token - change the grant, or unset this"],
    ),
    ({"CLIENT_SECRET": ""}, ["CLIENT_SECRET: empty - expected a value, or unset it"]),
    (
        {"CLIENT_SECRET_FILE": ""},
        ["CLIENT_SECRET_FILE: empty - expected the path of a file, or unset it"],
    ),
    (
        {"CLIENT_SECRET": SECRET, "CLIENT_SECRET_FILE": "/none"},
        ["CLIENT_SECRET_FILE: TOKEN_PROXY_CLIENT_SECRET is set too - expected one of the two"],
    ),
    (
        {"CLIENT_SECRET_FILE": "/none"},
        [
            (
                "CLIENT_SECRET_FILE: /none can't be read (no such file or directory): expected a file with "
                "the secret"
            )
        ],
    ),
    (
        {"CLIENT_SECRET": SECRET, "CLIENT_AUTH": "none"},
        ["CLIENT_AUTH: none sends no secret - choose another, or unset TOKEN_PROXY_CLIENT_SECRET"],
    ),
    ({"SCOPES": 'a "b"'}, ["SCOPES: expected scopes separated by blanks: api offline_access"]),
    (
        {"TOKEN_PARAMS": "audience"},
        ["TOKEN_PARAMS: expected parameters: audience=https://api.example&other=value"],
    ),
    (
        {"TOKEN_PARAMS": f"client_secret={SECRET}"},
        ["TOKEN_PARAMS: token-proxy sends this parameter itself - leave it out"],
    ),
    ({"CA": "/none.pem"}, ["CA: there is no file /none.pem - check the name"]),
    (
        {"PROXY": f"https://user:{SECRET}@egress"},
        ["PROXY: TLS to the egress proxy itself is not supported: expected http://host:port"],
    ),
    ({"LISTEN": "8080"}, [f'LISTEN: {NOT_ADDRESS} - did you mean "127.0.0.1:8080"?']),
    ({"SCOPES": "api,offline_access"}, [f"SCOPES: a comma inside a scope: {BY_BLANKS}"]),
    (
        {"CLIENT_ID": "${CRM_ID}"},
        ["CLIENT_ID: names the variable CRM_ID, which is not replaced here - expected its value"],
    ),
    (
        {"ISSUER": "$ISSUER"},
        ["ISSUER: names the variable ISSUER, which is not replaced here - expected its value"],
    ),
    ({"CLIENT_ID": "YOUR_CLIENT_ID"}, ["CLIENT_ID: a placeholder from an example: expected the real value"]),
    ({"LISTEN": "127.0.0.1:9000 0.0.0.0:9001"}, [f"LISTEN: {FAR}"]),
    (
        {"LISTEN": "0.0.0.0:9000", "CALLER_KEY": CALLER_KEY},
        [
            (
                "LISTEN: without TLS the network could read the caller's key: expected a loopback address or "
                "a unix socket, or a configuration file with server.tls"
            )
        ],
    ),
    ({"HEALTH": "9102"}, [f'HEALTH: {NOT_ADDRESS} - did you mean "127.0.0.1:9102"?']),
    (
        {"LISTEN": "127.0.0.1:8081"},
        ["ADMIN: 127.0.0.1:8081 is already used by server.listen - choose another address"],
    ),
    (
        {"ADMIN": "10.0.0.1:8081"},
        [
            (
                "ADMIN: anyone on the network could use this page: expected an address of this machine, or a "
                "configuration file with server.admin_key and server.admin_tls"
            )
        ],
    ),
    (
        {"ADMIN": "0.0.0.0:8081", "ADMIN_KEY": f"{SECRET}-of-twenty-characters"},
        [
            (
                "ADMIN: keys and cookies would pass the network in clear: expected an address of this "
                "machine, or a configuration file with server.admin_tls"
            ),
            "PUBLIC_URL: not set - expected the URL by which browsers reach the status page",
        ],
    ),
    (
        {"ADMIN": "unix:/run/admin.sock"},
        ["PUBLIC_URL: not set - expected the URL by which browsers reach the status page"],
    ),
    (
        {"ADMIN_KEY": SECRET},
        [
            (
                "ADMIN_KEY: expected one line of at least 20 visible characters: `openssl rand -base64 32` "
                "makes such a key"
            )
        ],
    ),
    (
        {"CALLER_KEY": SECRET},
        [
            (
                "CALLER_KEY: expected a key: one line of at least 20 visible characters, as `token-proxy "
                "caller-key` makes"
            )
        ],
    ),
    (
        {"CALLER_KEY": CALLER_KEY, "ANYONE": "10.0.0.0/8"},
        ["ANYONE: does not go with TOKEN_PROXY_CALLER_KEY - unset one of the two"],
    ),
    (
        {"ANYONE": "0.0.0.0/0"},
        ["ANYONE: these are all addresses: expected the networks of your own programs only"],
    ),
    (
        {"STORE_URL": f"mysql://root:{SECRET}@db"},
        [
            "STORE_URL: expected a store: sqlite:NAME, postgresql://…, redis://…, rediss://… or memory:",
        ],
    ),
    (
        {"STORE_URL": f"redis://:{SECRET}@cache"},
        [
            (
                "STORE_KEY: not set - expected 32 bytes in base64, there or by TOKEN_PROXY_STORE_KEY_FILE; "
                "the same on all hosts"
            )
        ],
    ),
    (
        {"STORE_KEY": SECRET},
        ["STORE_KEY: expected 32 bytes in base64: `openssl rand -base64 32` makes such a key"],
    ),
]
LINKS = {  # of the services token-proxy, token-proxy-admin and token-proxy-h2
    "TOKEN_PROXY_SERVICE_HOST": "10.0.0.1",
    "TOKEN_PROXY_SERVICE_PORT": "8080",
    "TOKEN_PROXY_SERVICE_PORT_HTTP_DATA": "8080",
    "TOKEN_PROXY_PORT": "tcp://10.0.0.1:8080",
    "TOKEN_PROXY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "TOKEN_PROXY_PORT_8080_TCP_PROTO": "tcp",
    "TOKEN_PROXY_PORT_8080_TCP_PORT": "8080",
    "TOKEN_PROXY_PORT_8080_TCP_ADDR": "10.0.0.1",
    "TOKEN_PROXY_ADMIN_SERVICE_HOST": "10.0.0.2",
    "TOKEN_PROXY_ADMIN_PORT": "udp://10.0.0.2:8081",
    "TOKEN_PROXY_H2_PORT_53_UDP_ADDR": "10.0.0.3",
}


def environ(**changes: str) -> dict[str, str]:
    """BASE with `changes`, as variables."""
    return {f"{PREFIX}{name}": text for name, text in {**BASE, **changes}.items()}


def config_of(variables: Mapping[str, str]) -> Loaded:
    return load(None, {"STATE_DIRECTORY": "/var/lib/token-proxy", **variables})


def faults_of(variables: Mapping[str, str]) -> list[str]:
    try:
        config_of(variables)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_three_variables_are_a_configuration() -> None:
    loaded = config_of(environ())
    config = loaded.config
    (route,) = config.routes
    assert (route.name, route.path, route.credential, route.account) == ("default", "/", "default", "default")
    assert route.upstream == read_upstream("https://api.example/v2")
    credential = config.credentials["default"]
    assert (credential.issuer, credential.client_id) == ("https://login.example", "app")
    assert (credential.grant, credential.client_secret) == ("authorization_code", None)
    assert (config.callers, config.path, config.place) == ({}, None, "environment")
    assert config.server.state_dir == Path("/var/lib/token-proxy")
    assert config.public_url == "http://127.0.0.1:8081"
    assert (loaded.warnings, loaded.advice) == ([], [])


def test_every_variable_sets_its_key(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    config = config_of(
        environ(
            GRANT="client_credentials",
            TOKEN_ENDPOINT="https://login.example/token",
            AUTHORIZATION_ENDPOINT="https://login.example/authorize",
            CLIENT_SECRET="s",
            CLIENT_AUTH="client_secret_post",
            SCOPES="  api  offline_access ",
            TOKEN_PARAMS="audience=https%3A%2F%2Fapi&a=1&a=2&empty=",
            CA=str(ca),
            PROXY="http://user:pass@egress:3128",
            LISTEN="127.0.0.1:9000 unix:/run/data.sock",
            ADMIN="127.0.0.1:9001",
            HEALTH="0.0.0.0:9002",
            PUBLIC_URL="https://page.example",
            ADMIN_KEY="admin-key-of-twenty-letters",
            CALLER_KEY=CALLER_KEY,
            STORE_URL="redis://:pass@cache/1",
            STORE_KEY=KEY,
        )
    ).config
    credential, (route,), egress = (
        config.credentials["default"],
        config.routes,
        read_egress("http://user:pass@egress:3128"),
    )
    assert (credential.grant, credential.authentication) == ("client_credentials", "client_secret_post")
    assert credential.token_endpoint == "https://login.example/token"
    assert credential.authorization_endpoint == "https://login.example/authorize"
    assert credential.client_secret == Secret("s")
    assert credential.scopes == ("api", "offline_access")
    assert credential.token_params == {"audience": "https://api", "a": ["1", "2"], "empty": ""}
    assert credential.tls is not None
    assert route.tls is not None
    assert (credential.tls.ca, route.tls.ca) == (ca, ca)
    assert (config.server.proxy, credential.proxy, route.proxy) == (egress, egress, egress)
    assert config.server.listen == (Address("127.0.0.1", 9000), Address("", 0, "/run/data.sock"))
    assert config.server.admin == Address("127.0.0.1", 9001)
    assert config.server.health == Address("0.0.0.0", 9002)
    assert config.public_url == "https://page.example"
    assert config.server.admin_key == Secret("admin-key-of-twenty-letters")
    assert config.callers["default"].key == (Secret(CALLER_KEY),)
    assert config.store.url == Secret("redis://:pass@cache/1")
    assert config.store.key == Secret(KEY)


@pytest.mark.parametrize(
    ("suffix", "more"),
    [
        ("CLIENT_SECRET", {}),
        ("REFRESH_TOKEN", {"GRANT": "refresh_token"}),
        ("ADMIN_KEY", {}),
        ("CALLER_KEY", {}),
        ("STORE_KEY", {}),
    ],
)
def test_a_secret_may_be_in_a_file(suffix: str, more: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{KEY}\n")
    variables = environ(**more, **{f"{suffix}_FILE": str(tmp_path / "secret")})
    by_file, by_value = config_of(variables), config_of(environ(**more, **{suffix: KEY}))
    assert by_file.config.model_copy(update={"digest": by_value.config.digest}) == by_value.config


def test_networks_are_warned_about_by_the_name_of_the_variable() -> None:
    loaded = config_of(environ(LISTEN="0.0.0.0:8080", ANYONE="172.18.0.0/16 fd00::/8"))
    assert [str(network) for network in loaded.config.server.anyone] == ["172.18.0.0/16", "fd00::/8"]
    (warning,) = loaded.warnings
    assert warning.render("environment") == (
        "environment: TOKEN_PROXY_ANYONE: every program in these networks may use the route - "
        "TOKEN_PROXY_CALLER_KEY can limit it to one that has the key"
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    config = config_of(environ(SCOPES="", GRANT="", LISTEN="", CA="", ANYONE="")).config
    assert config == config_of(environ()).config


def test_a_private_authority_is_no_fault_of_an_upstream_without_tls(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    config = config_of(environ(UPSTREAM="http://127.0.0.1:9000", CA=str(ca))).config
    assert config.routes[0].tls is None


@pytest.mark.parametrize(("changes", "expected"), FAULTS, ids=[" ".join(changes) for changes, _ in FAULTS])
def test_a_fault_names_its_variable(changes: dict[str, str], expected: list[str]) -> None:
    found = faults_of(environ(**changes))
    assert found == [f"environment: {PREFIX}{fault}" for fault in expected]
    assert SECRET not in "".join(found)


def test_without_a_home_directory_the_fault_names_the_variable_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ConfigError) as report:
        load(None, environ())
    assert str(report.value) == (
        "environment: STATE_DIRECTORY: not set - expected a directory for the tokens, as there is no home "
        "directory here; or TOKEN_PROXY_STORE_URL"
    )
    assert load(None, environ(STORE_URL="memory:")).config.store.is_memory
    assert load(None, environ(STORE_URL="memory:"), secrets=False).warnings == []


# -- other variables


def test_what_kubernetes_sets_is_not_warned_about() -> None:
    assert config_of({**environ(), **LINKS}).warnings == []


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("SCOPE", "api", "did you mean TOKEN_PROXY_SCOPES?"),
        ("CLIENT_SECRETS", SECRET, "did you mean TOKEN_PROXY_CLIENT_SECRET?"),
        ("LISTEN_PORT", "8080", "did you mean TOKEN_PROXY_LISTEN?"),
        ("PORT", "8080", "did you mean TOKEN_PROXY_LISTEN?"),
        ("TOKEN_URL", "x", "did you mean TOKEN_PROXY_TOKEN_ENDPOINT?"),
        ("REDIRECT_URI", "x", "did you mean TOKEN_PROXY_PUBLIC_URL?"),
        ("URL", "x", "did you mean TOKEN_PROXY_UPSTREAM?"),
        ("SECRET", SECRET, "did you mean TOKEN_PROXY_CLIENT_SECRET?"),
        ("STORE_DSN", "x", "did you mean TOKEN_PROXY_STORE_URL?"),
        ("CA_FILE", "x", "did you mean TOKEN_PROXY_CA?"),
        ("SERVICE", "x", "unset it"),
        ("X", "x", "unset it, or see docs/operations.md for those that count"),
        ("\udcff\n", "x", "unset it"),
    ],
)
def test_an_unknown_variable_is_warned_about(name: str, value: str, remedy: str) -> None:
    (warning,) = config_of({**environ(), PREFIX + name: value}).warnings
    said = warning.render("environment")
    assert said.startswith(f"environment: {PREFIX}{name[:4] if name.isprintable() else '??'}")
    assert "unknown variable - " in said
    assert said.endswith(remedy) or remedy == "unset it"
    assert SECRET not in said
    said.encode()


def test_a_variable_of_other_use_is_no_configuration_and_no_mistake(tmp_path: Path) -> None:
    others = {**dict.fromkeys(OTHERS, "x"), "_TOKEN_PROXY_COMPLETE": "bash_source", "TOKEN_PROXYX": "y"}
    assert config_of({**environ(), **others}).warnings == []
    path = tmp_path / "config.toml"
    path.touch()
    assert load(path, others).warnings == []


# -- beside a file


def test_a_file_beside_such_variables_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[log]\nlevle = 'info'\n")
    with pytest.raises(ConfigError) as report:
        load(path, environ(CLIENT_ID=""))
    first, second, *_ = str(report.value).splitlines()
    assert first == (
        f"{path}:1:1: TOKEN_PROXY_UPSTREAM, TOKEN_PROXY_ISSUER are set too, and they describe a "
        "configuration without a file - unset them, or move this file away"
    )
    assert second.startswith(f"{path}:2:1: unknown key 'levle'")


def test_a_file_may_refer_to_such_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[credentials.crm]\nissuer = "https://login.example"\nclient_id = { env = "TOKEN_PROXY_CLIENT_ID" }\n'
        'client_secret = { env = "TOKEN_PROXY_CRM_SECRET" }\n'
    )
    loaded = load(path, {"TOKEN_PROXY_CLIENT_ID": "app", "TOKEN_PROXY_CRM_SECRET": "s"})
    assert loaded.warnings == []
    (warning,) = load(
        path, {"TOKEN_PROXY_CLIENT_ID": "app", "TOKEN_PROXY_CRM_SECRET": "s", "TOKEN_PROXY_CRM": "s"}
    ).warnings
    assert warning.variable == "TOKEN_PROXY_CRM"


# -- any environment

PIECES = [
    *("https://a.example", "http://127.0.0.1:1", "unix:/x", "none", "refresh_token", "memory:", "a=b", "="),
    *("redis://:Sesame@x", "http://u:Sesame@x", "10.0.0.0/8", "0.0.0.0:1", "~nobody/x", "/", " ", "&", "%"),
    *("\udcff", "\n", "\0", "é", "[::1]:1", "client_credentials", "client_id", KEY, CALLER_KEY),
]
values = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=3).map("".join)
names = (
    st.sampled_from(sorted(BY_NAME))
    | st.sampled_from(sorted(LINKS))
    | st.text(max_size=8).map(PREFIX.__add__)
)
environments = st.dictionaries(names, values, max_size=8)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(environments, st.booleans())
def test_any_environment_gives_a_configuration_or_faults_that_name_variables(
    variables: dict[str, str], has_base: bool
) -> None:
    variables = {**(environ() if has_base else {}), **variables}
    said = []
    try:
        loaded = config_of(variables)
        said = [each.render("environment") for each in (*loaded.warnings, *loaded.advice)]
    except ConfigError as error:
        said = [fault.render("environment") for fault in error.faults] or [""]
    for line in said:
        assert re.match(r"environment: (TOKEN_PROXY_.*?|STATE_DIRECTORY): .*( - |expected )", line), line
        if not re.search("_(FILE|CA): ", line):  # which hold paths
            assert SECRET not in line.split(": ", 2)[2]
