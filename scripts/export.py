#!/usr/bin/env python3
"""Export trained models to ONNX."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="export"))
