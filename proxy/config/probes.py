"""Advice about the probes of shared deployments, for `check`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.config.fault_messages import Complaint
from proxy.config.model import Config
from proxy.config.values import SHARED_STORES

SEVERAL: Final = (
    "/readyz needs all of the credentials {names}: once one of them needs a person, every replica leaves the "
    "load balancer, for the others too - probe /startupz for readiness, or set required = false"
)


def advise_probes(config: Config) -> Iterator[Complaint]:
    """Replicas that share a store need the same logins: /readyz takes out all of them at once."""
    required = sorted(filter(config.required, config.credentials))
    if config.store.url.reveal().partition(":")[0] in SHARED_STORES and len(required) > 1:
        yield Complaint(("store", "url"), SEVERAL.format(names=", ".join(required)))
