#!/usr/bin/env python3
"""Pictures of music, of codes, of codebooks and of training."""

import sys

from vqwave import cli
from vqwave.commands.plot import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
