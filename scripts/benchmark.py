#!/usr/bin/env python3
"""Measure how fast music is made on this machine, and compare with what is wanted."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="benchmark"))
