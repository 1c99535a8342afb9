#!/usr/bin/env python3
"""Measure how fast music is made on this machine, and compare with what is wanted."""

import sys

from vqwave import cli
from vqwave.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
