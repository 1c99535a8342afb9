#!/usr/bin/env python3
"""Train one codec on a prepared folder."""

import sys

from vqwave import cli
from vqwave.commands.train_codec import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
