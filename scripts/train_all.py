#!/usr/bin/env python3
"""Train every codec, then every generator, of a chain on a prepared folder."""

import sys

from vqwave import cli
from vqwave.commands.train import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
