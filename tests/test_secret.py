import copy
import json
import pickle

import pytest

from proxy.secret import MASK, Secret

VALUE = "hunter2"


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r}".format, "{:>20}".format, "%s".__mod__, lambda secret: f"{[secret]}"],
)
def test_a_secret_is_masked_in_every_representation(show):
    assert VALUE not in show(Secret(VALUE))
    assert MASK in show(Secret(VALUE))


def test_reveal_returns_the_value():
    assert Secret(VALUE).reveal() == VALUE


@pytest.mark.parametrize("take_out", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_a_secret_can_not_be_copied_or_pickled(take_out):
    with pytest.raises(TypeError) as refused:
        take_out(Secret(VALUE))
    assert VALUE not in str(refused.value)


def test_secrets_are_compared_by_value():
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1


def test_an_empty_secret_is_false():
    assert not Secret("")
    assert Secret(VALUE)


def test_a_secret_has_no_other_attributes():
    assert not hasattr(Secret(VALUE), "__dict__")
