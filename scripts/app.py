#!/usr/bin/env python3
"""The studio: a page in the browser to make music on."""

import sys

from vqwave import cli
from vqwave.commands.studio import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
