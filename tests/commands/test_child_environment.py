"""The environment of the program that `exec` starts."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.child_environment import child_environment

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=8)
VARIABLES = st.dictionaries(NAMES, st.text(max_size=8), max_size=8)
URLS = st.dictionaries(
    NAMES,
    st.sampled_from(["http://127.0.0.1:8080/a", "https://crm.localhost:1", "http://[::1]:9"]),
    max_size=3,
)


@given(VARIABLES, st.sets(NAMES), URLS, st.none() | st.just("tpk_s1.x"))
def test_what_a_program_gets(environ, read, urls, key):
    made = child_environment(environ, read, urls, key)
    ours = {**urls, **({"TOKEN_PROXY_KEY": key} if key else {})}
    assert made.items() >= ours.items()
    proxied = {"no_proxy", "NO_PROXY"}
    assert {name: value for name, value in made.items() if name not in proxied | ours.keys()} == {
        name: value for name, value in environ.items() if name not in read | proxied | ours.keys()
    }


def test_the_key_of_another_caller_is_replaced():
    assert child_environment({"TOKEN_PROXY_KEY": "old"}, (), {}, "new") == {"TOKEN_PROXY_KEY": "new"}


PROXY = {"http_proxy": "http://egress:3128"}
URL = {"A": "http://127.0.0.1:1/x", "B": "http://crm.localhost:1", "C": "http://127.0.0.1:2"}


def exempt(**environ):
    made = child_environment({**PROXY, **environ}, (), URL, None)
    return made.get("no_proxy"), made.get("NO_PROXY")


def test_an_http_proxy_does_not_get_the_requests():
    assert exempt() == ("127.0.0.1,crm.localhost",) * 2
    assert exempt(no_proxy="a.example, 127.0.0.1") == ("a.example,127.0.0.1,crm.localhost",) * 2
    assert exempt(NO_PROXY="a.example") == ("a.example,127.0.0.1,crm.localhost",) * 2
    assert exempt(no_proxy="a", NO_PROXY="b") == (
        "a,127.0.0.1,crm.localhost",
        "b,127.0.0.1,crm.localhost",
    )
    assert exempt(NO_PROXY="*") == ("*", "*")


def test_without_an_http_proxy_nothing_is_added():
    assert child_environment({"no_proxy": "a"}, (), URL, None) == {"no_proxy": "a", **URL}
    assert child_environment({"HTTPS_PROXY": ""}, (), URL, None) == {"HTTPS_PROXY": "", **URL}


def test_an_http_proxy_that_the_configuration_alone_reads_does_not_count():
    assert "no_proxy" not in child_environment(PROXY, ("http_proxy",), URL, None)
