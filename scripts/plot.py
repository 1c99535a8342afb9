#!/usr/bin/env python3
"""Draw music, its notes, codes, codebooks and training."""

import sys

from vqwave import cli
from vqwave.commands.plot import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
