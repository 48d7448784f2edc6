"""Names in the documents exist: environment variables, metrics, endings, files of the repository."""

import re

from docs.tools import metrics
from proxy.config.variables import PREFIX, VARIABLES
from proxy.endings import ENDINGS
from tests.docs.pages import PAGES, REPOSITORY

TEXTS = {page: page.read_text() for page in PAGES if page.name != "CHANGELOG.md"}  # which tells of the past
OTHERS = {  # variables: who reads or sets them
    "TOKEN_PROXY_CONFIG",  # every command
    "TOKEN_PROXY_KEY",  # set by `exec`
    "TOKEN_PROXY_COMPILE",  # hatch_build.py
    "TOKEN_PROXY_TESTS_ONLY_WHEELS",  # tests/servers/programs.py
}
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
PATH = re.compile(r"`((?:proxy|tests|deploy|docs|bench)/[\w./-]*\w)`")


def named(pattern):
    return {(name, page) for page, text in TEXTS.items() for name in re.findall(pattern, text)}


def test_variables_exist():
    known = {PREFIX + each.suffix for each in VARIABLES} | OTHERS
    found = named(r"\bTOKEN_PROXY_[A-Z_]*[A-Z]\b")
    assert len(found) > 10
    assert {(name, page.name) for name, page in found if name not in known} == set()


def test_metrics_exist():
    known = set(metrics.exported())
    found = {
        (re.sub("|".join(OF_A_HISTOGRAM) + "$", "", name), page)
        for name, page in named(r"\btoken_proxy_[a-z_]*[a-z]\b")
    }
    assert len(found) > 40
    assert {(name, page.name) for name, page in found if name not in known} == set()


def test_endings_have_the_status_that_is_told():
    found = named(r"\b([45]\d\d) `([a-z]+(?:-[a-z]+)+)`")
    assert len(found) > 10
    for (status, name), page in found:
        assert int(status) in ENDINGS[name].statuses, (name, page)


def test_files_exist():
    for name, page in named(PATH):
        assert (REPOSITORY / name).exists(), (name, page)
