#!/usr/bin/env python3
"""The studio: a page in the browser to make music on."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="studio"))
