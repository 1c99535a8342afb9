#!/usr/bin/env python3
"""A web page that plays a model in the browser, without a server."""

import sys

from vqwave import cli
from vqwave.commands.export_web import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
