"""Play music to the speakers as it is made: `vqwave generate` without a file."""

from . import generate


def parser():
    """What the command can be told."""
    return generate.parser(written=False)


def main(argv=None) -> int:
    return generate.make(parser().parse_args(argv))
