"""A warning where logins would not last; none where they do, or where nobody logs in."""

from __future__ import annotations

import pytest

from proxy.config.load import load
from proxy.store.sqlite import mounts
from proxy.store.sqlite.mounts import Mount
from proxy.tokens.saved.lasting import store_warning

PERSON = '[credentials.crm]\nissuer = "http://127.0.0.1:1"\ngrant = "authorization_code"\nclient_id = "web"\n'
SEED = (
    '[credentials.mail]\nissuer = "http://127.0.0.1:1"\ngrant = "refresh_token"\nclient_id = "web"\n'
    'refresh_token = "seed"\n'
)
MACHINE = (
    '[credentials.bot]\nissuer = "http://127.0.0.1:1"\ngrant = "client_credentials"\nclient_id = "web"\n'
    'client_secret = "secret"\n'
)


@pytest.fixture
def configured(tmp_path):
    def make(credentials, url="sqlite:tokens.db", more=""):
        path = tmp_path / "config.toml"
        path.write_text(f'[server]\nstate_dir = "{tmp_path}"\n[store]\nurl = "{url}"\n{more}\n{credentials}')
        return load(path).config

    return make


def on(kind):
    return lambda _path: Mount(kind, "/x")


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "overlay", "fuse.fuse-overlayfs"])
@pytest.mark.parametrize("credentials", [PERSON, SEED, MACHINE + PERSON])
def test_a_login_in_memory_or_in_a_container_is_warned_of(configured, tmp_path, kind, credentials):
    warning = store_warning(configured(credentials), on(kind))
    assert f"{tmp_path}/tokens.db is on {kind} at /x, " in warning
    assert "logins are lost" in warning
    assert f"mount a volume at {tmp_path}" in warning


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "apfs", "something new"])
def test_a_disk_is_not(configured, kind):
    assert store_warning(configured(PERSON), on(kind)) is None


def test_nor_is_an_unknown_place(configured):
    assert store_warning(configured(PERSON), lambda _path: None) is None


def test_tokens_that_need_nobody_may_be_lost(configured):
    assert store_warning(configured(MACHINE), on("tmpfs")) is None
    assert store_warning(configured(MACHINE, "memory:"), on("ext4")) is None
    assert store_warning(configured(""), on("tmpfs")) is None


def test_a_store_in_memory_is_warned_of(configured):
    assert "when this process ends" in store_warning(configured(SEED, "memory:"), on("ext4"))


def test_a_shared_store_is_on_a_disk_of_its_server(configured):
    key = 'key = "' + "A" * 43 + '="\n'
    config = configured(PERSON, "postgresql://db.example/tokens", key)
    assert store_warning(config, on("tmpfs")) is None


def test_the_real_mounts_are_asked(configured):
    config = configured(PERSON)
    kind = mounts.mount_of(config.server.state_dir).kind
    assert (store_warning(config) is None) == (mounts.loss(kind) is None)
