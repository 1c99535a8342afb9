#!/usr/bin/env python3
"""Listen to and measure what a codec keeps of a piece of music."""

import sys

from vqwave import cli
from vqwave.commands.test_codec import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
