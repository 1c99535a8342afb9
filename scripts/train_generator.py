#!/usr/bin/env python3
"""Train the generator of one level on a prepared folder."""

import sys

from vqwave import cli
from vqwave.commands.train_generator import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
