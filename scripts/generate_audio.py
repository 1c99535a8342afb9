#!/usr/bin/env python3
"""Generate music with the trained chain: play it, or write it to a file."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="generate"))
