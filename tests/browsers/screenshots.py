"""The pictures of the status page in the documents: `make screenshots`.

The real command, with seven accounts: three that work, and one for each way to need attention. Times are
those of the machine, so the pictures differ a little each time.

    python -m tests.browsers.screenshots             into docs/images
    python -m tests.browsers.screenshots FOLDER      these, and the same in other colours, for a look
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import requests
from playwright.sync_api import Page, expect

from proxy.demo import faults
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import Fault
from tests.browsers.small_png import small
from tests.browsers.stage import (
    PATIENCE,
    Background,
    Stage,
    chromium,
    credential,
    our_server,
    route,
    served,
    two_ports,
)
from tests.fakes.id_tokens import id_token

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
PEOPLE: Final = {"crm": "alice", "mail": "alice", "hr": "carol", "billing": "bob"}
SHORT: Final = 10  # seconds that the access tokens of `hr` and `billing` live
DAYS: Final = 86400
DESKTOP: Final = {"viewport": {"width": 1280, "height": 800}}
PHONE: Final = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5, "is_mobile": True}
# name → colours, screen, height of the picture (pixels of the page; None: all). The first two are in the
# documents, the others are for a look.
PICTURES: Final = {
    "status": ("light", DESKTOP, None),
    "status-phone": ("dark", PHONE, 1000),
    "status-dark": ("dark", DESKTOP, None),
    "status-phone-light": ("light", PHONE, None),
}
IN_DOCUMENTS: Final = 2
AGE: Final = 20.0  # seconds that something has failed for, so that the pictures look as in life
SHOWN_AS: Final = "/etc/token-proxy"  # in place of the temporary folder


@contextmanager
def staged(folder: Path, *, more: bool = False) -> Iterator[Stage]:
    """Seven accounts in their states. `more`: credentials for logins by device and named accounts, too."""
    ports, background = two_ports(), Background()
    with ExitStack() as stack:
        stack.callback(background.close)
        users = ("alice", "bob", "carol")
        ours = stack.enter_context(
            our_server(background, ports[1], "crm", "mail", "nightly", "new", "tv", "team", users=users)
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
                *(_more(ours.issuer) if more else ()),
            ]
        )
        proxy = stack.enter_context(served(folder, ports, text, {}))
        stage = Stage(proxy, {"ours": ours, "short": short}, stack.enter_context(chromium()))
        _fill(stage)
        yield stage


def _more(issuer: str) -> Iterator[str]:
    yield credential("tv", issuer, "device_code")
    yield credential("team", issuer)
    yield route("team", more='account = { header = "X-Remote-User" }')


def _fill(stage: Stage) -> None:
    ours, short = stage.servers["ours"], stage.servers["short"]
    with stage.page() as page:
        for name, person in PEOPLE.items():
            server = short if name in {"hr", "billing"} else ours
            more = {"refresh_expires_in": 3 * DAYS} if name == "mail" else {}
            server.script(logs_in_as(server, name, person, **more), client_id=name)
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


def logs_in_as(server: AuthorizationServer, client_id: str, person: str, **more: object) -> Fault:
    """The next response has an id_token of this person."""
    token = id_token(server.issuer, client_id, person, email=f"{person}@example.com")
    return Fault(change={"id_token": token, **more})


def _log_in(page: Page, stage: Stage, name: str, person: str) -> None:
    page.goto(f"{stage.url}/login/{name}")
    page.get_by_role("button", name="Continue to the authorization server").click()
    page.get_by_role("button", name=f"Continue as {person}").click()
    page.get_by_role("link", name="All accounts").wait_for()


def take(stage: Stage, name: str, file: Path, folder: str) -> None:
    colours, screen, height = PICTURES[name]
    with stage.page(color_scheme=colours, **screen) as page:
        expect(page.locator("#live")).to_have_text("live")
        replace = "([from, to]) => { const foot = document.getElementById('foot'); "
        replace += "foot.innerHTML = foot.innerHTML.replaceAll(from, to); }"
        page.evaluate(replace, [folder, SHOWN_AS])
        clip = {"x": 0, "y": 0, "width": screen["viewport"]["width"], "height": height}
        png = page.screenshot(**({"clip": clip} if height else {"full_page": True}))
        file.write_bytes(small(page.context, png))


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, staged(Path(scratch)) as stage:
        time.sleep(AGE)
        for name in names:
            take(stage, name, folder / f"{name}.png", scratch)
            print(folder / f"{name}.png")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), list(PICTURES))
    else:
        main(FOLDER, list(PICTURES)[:IN_DOCUMENTS])
