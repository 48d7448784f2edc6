"""Any interleaving of bytes, timeouts, ends, resets, retries, 401s, token errors and odd exceptions.

The invariants: each exchange ends within its limits, with one response or a cut connection; no task is left,
nothing is in flight, every connection kept is idle, and the sweep still runs.
"""

import contextlib
import logging
import os
import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.secret import Secret
from proxy.tokens.attachment import Attachment

from .exchange_machine import LONGEST, Odd, Setting, Surprises, tasks_left

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"
SAYS = [  # bytes that an upstream may send at any time
    OK,
    NO,
    b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
    OK[:9],
    OK[9:],
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhal",
    b"f",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    b"2\r\nok\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n",
    b"SSH-2.0-x\r\n",
    OK + OK,
    b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + bytes(100_000),
    bytes(150_000),
]
LINES = {  # a caller's request, and the number of body bytes to come
    "get": (b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", 0),
    "last": (b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 0),
    "post": (b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab", 2),
    "put": (b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd", 0),
    "long": (b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n" + b"x" * 100, 100),
    "expect": (
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        2,
    ),
    "socket": (b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 0),
    "half a head": (b"GET /x HTTP/1.1\r\nHost: loc", -1),
    "not HTTP": (b"EHLO x\n", -1),
}
TIMES = [0.4, 1.0, 2.5, 5.5, 15.2, 16.5, 59.8, 60.5, 300.5]
CALLERS = 3
STEP = 10.0  # seconds; coarse, because nothing else happens between the limits


class Exchanges(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.surprises = Surprises()
        logging.getLogger("proxy").addHandler(self.surprises)
        logging.getLogger("proxy").propagate = False
        self.setting = Setting()
        self.counter = 0

    # -- the callers

    @precondition(lambda self: len(self.setting.callers) < CALLERS)
    @rule()
    def connects(self):
        self.setting.connect()

    @rule(data=st.data(), what=st.sampled_from(sorted(LINES)))
    def asks(self, data, what):
        caller = self._caller(data, lambda caller: not caller.left and not caller.owes)
        if caller is not None:
            line, caller.owes = LINES[what]
            caller.asked += 1
            caller.send(line)
            self.setting.turn()

    @rule(data=st.data(), size=st.sampled_from([1, 100]))
    def goes_on(self, data, size):
        caller = self._caller(data, lambda caller: caller.owes > 0 and not caller.left)
        if caller is not None:
            sent = min(size, caller.owes)
            caller.owes -= sent
            caller.send(b"y" * sent)
            self.setting.turn()

    @rule(data=st.data(), how=st.sampled_from(["end", "reset"]))
    def leaves(self, data, how):
        caller = self._caller(data, lambda caller: not caller.left)
        if caller is not None:
            getattr(caller, how)()
            self.setting.turn()

    def _caller(self, data, fits):
        candidates = [caller for caller in self.setting.callers if fits(caller) and not caller.ended]
        return data.draw(st.sampled_from(candidates)) if candidates else None

    # -- the upstreams

    @rule(data=st.data(), said=st.sampled_from(SAYS), then=st.sampled_from(["", "", "ends", "is cut"]))
    def says(self, data, said, then):
        """Send, and end or cut the connection in the same turn of the loop."""
        self._upstream(data, said, then)

    @rule(data=st.data(), then=st.sampled_from(["ends", "is cut"]))
    def stops(self, data, then):
        self._upstream(data, b"", then)

    def _upstream(self, data, said, then):
        candidates = [sock for sock in self.setting.upstreams if sock.fileno() >= 0]
        if not candidates:
            return
        sock = data.draw(st.sampled_from(candidates))
        with contextlib.suppress(OSError):
            if then != "is cut":  # with unread bytes, closing a unix socket is a reset
                while sock.recv(65536):
                    pass
        with contextlib.suppress(OSError):
            sock.send(said)
        if then:
            sock.close()
        self.setting.turn()

    # -- the tokens

    @rule(fresh=st.booleans(), refuses=st.booleans())
    def token_is(self, fresh, refuses):
        self.setting.tokens.fresh, self.setting.tokens.refuses = fresh, refuses

    @rule(outcome=st.sampled_from(["new", "none", "odd"]))
    def token_comes(self, outcome):
        self.counter += 1
        new = Attachment(Secret(f"t{self.counter}"))
        self.setting.tokens.settle({"new": new, "none": None, "odd": Odd()}[outcome])
        self.setting.turn()

    @rule(where=st.sampled_from(["tokens", "log", "nowhere"]))
    def odd_things_happen(self, where):
        self.setting.tokens.odd = where == "tokens"
        self.setting.context.log.odd = where == "log"

    # -- time

    @rule(seconds=st.sampled_from(TIMES))
    def time_passes(self, seconds):
        self.setting.advance(seconds, max(0.5, seconds / 20))

    # -- the invariants

    @invariant()
    def no_unexpected_exception_is_raised(self):
        if hasattr(self, "setting"):
            assert not self.surprises.found

    @invariant()
    def the_sweep_still_runs(self):
        if hasattr(self, "setting"):
            assert not self.setting.server._sweeper.done()
            assert self.setting.runtime.in_flight >= 0

    @invariant()
    def no_caller_gets_a_surplus_response(self):
        if hasattr(self, "setting"):
            for caller in self.setting.callers:
                assert len(finals(caller.received)) <= caller.asked

    def teardown(self):
        if not hasattr(self, "setting"):
            return
        try:
            self._all_ends()
        finally:
            self.setting.close()
            logging.getLogger("proxy").removeHandler(self.surprises)
            logging.getLogger("proxy").propagate = True
        assert not tasks_left()
        assert not self.surprises.found

    def _all_ends(self):
        setting = self.setting
        before = [(caller, caller.asked, caller.owes) for caller in setting.callers]
        for _ in range(4):  # a pipelined or slow request begins after the limits of the previous one
            setting.advance(LONGEST, STEP)
        assert setting.runtime.in_flight == 0
        assert not tasks_left()
        assert not setting.server._connections
        assert setting.runtime.fixed_pool.active == 0
        for caller, asked, owes in before:
            if caller.left:
                continue
            assert caller.ended, "the connection is still there"
            # each complete request has its response, unless the connection was cut or closed before
            if caller.ended == "closed" and asked and owes == 0:
                assert finals(caller.received), "closed without a response"


UNTIL_CLOSE = b"until the end"
STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d|101) ")


def finals(received):
    """The status codes of the final responses in the bytes that a caller got.

    None are in a tunnel's bytes, nor in those of a body that ends with the connection.
    """
    before, switching, _tunnel = received.partition(UNTIL_CLOSE)[0].partition(b"HTTP/1.1 101 ")
    return [*STATUS.findall(before), *([b"101"] if switching else [])]


Exchanges.TestCase.settings = settings(
    max_examples=int(os.environ.get("EXCHANGE_EXAMPLES", "60")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestExchanges = Exchanges.TestCase
