"""What the demo prints can be done as it is printed, up to the lost login that is mended on the page."""

import sys

import pytest

from tests.browsers.stage import chromium
from tests.e2e.newcomers.first_minutes import Steps, running, walk
from tests.e2e.proxy_process import REPOSITORY

pytestmark = [pytest.mark.browsers, pytest.mark.timeout(300)]


def test_what_the_demo_prints_leads_to_a_login_that_is_lost_and_mended():
    """`make newcomer` does the same from a clean clone, and prints the times."""
    steps = Steps()
    with running([sys.executable, "-m", "proxy", "demo"], REPOSITORY) as said, chromium() as browser:
        walk(said, browser, steps)
    assert len(steps.done) == 6
    assert steps.clicks == 3, "ours, the one of the page that explains, and the authorization server's"
