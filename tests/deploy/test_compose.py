"""deploy/docker/compose.yaml: its schema, and what it promises. test_image.py runs our services of it."""

import subprocess
import tomllib

import pytest
import yaml

from tests.deploy import configuration, dockerfile, image, stack
from tests.deploy.tools import DEPLOY, program

FILE = stack.read()
SERVICES = FILE["services"]
PUBLISHED = {"token-proxy": {8081, 9000}, "prometheus": {9090}, "grafana": {3000}}


def judge(path):
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_a_compose_file():
    done = judge(stack.FILE)
    assert done.returncode == 0, done.stdout


def test_a_key_that_compose_does_not_know_is_found(tmp_path):
    bad = tmp_path / "compose.yaml"
    bad.write_text(stack.FILE.read_text().replace("    healthcheck:\n", "    health_check:\n", 1))
    done = judge(bad)
    assert done.returncode == 1
    assert "health_check" in done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_no_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    tag = service["image"].rpartition(":")[2]
    assert tag not in {"", "latest"}, "an image has a version"


def test_ports_are_published_on_this_machine_alone():
    found: dict[str, set[int]] = {}
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            host, outside, _ = port.rsplit(":", 2)
            assert host == "127.0.0.1"
            found.setdefault(name, set()).add(int(outside))
    assert found == PUBLISHED


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_be_waited_for(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] in {"service_started", "service_healthy"}
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        shares = SERVICES[name].get("network_mode") == f"service:{other}"
        assert not shares or how["restart"] is True, "its network goes with the other one"


def test_files_and_secrets_are_there():
    used = set()
    for service in SERVICES.values():
        used.update(service.get("secrets", ()))
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (
                (DEPLOY / "docker" / source).exists() if source.startswith(".") else source in FILE["volumes"]
            )
    assert used == FILE["secrets"].keys()
    for secret in FILE["secrets"].values():
        assert (DEPLOY / "docker" / secret["file"]).is_file()


def test_the_health_of_the_container_is_that_of_the_image():
    test = SERVICES["token-proxy"]["healthcheck"]["test"]
    last = dockerfile.read(image.DOCKER / "Dockerfile", {})[-1]
    assert last.last("HEALTHCHECK").value == f"CMD {test[1:]!s}".replace("'", '"')
    build = SERVICES["token-proxy"]["build"]
    assert (DEPLOY / "docker" / build["context"] / build["dockerfile"]).samefile(image.DOCKER / "Dockerfile")


def test_its_configuration_has_no_fault(tmp_path):
    text = (DEPLOY / "docker" / "demo" / "config.toml").read_text()
    given = stack.given(SERVICES["token-proxy"], FILE["secrets"])
    for place, path in given.items():
        text = text.replace(f'"{place}"', f'"{path}"')
    done = configuration.check(tmp_path, text)
    assert done.returncode == 0, done.stderr


def test_prometheus_scrapes_the_health_listener_and_grafana_asks_prometheus():
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    server = tomllib.loads((DEPLOY / "docker" / "demo" / "config.toml").read_text())["server"]
    port = server["health"].rpartition(":")[2]
    assert job["static_configs"] == [{"targets": [f"token-proxy:{port}"]}]
    assert scraped["rule_files"] == ["rules.yml"]
    (source,) = read("datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read("dashboards/token-proxy.yaml")["providers"]
    volumes = SERVICES["grafana"]["volumes"]
    assert f"../grafana:{provider['options']['path']}:ro" in volumes


def read(name):
    return yaml.safe_load((DEPLOY / "grafana" / "provisioning" / name).read_text())
