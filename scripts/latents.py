#!/usr/bin/env python3
"""Reconstruct, sample and walk with a VAE."""

import sys

from vqwave import cli
from vqwave.commands.latents import main

if __name__ == "__main__":
    sys.exit(cli.entry(main))
