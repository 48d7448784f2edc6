"""The interfaces of a service manager: what its variables mean, and what it is told."""

import os
import socket
from contextlib import ExitStack, suppress

import pytest

from proxy import systemd
from proxy.systemd import BadHandover, Notifier, handed_over, ping_every, take

ME = 4711
MIX_UP = "expected the number of sockets in LISTEN_FDS"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, []),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "4711"}, ["", ""]),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "4711", "LISTEN_FDNAMES": "data:admin"}, ["data", "admin"]),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "4711", "LISTEN_FDNAMES": "data"}, ["data", ""]),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "4711", "LISTEN_FDNAMES": "data:admin"}, ["data"]),
        ({"LISTEN_FDS": "1"}, [""]),
        ({"LISTEN_FDS": "0", "LISTEN_PID": "4711"}, []),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "4712"}, []),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "x"}, []),
        ({"LISTEN_FDS": "x", "LISTEN_PID": "4712"}, []),
        ({"LISTEN_PID": "4711", "LISTEN_FDNAMES": "data"}, []),
    ],
)
def test_descriptors_are_counted_and_named(given, names):
    assert handed_over(given, ME) == names


@pytest.mark.parametrize("count", ["x", "-1", "1.5", " 1", "٣", "1025", "9" * 400])
def test_a_count_that_can_not_be_is_a_fault(count):
    with pytest.raises(BadHandover, match=MIX_UP):
        handed_over({"LISTEN_FDS": count, "LISTEN_PID": str(ME)}, ME)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "4711"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "4712"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({"WATCHDOG_PID": "4711"}, None),
    ],
)
def test_the_watchdog_is_told_twice_in_its_time(given, seconds):
    assert ping_every(given, ME) == seconds


def test_what_is_meant_for_this_process_is_taken_out_of_the_environment():
    environment = {"PATH": "/bin", "NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "LISTEN_FDS": "3"}
    environment |= {"LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b:c", "WATCHDOG_PID": str(os.getpid())}
    supervisor = take(environment)
    supervisor.notifier.close()
    assert environment == {"PATH": "/bin"}
    assert supervisor.sockets == ()
    assert supervisor.notifier.ping_every == 0.5


# -- descriptors


@pytest.fixture
def at(monkeypatch):
    """Let the descriptors that are handed over begin at a number."""

    def begin(number):
        monkeypatch.setattr(systemd, "FIRST", number)
        return take({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "data"})

    return begin


def test_a_socket_is_adopted_and_no_child_inherits_it(at):
    sock = socket.create_server(("127.0.0.1", 0))
    where = sock.getsockname()
    number = sock.detach()
    os.set_inheritable(number, True)
    (handed,) = at(number).sockets
    assert (handed.name, handed.sock.getsockname(), handed.sock.fileno()) == ("data", where, number)
    assert not os.get_inheritable(number)
    handed.sock.close()


def of_type(kind):
    if kind == "file":
        return os.open("/dev/null", os.O_RDONLY)
    if kind == "datagram":
        return socket.socket(type=socket.SOCK_DGRAM).detach()
    if kind == "connection":
        one, other = socket.socketpair()
        other.close()
        return one.detach()
    if kind == "netlink":
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach()
    number = os.open("/dev/null", os.O_RDONLY)
    os.close(number)
    return number


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("file", "is no socket: expected sockets alone"),
        ("datagram", "is no stream socket: expected one from ListenStream="),
        ("connection", "is a connection: expected a socket that listens, as Accept=no gives"),
        ("netlink", "is neither an IP nor a unix socket"),
        ("closed", "is not open: expected as many open sockets as the variable LISTEN_FDS says"),
    ],
)
def test_what_is_no_listener_is_a_fault_that_names_it(at, kind, fault):
    number = of_type(kind)
    with pytest.raises(BadHandover) as refused:
        at(number)
    assert str(refused.value).startswith(f"descriptor {number} (data) {fault}")
    with suppress(OSError):
        os.close(number)


# -- messages


@pytest.fixture
def notifying():
    with ExitStack() as stack:

        def make(address):
            notifier = Notifier(address)
            stack.callback(notifier.close)
            return notifier

        yield make


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """The socket of a service manager, and its address."""
    path = str(tmp_path / "notify")
    address = path if request.param == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(10)
        yield sock, address


def test_the_manager_is_told_as_sd_notify_does(manager, notifying):
    sock, address = manager
    notifier = notifying(address)
    assert notifier.is_heard
    notifier.ready()
    notifier.status("1 of 1 credentials can serve")
    notifier.status("1 of 1 credentials can serve")  # not again
    notifier.ping()
    notifier.reloading()
    notifier.stopping(28.0)
    told = [sock.recv(1000).decode() for _ in range(5)]
    reload, when = told[3].split("\nMONOTONIC_USEC=")
    assert told[:3] == ["READY=1", "STATUS=1 of 1 credentials can serve", "WATCHDOG=1"]
    assert reload == "RELOADING=1"
    assert int(when) > 0
    assert told[4] == "STOPPING=1\nEXTEND_TIMEOUT_USEC=28000000"


def test_a_message_for_which_there_is_no_room_comes_before_the_next(manager, notifying):
    sock, address = manager
    notifier = notifying(address)
    for _ in range(5000):  # more than the queue of a datagram socket
        notifier.ping()
    notifier.ready()
    told = []
    while b"STATUS=x" not in told:
        told.append(sock.recv(1000))
        notifier.status("x")
    assert told.index(b"READY=1") < told.index(b"STATUS=x")


@pytest.mark.parametrize(
    "address", ["", "/nowhere/at/all", "@nobody-listens-here", "vsock:2:1234", "relative", "/" + "x" * 500]
)
def test_without_a_listening_manager_nothing_happens(address, notifying):
    notifier = notifying(address)
    for _ in range(3):
        notifier.ready()
        notifier.status("x")
        notifier.stopping(1)
    notifier.close()
    notifier.ready()


def test_when_the_manager_has_gone_nothing_happens(manager, notifying):
    sock, address = manager
    notifier = notifying(address)
    notifier.ready()
    sock.close()
    notifier.ready()
    assert notifier.is_heard
