"""Files that others write and that are read for each use, such as an assertion of the platform."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from proxy.config.lookups import LARGEST
from proxy.errors import AuthorizationServerError
from proxy.secret import Secret

LONGEST: Final = 5.0  # seconds to read it: a file system may hang, and a request waits
UNREADABLE: Final = "token_file"
TOKEN: Final = re.compile(r"[\x21-\x7e]+")


async def read(path: Path, pattern: re.Pattern[str] = TOKEN, error: str = UNREADABLE) -> Secret:
    """The token in a file, without white space around it. Raises AuthorizationServerError.

    It fails, with the code `error`, for the moment only: platforms replace such files while they are in use.
    """
    try:
        async with asyncio.timeout(LONGEST):
            text = await asyncio.to_thread(_text, path)
    except (OSError, ValueError, TimeoutError):
        text = ""
    if not pattern.fullmatch(text):
        raise AuthorizationServerError("transient", error, reached=False)
    return Secret(text)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    return content.decode("ascii").strip() if len(content) <= LARGEST else ""
