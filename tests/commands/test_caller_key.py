"""`token-proxy caller-key`: random keys, and signed ones."""

import base64
import hashlib
import re
import time

import pytest
from click.testing import CliRunner

from proxy import caller_keys
from proxy.cli import main
from proxy.store.key import decode_key
from proxy.store.seal import derive

STORE_KEY = base64.b64encode(b"k" * 32).decode()
CONFIG = """
[server]
state_dir = "state"
[store]
url = "{url}"
{key}
[callers.build]
not_before = {not_before}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["caller-key", *arguments])


@pytest.fixture
def configured(tmp_path):
    def configured(url="sqlite:tokens.db", key=f'key = "{STORE_KEY}"', not_before=0):
        (tmp_path / "config.toml").write_text(CONFIG.format(url=url, key=key, not_before=not_before))

    return configured


def test_a_random_key_and_the_line_of_its_digest(run, tmp_path):
    done = run("not-yet-there")
    assert done.exit_code == 0
    key = done.stdout.removesuffix("\n")
    assert re.fullmatch(r"tpk_[A-Za-z0-9_-]{43}", key)
    assert done.stderr == f'key_sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'
    assert list(tmp_path.iterdir()) == []
    assert run("not-yet-there").stdout != done.stdout


def test_the_line_makes_the_key_a_callers(run, tmp_path):
    from proxy.config.load import load

    done = run("build")
    (tmp_path / "config.toml").write_text(f"[callers.build]\n{done.stderr}")
    (digest,) = load(tmp_path / "config.toml", {}).config.callers["build"].digests
    assert digest == caller_keys.digest_of(done.stdout.strip().encode())


@pytest.mark.parametrize("name", ["Build", "", "a b", "-a", "x" * 64])
def test_a_name_that_no_caller_can_have_is_refused(run, name):
    done = run("--", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "expected at most 63 characters" in done.stderr


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90s", 90), ("15m", 900), ("8h", 28800), ("24h", 86400), ("1d", 86400)]
)
def test_a_signed_key_counts_for_its_time(run, configured, tmp_path, ttl, seconds):
    configured()
    before = time.time()
    done = run("build", "--ttl", ttl)
    assert done.exit_code == 0
    key = done.stdout.strip()
    secret = derive(decode_key(STORE_KEY), "caller-key")
    signed = caller_keys.read_signed(secret, key.encode(), before)
    assert signed is not None
    assert signed.name == "build"
    assert before - 1 <= signed.issued <= time.time()
    assert 0 <= signed.expires - signed.issued - seconds <= 1
    assert caller_keys.read_signed(secret, key.encode(), signed.expires) is None
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("ttl", ["", "8", "h", "0s", "-1h", "1.5h", "25h", "1441m", "2d", "8 h", "8H"])
def test_a_ttl_that_is_none_or_too_long_is_a_usage_error(run, configured, ttl):
    configured()
    done = run("build", f"--ttl={ttl}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "expected" in done.stderr


def test_a_signed_key_is_for_a_configured_caller(run, configured):
    configured()
    done = run("bvild", "--ttl", "8h")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no caller 'bvild': its callers are build" in done.stderr


def test_a_key_that_would_never_count_is_not_made(run, configured):
    configured(not_before=int(time.time()) + 1000)
    done = run("build", "--ttl", "8h")
    assert (done.exit_code, done.stdout) == (1, "")


def test_the_stores_own_key_is_read_but_never_made(run, configured, tmp_path):
    configured(key="")
    done = run("build", "--ttl", "8h")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "makes it at its first start" in done.stderr
    assert not (tmp_path / "state").exists()
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "store.key").write_text(STORE_KEY)
    (tmp_path / "state" / "store.key").chmod(0o600)
    key = run("build", "--ttl", "8h").stdout.strip()
    secret = derive(decode_key(STORE_KEY), "caller-key")
    assert caller_keys.read_signed(secret, key.encode(), time.time()) is not None


def test_a_store_in_memory_has_no_key_to_sign_with(run, configured):
    configured(url="memory:", key="")
    done = run("build", "--ttl", "8h")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "set store.key" in done.stderr
