#!/usr/bin/env python3
"""Measure the codecs of several folders on several corpora."""

import sys

from vqwave import cli
from vqwave.commands.compare_codecs import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
