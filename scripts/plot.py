#!/usr/bin/env python3
"""Draw music, its notes, codes, codebooks and training."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="plot"))
