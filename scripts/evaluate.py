#!/usr/bin/env python3
"""Recompute the figures of RESULTS.md from trained weights and the corpus they were trained on."""

import sys

from vqwave import cli
from vqwave.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
