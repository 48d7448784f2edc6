"""Rules for the Pods of deploy/: what an admission controller or an experienced reader would refuse. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

WORKLOADS = frozenset(["Deployment", "StatefulSet", "Job"])
DRAIN = 25  # seconds: limits.shutdown
VOLUMES = frozenset(
    ["configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"]
)  # of `restricted`
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PATHS = frozenset(["/healthz", "/readyz", "/startupz"])
NAMES = ("app.kubernetes.io/name", "app.kubernetes.io/component")

Object = Mapping[str, Any]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, Object]]:
    """The name and the specification of each Pod that these objects make."""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each["spec"]
        elif each["kind"] in WORKLOADS:
            yield name, each["spec"]["template"]["spec"]


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def proxies(pod: Object) -> list[Object]:
    return [each for each in containers(pod) if each["name"] == "token-proxy"]


def faults(pod: Object) -> Iterator[str]:
    """What the Pod Security Standard `restricted` refuses, and what we promise beside."""
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if context.get("runAsUser", 0) == 0:
        yield "runAsUser"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host"
    yield from (f"volume {each['name']}" for each in pod.get("volumes", ()) if not VOLUMES.intersection(each))
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks"
    for container in containers(pod):
        yield from (f"{container['name']}: {fault}" for fault in _of_container(container))
    if proxies(pod) and pod.get("terminationGracePeriodSeconds", 30) <= DRAIN + _before_stop(pod):
        yield "terminationGracePeriodSeconds"


def _before_stop(pod: Object) -> int:
    """Seconds that the kubelet waits before it sends SIGTERM."""
    return max(
        each.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        for each in proxies(pod)
    )


def _of_container(container: Object) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if context.get("capabilities", {}) != {"drop": ["ALL"]}:
        yield "capabilities"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem"
    if context.get("privileged"):
        yield "privileged"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get(
        "limits", {}
    ):
        yield "resources"
    image, _, digest = container["image"].partition("@")
    tag = image.rpartition("/")[2].partition(":")[2]
    if not digest and tag in {"", "latest"}:
        yield "image"


def probes(pod: Object) -> Iterator[tuple[str, str, int]]:
    """The kind, path and port of each probe of token-proxy. Raises KeyError for a port without its name."""
    for container in proxies(pod):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for kind in PROBES:
            if kind in container:
                asked = container[kind]["httpGet"]
                yield kind, asked["path"], ports[asked["port"]]


def files(pod: Object, volume: str) -> Iterator[tuple[str, str]]:
    """The kind of source and the name of each object of a projected volume."""
    for each in pod["volumes"]:
        if each["name"] == volume:
            for source in each["projected"]["sources"]:
                ((kind, value),) = source.items()
                yield kind, value["name"]
