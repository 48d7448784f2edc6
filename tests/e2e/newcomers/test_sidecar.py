"""A platform engineer adds a sidecar: by variables alone, as a user without name and home, read-only."""

import json
import signal

import pytest

from proxy.demo import started
from tests.e2e.newcomers.shell import shell
from tests.e2e.processes import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

NOBODY = "54321"  # a number, without a name
# In a namespace of its own: the root is read-only but for the volume. What is more than a container has,
# dac_read_search, lets this user read the interpreter of the tests, wherever that is; it writes nowhere.
CONTAINER = """\
set -e
mount --bind volume volume
mount -o remount,bind,ro /
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs \\
    --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search \\
    --ambient-caps=-all,+dac_read_search env -u HOME "$@"
"""


def test_a_platform_engineer_adds_a_sidecar(tmp_path):
    data, admin, health = free_port(), free_port(), free_port()
    probes = f"http://127.0.0.1:{health}"
    with started("--client=app:first", "--lifetime=3600") as server, shell(tmp_path / "pod") as pod:
        pod.write("container", CONTAINER.format(user=NOBODY))
        pod.run(f"install -d -o {NOBODY} -g {NOBODY} -m 0700 volume")
        pod.write("secret", "first")
        container = "unshare --mount --propagation private sh container"

        # The variables of deploy/README.md, one of them forgotten.
        pod.variables |= {
            "STATE_DIRECTORY": str(pod.folder / "volume"),
            "TOKEN_PROXY_UPSTREAM": server.api,
            "TOKEN_PROXY_ISUER": server.issuer,
            "TOKEN_PROXY_GRANT": "client_credentials",
            "TOKEN_PROXY_CLIENT_ID": "app",
            "TOKEN_PROXY_CLIENT_SECRET_FILE": str(pod.folder / "secret"),
            "TOKEN_PROXY_LISTEN": f"127.0.0.1:{data}",
            "TOKEN_PROXY_ADMIN": f"127.0.0.1:{admin}",
            "TOKEN_PROXY_HEALTH": f"0.0.0.0:{health}",
        }
        said = pod.run(f"{container} token-proxy run", 2)
        assert "TOKEN_PROXY_ISSUER: not set - is TOKEN_PROXY_ISUER misspelt?" in said
        pod.variables["TOKEN_PROXY_ISSUER"] = pod.variables.pop("TOKEN_PROXY_ISUER")
        assert pod.run("token-proxy check").startswith("environment: no faults (1 credential, 1 route)\n")

        # The container starts; the command waits until it can serve, as in a startup probe.
        proxy = pod.start(f"{container} token-proxy run")
        assert pod.run("token-proxy wait") == ""
        assert pod.run(f"curl -fsS {probes}/healthz {probes}/startupz") == "okok"
        assert json.loads(pod.run(f"curl -fsS {probes}/readyz")) == {"ready": True, "reasons": []}
        metrics = pod.run(f"curl -fsS {probes}/metrics")
        assert "\ntoken_proxy_ready 1.0\n" in metrics
        assert '\ntoken_proxy_login_required{account="default",credential="default"} 0.0\n' in metrics
        assert pod.run(f"curl -s -o /dev/null -w '%{{http_code}}' {probes}/login/default") == "404"
        for line in proxy.text.splitlines():
            json.loads(line)

        # The app calls the API, and does not know of tokens.
        app = f"curl -fsS http://127.0.0.1:{data}/contacts"
        assert json.loads(pod.run(app))["hello"] == "app"

        # The Secret is replaced: by a wrong one, which hurts nobody while the token is valid; by a right one.
        for times, secret in enumerate(("mistyped", "first"), 1):
            pod.write("secret", secret)
            proxy.shows(f"took up the new contents of {pod.folder}/secret", times)
            assert json.loads(pod.run(app))["hello"] == "app"

        # The pod ends.
        proxy.signal(signal.SIGTERM)
        assert proxy.end() == 0
        assert "no server responds" in pod.run("token-proxy wait --timeout 0", 1)
