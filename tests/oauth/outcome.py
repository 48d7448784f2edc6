"""The outcome of a request that fails."""

from __future__ import annotations

import pytest

from proxy.errors import AuthorizationServerError


async def outcome_of(asking) -> tuple[str, str]:
    with pytest.raises(AuthorizationServerError) as caught:
        await asking
    assert caught.value.__cause__ is None
    return caught.value.outcome, caught.value.error
