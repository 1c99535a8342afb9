#!/usr/bin/env python3
"""Train a chain on a prepared folder: from what ships, or every model from nothing."""

import sys

from vqwave import cli
from vqwave.commands.train import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
