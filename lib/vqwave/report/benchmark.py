"""How fast a chain plays on this machine: a table for each part.

Playing is measured in processes without TensorFlow. What is compared takes turns within one run, so
that ratios hold although the machine's speed varies. Figures are medians.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import config, machine, stderr
from ..config import ChainConfig, Preset
from ..errors import UserError
from ..io import weights
from ..onnx import export
from ..play import api, controls, engine, playback, sampling
from . import tables
from .tables import Column

EAGER = "eager"
MOST_STEPS = 1024
"""Most steps of one call of a sampler; their random numbers are drawn before the clock starts."""


@dataclass(frozen=True)
class Effort:
    """How long each part is measured.

    turn, stream_turn: seconds of a turn of a sampler, of a stream; minutes: of music before each
    reading of memory; seconds: of audio through each codec; changes: of a control.
    """

    rounds: int = 5
    turn: float = 0.12
    stream_rounds: int = 4
    stream_turn: float = 2.5
    starts: int = 5
    minutes: tuple[float, ...] = (1, 10)
    seconds: float = 10.0
    streams: tuple[int, ...] = (1, 8, 32)
    changes: int = 8


FULL = Effort()
QUICK = Effort(rounds=2, turn=0.04, stream_rounds=1, stream_turn=1.0, starts=1, minutes=(0.1, 0.5),
               seconds=3.0, changes=3)


@dataclass(frozen=True)
class Chain:
    """A chain and the folders of its weights."""

    config: ChainConfig
    codecs: Path
    generators: Path

    def codec(self, level: int) -> weights.WeightSet:
        return weights.find(self.codecs, self.config.codecs[level])

    def generator(self, level: int) -> weights.WeightSet:
        return weights.find(self.generators, self.config.generator(level))

    @property
    def endings(self) -> list[int]:
        """The levels that streams are decoded at: the chain's own and the finest."""
        return list(dict.fromkeys((self.config.ending, self.config.bottom)))


def run(parts: Sequence[str], codecs, generators, effort: Effort = FULL, *,
        preset: str | None = None,
        progress: Callable[[int, int, str], None] = lambda done, total, name: None) -> dict:
    """Measure some `PARTS` of a chain: {"machine", "when", "load", "checksums", part: rows}.

    Args:
        codecs, generators: folders of trained weights.
        preset: measure random weights of this preset instead.
        progress: called with (done, total, name) when a job begins.

    Raises:
        UserError: there is no such preset or part, or weights are missing or damaged.
        RuntimeError: a process fails, or loads TensorFlow.
    """
    for part in parts:
        if part not in PARTS:
            raise UserError(f"no part of the benchmark is called {part!r}; there are "
                            f"{', '.join(PARTS)}")
    random = None if preset is None else config.preset(preset)
    results = {"when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
               "machine": machine.describe(), "load": [os.getloadavg()[0]],
               **{part: [] for part in parts}}
    with (tempfile.TemporaryDirectory(prefix="vqwave_benchmark_") as folder,
          _cache(folder) if random else contextlib.nullcontext()):
        chain = (save_random(random, Path(folder)) if random
                 else Chain(weights.chain(generators), Path(codecs), Path(generators)))
        jobs = [(part, level) for part in PARTS if part in parts
                for level in LEVELS[part](chain)]
        progress(0, len(jobs), "exporting graphs")
        results["checksums"] = _export(chain)
        for done, (part, level) in enumerate(jobs):
            progress(done, len(jobs), f"{part}, {level}x")
            if part == "steps":
                rows = measure_steps(chain, level, effort)
            else:
                rows = run_child(part, chain, level, effort)
                if part == "start":
                    rows[-1] |= measure_cold_start(chain, level, effort)
            results[part] = [*results[part], *rows]
        progress(len(jobs), len(jobs), "done")
    results["load"] = [*results["load"], os.getloadavg()[0]]
    return results


@contextlib.contextmanager
def _cache(folder):
    """Keep graphs of random weights out of the user's cache, also in child processes."""
    before = os.environ.get("VQWAVE_CACHE")
    os.environ["VQWAVE_CACHE"] = str(Path(folder) / "cache")
    try:
        yield
    finally:
        os.environ.pop("VQWAVE_CACHE")
        if before is not None:
            os.environ["VQWAVE_CACHE"] = before


def save_random(preset: Preset, folder: Path) -> Chain:
    """Random weights of a preset's models."""
    stderr.import_keras()
    import keras

    from ..nn.codec import Codec
    from ..nn.generator import Generator

    keras.utils.set_random_seed(0)
    noise = np.random.default_rng(0).normal(
        0.0, 0.1, (2, 65536 // preset.chain.top * preset.chain.top)).astype(np.float32)
    for level in preset.chain.sizes:
        generator, codec = preset.generator(level), Codec(preset.codec(level))
        codec(noise, training=True)  # a codebook in which most codes are in use
        weights.save(folder, codec.config.name, "", codec.parts, codec.config)
        weights.save(folder, generator.name, "", Generator(generator).parts, generator)
    weights.save_chain(folder, preset.chain)
    return Chain(preset.chain, folder, folder)


def _export(chain: Chain) -> dict[str, str]:
    """Export the graphs that playing needs; the checksums of their weights, by name."""
    sets = [find(level) for level in chain.config.sizes for find in (chain.codec, chain.generator)]
    for weight_set in sets:
        for kind in export.kinds(weight_set, "onnx"):
            export.cached_graph(weight_set, kind)
    return {weight_set.name: weight_set.checksum[:16] for weight_set in sets}


# --- steps a second -------------------------------------------------------------------------------


def measure_steps(chain: Chain, level: int, effort: Effort,
                  names: Sequence[str] = (*engine.ENGINES, EAGER)) -> list[dict]:
    """A row for each number of streams and each of `names`, engines or the eager loop.

    A step is a frame of each stream: codes/s = streams · steps/s · books. `against_eager` is the
    median of the ratios within a round.
    """
    stderr.import_keras()
    from ..nn.generator import load_generator

    weight_set = chain.generator(level)
    engines = {name: engine.load_generator(weight_set, name) for name in names if name != EAGER}
    eager = load_generator(weight_set) if EAGER in names else None
    rows = []
    for streams in effort.streams:
        samplers = {name: chunk_sampler(e, streams) for name, e in engines.items()}
        if eager is not None:
            samplers[EAGER] = eager_sampler(eager, streams)
        rates = race(samplers, effort.rounds, effort.turn)
        for name, rate in rates.items():
            steps = float(np.median(rate))
            rows.append({
                "level": level, "streams": streams, "engine": name,
                "codes_per_s": steps * streams * weight_set.config.books,
                "rtf": steps * streams * level / chain.config.sample_rate,
                "against_eager": float(np.median(np.divide(rate, rates[EAGER])))
                if EAGER in rates else None})
    return rows


def race(contenders: dict, rounds: int, turn: float) -> dict[str, list[float]]:
    """Steps/s of each contender, a function that takes n steps, in each round. They take turns."""
    sizes = {}
    for name, run_steps in contenders.items():
        run_steps(4)  # compiles and allocates
        sizes[name] = int(np.clip(4 * turn / _time(run_steps, 4), 4, MOST_STEPS))
        run_steps(sizes[name])
    rates = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run_steps in contenders.items():
            steps, seconds = 0, 0.0
            while seconds < turn:
                seconds += _time(run_steps, sizes[name])
                steps += sizes[name]
            rates[name].append(steps / seconds)
    return rates


def _time(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return max(time.perf_counter() - start, 1e-9)


def chunk_sampler(generator: engine.GeneratorEngine, streams: int):
    """A function that samples n steps in one call of an engine, as a stream does."""
    context, draws = _inputs(generator.config, streams)
    previous = np.full((streams, generator.config.books), generator.config.start_token, np.int32)
    state = generator.initial_state(streams)

    def run_steps(n):
        nonlocal previous, state
        part = None if context is None else context[:, :n]
        codes, _, state = generator.sample(part, draws[:, :n], previous, state,
                                           generator.config.sampling.unguided, log_probs=False)
        previous = codes[:, -1]

    return run_steps


def eager_sampler(generator, streams: int):
    """A function that samples n steps with an eager call of the framework for each frame."""
    from keras import ops

    settings = generator.config.sampling
    context, draws = _inputs(generator.config, streams)
    previous = np.full((streams, generator.config.books), generator.config.start_token, np.int32)
    state = generator.initial_state(streams)

    def run_steps(n):
        nonlocal previous, state
        for i in range(n):

            def draw(book, logits, i=i):
                return sampling.pick(sampling.distribution(ops.convert_to_numpy(logits), settings),
                                     draws[:, i, book])

            frame, state = generator.core.step(previous, None if context is None else context[:, i],
                                               state, draw)
            previous = ops.convert_to_numpy(frame)

    return run_steps


def _inputs(c, streams):
    """A context float32 [streams, steps, channels], or None at the top, and random numbers
    [streams, steps, books].
    """
    rng = np.random.default_rng(0)
    context = (rng.normal(size=(streams, MOST_STEPS, c.context_channels)).astype(np.float32)
               if c.conditions else None)
    return context, rng.random((streams, MOST_STEPS, c.books), np.float32)


# --- processes without TensorFlow -----------------------------------------------------------------

_CHILD = "import sys; from vqwave.report import benchmark; benchmark.child(*sys.argv[1:])"

# The imports and the work of the command that plays, until the sound starts.
_COLD = """
import contextlib, sys
from rich.console import Console
from rich.progress import Progress
from vqwave import cli
from vqwave.io import audio
from vqwave.play import api, engine, playback
with contextlib.suppress(ImportError):
    import pyaudio
held = 0
music = api.load(sys.argv[1], sys.argv[2], default_choice=0)
with music.stream(level=int(sys.argv[3]), seed=1) as stream:
    while held < playback.PREBUFFER * stream.sample_rate:
        held += len(next(stream))
        print("block", flush=True)
loaded = {"tensorflow", "keras"} & set(sys.modules)
assert not loaded, f"playing loaded {loaded}"
"""


def _python(program, *arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        **options)


def run_child(part: str, chain: Chain, level: int, effort: Effort) -> list[dict]:
    """The rows of a part, measured in a child process."""
    options = json.dumps({"codecs": str(chain.codecs), "generators": str(chain.generators),
                          "level": level, "effort": vars(effort)})
    with _python(_CHILD, part, options) as process:
        out, error = process.communicate()
    if process.returncode:
        raise RuntimeError(f"measuring {part} failed:\n{error}")
    return json.loads(out)


def child(part: str, options: str):
    """Measure a part of `PLAYED` in this process and print its rows as JSON."""
    values = json.loads(options)
    music = api.load(values["codecs"], values["generators"], default_choice=0)
    rows = PLAYED[part](music, Effort(**values["effort"]), values["level"])
    loaded = {"tensorflow", "keras"} & set(sys.modules)
    if loaded:
        raise RuntimeError(f"playing loaded {loaded}")
    print(json.dumps([{"level": values["level"], **row} for row in rows]))


def codec_rows(music, effort: Effort, level: int) -> list[dict]:
    """Seconds of audio encoded and decoded per second, one thread."""
    noise = np.random.default_rng(0).normal(0, 0.1, round(effort.seconds * music.sample_rate))
    noise = noise.astype(np.float32)
    codes = music.encode(noise, level)
    music.decode(codes, level)
    encoding = [_time(music.encode, noise, level) for _ in range(effort.rounds)]
    decoding = [_time(music.decode, codes, level) for _ in range(effort.rounds)]
    return [{"encode_rtf": effort.seconds / float(np.median(encoding)),
             "decode_rtf": effort.seconds / float(np.median(decoding))}]


def count_cycle(stream) -> int:
    """Blocks after which the work of a stream repeats: a context model runs once for several."""
    return math.lcm(*(level.group for level in stream._chain.levels))


def stream_rows(music, effort: Effort, level: int) -> list[dict]:
    """The total RTF of batches of streams, which take turns, and the times of their blocks."""
    with contextlib.ExitStack() as stack:
        streams = {n: stack.enter_context(music.stream(level=level, seed=0,
                                                       batch=None if n == 1 else n))
                   for n in effort.streams}
        for stream in streams.values():
            for _ in range(2):  # the first blocks also fill the levels above
                next(stream)
        rtf = {n: [] for n in streams}
        blocks = {n: [] for n in streams}
        for _ in range(effort.stream_rounds):
            for n, stream in streams.items():
                took = []
                while sum(took) < effort.stream_turn or len(took) % count_cycle(stream):
                    took.append(_time(next, stream))
                duration = music.chain.block / stream.sample_rate
                rtf[n].append(n * duration * len(took) / sum(took))
                blocks[n] += took
    rows = []
    for n, took in blocks.items():
        p95 = float(np.percentile(took, 95))
        rows.append({
            "streams": n, "rtf": float(np.median(rtf[n])),
            "rtf_rounds": rtf[n],
            "blocks": len(took), "block_median_s": float(np.median(took)), "block_p95_s": p95,
            "p95_share": p95 / duration
        })
    return rows


def start_rows(music, effort: Effort, level: int) -> list[dict]:
    """Seconds until the first block of a new piece, and until its sound starts, with loaded models.
    """
    first, sound = [], []
    for seed in range(effort.starts + 1):
        began, marks, held = time.perf_counter(), [], 0
        with music.stream(level=level, seed=seed) as stream:
            while held < playback.PREBUFFER * stream.sample_rate:
                held += len(next(stream))
                marks.append(time.perf_counter() - began)
        if seed:  # the very first piece loads the models
            first.append(marks[0])
            sound.append(marks[-1])
    return [{"warm_first_block_s": float(np.median(first)),
             "warm_sound_s": float(np.median(sound))}]


def measure_cold_start(chain: Chain, level: int, effort: Effort) -> dict:
    """Seconds from the start of a process to its first block, and until its sound starts, with
    cached graphs.
    """
    first, sound = [], []
    for _ in range(effort.starts):
        began = time.perf_counter()
        with _python(_COLD, chain.codecs, chain.generators, level) as process:
            marks = [time.perf_counter() - began for _ in process.stdout]
            error = process.stderr.read()
        if process.returncode:
            raise RuntimeError(f"playing failed:\n{error}")
        first.append(marks[0])
        sound.append(marks[-1])
    return {"cold_first_block_s": float(np.median(first)), "cold_sound_s": float(np.median(sound))}


class Sink:
    """Simulates a sound device: takes `period` samples at a time from a `Feed`, in real time, and
    compares them with `expected`, the same music without changes.

    A change turns the loudness to silence and back: the first sample that differs follows it.
    """

    def __init__(self, feed: playback.Feed, expected: np.ndarray, period: int):
        self.feed, self.expected, self.period = feed, expected, period
        self.position, self.start, self.silent = 0, time.perf_counter(), False
        self.changed = 0  # the first sample that followed the last change

    def skip(self, seconds: float):
        """Play so many seconds."""
        until = self.position + seconds * self.feed.sample_rate
        while self.position < until:
            self._take()

    def await_change(self) -> float:
        """The time, by `perf_counter`, at which the change of loudness is heard. Raises
        `RuntimeError` if the music ends before.
        """
        while True:
            first, audio, at = self.position, *self._take()
            before = np.zeros_like(audio) if self.silent else self.expected[first:][: len(audio)]
            if (differing := np.flatnonzero(audio[: len(before)] != before)).size:
                self.silent, self.changed = not self.silent, first + int(differing[0])
                return at + differing[0] / self.feed.sample_rate

    def _take(self) -> tuple[np.ndarray, float]:
        """The next samples, and the time at which the first is heard."""
        rate = self.feed.sample_rate
        at = self.start + self.position / rate
        time.sleep(max(0.0, at - time.perf_counter()))
        audio, more = self.feed.read(self.period)
        count = round(self.feed.status.seconds * rate) - self.position
        if not (count or more):
            raise self.feed.error or RuntimeError("the music ended before the control took effect")
        # After an underrun the music is late by the silence that was heard.
        audio, self.start = audio[:count], self.start + (self.period - count) / rate
        self.position += len(audio)
        return audio, at


def control_rows(music, effort: Effort, level: int) -> list[dict]:
    """Milliseconds from `Stream.set` to the first sample that follows, for each of
    `playback.LATENCIES`; the underruns; the RTF of such blocks.
    """
    rows, random = [], np.random.default_rng(0)
    for name, latency in playback.LATENCIES.items():
        wait = latency.buffer + 0.5  # until a change has been heard, and its ramp is over
        seconds = (2 * wait + 1) * (effort.changes + 1)
        samples = round(seconds * music.sample_rate)
        with music.stream(level=level, seed=0, latency=name, samples=samples) as stream:
            began = time.perf_counter()
            expected = np.concatenate(list(stream))
            rtf = seconds / (time.perf_counter() - began)
        with music.stream(level=level, seed=0, latency=name, samples=samples) as stream:
            feed, delays = playback.Feed(stream, stream.sample_rate, latency.buffer,
                                         latency.prebuffer), []
            feed.start()
            while not feed.ready:
                time.sleep(0.001)
            sink = Sink(feed, expected, latency.period)
            for i in range(effort.changes):
                sink.skip(wait + random.uniform(0, 0.2))
                start = time.perf_counter()
                stream.set(loudness=0.0 if i % 2 else controls.QUIETEST)
                delays.append(1000 * (sink.await_change() - start))
            feed.close()
        rows.append({"latency": name, "block": stream.block,
                     "changes": len(delays), "median_ms": float(np.median(delays)),
                     "most_ms": float(max(delays)), "underruns": feed.underruns, "rtf": rtf})
    return rows


def memory_rows(music, effort: Effort, level: int) -> list[dict]:
    """Memory of a process that plays one stream as fast as possible, after some minutes of music.
    Labels change every half minute.
    """
    marks, began = [], time.perf_counter()
    with music.stream(level=level, seed=0) as stream:
        turn, turns = 0, itertools.cycle(stream.labels)
        for mark in effort.minutes:
            while stream.position < mark * 60 * stream.sample_rate:
                if stream.labels and stream.position >= turn * 30 * stream.sample_rate:
                    stream.set(label={next(turns): 1.0})
                    turn += 1
                next(stream)
            marks.append(machine.memory_use())
        rtf = stream.position / stream.sample_rate / (time.perf_counter() - began)
    return [{
        "minutes": list(effort.minutes),
        "peak_bytes": [m["peak"] for m in marks],
        "now_bytes": [m["now"] for m in marks],
        "growth_bytes": marks[-1]["peak"] - marks[0]["peak"] if len(marks) > 1 else None, "rtf": rtf
    }]


PLAYED = {"codecs": codec_rows, "stream": stream_rows, "start": start_rows,
          "controls": control_rows, "memory": memory_rows}


def _all_levels(chain):
    return chain.config.sizes


LEVELS: dict[str, Callable[[Chain], Sequence[int]]] = {
    "codecs": _all_levels, "steps": _all_levels,
    **dict.fromkeys(("stream", "start", "controls", "memory"), lambda chain: chain.endings)}


# --- tables ---------------------------------------------------------------------------------------

_LEVEL = Column("level", "level")
PARTS = {
    "codecs": ("Codecs, times real time", (
        _LEVEL, Column("encode", "encode_rtf", ".1f"), Column("decode", "decode_rtf", ".1f"))),
    "steps": ("Sampling: codes a second, times real time, times the eager loop", (
        _LEVEL, Column("streams", "streams"), Column("engine", "engine"),
        Column("codes/s", "codes_per_s", ",.0f"), Column("real time", "rtf", ".2f"),
        Column("eager", "against_eager", ".1f"))),
    "stream": ("Streams of the chain, decoded at a level", (
        _LEVEL, Column("streams", "streams"), Column("total RTF", "rtf", ".2f"),
        Column("block median s", "block_median_s", ".3f"),
        Column("block P95 s", "block_p95_s", ".3f"), Column("P95 / duration", "p95_share", ".2f"))),
    "start": ("Seconds to the first block, and to the sound, whose buffer is full", (
        _LEVEL, Column("warm, block", "warm_first_block_s", ".2f"),
        Column("warm, sound", "warm_sound_s", ".2f"),
        Column("cold, block", "cold_first_block_s", ".2f"),
        Column("cold, sound", "cold_sound_s", ".2f"))),
    "controls": ("Milliseconds from a change of a control to the first changed sample", (
        _LEVEL, Column("latency", "latency"), Column("block", "block"),
        Column("median", "median_ms", ".0f"), Column("most", "most_ms", ".0f"),
        Column("underruns", "underruns"), Column("RTF", "rtf", ".2f"))),
    "memory": ("Memory of a process that plays, bytes", (
        _LEVEL, Column("peak", "peak_bytes", ","), Column("growth", "growth_bytes", ","),
        Column("RTF", "rtf", ".2f"))),
}


def describe_run(results: dict) -> str:
    """The machine, its load and the versions, in two lines."""
    host = results["machine"]
    memory = f"{host['memory_bytes'] / 2**30:.1f} GiB" if host["memory_bytes"] else "memory unknown"
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    before, after = results["load"]
    return (f"{host['cpu']}, {host['cores']} cores, {memory}; {host['os']}; load {before:.1f} "
            f"before, {after:.1f} after; {results['when']}\nPython {host['python']}, {versions}")


def print_tables(results: dict, console):
    """Print the machine and a table for each part that was measured."""
    console.print(describe_run(results), markup=False, highlight=False, soft_wrap=True)
    for part, (title, columns) in PARTS.items():
        if results.get(part):
            console.print(title, markup=False, highlight=False)
            console.print(tables.render(results[part], columns, "rich"))
