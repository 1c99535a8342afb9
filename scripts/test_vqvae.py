#!/usr/bin/env python3
"""Listen to and measure what a codec keeps of a piece of music."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="test-codec"))
