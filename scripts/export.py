#!/usr/bin/env python3
"""Make the ONNX graphs of trained models: into the cache that playing uses, or where you want them.
"""

import sys

from vqwave import cli
from vqwave.commands.export import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
