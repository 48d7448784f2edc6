"""A person with a browser on the host of compose.yaml: python visitor.py ADDRESS HOST:PORT:INSIDE …

What goes to a published port on 127.0.0.1 arrives at ADDRESS. Signs in on the page, and logs in as alice.
"""

import socket
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

import requests  # noqa: E402
import urllib3.util.connection  # noqa: E402

from tests.e2e.browser import Browser, Page  # noqa: E402

PAGE = "http://127.0.0.1:8081"
SERVER = "http://127.0.0.1:9000"
CONTAINER = sys.argv[1]
PUBLISHED = {tuple(each.split(":")[:2]): each.split(":")[2] for each in sys.argv[2:]}
KEY = (REPOSITORY / "deploy" / "docker" / "demo" / "admin.key").read_text().strip()


def connect(address: tuple[str, int], *arguments: object, **options: object) -> socket.socket:
    host, port = address
    inside = PUBLISHED[(host, str(port))]  # KeyError: nothing is published there
    return socket.create_connection((CONTAINER, int(inside)), 60)


urllib3.util.connection.create_connection = connect


def sign_in(browser: Browser, key: str) -> Page:
    page = browser.open(f"{PAGE}/sign-in?next=/login/person")
    return browser.submit(page, page.forms[0], key=key)


browser = Browser()
page = browser.open(f"{PAGE}/login/person")
forged = {"csrf": browser.open(f"{PAGE}/sign-in").forms[0].fields["csrf"]}
forced = browser.session.post(
    f"{PAGE}/login/person", data=forged, headers={"Origin": PAGE}, allow_redirects=False, timeout=60
)
refused = not page.forms and forced.status_code == 403
print("refused without the key" if refused else (forced.status_code, page.forms))
wrong = sign_in(browser, "not-the-key-of-this-page")
print("refused with a wrong key" if wrong.status == 403 else wrong)
page = sign_in(browser, KEY)
print("signed in" if page.status == 200 and page.url == f"{PAGE}/login/person" else page)
asked = browser.submit(page, page.forms[0])
assert asked.url.startswith(f"{SERVER}/"), asked
choice = asked.forms[0]
choice.buttons.clear()  # the last one declines
done = browser.submit(asked, choice, user="alice")
print("logged in" if done.status == 200 and done.url.startswith(PAGE) else done)
(token,) = (
    each
    for each in requests.get(f"{PAGE}/api/status", timeout=60).json()["tokens"]
    if each["credential"] == "person"
)
print(token["state"])
