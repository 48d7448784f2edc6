"""Whether the store of a configuration lasts as long as its logins do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxy.config.model import Config
from proxy.oauth import grants
from proxy.store.sqlite import mounts
from proxy.store.sqlite.mounts import Mount

MountOf = Callable[[Path], Mount | None]


def store_warning(config: Config, mount_of: MountOf = mounts.mount_of) -> str | None:
    """Why logins will be lost, and the remedy; None if they last, or if tokens can be had without a person.

    A shared store is on a server of its own, about which nothing is known here.
    """
    used = map(grants.of, config.credentials.values())
    if all(grant.renews_itself or grant.is_fixed for grant in used):
        return None
    scheme, _, name = config.store.url.reveal().partition(":")
    if scheme == "memory":
        return (
            'the token store is in memory (store.url = "memory:"): logins are lost when this process ends; '
            "leave store.url out to keep them in a file"
        )
    state_dir = config.server.state_dir
    mount = mount_of(state_dir / name) if scheme == "sqlite" else None
    loss = mounts.loss(mount.kind) if mount else None
    if loss is None:
        return None
    return (
        f"the token store {state_dir / name} is on {mount}, {loss}: logins are lost then; put "
        f"server.state_dir on a disk that lasts, or mount a volume at {state_dir}"
    )
