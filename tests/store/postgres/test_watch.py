"""The time when a lease may be taken over, as a pure decision."""

from __future__ import annotations

import pytest

from proxy.store.postgres.watch import Steadiness

LOOKS = [100.0, 100.25, 100.5, 101.4]  # by the server's clock


@pytest.mark.parametrize(
    ("more", "since"),
    [
        ([], 100.0),
        ([(102.4, True)], 100.0),
        ([(102.41, True)], 102.41),  # it was suspended, or its clock was set
        ([(102.41, True), (102.6, True)], 102.41),
        ([(101.3, True)], 101.3),  # its clock was set back
        ([(101.5, False)], 101.5),  # it was restarted, or the connection was lost
    ],
)
def test_a_lease_is_taken_over_after_its_length_without_a_gap(
    more: list[tuple[float, bool]], since: float
) -> None:
    steady = Steadiness()
    looks = [(at, True) for at in LOOKS] + more
    for at, unbroken in looks:
        steady.answered(at, unbroken=unbroken)
    assert steady.window(3) == (since + 3, looks[-1][0] + 1)


def test_before_the_first_look_nothing_is_taken_over() -> None:
    after, before = Steadiness().window(3)
    assert after > before
