#!/usr/bin/env python3
"""A web page that plays a model in the browser, without a server."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="export-web"))
