"""Any order of requests, dials, failures, responses, ends, departures, shortages and reloads, by a model.

The model knows who waits, and which connection is idle or in whose use, and predicts who gets a connection.
All else is judged by laws, after each step. There are never more dials than the bound or than requests that
wait; nobody is forgotten, refused without a reason, or served twice; no connection is lost or serves two
accounts; idle ones go by age, and the oldest of all give way when files run short, no more than needed.
"""

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.relay import dial_bound, problems, upstream_causes
from proxy.relay.dial_bound import PACE
from proxy.relay.pool import ALIVE, GRACE, SURPLUS, UNDECIDED, Pool
from proxy.relay.problems import Refusal

from .pool_stage import LAST, OK, REFUSES, ROUTE, Caller, End, Stage

DIALS, AT_FIRST, KEPT, CONNECT, IDLE = 5, 3, 2, 5.0, 20.0
SWEEP = 0.5
PLENTY = 1000  # files
SLOW = upstream_causes.refusal(problems.CONNECT_TIMEOUT, upstream_causes.HANDSHAKE_TIMEOUT, ROUTE)
NEVER = float("inf")


@dataclass(eq=False)
class Waiting:
    caller: Caller
    kind: str  # "any"; "once": it can't be sent again; "new": only on a new connection
    since: float


@dataclass(eq=False)
class Connection:
    end: End
    user: Caller | None  # None: it is idle
    idle_since: float = 0.0


@dataclass(eq=False)
class Account:
    """The model of one pool."""

    name: str
    pool: Pool
    waiting: list[Waiting] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)  # in the order of their last use
    dials: int = 0
    doubted: float = NEVER  # since the first failure after the last success
    given: float = -NEVER  # when a connection was given back last
    keeps: bool = True
    allowed: int = AT_FIRST  # dials at once
    may_grow: bool = False  # since the last failure, or time without a dial, time has passed

    @property
    def idle(self):
        return [connection for connection in self.connections if connection.user is None]

    @property
    def busy(self):
        return [connection for connection in self.connections if connection.user is not None]

    def first(self, *kinds):
        """Take out the first who waits for what fits."""
        found = next((waiting for waiting in self.waiting if waiting.kind in kinds), None)
        if found is not None:
            self.waiting.remove(found)
        return found


class Pools(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.at_first, dial_bound.AT_FIRST = dial_bound.AT_FIRST, AT_FIRST
        self.stage = Stage(dials=DIALS, pool=KEPT, connect=CONNECT, upstream_idle=IDLE)
        self.stage.dials_time_out = False  # the machine decides
        self.count = 0
        self.accounts = [self._account("ann"), self._account("bob")]
        self.former = []
        for account in self.accounts:  # from the middle of some traffic
            for _ in range(AT_FIRST):
                self._ask(account, "any")
        for dial in self.stage.dials[1 :: AT_FIRST - 1]:
            self._dial_succeeds(dial)

    def _account(self, name):
        self.count += 1
        owner = f"{name}-{self.count}"
        return Account(owner, self.stage.pool(owner))

    @property
    def all(self):
        return [*self.accounts, *self.former]

    @property
    def now(self):
        return self.stage.loop.now

    # -- callers

    @rule(data=st.data(), kinds=st.lists(st.sampled_from(["any", "any", "any", "once", "new"]), max_size=4))
    def ask(self, data, kinds):
        account = data.draw(st.sampled_from(self.accounts))
        for kind in kinds:
            self._ask(account, kind)

    def _ask(self, account, kind):
        self.count += 1
        idle = account.idle
        refused = self.stage.files.refusals
        caller = self.stage.ask(
            account.pool, f"{account.name}/{self.count}", once=kind == "once", only_new=kind == "new"
        )
        if idle and kind != "new":
            assert caller.outcome is not None, "it waits although a connection is idle"
            idle[-1].user = caller
        else:
            account.waiting.append(Waiting(caller, kind, self.now))
        self._judge(short=self.stage.files.refusals > refused)

    @precondition(lambda self: any(account.waiting or account.busy for account in self.all))
    @rule(data=st.data())
    def leaves(self, data):
        here = [(a, w.caller) for a in self.all for w in a.waiting]
        here += [(a, c.user) for a in self.all for c in a.busy]
        account, caller = data.draw(st.sampled_from(here))
        refused = self.stage.files.refusals
        self.stage.run(lambda: caller.leave(account.pool))
        account.waiting = [waiting for waiting in account.waiting if waiting.caller is not caller]
        for connection in account.busy:
            if connection.user is caller:
                self._gone(account, connection)
        self._judge(short=self.stage.files.refusals > refused)

    # -- dials

    def _owner(self, dial):
        return next(account for account in self.all if account.name == dial.owner)

    @precondition(lambda self: self.stage.dials)
    @rule(data=st.data(), most=st.integers(1, 6))
    def dials_succeed(self, data, most):
        for _ in range(min(most, len(self.stage.dials))):
            self._dial_succeeds(data.draw(st.sampled_from(self.stage.dials)))

    def _dial_succeeds(self, dial):
        account = self._owner(dial)
        refused = self.stage.files.refusals
        connection = Connection(dial.succeed(), None, self.now)
        account.doubted = NEVER
        waiting = account.first("any", "once", "new")
        if waiting is not None:
            connection.user = waiting.caller
        account.connections.append(connection)
        if not waiting and not account.keeps:
            self._gone(account, connection)
        self._judge(short=self.stage.files.refusals > refused)

    @precondition(lambda self: self.stage.dials)
    @rule(data=st.data(), how=st.sampled_from([REFUSES, REFUSES, SLOW, RuntimeError("odd")]))
    def a_dial_fails(self, data, how):
        dial = data.draw(st.sampled_from(self.stage.dials))
        account, refused = self._owner(dial), self.stage.files.refusals
        left = sum(each.owner == account.name for each in self.stage.dials) - 1
        dial.fail(how)
        if self.stage.files.refusals > refused:
            self._judge(short=True)
            return
        account.allowed, account.may_grow = AT_FIRST, False
        if how is SLOW and account.doubted == NEVER:
            self._judge()
            return
        account.doubted = min(account.doubted, self.now)
        is_decided = not left or self.now - account.doubted >= UNDECIDED
        hopes = bool(account.busy) and self.now - account.given <= ALIVE
        doomed = [w for w in account.waiting if is_decided and (w.kind == "new" or not hopes)]
        assert all(w.caller.outcome is not None for w in doomed), "they wait although all dials have failed"
        account.waiting = [waiting for waiting in account.waiting if waiting not in doomed]
        if is_decided:
            account.doubted = NEVER
        self._judge()

    # -- connections

    @precondition(lambda self: any(account.busy for account in self.all))
    @rule(data=st.data(), then=st.sampled_from(["", "", "", "last", "ends", "cut"]))
    def respond(self, data, then):
        for _ in range(data.draw(st.integers(1, 6))):
            if any(account.busy for account in self.all):
                self._respond(data, then)

    def _respond(self, data, then):
        account, connection = data.draw(st.sampled_from([(a, c) for a in self.all for c in a.busy]))
        user, end = connection.user, connection.end
        refused = self.stage.files.refusals
        if then != "cut":
            end.say(LAST if then == "last" else OK)
        if then in {"ends", "cut"}:
            end.end()
        self.stage.turn()
        assert user.failed if then == "cut" else user.answered
        if then in {"last", "cut"}:
            self._gone(account, connection)
        else:
            self._given(account, connection, ended=then == "ends")
        self._judge(short=self.stage.files.refusals > refused)

    def _given(self, account, connection, *, ended):
        account.given = connection.idle_since = self.now
        account.connections.remove(connection)  # it becomes the one that was used last
        account.connections.append(connection)
        connection.user = None
        following = next((w for w in account.waiting if w.kind != "new"), None)
        if ended and following is not None and following.kind == "any":
            account.waiting.remove(following)  # sent, and nothing came: the exchange sends it again
            assert following.caller.failed
        if ended:
            self._gone(account, connection)
        elif following is not None:
            account.waiting.remove(following)
            connection.user = following.caller
        elif not account.keeps:
            self._gone(account, connection)

    @precondition(lambda self: any(account.idle for account in self.all))
    @rule(data=st.data())
    def an_idle_connection_ends(self, data):
        account, connection = data.draw(st.sampled_from([(a, c) for a in self.all for c in a.idle]))
        refused = self.stage.files.refusals
        connection.end.end()
        self.stage.turn()
        self._gone(account, connection)
        self._judge(short=self.stage.files.refusals > refused)

    def _gone(self, account, connection):
        account.connections.remove(connection)
        assert connection.end.is_closed or connection.end.sock.fileno() < 0

    # -- files, reloads, time

    @rule(fewer=st.sampled_from([-2, -1, 0, 0, 1, PLENTY, PLENTY, PLENTY]))
    def files_run_short(self, fewer):
        """That many more, or fewer, than are open."""
        self.stage.files.most = max(0, len(self.stage.open_ends()) + fewer)

    @precondition(lambda self: self.count % 4 == 0)  # not too often
    @rule(data=st.data(), how=st.sampled_from(["retired", "retired", "closed"]))
    def is_replaced(self, data, how):
        """By a reload, or because its account has not been used for long."""
        number = data.draw(st.sampled_from(range(len(self.accounts))))
        account = self.accounts[number]
        self.accounts[number] = self._account(account.name.partition("-")[0])
        self.former.append(account)
        account.keeps = False
        for connection in account.busy if how == "closed" else []:
            self.stage.run(lambda user=connection.user: user.leave(account.pool))  # exchanges end before
        refused = self.stage.files.refusals
        self.stage.run(account.pool.retire if how == "retired" else account.pool.close)
        for connection in list(account.connections) if how == "closed" else account.idle:
            self._gone(account, connection)
        if how == "closed":
            assert all(isinstance(waiting.caller.outcome, Refusal) for waiting in account.waiting)
            account.waiting.clear()
            assert not [dial for dial in self.stage.dials if dial.owner == account.name]
        self._judge(short=self.stage.files.refusals > refused)

    @rule(seconds=st.floats(0, SWEEP))
    def a_moment_passes(self, seconds):
        self._passes(seconds)

    @rule(paces=st.integers(1, 3))
    def the_bound_of_dials_may_grow(self, paces):
        refused = self.stage.files.refusals
        for _ in range(paces):
            self._passes(PACE)
            self.stage.turn()
        self._judge(short=self.stage.files.refusals > refused)

    def _passes(self, seconds):
        self.stage.loop.now += seconds
        for account in self.all:
            account.may_grow = account.may_grow or bool(account.connections)

    @rule(sweeps=st.sampled_from([1, 1, 1, 2, 5, 11, 21]))
    def time_passes(self, sweeps):
        for _ in range(sweeps):
            self._passes(SWEEP)
            for account in self.all:
                self._swept(account)
        for account in [each for each in self.former if each.pool.is_empty]:
            assert not account.waiting
            assert not account.connections
            self.former.remove(account)

    def _swept(self, account):
        refused = self.stage.files.refusals
        self.stage.run(lambda: account.pool.look(self.now))
        old = [each for each in account.idle if each.idle_since < self.now - IDLE]
        rest = [each for each in account.idle if each not in old]
        surplus = rest[: max(0, len(rest) - KEPT)]
        for connection in old + [each for each in surplus if each.idle_since < self.now - SURPLUS]:
            self._gone(account, connection)
        overdue = [w for w in account.waiting if w.since + CONNECT + GRACE <= self.now]
        assert all(w.caller.outcome is not None for w in overdue), "their time is over"
        self._judge(short=self.stage.files.refusals > refused)
        assert account.dials or not account.waiting or self.stage.files.most < PLENTY, (
            "nothing is done for them"
        )

    # -- the laws

    def _judge(self, *, short=False):
        """After a step. `short`: a dial was refused for want of files."""
        gave_way = [(a, c) for a in self.all for c in a.idle if c.end.is_closed]
        for account, connection in gave_way:
            self._gone(account, connection)
        if gave_way:
            open_now = len(self.stage.open_ends())
            assert open_now >= self.stage.files.most - 1, "more gave way than was needed"
            left = [connection.idle_since for account in self.all for connection in account.idle]
            assert max(c.idle_since for _, c in gave_way) <= min(left, default=NEVER), "not the oldest"
        if short:
            assert not [connection for account in self.all for connection in account.idle]
        for account in self.all:
            self._judge_waiting(account, short=short)
            self._judge_dials(account)

    def _judge_waiting(self, account, *, short):
        for waiting in list(account.waiting):
            outcome = waiting.caller.outcome
            assert outcome is None or isinstance(outcome, Refusal), "not the first is served"
            if outcome is None:
                continue
            account.waiting.remove(waiting)
            is_late = self.now >= waiting.since + CONNECT
            expected = problems.CONNECT_TIMEOUT if is_late else problems.OVERLOADED
            assert is_late or short, "it is refused without a reason"
            assert outcome.case in {expected, problems.OVERLOADED if short else expected}
        if short:
            account.doubted = account.pool._doubted_at  # failures that the machine has not seen
        assert account.pool.queued == len(account.waiting), "somebody is forgotten"

    def _judge_dials(self, account):
        dials = sum(dial.owner == account.name for dial in self.stage.dials)
        assert dials == account.pool.dialling
        assert dials <= DIALS
        assert dials <= max(account.dials, len(account.waiting)), "nobody waits for it"
        if account.dials < dials and dials > account.allowed:
            assert account.may_grow, "more than at first"
            account.allowed = DIALS
        if not dials:
            account.allowed, account.may_grow = AT_FIRST, False
        account.dials = dials
        if account.waiting and not dials:
            assert account.busy or self.stage.files.most < PLENTY, "they wait for nothing"

    @invariant()
    def no_connection_is_lost(self):
        if not hasattr(self, "accounts"):
            return
        for account in self.all:
            assert (account.pool.idle, account.pool.active) == (len(account.idle), len(account.busy))
        known = {connection.end for account in self.all for connection in account.connections}
        assert {end for end in self.stage.open_ends() if end.sock.fileno() >= 0} <= known

    @invariant()
    def the_idle_connections_of_all_are_in_the_order_of_their_age(self):
        if not hasattr(self, "accounts"):
            return
        ages, each = [], self.stage.idle.oldest
        while each is not None:
            ages.append(each.idle_since)
            each = each.newer
        assert ages == sorted(c.idle_since for account in self.all for c in account.idle)

    @invariant()
    def each_connection_carries_one_accounts_requests_each_once(self):
        if not hasattr(self, "accounts"):
            return
        for account in self.all:
            for connection in account.connections:
                assert all(name.startswith(f"{account.name}/") for name in connection.end.asked)
                if connection.user is not None:
                    assert connection.end.asked[-1] == connection.user.name
        asked = [name for end in self.stage.ends for name in end.asked]
        assert len(asked) == len(set(asked))

    def teardown(self):
        if not hasattr(self, "accounts"):
            return
        self.stage.files.most = PLENTY
        self.stage.dials_time_out = True
        for dial in list(self.stage.dials):
            dial.fail(SLOW)
        for account in self.all:
            for connection in account.busy:
                self.stage.answer(connection.end)
        self.stage.age(2 * CONNECT + 1, *(account.pool for account in self.all))
        for account in self.all:
            assert all(waiting.caller.outcome is not None for waiting in account.waiting)
            assert (account.pool.queued, account.pool.dialling) == (0, 0)
        self.stage.close(*(account.pool for account in self.all))
        dial_bound.AT_FIRST = self.at_first


Pools.TestCase.settings = settings(
    max_examples=int(os.environ.get("POOL_EXAMPLES", "100")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPools = Pools.TestCase
