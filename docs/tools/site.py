"""A hook of mkdocs: pages from outside docs/, and links that the site can follow.

README.md and its like become pages of the site. A relative link to a page becomes a link within the site; one
to another file of the repository leads to its address at the forge. So a text can be read in both places.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

FORGE: Final = "https://github.com/token-proxy/token-proxy"
OUTSIDE: Final = {  # page of the site: file of the repository
    "index.md": "README.md",
    "deploy.md": "deploy/README.md",
    "threats.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_PAGE_OF: Final = {source: page for page, source in OUTSIDE.items()}
_REPOSITORY: Final = Path(__file__).parents[2]
# a link, but not within code: of the first form with its text, of the second (a picture) likewise
_LINK: Final = re.compile(r"(?P<code>```.*?^```|`[^`\n]+`)|\]\((?P<to>[^)\s]+)\)", re.DOTALL | re.MULTILINE)
_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*:|#|/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in OUTSIDE.items():
        text = (_REPOSITORY / source).read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    del config
    pages = {file.src_uri for file in files}
    return _LINK.sub(lambda found: _resolved(found, page.file.src_uri, pages), markdown)


def _resolved(found: re.Match[str], page: str, pages: set[str]) -> str:
    link = found["to"]
    if link is None or _ABSOLUTE.match(link):
        return found[0]
    name, mark, anchor = link.partition("#")
    source = OUTSIDE.get(page, f"docs/{page}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
    inside = _PAGE_OF.get(target, target.removeprefix("docs/"))
    if (target in _PAGE_OF or target.startswith("docs/")) and inside in pages:
        return f"]({posixpath.relpath(inside, posixpath.dirname(page) or '.')}{mark}{anchor})"
    kind = "tree" if (_REPOSITORY / target).is_dir() else "blob"
    return f"]({FORGE}/{kind}/main/{target}{mark}{anchor})"
