"""The benchmark's modules import each other by their bare names, as they are run from their folder."""

import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
sys.path.append(str(BENCH))  # last: no module of it hides another one
