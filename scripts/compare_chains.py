#!/usr/bin/env python3
"""Compare the music of several generators over the same codes."""

import sys

from vqwave import cli
from vqwave.commands.compare_chains import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
