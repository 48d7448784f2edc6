"""The pictures of the status page in the documents: `make screenshots`.

The real command, with seven accounts: three that work, and one for each way to need attention. Times are
those of the machine, so the pictures differ a little each time.

    python -m tests.browsers.screenshots [FOLDER]    default: docs/images
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import requests
from playwright.sync_api import Page

from proxy.demo import faults
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import Fault
from tests.browsers.stage import (
    PATIENCE,
    Background,
    Stage,
    chromium,
    credential,
    our_server,
    route,
    row,
    served,
    two_ports,
)
from tests.fakes.id_tokens import id_token

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
PEOPLE: Final = {"crm": "alice", "mail": "alice", "hr": "carol", "billing": "bob"}
SHORT: Final = 10  # seconds that the access tokens of `hr` and `billing` live
DAYS: Final = 86400
DESKTOP: Final = {"viewport": {"width": 1280, "height": 800}}
PHONE: Final = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True}
# name → colours, screen, size of the picture in pixels of the page
PICTURES: Final = {
    "status": ("light", DESKTOP),
    "status-dark": ("dark", DESKTOP),
    "status-phone": ("dark", PHONE),
    "status-phone-light": ("light", PHONE),
}
IN_DOCUMENTS: Final = ("status", "status-phone")  # the others are for a look


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Seven accounts in their states."""
    ports, background = two_ports(), Background()
    with ExitStack() as stack:
        stack.callback(background.close)
        users = ("alice", "bob", "carol")
        ours = stack.enter_context(
            our_server(background, ports[1], "crm", "mail", "nightly", "new", users=users)
        )
        short = stack.enter_context(
            our_server(background, ports[1], "hr", "billing", lifetime=SHORT, users=users)
        )
        wrong = credential("reports", ours.issuer, "client_credentials")
        text = "".join(
            [
                *(credential(name, ours.issuer) for name in ("crm", "mail", "new")),
                *(credential(name, short.issuer) for name in ("hr", "billing")),
                credential("nightly", ours.issuer, "client_credentials"),
                wrong,
                *(route(name) for name in ("crm", "mail", "new", "hr", "billing", "nightly", "reports")),
                route("crm", "crm-example-internal"),
            ]
        )
        proxy = stack.enter_context(served(folder, ports, text, {}))
        stage = Stage(proxy, {"ours": ours, "short": short}, stack.enter_context(chromium()))
        _fill(stage)
        yield stage


def _fill(stage: Stage) -> None:
    ours, short = stage.servers["ours"], stage.servers["short"]
    with stage.page() as page:
        for name, person in PEOPLE.items():
            server = short if name in {"hr", "billing"} else ours
            more = {"refresh_expires_in": 3 * DAYS} if name == "mail" else {}
            server.script(_as(server, name, person, more))
            _log_in(page, stage, name, person)
    short.script(faults.NAMED["invalid-grant"], times=None, client_id="hr")
    short.script(faults.NAMED["outage"], times=None, client_id="billing")
    for name in ("nightly", "reports"):  # a first request for each
        data = stage.proxy.data_port
        requests.get(f"http://127.0.0.1:{data}/{name}", timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    expected = {"hr": "login_required", "billing": "expired", "reports": "misconfigured", "nightly": "valid"}
    while _states(stage) != expected or not stage.entry("billing")["needs_attention"]:
        assert time.monotonic() < deadline, stage.entry("hr")
        time.sleep(0.5)


def _states(stage: Stage) -> dict[str, str]:
    return {name: stage.entry(name)["state"] for name in ("hr", "billing", "reports", "nightly")}


def _as(server: AuthorizationServer, client_id: str, person: str, more: dict[str, object]) -> Fault:
    token = id_token(server.issuer, client_id, person, email=f"{person}@example.com")
    return Fault(change={"id_token": token, **more})


def _log_in(page: Page, stage: Stage, name: str, person: str) -> None:
    page.goto(f"{stage.url}/login/{name}")
    page.get_by_role("button", name="Continue to the authorization server").click()
    page.get_by_role("button", name=f"Continue as {person}").click()
    page.get_by_role("link", name="All accounts").wait_for()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, staged(Path(scratch)) as stage:
        for name, (colours, screen) in PICTURES.items():
            with stage.page(color_scheme=colours, **screen) as page:
                row(page, "crm").wait_for()
                page.evaluate("document.activeElement.blur()")
                page.screenshot(path=folder / f"{name}.png", full_page=True)
                print(json.dumps({"picture": name, "title": page.title()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
