"""`python -m vqwave`: the same as `vqwave`."""

import sys

from .commands import run

if __name__ == "__main__":
    sys.exit(run())
