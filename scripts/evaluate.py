#!/usr/bin/env python3
"""Recompute the figures of RESULTS.md from trained weights and the corpus they were trained on."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="evaluate"))
