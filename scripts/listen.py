#!/usr/bin/env python3
"""Hear what a training has learnt so far."""

import sys

from vqwave import cli
from vqwave.commands.listen import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
