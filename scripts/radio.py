#!/usr/bin/env python3
"""Radio: endless streams over HTTP, which any player opens."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="radio"))
