import inspect

import pytest

from proxy import errors
from proxy.errors import AuthorizationServerError, ConfigError, Fault, ProxyError, TokenUnavailable

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_in_the_tree_and_in_the_docstring(kind):
    assert issubclass(kind, ProxyError)
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("source", "column", "below"),
    [("port = 1", 8, "       ^"), ("\tport = 1", 2, "\t^"), ("\t\tport", 4, "\t\t ^")],
)
def test_a_fault_marks_its_position(source, column, below):
    shown = Fault(12, column, "not a port", source).render("config.toml")
    assert shown.splitlines() == [
        f"config.toml:12:{column}: not a port",
        f"   12 | {source}",
        f"      | {below}",
    ]


def test_a_fault_of_an_empty_line_shows_no_line():
    assert Fault(1, 1, "empty", "  ").render("c.toml") == "c.toml:1:1: empty"


def test_faults_are_in_the_order_of_the_file():
    error = ConfigError("c.toml", [Fault(3, 1, "third"), Fault(1, 9, "second"), Fault(1, 2, "first")])
    assert str(error) == "c.toml:1:2: first\nc.toml:1:9: second\nc.toml:3:1: third"


def test_an_authorization_server_error_has_its_class_and_code():
    error = AuthorizationServerError("transient", "http_503", retry_after=7.0)
    assert (error.outcome, error.error, error.retry_after) == ("transient", "http_503", 7.0)
    assert "http_503" in str(error)


def test_a_token_error_has_the_seconds_to_wait():
    assert TokenUnavailable("not now", retry_after=3).retry_after == 3
