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


def test_all_clocks_of_a_boot_have_the_same_boot_id():
    assert SystemClock().boot_id == SystemClock().boot_id != ""


def test_without_a_boot_id_of_the_system_each_clock_has_its_own(monkeypatch):
    def refuse(_path):
        raise FileNotFoundError

    monkeypatch.setattr(clock.Path, "read_text", refuse)
    first, second = SystemClock().boot_id, SystemClock().boot_id
    assert uuid.UUID(first) != uuid.UUID(second)
