"""Commands in this process: they are run, or only their command line is parsed."""

import argparse
import importlib
import shlex
import sys
from pathlib import Path
from unittest import mock

from vqwave import cli, commands

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the package `research`, which is not installed


def script(name: str):
    """The module of the command that scripts/NAME.py runs; or a module of research."""
    if name.startswith("research."):
        return importlib.import_module(name)
    [command] = [command for command, (stem, _) in cli.COMMANDS.items() if stem == name]
    return commands.load(command)


def run(capture, name: str, *words) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of scripts/NAME.py. capture: the fixture capsys or capfd."""
    try:
        code = cli.entry(script(name).main, list(map(str, words)))
    except SystemExit as e:  # argparse's own way out
        code = e.code
    return code, *capture.readouterr()


class _Parsed(Exception):
    """(namespace, unknown words): raised when parsing ends, so that nothing else runs."""


def unknown(name: str, words: list[str]) -> list[str]:
    """The words that scripts/NAME.py does not know. Raises `ValueError` where it refuses them."""
    original, depth = argparse.ArgumentParser.parse_known_args, 0

    def parse_known_args(self, args=None, namespace=None):
        nonlocal depth
        depth += 1
        try:
            found = original(self, args, namespace)
        finally:
            depth -= 1
        if depth:  # a subcommand's parser, called by its parent
            return found
        raise _Parsed(*found)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse_known_args):
        try:
            script(name).main(words)
        except _Parsed as parsed:
            return parsed.args[1]
        except SystemExit as e:
            if not e.code:  # --help, and whatever else answers at once
                return []
            raise ValueError(f"{name}.py refuses {shlex.join(words)}") from e
    raise AssertionError(f"{name}.py has parsed nothing")
