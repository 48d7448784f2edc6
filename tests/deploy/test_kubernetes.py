"""deploy/kubernetes: judged by kubectl, by Kubernetes' schemas, by the rules of pods.py, and by `check`."""

import copy
import os.path
import tomllib

import kubernetes_validate
import pytest
import yaml

from tests.deploy import configuration, pods
from tests.deploy.tools import DEPLOY, kustomize

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ["job", "shared-postgres", "shared-redis", "sidecar"]
VERSIONS = ["1.30", "1.37"]  # the oldest that knows all of it, and the newest
FOREIGN = {"PodMonitor"}  # of the Prometheus Operator: the validator has no schema for it


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request):
    return kustomize(FOLDER / request.param)


def of_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def test_each_folder_is_tried():
    found = {path.parent.name for path in FOLDER.glob("*/kustomization.yaml")}
    assert found == {*OVERLAYS, "shared"}
    assert [path.parent.name for path in FOLDER.glob("components/*/kustomization.yaml")] == ["podmonitor"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_each_field(objects, version):
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found():
    (deployment,) = of_kind(kustomize(FOLDER / "shared-redis"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readyProbe"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_pods_are_restricted(objects):
    found = dict(pods.pods(objects))
    assert len(found) == 1
    for name, pod in found.items():
        assert list(pods.faults(pod)) == [], name


def without(path):
    """A Pod that lacks something, by the keys that lead to it."""

    def change(pod):
        *parents, last = path
        place = pod
        for key in parents:
            place = place[key]
        del place[last]

    return change


def with_(path, value):
    def change(pod):
        *parents, last = path
        place = pod
        for key in parents:
            place = place[key]
        place[last] = value

    return change


PROXY = ("containers", 0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without(["securityContext", "runAsNonRoot"]), "runAsNonRoot"),
        (with_(["securityContext", "runAsUser"], 0), "runAsUser"),
        (without(["securityContext", "seccompProfile"]), "seccompProfile"),
        (with_(["hostNetwork"], True), "host"),
        (with_(["volumes", 0], {"name": "x", "hostPath": {"path": "/"}}), "volume x"),
        (without(["automountServiceAccountToken"]), "automountServiceAccountToken"),
        (without(["enableServiceLinks"]), "enableServiceLinks"),
        (with_(["terminationGracePeriodSeconds"], 30), "terminationGracePeriodSeconds"),
        (
            without([*PROXY, "securityContext", "allowPrivilegeEscalation"]),
            "token-proxy: allowPrivilegeEscalation",
        ),
        (with_([*PROXY, "securityContext", "capabilities"], {}), "token-proxy: capabilities"),
        (
            without([*PROXY, "securityContext", "readOnlyRootFilesystem"]),
            "token-proxy: readOnlyRootFilesystem",
        ),
        (with_([*PROXY, "securityContext", "privileged"], True), "token-proxy: privileged"),
        (without([*PROXY, "resources", "limits"]), "token-proxy: resources"),
        (with_([*PROXY, "image"], "registry:5000/token-proxy"), "token-proxy: image"),
    ],
)
def test_each_rule_for_pods_can_fail(change, fault):
    ((_, pod),) = pods.pods(kustomize(FOLDER / "shared-redis"))
    changed = copy.deepcopy(pod)
    change(changed)
    assert list(pods.faults(changed)) == [fault]


def test_labels_and_selectors_agree(objects):
    for each in objects:
        kind, spec = each["kind"], each.get("spec", {})
        if kind in pods.WORKLOADS:
            labels = spec["template"]["metadata"]["labels"]
            assert set(pods.NAMES) <= labels.keys()
            if kind != "Job":
                assert spec["selector"]["matchLabels"].items() <= labels.items()
    (workload,) = (each for each in objects if each["kind"] in pods.WORKLOADS)
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for service in of_kind(objects, "Service"):
        assert service["spec"]["selector"].items() <= labels.items()
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for each in of_kind(objects, kind):
            selector = each["spec"].get("selector") or each["spec"]["podSelector"]
            assert selector["matchLabels"].items() <= labels.items()


def test_the_configurations_have_no_fault(tmp_path, objects):
    for each in of_kind(objects, "ConfigMap"):
        done = configuration.check_complete(tmp_path, each["data"]["config.toml"])
        assert done.returncode == 0, done.stderr


def test_the_configurations_need_no_secret_to_be_judged(tmp_path, objects):
    for each in of_kind(objects, "ConfigMap"):
        done = configuration.check(tmp_path, each["data"]["config.toml"], "--no-secrets")
        assert done.returncode == 0, done.stderr


def test_pods_mount_what_the_configuration_names(objects):
    for config in of_kind(objects, "ConfigMap"):
        ((_, pod),) = pods.pods(objects)
        (proxy,) = pods.proxies(pod)
        (volume,) = (
            each["name"] for each in proxy["volumeMounts"] if each["mountPath"] == "/etc/token-proxy"
        )
        sources = list(pods.files(pod, volume))
        assert ("configMap", config["metadata"]["name"]) in sources
        text = config["data"]["config.toml"]
        assert any(kind == "secret" for kind, _ in sources)
        assert ("tls" in tomllib.loads(text)["server"]) == (("secret", "token-proxy-tls") in sources)
        explained = "".join(path.read_text() for path in FOLDER.glob("*/kustomization.yaml"))
        for name in configuration.FILES.findall(text):
            assert f"--from-file={name}" in explained, f"nobody is told to make {name}"


def test_the_listeners_are_where_the_objects_say(objects):
    """The kubelet comes by the Pod's address, callers only where the proxy is shared, nobody to admin."""
    ((_, pod),) = pods.pods(objects)
    (proxy,) = pods.proxies(pod)
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    texts = [each["data"]["config.toml"] for each in of_kind(objects, "ConfigMap")]
    if texts:
        server = tomllib.loads(texts[0])["server"]
    else:
        prefix = "TOKEN_PROXY_"
        given = {each["name"]: each.get("value") for each in proxy["env"] if each["name"].startswith(prefix)}
        server = {name.removeprefix(prefix).lower(): value for name, value in given.items()}
    assert server["health"] == f"0.0.0.0:{ports['token-health']}"
    assert server.get("admin", "127.0.0.1:8081").startswith("127.0.0.1:")
    assert 8081 not in ports.values()
    listen = server.get("listen", "127.0.0.1:8080")
    assert listen == (f"0.0.0.0:{ports['https']}" if "https" in ports else "127.0.0.1:8080")
    assert ("https" in ports) == bool(of_kind(objects, "Service")) or of_kind(objects, "StatefulSet")
    asked = list(pods.probes(pod))
    assert {port for _, _, port in asked} == {ports["token-health"]}
    assert {path for _, path, _ in asked} <= pods.PATHS
    assert {kind: path for kind, path, _ in asked}["livenessProbe"] == "/healthz", "never about tokens"


@pytest.mark.parametrize("name", ["shared-postgres", "shared-redis"])
def test_replicas_share_and_none_is_taken_out_by_a_token(name):
    objects = kustomize(FOLDER / name)
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    ((_, pod),) = pods.pods(objects)
    assert {path for kind, path, _ in pods.probes(pod) if kind == "readinessProbe"} == {"/startupz"}
    (config,) = of_kind(objects, "ConfigMap")
    parsed = tomllib.loads(config["data"]["config.toml"])
    assert parsed["callers"]
    assert "tls" in parsed["server"]
    assert set(parsed["store"]) == {"url", "key"}
    assert of_kind(objects, "PodDisruptionBudget")


@pytest.mark.parametrize(("name", "port"), [("shared-postgres", 5432), ("shared-redis", 6379)])
def test_the_policy_lets_in_callers_and_prometheus_only(name, port):
    (policy,) = of_kind(kustomize(FOLDER / name), "NetworkPolicy")
    callers, prometheus = policy["spec"]["ingress"]
    (peer,) = callers["from"]
    assert peer["podSelector"]["matchLabels"] == {"token-proxy-caller": "true"}
    assert [each["port"] for each in callers["ports"]] == ["https"]
    assert [each["port"] for each in prometheus["ports"]] == ["token-health"]
    dns, https, store = policy["spec"]["egress"]
    assert dns["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}, "and no label of ours"
    assert [each["port"] for each in https["ports"]] == [443]
    assert "169.254.0.0/16" in https["to"][0]["ipBlock"]["except"]
    assert [each["port"] for each in store["ports"]] == [port]


@pytest.mark.parametrize("name", ["job", "sidecar"])
def test_a_sidecar_starts_before_the_application_and_ends_after_it(name):
    """An init container with restartPolicy Always, which a Job does not wait for."""
    ((_, pod),) = pods.pods(kustomize(FOLDER / name))
    (sidecar,) = pod["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("token-proxy", "Always")
    assert "startupProbe" in sidecar


def test_tokens_of_a_sidecar_last():
    objects = kustomize(FOLDER / "sidecar")
    (workload,) = of_kind(objects, "StatefulSet")
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    ((_, pod),) = pods.pods(objects)
    (proxy,) = pods.proxies(pod)
    mounts = {each["mountPath"]: each["name"] for each in proxy["volumeMounts"]}
    assert mounts["/var/lib/token-proxy"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"], "SQLite is for one process at a time"


def test_a_job_is_configured_by_environment_alone(tmp_path):
    ((_, pod),) = pods.pods(kustomize(FOLDER / "job"))
    (proxy,) = pods.proxies(pod)
    secret = tmp_path / "client-secret"
    secret.write_text("a-secret\n")
    variables = {}
    for each in proxy["env"]:
        value = each.get("value", "report")
        mounted = value.startswith("/run/secrets/token-proxy/")
        variables[each["name"]] = str(secret) if mounted else value
    assert mounts(proxy)["/run/secrets/token-proxy"] == "client"
    (tmp_path / "state").mkdir()
    done = configuration.run(tmp_path, {**variables, "STATE_DIRECTORY": str(tmp_path / "state")}, "check")
    assert done.returncode == 0, done.stderr
    assert "unknown" not in done.stderr


def mounts(container):
    return {each["mountPath"]: each["name"] for each in container["volumeMounts"]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_podmonitor_finds_the_port_in_each_of_them(tmp_path, name):
    made = tmp_path / "with"
    made.mkdir()
    (made / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [relative(FOLDER / name, made)],
                "components": [relative(FOLDER / "components" / "podmonitor", made)],
            }
        )
    )
    objects = kustomize(made)
    (monitor,) = of_kind(objects, "PodMonitor")
    assert {each["kind"] for each in objects} - {"PodMonitor"} == {
        each["kind"] for each in kustomize(FOLDER / name)
    }
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ((_, pod),) = pods.pods(objects)
    (proxy,) = pods.proxies(pod)
    assert endpoint["port"] in {port["name"] for port in proxy["ports"]}
    assert endpoint["path"] == "/metrics"
    assert monitor["spec"]["selector"] == {}
    if name.startswith("shared"):
        assert {each["metadata"].get("namespace") for each in objects} == {"token-proxy", None}


def relative(path, folder):
    """kustomize takes relative paths only."""
    return os.path.relpath(path, folder)
