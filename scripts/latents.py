#!/usr/bin/env python3
"""Reconstruct, sample and walk with a VAE."""

import sys

from vqwave import commands

if __name__ == "__main__":
    sys.exit(commands.run(command="latents"))
