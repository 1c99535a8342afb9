"""Checksums of what the shipped weights compute, to compare before and after a change of the code:
`python -m research.identity before.json`, then `… after.json --before before.json`. Ends with exit
code 1 where they differ. Checksums hold on one machine: another processor rounds differently.
"""

import hashlib
import io
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import vqwave
from vqwave import cli
from vqwave.io.audio import read_excerpt
from vqwave.io.files import CHECKOUT
from vqwave.play.stream import AS_COMPOSED

SOUND = CHECKOUT / "docs/results/wesnoth/original.ogg"


def checksum(*arrays) -> str:
    """Of the shapes, types and bytes of arrays."""
    total = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        total.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return total.hexdigest()[:16]


def codec_part():
    """(name, checksum) of codes and decoded audio of every level."""
    audio = read_excerpt(SOUND, 22050, seconds=6)
    model = vqwave.load()
    for level in (512, 128, 32, 8):
        codes = model.encode(audio[: 22050 if level < 100 else None], level)
        yield f"codes {level}", checksum(codes)
        yield f"audio {level}", checksum(model.decode(codes, level))


def stream_part():
    """(name, checksum) of pieces, a continuation, a variation and a steered, resumed stream."""
    audio = read_excerpt(SOUND, 22050, seconds=4)
    for engine in ("onnx", "onnx-float32"):
        model = vqwave.load(engine=engine)
        yield f"piece {engine}", checksum(model.generate(seconds=6, seed=3, **AS_COMPOSED))
        yield f"batch {engine}", checksum(model.generate(seconds=2, seed=4, batch=2))
        yield f"piece 128 {engine}", checksum(model.generate(seconds=1.5, seed=5, level=128))
        yield f"continuation {engine}", checksum(model.generate(
            seconds=6, seed=6, begin=model.prompt(audio, seconds=3)))
        yield f"variation {engine}", checksum(model.generate(
            seed=7, begin=model.source(audio, 512), level=128))
        yield f"steered {engine}", checksum(*steered(model, audio))
    model = vqwave.load()
    yield "piece", checksum(model.generate(seconds=6, seed=3))
    with model.stream(seed=4, seconds=12) as stream:
        blocks = [next(stream), next(stream)]
        stream.set(tempo=90.0, density=2.0, key="D-minor", section="new")
        yield "score", checksum(*blocks, *stream, np.array(stream.notes()))


def steered(model, audio):
    """The blocks of a stream that is steered, saved, resumed and steered further."""
    options = {"seed": 8, "begin": model.prompt(audio, seconds=2), "past": 4.0, "seconds": 16}
    stream = model.stream(**options)
    changes = {3: {"sampling": {"score": {"temperature": 1.1}}}, 5: {"loudness": -6.0},
               7: {"transpose": 2.0}, 8: {"notes": [60, 64], "pull": 4.0},
               10: {"freeze": 1.0, "mutate": 0.3}, 14: {"stay": 0.5},
               20: {"freeze": 0.0, "notes": []}, 22: {"hold": 0.5}, 25: {"hold": 0.0}}
    blocks = []
    for i in range(30):
        if i in changes:
            stream.set(**changes[i])
        if i in (9, 12, 23):
            state = io.BytesIO()
            np.savez(state, **stream.state())
            stream.close()
            state.seek(0)
            stream = vqwave.Stream.resume(np.load(state), music=model)
        blocks.append(next(stream))
    stream.close()
    return blocks


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()), "", "after.json --before before.json")
    parser.add_argument("output", type=Path)
    parser.add_argument("--before", type=Path, metavar="F.json")
    parser.add_argument("--fresh", action="store_true",
                        help="export every graph anew, into a temporary cache")
    args, checksums = parser.parse_args(argv), {}
    with tempfile.TemporaryDirectory() as cache:
        if args.fresh:
            os.environ["VQWAVE_CACHE"] = cache
        for name, value in itertools.chain(codec_part(), stream_part()):
            checksums[name] = value
            print(f"{name:32} {value}", flush=True)
    args.output.write_text(json.dumps(checksums, indent=1) + "\n")
    before = json.loads(args.before.read_text()) if args.before else checksums
    differ = [name for name, value in checksums.items() if before.get(name) != value]
    print(f"{len(checksums) - len(differ)} of {len(checksums)} as before")
    print(*(f"DIFFERS: {name}" for name in differ), sep="\n")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(cli.entry(main))
