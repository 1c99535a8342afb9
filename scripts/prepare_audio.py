#!/usr/bin/env python3
"""Turn a folder of music into a data folder: mono uint16 tracks and a manifest."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="prepare"))
