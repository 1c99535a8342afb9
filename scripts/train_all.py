#!/usr/bin/env python3
"""Train a chain on a prepared folder: from what ships, or every model from nothing."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="train"))
