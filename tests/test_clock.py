import time
import uuid

from proxy import clock
from proxy.clock import SystemClock


def test_the_wall_clock_is_unix_time():
    before = time.time()
    assert before <= SystemClock().wall() <= time.time()


def test_the_boot_clock_never_goes_back():
    system = SystemClock()
    times = [system.boot() for _ in range(100)]
    assert times == sorted(times)


def test_all_clocks_of_a_boot_agree_on_its_name():
    assert SystemClock().boot_id == SystemClock().boot_id != ""


def test_where_the_system_does_not_tell_boots_apart_each_clock_is_its_own(monkeypatch):
    def refuse(_path):
        raise FileNotFoundError

    monkeypatch.setattr(clock.Path, "read_text", refuse)
    first, second = SystemClock().boot_id, SystemClock().boot_id
    assert uuid.UUID(first) != uuid.UUID(second)
