"""`env` of routes, and the variables that a configuration refers to."""

import os
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.route_variables import default_variable
from proxy.config.values import NAME
from proxy.config.variable_checks import variables_read

from .conftest import Complaints, Load

CREDENTIALS = """\
credentials.crm = { client_id = "app", issuer = "https://login.example" }
credentials.bot = { client_id = "app", issuer = "https://login.example", client_secret = { env = "S" }, \
grant = "client_credentials" }
"""
ROUTE = '[[routes]]\npath = "/{path}"\nupstream = "https://api.example"\ncredential = "crm"\n'
NOT_A_NAME = "no shell can read this name: expected letters, digits and _, like CRM_URL, and no digit first"
OTHERS = "programs depend on this variable for other things: expected a name like CRM_URL"
OURS = "token-proxy itself reads TOKEN_PROXY_*: expected a name like CRM_URL"


def routes(*lines: str) -> str:
    return CREDENTIALS + "".join(ROUTE.format(path=f"r{at}") + line + "\n" for at, line in enumerate(lines))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *(
            (name, NOT_A_NAME)
            for name in ("", "1CRM", "CRM-URL", "CRM URL", "CRM=URL", "CRM.URL", "ÄPI", "A\\n")
        ),
        *(
            (name, OTHERS)
            for name in ("PATH", "path", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES")
        ),
        *((name, OTHERS) for name in ("HTTP_PROXY", "https_proxy", "NO_PROXY", "all_proxy", "SSL_CERT_FILE")),
        *(
            (name, OTHERS)
            for name in ("HOME", "IFS", "BASH_ENV", "ENV", "PYTHONPATH", "NODE_OPTIONS", "LC_ALL")
        ),
        *(
            (name, OTHERS)
            for name in ("GIT_SSH_COMMAND", "PERL5OPT", "LISTEN_FDS", "NOTIFY_SOCKET", "TMPDIR")
        ),
        *((name, OURS) for name in ("TOKEN_PROXY_KEY", "TOKEN_PROXY_CONFIG", "Token_Proxy_Url")),
    ],
)
def test_a_variable_that_no_base_url_belongs_in(complaints: Complaints, name: str, fault: str) -> None:
    assert complaints(routes(f'env = "{name}"'), {"S": "s"}) == [f"7:7: {fault}"]


@pytest.mark.parametrize("value", ["1", "true", '["A"]', '{ env = "A" }'])
def test_a_value_that_is_no_name(complaints: Complaints, value: str) -> None:
    assert complaints(routes(f"env = {value}"), {"S": "s"}) == ['7:7: expected a string: "…"']


@pytest.mark.parametrize("name", ["CRM_URL", "crm", "_", "OPENAI_BASE_URL", "GIT_BASE_URL", "PIP_INDEX_URL"])
def test_a_variable_for_a_base_url(load_text: Load, name: str) -> None:
    (route,) = load_text(routes(f'env = "{name}"'), {"S": "s"}).config.routes
    assert route.variable == name


def test_two_routes_with_one_variable(complaints: Complaints) -> None:
    assert complaints(routes('env = "A"', "", 'env = "A"'), {"S": "s"}) == [
        "7:7: route 'r2' has the variable A too: expected another name",
        "17:7: route 'r0' has the variable A too: expected another name",
    ]
    assert complaints(routes('env = "R1_BASE_URL"', ""), {"S": "s"}) == [
        "7:7: route 'r1' has the variable R1_BASE_URL too: expected another name"
    ]


def test_two_routes_with_one_variable_by_default_are_no_fault(load_text: Load) -> None:
    """They were none before `exec`, which minds itself."""
    config = load_text(routes('name = "a-b"', 'name = "a_b"'), {"S": "s"}).config
    assert [route.variable for route in config.routes] == ["A_B_BASE_URL"] * 2


def test_a_variable_that_the_configuration_reads(complaints: Complaints) -> None:
    assert complaints(routes('env = "S"'), {"S": "s"}) == [
        "7:7: the configuration itself reads S: expected another name"
    ]


def test_the_variables_that_a_configuration_reads(load_text: Load) -> None:
    text = routes('env = "CRM_URL"\nheaders = { X-Key = { env = "HEADER" }, env = "no" }')
    text = text.replace("credentials.bot = {", 'credentials.bot = { token_params = { env = "no" },')
    text += '[callers.a]\nkey = [{ env = "ONE" }, { env = "TWO" }]\n'
    keys = {"ONE": "1" * 20, "TWO": "2" * 20}
    loaded = load_text(text, {"S": "s", "HEADER": "h", **keys})
    assert loaded.variables == {"S", "HEADER", "ONE", "TWO"}


@given(st.from_regex(NAME, fullmatch=True))
def test_the_variable_of_any_route(name: str) -> None:
    variable = default_variable(name)
    assert re.fullmatch(r"[A-Z0-9][A-Z0-9_]*_BASE_URL", variable)
    assert variable.removesuffix("_BASE_URL").lower() == name.replace("-", "_")


@pytest.mark.parametrize("name", ["crm-eu", "a_b", "z9"])
def test_a_shell_can_read_it(name: str) -> None:
    variable = default_variable(name)
    said = subprocess.run(
        ["sh", "-c", f'echo "${variable}"'],
        env={**os.environ, variable: "u"},
        capture_output=True,
        check=True,
    )
    assert said.stdout == b"u\n"


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.fixed_dictionaries({"env": st.text(max_size=5)}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["routes", "credentials", "server", "store", "callers"]), VALUES))
def test_any_table_can_be_looked_through(data: dict[str, object]) -> None:
    assert all(isinstance(name, str) for name in variables_read(data))
