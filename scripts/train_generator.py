#!/usr/bin/env python3
"""Train the generator of one level on a prepared folder."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="train-generator"))
