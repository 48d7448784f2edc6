"""The site of docs/: built once, strictly; no link of it is dead, and nothing comes from elsewhere."""

import posixpath
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import REPOSITORY

LIMIT = 300  # seconds
LOADED = {  # what a browser fetches by itself, by element
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
}
NOT_LOADED = {"canonical", "prev", "next", "alternate", "edit"}  # by rel


class Page(HTMLParser):
    """Anchors, links, and what is loaded."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in LOADED and given.get(LOADED[tag]) and given.get("rel") not in NOT_LOADED:
            self.loaded.append(given[LOADED[tag]])


def dead(site):
    """The links of a folder of pages that lead nowhere: `page -> link`."""
    pages = {path.relative_to(site).as_posix(): Page(path.read_text()) for path in site.rglob("*.html")}
    pages.pop("404.html", None)  # of a server, for addresses of any depth: its links are absolute
    found = []
    for name, page in pages.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            target = name if not parts.path else there
            exists = (site / target).is_file()
            if not exists or (parts.fragment and unquote(parts.fragment) not in anchors(pages, target)):
                found.append(f"{name} -> {link}")
    return found


def anchors(pages, target):
    return pages[target].anchors if target in pages else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_link_of_the_site_is_dead(site):
    assert dead(site) == []


def test_every_page_is_there_and_the_tools_are_not(site):
    expected = {path.with_suffix(".html").name for path in (REPOSITORY / "docs").glob("*.md")}
    expected |= {"index.html", "deploy.html", "threats.html", "contributing.html", "changelog.html"}
    assert {path.name for path in site.glob("*.html")} >= expected
    assert not (site / "tools").exists()
    assert (site / "runbooks" / "login-required.html").exists()
    assert len(Page((site / "index.html").read_text()).links) > 30


def test_nothing_is_loaded_from_elsewhere(site):
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    loaded = {each for page in pages.values() for each in page.loaded}
    assert loaded
    assert [each for each in loaded if urlsplit(each).netloc] == []
    for path in site.rglob("*.css"):
        assert "url(http" not in path.read_text(), path
        assert "@import" not in path.read_text(), path


def test_links_to_files_outside_lead_to_the_repository(site):
    links = {link for path in site.rglob("*.html") for link in Page(path.read_text()).links}
    forge = [link.removeprefix(FORGE) for link in links if link.startswith(FORGE)]
    assert "blob/main/config.example.toml" in forge
    for link in forge:
        kind, _, name = link.partition("/main/")
        path = REPOSITORY / name.partition("#")[0]
        if kind in {"blob", "tree"}:
            assert path.is_dir() if kind == "tree" else path.is_file(), link


FORGE = "https://github.com/token-proxy/token-proxy/"


@pytest.mark.parametrize("link", ["gone.html", "#gone", "other.html#gone", "gone.svg"])
def test_a_dead_link_is_noticed(tmp_path, link):
    (tmp_path / "index.html").write_text(f'<h1 id="here">A</h1><a href="#here">b</a><a href="{link}">c</a>')
    (tmp_path / "other.html").write_text('<h1 id="there">A</h1><a href="index.html#here">b</a>')
    assert dead(tmp_path) == [f"index.html -> {link}"]


def test_a_folder_is_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.html").write_text('<a href="../index.html#here">b</a>')
    (tmp_path / "index.html").write_text('<h1 id="here">A</h1>')
    assert dead(Path(tmp_path)) == []
