#!/usr/bin/env python3
"""Export trained models to ONNX."""

import sys

from vqwave import cli
from vqwave.commands.export import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
