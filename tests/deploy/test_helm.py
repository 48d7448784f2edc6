"""deploy/helm: linted and rendered by helm, judged like deploy/kubernetes; bad values are refused."""

import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml

from tests.deploy import configuration, pods
from tests.deploy.tools import DEPLOY, objects, program

CHART = DEPLOY / "helm" / "token-proxy"
CASES = ["sqlite", "shared"]


def values_of(case):
    return CHART / "ci" / f"{case}-values.yaml"


def helm(*arguments):
    return subprocess.run(
        [program("helm"), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def render(case, *options):
    done = helm("template", "release", CHART, "--namespace", "apps", "--values", values_of(case), *options)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def of_kind(found, kind):
    return [each for each in found if each["kind"] == kind]


@pytest.mark.parametrize("case", CASES)
def test_helm_lint_has_no_complaint(case):
    done = helm("lint", "--strict", CHART, "--values", values_of(case))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    assert "ERROR" not in done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_knows_each_field(case, version):
    found = render(case)
    for each in found:
        if each["kind"] != "PodMonitor":
            kubernetes_validate.validate(each, version, strict=True)
    assert bool(of_kind(found, "PodMonitor")) == (case == "shared")


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case):
    found = dict(pods.pods(render(case)))
    assert len(found) == 2, "token-proxy, and the Pod of `helm test`"
    for name, pod in found.items():
        assert list(pods.faults(pod)) == [], name


@pytest.mark.parametrize("case", CASES)
def test_the_configuration_has_no_fault_and_fits_the_objects(tmp_path, case):
    found = render(case)
    (config,) = of_kind(found, "ConfigMap")
    text = config["data"]["config.toml"]
    assert configuration.check_complete(tmp_path / "complete", text).returncode == 0
    done = configuration.check(tmp_path / "alone", text, "--no-secrets")
    assert done.returncode == 0, done.stderr
    server = tomllib.loads(text)["server"]
    pod = next(pod for _, pod in pods.pods(found) if pods.proxies(pod))
    (proxy,) = pods.proxies(pod)
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    assert server["listen"] == f"0.0.0.0:{ports['data']}"
    assert server["health"] == f"0.0.0.0:{ports['token-health']}"
    assert {port for _, _, port in pods.probes(pod)} == {ports["token-health"]}
    (service,) = of_kind(found, "Service")
    name, space = service["metadata"]["name"], "apps"
    assert {name, f"{name}.{space}.svc"} <= set(server["allowed_hosts"])
    assert ("configMap", config["metadata"]["name"]) in set(pods.files(pod, "config"))


@pytest.mark.parametrize("case", CASES)
def test_labels_and_selectors_agree(case):
    found = render(case)
    (workload,) = [*of_kind(found, "Deployment"), *of_kind(found, "StatefulSet")]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for each in found:
        assert set(pods.NAMES) <= each["metadata"]["labels"].keys(), each["kind"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (service,) = of_kind(found, "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    (test,) = of_kind(found, "Pod")
    assert not service["spec"]["selector"].items() <= test["metadata"]["labels"].items()
    for each in [*of_kind(found, "NetworkPolicy"), *of_kind(found, "PodDisruptionBudget")]:
        selector = each["spec"].get("selector") or each["spec"]["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()


def test_a_changed_configuration_makes_new_pods():
    before, after = render("sqlite"), render("sqlite", "--set", "server.allowedHosts={other.example}")
    sums = [
        of_kind(found, "StatefulSet")[0]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for found in (before, after)
    ]
    assert sums[0] != sums[1]


def test_one_replica_has_a_volume_and_several_share():
    (one,) = of_kind(render("sqlite"), "StatefulSet")
    assert one["spec"]["replicas"] == 1
    assert one["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "state"
    assert not of_kind(render("sqlite"), "PodDisruptionBudget")
    several = render("shared")
    (deployment,) = of_kind(several, "Deployment")
    assert deployment["spec"]["replicas"] == 3
    assert of_kind(several, "PodDisruptionBudget")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"ghcr.io/token-proxy/token-proxy@sha256:{'0' * 64}"


def test_the_notes_say_how_to_log_in():
    done = helm(
        "install",
        "release",
        CHART,
        "--dry-run=client",
        "--namespace",
        "apps",
        "--values",
        values_of("shared"),
    )
    assert done.returncode == 0, done.stderr
    _, _, notes = done.stdout.partition("NOTES:")
    assert "port-forward deployment/release-token-proxy 8081" in notes
    assert "https://release-token-proxy.apps.svc:443/" in notes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("config=", "at '/config': minLength"),
        ("config=[routes]", "at '/config'"),
        ("config=[credentials.x]\n[server]\nadmin = 1", "at '/config': 'not' failed"),
        ("secret=", "at '/secret': minLength"),
        ("secret=Token_Proxy", "does not match pattern"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("server.tls=x", "at '/server': additional properties 'tls' not allowed"),
        ("store.kind=redis", "at '/store/kind': value must be one of 'sqlite', 'shared'"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("image.digest=abc", "at '/image/digest'"),
        ("server.publicUrl=tokens.example", "at '/server/publicUrl'"),
        ("networkPolicy.egressPorts={x}", "at '/networkPolicy/egressPorts/0': got string, want integer"),
        ("resources.requests.cpu=many", "at '/resources/requests/cpu'"),
        ("replicas=2", "expected store.kind: shared"),
        ("server.plaintext=false", "expected server.tlsSecret"),
        ("server.tlsSecret=tls", "tlsSecret and plaintext contradict each other"),
        ("config=[credentials.x]", "expected a [callers.NAME]"),
    ],
)
def test_bad_values_are_refused_in_words(change, said):
    done = helm("template", "release", CHART, "--values", values_of("sqlite"), "--set", change)
    assert done.returncode != 0
    assert said in done.stderr


def test_without_values_it_says_which_ones_are_missing():
    done = helm("template", "release", CHART)
    assert done.returncode != 0
    assert "/config" in done.stderr
    assert "/secret" in done.stderr


def test_the_schema_knows_each_default_and_no_other_key():
    import json

    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(properties, given, place):
        for key, value in given.items():
            assert key in properties, f"{place}.{key}"
            if properties[key].get("properties"):
                assert properties[key]["additionalProperties"] is False
                compare(properties[key]["properties"], value, f"{place}.{key}")
                assert properties[key]["properties"].keys() == value.keys()

    compare(schema["properties"], defaults, "")
    assert schema["properties"].keys() - defaults.keys() == {"global"}


def test_the_versions_agree():
    """Of the chart, of what it runs, of the kustomizations and of the package."""
    with (DEPLOY.parent / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        for image in yaml.safe_load(path.read_text()).get("images", ()):
            assert (image["newName"], image["newTag"]) == ("ghcr.io/token-proxy/token-proxy", version), path
