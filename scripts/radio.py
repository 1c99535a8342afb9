#!/usr/bin/env python3
"""Radio: endless streams over HTTP, which any player opens."""

import sys

from vqwave import cli
from vqwave.commands.radio import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
