"""Measures how fast a chain plays on this machine, in processes without TensorFlow. Compared cases
take turns within one run. Values are medians, unless a column says otherwise.
"""

import contextlib
import datetime
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import machine
from ..errors import end_with_parent
from ..export import export
from ..play import api, playback
from . import browser, tables
from .tables import Column


class Effort(NamedTuple):
    """The length of each measurement. rounds: turns of each codec, of `seconds` of audio.
    stream_rounds: turns of each batch of `streams`, of `stream_turn` seconds. starts: of a piece.
    minutes: of music before each reading of memory. changes: of a control.
    """

    rounds: int = 5
    stream_rounds: int = 4
    stream_turn: float = 2.5
    starts: int = 5
    minutes: tuple[float, ...] = (1, 10)
    seconds: float = 10.0
    streams: tuple[int, ...] = (1, 8, 32)
    changes: int = 8


FULL = Effort()
QUICK = Effort(rounds=2, stream_rounds=1, stream_turn=1.0, starts=1, minutes=(0.1, 0.5),
               seconds=3.0, changes=3)


def run(parts: Sequence[str], codecs, generators, effort: Effort = FULL, *,
        progress: Callable[[int, int, str], None] = lambda done, total, name: None) -> dict:
    """Measure some `BENCHMARKS` of the chain in two folders of weights: {"machine", "when", "load",
    "checksums", part: rows}. progress: called with (done, total, name) when a job begins. Raises
    `RuntimeError` if a process fails, or if it loads TensorFlow.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results: dict[str, Any] = {"when": now, "machine": machine.describe(),
                               "load": [os.getloadavg()[0]]}
    music = api.load(codecs, generators)
    endings = list(dict.fromkeys((music.chain.ending, music.chain.bottom)))
    jobs = [(name, level) for name in BENCHMARKS if name in parts
            for level in (endings if BENCHMARKS[name].of_streams else music.chain.sizes)]
    progress(0, len(jobs), "exporting graphs")
    results["checksums"] = export_graphs(music)
    for done, (name, level) in enumerate(jobs):
        progress(done, len(jobs), f"{name}, {level}x")
        with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as process:
            rows = process.submit(measure, name, codecs, generators, level, effort).result()
        results.setdefault(name, []).extend({"level": level, **row} for row in rows)
    progress(len(jobs), len(jobs), "done")
    results["load"].append(os.getloadavg()[0])
    return results


def export_graphs(music: api.VQWave) -> dict[str, str]:
    """Export the graphs for playing. Returns {model: checksum of its weights}."""
    sets = {name: music.weight_set(name) for name in music.chain.names}
    for weight_set in sets.values():
        for kind in export.kinds(weight_set, "onnx"):
            export.cached_graph(weight_set, kind)
    return {name: weight_set.checksum[:16] for name, weight_set in sets.items()}


def _time(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return max(time.perf_counter() - start, 1e-9)


_COLD = """
import sys
from vqwave.errors import end_with_parent
end_with_parent()
from vqwave.commands import play
from vqwave.report import benchmark
music = benchmark.api.load(sys.argv[1], sys.argv[2])
for _ in benchmark.start(music, int(sys.argv[3]), 1):
    print("block", flush=True)
"""


def measure(part: str, codecs, generators, level: int, effort: Effort) -> list[dict]:
    """The rows of a part, measured in this process, which must not load TensorFlow. A new
    process imports the main module, so a program of research brings its own TensorFlow.
    """
    before = set(sys.modules)
    rows = BENCHMARKS[part].measure(api.load(codecs, generators), effort, level)
    if loaded := {"tensorflow", "keras"} & set(sys.modules) - before:
        raise RuntimeError(f"playing loaded {loaded}")
    return rows


def measure_codec(music: api.VQWave, effort: Effort, level: int) -> list[dict]:
    """Seconds of audio encoded and decoded per second, one thread."""
    noise = np.random.default_rng(0).normal(0, 0.1, round(effort.seconds * music.sample_rate))
    noise = noise.astype(np.float32)
    codes = music.encode(noise, level)
    music.decode(codes, level)
    encoding = [_time(music.encode, noise, level) for _ in range(effort.rounds)]
    decoding = [_time(music.decode, codes, level) for _ in range(effort.rounds)]
    return [{"encode_rtf": effort.seconds / float(np.median(encoding)),
             "decode_rtf": effort.seconds / float(np.median(decoding))}]


def measure_streams(music: api.VQWave, effort: Effort, level: int) -> list[dict]:
    """The total RTF of batches of streams, which take turns, and the times of their blocks."""
    rows, duration = [], music.chain.block / music.sample_rate
    with contextlib.ExitStack() as stack:
        streams = {n: stack.enter_context(music.stream(level=level, seed=0,
                                                       batch=None if n == 1 else n))
                   for n in effort.streams}
        for stream in streams.values():
            for _ in range(2):  # the first blocks also fill the levels above
                next(stream)
        turns = {n: [] for n in streams}
        for _ in range(effort.stream_rounds):
            for n, stream in streams.items():
                seconds = []
                while sum(seconds) < effort.stream_turn or len(seconds) % stream.cycle:
                    seconds.append(_time(next, stream))
                turns[n].append(seconds)
    for n, times in turns.items():
        rtf = [n * duration * len(seconds) / sum(seconds) for seconds in times]
        blocks = np.concatenate(times)
        p95 = float(np.percentile(blocks, 95))
        rows.append({"streams": n, "rtf": float(np.median(rtf)), "rtf_rounds": rtf,
                     "blocks": len(blocks), "block_median_s": float(np.median(blocks)),
                     "block_p95_s": p95, "p95_share": p95 / duration})
    return rows


def start(music: api.VQWave, level: int, seed: int) -> Iterator[float]:
    """Play a piece until its sound starts. Yields the seconds after each block."""
    began, samples = time.perf_counter(), 0
    with music.stream(level=level, seed=seed) as stream:
        while samples < playback.PREBUFFER * stream.sample_rate:
            samples += len(next(stream))
            yield time.perf_counter() - began


def measure_start(music: api.VQWave, effort: Effort, level: int) -> list[dict]:
    """Seconds until the first block of a piece, and until its sound starts. cold: in a new process
    with cached graphs. warm: with loaded models.
    """
    folders = [music.weight_set(names[music.chain.top]).folder
               for names in (music.chain.codecs, music.chain.generators)]
    # The first piece loads the models.
    marks = {"cold": [], "warm": [[*start(music, level, i)] for i in range(effort.starts + 1)][1:]}
    for _ in range(effort.starts):
        began = time.perf_counter()
        with subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _COLD, *map(str, (*folders, level))], text=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            marks["cold"].append([time.perf_counter() - began for _ in process.stdout])
            error = process.stderr.read()
        if process.returncode:
            raise RuntimeError(f"playing failed:\n{error}")
    return [{f"{kind}_{what}_s": float(np.median([seconds[i] for seconds in starts]))
             for kind, starts in marks.items() for what, i in (("first_block", 0), ("sound", -1))}]


def measure_memory(music: api.VQWave, effort: Effort, level: int) -> list[dict]:
    """The memory of a process after minutes of music, at full speed."""
    readings, began = [], time.perf_counter()
    with music.stream(level=level, seed=0) as stream:
        for minutes in effort.minutes:
            while stream.position < minutes * 60 * stream.sample_rate:
                next(stream)
            readings.append(machine.memory_use())
        rtf = stream.position / stream.sample_rate / (time.perf_counter() - began)
    peaks = [reading["peak"] for reading in readings]
    return [{"minutes": list(effort.minutes), "peak_bytes": peaks,
             "now_bytes": [reading["now"] for reading in readings],
             "growth_bytes": peaks[-1] - peaks[0], "rtf": rtf}]


class Part(NamedTuple):
    """measure: (music, effort, level) -> rows. of_streams: measure only the chain's default level
    and the finest, instead of every level.
    """

    measure: Callable[[api.VQWave, Effort, int], list[dict]]
    of_streams: bool
    title: str
    columns: tuple[Column, ...]


BENCHMARKS = {
    "codecs": Part(measure_codec, False, "Codecs, times real time", (
        Column("encode", "encode_rtf", ".1f"), Column("decode", "decode_rtf", ".1f"))),
    "stream": Part(measure_streams, True, "Streams of the chain, decoded at a level", (
        Column("streams", "streams"), Column("total RTF", "rtf", ".2f"),
        Column("block median s", "block_median_s", ".3f"),
        Column("block P95 s", "block_p95_s", ".3f"), Column("P95 / duration", "p95_share", ".2f"))),
    "start": Part(measure_start, True,
                  "Seconds to the first block, and to the sound, whose buffer is full", (
        Column("warm, block", "warm_first_block_s", ".2f"),
        Column("warm, sound", "warm_sound_s", ".2f"),
        Column("cold, block", "cold_first_block_s", ".2f"),
        Column("cold, sound", "cold_sound_s", ".2f"))),
    **{name: Part(functools.partial(browser.measure, studio=name == "studio"), True,
                  f"Milliseconds until a change is heard in Chromium, {where}", (
        Column("change", "change"), Column("heard", "heard"), Column("median", "median_ms", ".0f"),
        Column("most", "most_ms", ".0f"), Column("gaps", "gaps"),
        Column("buffer", "buffer_ms", ".0f")))
        for name, where in (("studio", "in the studio"), ("page", "in the page without a server"))},
    "memory": Part(measure_memory, True, "Memory of a process that plays, bytes", (
        Column("peak", "peak_bytes", ","), Column("growth", "growth_bytes", ","),
        Column("RTF", "rtf", ".2f"))),
}


def print_tables(results: dict, console):
    """Print the machine, its load and the versions, then a table for each part."""
    host, (before, after) = results["machine"], results["load"]
    memory = f"{host['memory_bytes'] / 2**30:.1f} GiB" if host["memory_bytes"] else "memory unknown"
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    show = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
    show(f"{host['cpu']}, {host['cores']} cores, {memory}; {host['os']}; load {before:.1f} before, "
         f"{after:.1f} after; {results['when']}\nPython {host['python']}, {versions}")
    for name, part in BENCHMARKS.items():
        if results.get(name):
            show(part.title)
            console.print(tables.render(results[name], (Column("level", "level"), *part.columns),
                                        "rich"))
