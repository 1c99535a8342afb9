"""The commands of `vqwave NAME` and scripts/*.py. The module of each command has `parser()`
and `main(argv) -> exit code`. A module is imported when its command runs, so that `vqwave --help`
is fast. This file imports the rest of the library in functions, so that Ctrl-C prints no traceback.
"""

import importlib
import sys


def run(argv=None, command: str | None = None) -> int:
    """The command `vqwave`, or a single command under the name of its script; returns the exit
    code.
    """
    try:
        from .. import cli
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    words = list(sys.argv[1:] if argv is None else argv)
    if command is not None:
        return cli.entry(lambda argv: load(command).main(argv), words)
    if words and words[0] in cli.COMMANDS:
        with cli.set_program(f"vqwave {words[0]}"):
            return cli.entry(lambda argv: load(words[0]).main(argv), words[1:])
    with cli.set_program("vqwave"):
        return cli.entry(main, words)


def load(name: str):
    """The module of a command."""
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)


def main(argv=None) -> int:
    """`vqwave` without a command."""
    import difflib

    from .. import cli
    from ..errors import UserError

    if argv and not argv[0].startswith("-"):
        near = difflib.get_close_matches(argv[0], cli.COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(cli.COMMANDS)}"
        raise UserError(f"no command is called {argv[0]!r}; {hint}")
    parser().parse_args(argv)
    parser().print_help()
    return 0


def parser():
    """The parser of `vqwave` without a command. Its help lists all commands in groups."""
    from .. import __version__, cli

    lines = ["Turn a folder of music into an instrument that plays endless new music in its style."]
    for title, group in cli.COMMAND_GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"    {name:<18}{description}" for name, (_, description) in group.items()]
    parser = cli.parser("\n".join(lines), "play",
                        "generate --seconds 30 --seed 1 --output out.wav", "generate --help")
    parser.usage = "vqwave COMMAND [OPTION ...]"
    parser.add_argument("--version", action="version", version=f"vqwave {__version__}",
                        help="print the version and exit")
    return parser
