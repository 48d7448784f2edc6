"""A process that opens a store's file, and upgrades it if necessary: `opener.py PATH`."""

from __future__ import annotations

import sys
from pathlib import Path

from proxy.errors import StoreError
from proxy.store.sqlite.file import open_database

try:
    open_database(Path(sys.argv[1])).close()
except StoreError as error:
    sys.exit(str(error))
