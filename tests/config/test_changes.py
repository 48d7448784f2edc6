"""The difference of two configurations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.changes import Changes, changes, needs_restart
from proxy.config.model import Config
from proxy.secret import Secret

NAMES = st.sampled_from(["a", "b", "c", "d"])
CREDENTIALS = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {
            "issuer": st.sampled_from(["https://one.example", "https://two.example"]),
            "client_id": st.just("x"),
            "client_secret": st.sampled_from(["s", "t"]),
        }
    ),
    min_size=1,
)


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    credentials = draw(CREDENTIALS)
    routes = [
        {
            "name": name,
            "path": f"/{name}",
            "upstream": draw(st.sampled_from(["https://one.example", "https://two.example"])),
            "credential": draw(st.sampled_from(sorted(credentials))),
        }
        for name in draw(st.lists(NAMES, unique=True))
    ]
    callers = {name: {"uid": [draw(st.integers(1, 2))]} for name in draw(st.lists(NAMES, unique=True))}
    return Config.model_validate({"credentials": credentials, "routes": routes, "callers": callers})


@given(configurations(), configurations())
def test_every_name_is_told_once_and_only_if_it_differs(old: Config, new: Config) -> None:
    found = changes(old, new)
    for kind, before, after in (
        ("routes", {each.name: each for each in old.routes}, {each.name: each for each in new.routes}),
        ("credentials", old.credentials, new.credentials),
        ("callers", old.callers, new.callers),
    ):
        added, removed, changed = (getattr(found, f"{kind}_{how}") for how in ("added", "removed", "changed"))
        assert list(added) == sorted(set(after) - set(before))
        assert list(removed) == sorted(set(before) - set(after))
        assert list(changed) == sorted(n for n in set(before) & set(after) if before[n] != after[n])
    assert needs_restart(old, new) == []


@given(configurations())
def test_nothing_has_changed_between_a_configuration_and_itself(config: Config) -> None:
    assert changes(config, config) == Changes()
    assert changes(config, config).fields() == {}
    assert changes(config, config).text == "nothing has changed"


@given(configurations(), configurations())
def test_no_secret_is_in_what_is_told(old: Config, new: Config) -> None:
    assert "Secret" not in changes(old, new).text
    assert all(isinstance(each.client_secret, Secret) for each in new.credentials.values())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("server", "listen"), "127.0.0.1:1"),
        (("server", "admin"), "127.0.0.1:1"),
        (("server", "health"), "127.0.0.1:1"),
        (("server", "state_dir"), "/elsewhere"),
        (("store", "url"), "memory:"),
        (("store", "key"), "A" * 43 + "="),
        (("limits", "connections"), 7),
        (("limits", "admin_connections"), 7),
        (("limits", "health_connections"), 7),
    ],
)
def test_what_needs_a_restart_is_told_by_its_key(path: tuple[str, str], value: Any) -> None:
    table, key = path
    new = Config.model_validate({table: {key: value}})
    assert [each.path for each in needs_restart(Config(), new)] == [path]


def test_the_other_limits_and_keys_of_the_server_need_none() -> None:
    new = Config.model_validate(
        {
            "server": {"allowed_hosts": ["x.example"], "public_url": "https://x.example"},
            "limits": {"idle": 1.0, "shutdown": 1.0, "pool": 1, "header_time": 1.0},
            "log": {"level": "debug"},
        }
    )
    assert needs_restart(Config(), new) == []
    assert changes(Config(), new).tables_changed == ("limits", "log", "server")
