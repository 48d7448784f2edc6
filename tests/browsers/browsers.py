"""The real browsers, headless, each with a fresh profile in which every name leads to 127.0.0.1.

They are started with the address of a page that does the rest: no driver, so that nothing marks what a page
does as done by a person. Their own guards that stand before ours are off: popup blocking, prompts for the
local network, upgrades to https.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

PROGRAMS: Final = {"chromium": ("chromium", "google-chrome"), "firefox": ("firefox-esr", "firefox")}
STOP_LIMIT: Final = 30  # seconds
OFF: Final = ",".join(  # the last two: a process for each site takes a busy machine minutes
    [
        *("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "LocalNetworkAccessChecks"),
        *("BlockInsecurePrivateNetworkRequests", "MediaRouter", "OptimizationHints"),
        *("IsolateOrigins", "site-per-process"),
    ]
)
CHROMIUM: Final = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-popup-blocking", "--ignore-certificate-errors", "--host-resolver-rules=MAP * 127.0.0.1"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-background-timer-throttling", "--disable-renderer-backgrounding"),
    *("--disable-site-isolation-trials", "--renderer-process-limit=2"),
    *("--disable-backgrounding-occluded-windows", "--autoplay-policy=no-user-gesture-required"),
    f"--disable-features={OFF}",
]
FIREFOX: Final = {
    "fission.autostart": False,  # as above
    "dom.ipc.processCount": 1,
    "network.dns.forceResolve": "127.0.0.1",
    "network.proxy.type": 0,
    "network.http.throttle.enable": False,  # of pages behind others
    "network.http.tailing.enabled": False,
    "network.http.active_tab_priority": False,
    "network.http.max-persistent-connections-per-server": 32,
    "network.lna.enabled": False,
    "network.lna.blocking": False,
    "network.prefetch-next": True,
    "network.http.rcwn.enabled": False,
    "dom.disable_open_during_load": False,
    "dom.popup_maximum": 1000,
    "dom.security.https_first": False,
    "dom.security.https_first_schemeless": False,
    "dom.security.https_only_mode": False,
    "security.mixed_content.upgrade_display_content": False,
    "security.mixed_content.block_active_content": False,
    "dom.min_background_timeout_value": 4,
    "dom.serviceWorkers.enabled": True,
    "media.autoplay.default": 0,
    "security.csp.reporting.enabled": True,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.send_pings": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.cosmeticAnimations.enabled": False,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "privacy.trackingprotection.enabled": False,
    "privacy.donottrackheader.enabled": False,
}


def program(name: str) -> str | None:
    """The path of a browser; None if this machine has none."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


def browse(stack: AsyncExitStack, name: str, url: str, folder: Path, trusted: dict[str, str]) -> None:
    """Show `url` in a browser, until `stack` is left. `trusted`: "host:port" -> its certificate's SHA-256."""
    path = program(name)
    assert path is not None, f"missing: {PROGRAMS[name][0]}, of the distribution"
    profile = folder / "profile"
    profile.mkdir()
    if name == "chromium":
        command = [path, *CHROMIUM, f"--user-data-dir={profile}", url]
    else:
        _prepare_firefox(profile, trusted)
        command = [path, "--headless", "--no-remote", "--profile", str(profile), url]
    # A home of its own: root's may be somebody else's, which Firefox refuses.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    # The path of Chromium's socket must be shorter than a test's folder is.
    short = stack.enter_context(TemporaryDirectory(prefix="b", ignore_cleanup_errors=True))
    environment["TMPDIR"] = short
    with (folder / "browser.log").open("wb") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    stack.callback(_stop, running)


def _prepare_firefox(profile: Path, trusted: dict[str, str]) -> None:
    lines = [f"user_pref({_quoted(key)}, {_quoted(value)});" for key, value in FIREFOX.items()]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    entries = [f"{place}:\tOID.2.16.840.1.101.3.4.2.1\t{digest}\t" for place, digest in trusted.items()]
    (profile / "cert_override.txt").write_text(
        "\n".join(["# PSM Certificate Override Settings file", *entries, ""])
    )


def _quoted(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _stop(running: subprocess.Popen[bytes]) -> None:
    """With all its processes: they are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(STOP_LIMIT)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)  # its children, which may outlive it
