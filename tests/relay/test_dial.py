import resource
import socket

import pytest

from proxy.relay import answer
from proxy.relay.answer import Refusal
from proxy.relay.dial import dial


async def test_having_no_file_left_to_open_is_not_the_upstreams_fault(proxy):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        none_left = probe.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (none_left, hard))
        try:
            with pytest.raises(Refusal) as refused:
                await dial(proxy.lane.route, None, 5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.case is answer.OVERLOADED
    assert refused.value.retry_after == 1
