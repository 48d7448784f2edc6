"""`half_closed`: seconds, 0 for none and inf for ever; in [limits] and in a route."""

import pytest
from pydantic import ValidationError

from proxy.config.model import Limits


@pytest.mark.parametrize("value", [0, 0.0, 2, 0.5, float("inf")])
def test_it_may_be_none_some_or_for_ever(value):
    assert Limits(half_closed=value).half_closed == value


@pytest.mark.parametrize("value", [-1, float("nan"), float("-inf"), "2", True, None])
def test_it_is_a_number_that_can_be_waited_for(value):
    with pytest.raises(ValidationError):
        Limits(half_closed=value)
