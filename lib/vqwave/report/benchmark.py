"""How fast the playing plane is on this machine, against what it is meant to reach.

What plays is measured in processes of their own, where TensorFlow was never imported, as a
listener's is; what is compared with a baseline takes turns with it, so that a ratio holds where the
machine's speed wavers. Figures are medians. A size for which there are no trained weights is
measured with random ones: arithmetic costs the same whatever it says.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
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

from .. import config, machine, quiet
from ..config import ChainConfig, Preset, Split
from ..dsp import metrics
from ..errors import UserError
from ..io import audio, files, manifest, weights
from ..onnx import export, loops
from ..play import api, controls, engine, pitches, playback, sampling

PARTS = ("bandwidth", "codecs", "steps", "accuracy", "chain", "start", "latency", "pull", "memory")
SIZES = (config.SHIPPED, "reference")
STREAMS = (1, 8, 32)
EAGER = "eager"
# Random numbers and contexts for so many steps are made beforehand, outside what is timed, and no
# call asks for more: a block of 8,192 samples at 8x has as many.
MOST_STEPS = 1024
# What stands around the tables that `write` puts into a page.
MARKERS = "<!-- benchmark.py -->", "<!-- benchmark.py: end -->"
# Below a folder whose results a page shows: where those of a run go that is not whole.
PARTIAL = "partial"


@dataclass(frozen=True)
class Effort:
    """How long is measured. `turn`: seconds of one turn of one contender; `chain_turn`: of one
    stream; `minutes`: of music, after which memory is read; `bandwidth_bytes`: size of the array
    that is read and copied; `codes`: held-out codes a level that accuracy is told from; `seconds`:
    of audio through each codec; `controls`: changes of which the delay is measured.
    """

    rounds: int = 5
    turn: float = 0.12
    chain_rounds: int = 4
    chain_turn: float = 2.5
    starts: int = 5
    minutes: tuple[float, ...] = (1, 10)
    bandwidth_bytes: int = 256 << 20
    codes: int = 8192
    seconds: float = 10.0
    streams: tuple[int, ...] = STREAMS
    controls: int = 8


FULL = Effort()
QUICK = Effort(rounds=2, turn=0.04, chain_rounds=1, chain_turn=1.0, starts=1, minutes=(0.1, 0.5),
               bandwidth_bytes=64 << 20, codes=1024, seconds=3.0, controls=3)


@dataclass(frozen=True)
class ChainWeights:
    """The weights that a size is measured with; `source` says where they come from, `cache` where
    their graphs go.
    """

    size: str
    chain: ChainConfig
    codecs: Path
    generators: Path
    source: dict[str, str]
    cache: Path | None

    def codec_weights(self, level: int) -> weights.WeightSet:
        return weights.find(self.codecs, self.chain.codecs[level])

    def generator_weights(self, level: int) -> weights.WeightSet:
        return weights.find(self.generators, self.chain.generator(level))

    @property
    def endings(self) -> list[int]:
        """The levels that the chain is measured to: where it ends by itself, and the finest."""
        return list(dict.fromkeys((self.chain.ending, self.chain.bottom)))

    @property
    def checksums(self) -> dict[str, str]:
        """The beginning of each set's checksum, by its name."""
        sets = [*map(self.codec_weights, self.chain.sizes),
                *map(self.generator_weights, self.chain.sizes)]
        return {found.name: found.checksum[:16] for found in sets}

    @contextlib.contextmanager
    def active(self):
        """Graphs of random weights stay out of the user's cache; the processes started inside
        inherit this.
        """
        before = os.environ.get("VQWAVE_CACHE")
        if self.cache:
            os.environ["VQWAVE_CACHE"] = str(self.cache)
        try:
            yield
        finally:
            if self.cache:
                os.environ.pop("VQWAVE_CACHE")
                if before is not None:
                    os.environ["VQWAVE_CACHE"] = before


def run(sizes, codecs, generators, parts=PARTS, effort: Effort = FULL, *, data_dir=None,
        val_split: float | Split = 0.1, progress=lambda done, total, what: None) -> dict:
    """Measure `parts` of `sizes`; the figures, plain lists and numbers as JSON holds them, with
    `targets` judged.

    Args:
        sizes: presets, by name or path.
        codecs, generators: folders of trained weights, taken for the size that they are of.
        data_dir: prepared music whose validation tracks (by val_split, as the trainers split) tell
            what int8 costs, which is not measured without.
        progress: called with (done, total, what) as things are begun, in roughly seconds.

    Raises:
        UserError: there is no such preset or part, or its weights are damaged.
        RuntimeError: a process that plays fails, or loads TensorFlow.
    """
    lacks = find_lacks(sizes, parts, effort, data_dir)
    presets = {size: config.preset(size) for size in sizes}
    tracks = (find_held_out(data_dir, val_split) if data_dir is not None and "accuracy" in parts
              else [])
    results = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": list(os.getloadavg()),
        "quick": effort != FULL,
        "lacks": lacks,
        "weights": {},
        **{part: [] for part in parts},
    }
    with tempfile.TemporaryDirectory(prefix="vqwave_benchmark_") as folder:
        jobs = []
        for size, preset in presets.items():
            progress(0, 1, f"{size}: preparing weights and graphs")
            chain = choose(preset, Path(codecs), Path(generators), Path(folder))
            # Compact and reference have the same codecs, which are measured once.
            new = "codecs" in parts and all(c.codecs != chain.codecs for c, *_ in jobs)
            with chain.active():
                _export(chain, new)
            results["weights"][size] = chain.source | {"checksums": chain.checksums,
                                                       "ending": chain.chain.ending}
            jobs += _jobs(chain, parts, effort, data_dir, tracks, size == sizes[0], new)
        jobs.sort(key=lambda job: PARTS.index(job[1]))
        total, done = sum(job[2] for job in jobs), 0
        for chain, part, cost, what, job in jobs:
            progress(done, total, what)
            with chain.active():
                results[part] += job()
            done += cost
        progress(total, total, "done")
    results["load_after"] = list(os.getloadavg())
    _share_bandwidth(results)
    results["targets"] = judge(results)
    return results


def find_lacks(sizes, parts, effort: Effort, data_dir) -> list[str]:
    """What a `run` with these arguments lacks of a whole one, in words. Nothing: every part of
    `SIZES` at least is measured in full, so that the results may replace published ones.

    Raises:
        UserError: there is no such preset or part.
    """
    for size in sizes:
        config.preset(size)
    for one in parts:
        if one not in PARTS:
            raise UserError(f"no part of the benchmark is called {one!r}; there are "
                            f"{', '.join(PARTS)}")
    lacks = ["the rounds that --quick leaves out"] if effort != FULL else []
    lacks += [f"size {size}" for size in SIZES if size not in sizes]
    lacks += [f"part {part}" for part in PARTS if part not in parts]
    if "accuracy" in parts and data_dir is None:
        lacks.append("music for accuracy (--data-dir)")
    return lacks


def _jobs(chain, parts, effort, data_dir, tracks, first, new_codecs):
    """(chain, part, seconds it takes about, what it is, function that returns rows), for the parts
    asked for.
    """
    size = chain.size
    made = []
    if first:
        made.append((chain, "bandwidth", 2, "the machine's memory "
                                            "bandwidth", lambda: [bandwidth(effort)]))
    if new_codecs:
        made.append((chain, "codecs", 10, f"{size}: codecs",
                     lambda: _child("codecs", chain, chain.chain.bottom, effort)))
    for level in chain.chain.sizes:
        made.append((chain, "steps", 14, f"{size}: steps/s at {level}x",
                     lambda level=level: steps(chain, level, effort)))
        if tracks:
            made.append((chain, "accuracy", 6, f"{size}: bits in each precision at {level}x",
                         lambda level=level: [accuracy(chain, level, data_dir, tracks, effort)]))
    # Ten minutes of the largest size would take longer than all the rest; what could grow is the
    # same code.
    minutes = effort.minutes if first else effort.minutes[:1]
    for level in chain.endings:
        made.append((chain, "chain", 45, f"{size}: the chain to {level}x",
                     lambda level=level: _child("chain", chain, level, effort)))
        made.append((chain, "start", 12, f"{size}: time to first audio at {level}x",
                     lambda level=level: [start(chain, level, effort)]))
        made.append((chain, "latency", 20 * effort.controls,
                     f"{size}: from a control to its sound at {level}x",
                     lambda level=level: _child("latency", chain, level, effort)))
        if chain.cache is None:  # what random weights play says nothing
            made.append((chain, "pull", 20 * effort.controls, f"{size}: held notes at {level}x",
                         lambda level=level: _child("pull", chain, level, effort)))
        made.append((chain, "memory", 10 * minutes[-1], f"{size}: memory over {minutes[-1]:g} min "
                                                        f"of music at {level}x",
                     lambda level=level: _child("memory", chain, level, effort, minutes=minutes)))
    return [job for job in made if job[1] in parts]


# --- weights --------------------------------------------------------------------------------------


def _relative(folder: Path) -> str:
    """A folder as the report names it: from where the user stands, if it is below that."""
    full, here = Path(folder).resolve(), Path.cwd()
    return str(full.relative_to(here) if full.is_relative_to(here) else folder)


def choose(preset: Preset, codecs: Path, generators: Path, folder: Path) -> ChainWeights:
    """The trained weights of a preset's size where the two folders hold them, else random ones made
    in `folder`.
    """
    chain, source = preset.chain, {"codecs": "random", "generators": "random"}
    for level in chain.sizes:
        chain.generator(level)
    trained = weights.chain(generators)
    if all(weights.tags(generators, name) for name in trained.generators.values()):
        found = [weights.find(generators, name).config for name in trained.generators.values()]
        # Weights that are of no preset's size are taken for what ships.
        if next((p.name for p in (preset, *map(config.preset, config.preset_names()))
                 if _sizes(p) == [
                (one.level, one.core) for one in found]), config.SHIPPED) == preset.name:
            source["generators"] = _relative(generators)
            chain = trained
    if all(weights.tags(codecs, name) for name in chain.codecs.values()):
        found = [weights.find(codecs, name).config for name in chain.codecs.values()]
        wanted = [preset.codec(level) for level in preset.chain.sizes]
        theirs, ours = [[(c.level, c.num_codes, c.books) for c in each] for each in (found, wanted)]
        if theirs == ours:
            source["codecs"] = _relative(codecs)
    if "random" in source.values() and chain is not preset.chain:
        # Names and ending are the preset's where some of its models are made here.
        source["generators"], chain = "random", preset.chain
        if list(chain.codecs.values()) != list(trained.codecs.values()):
            source["codecs"] = "random"
    if source["generators"] == "random":
        generators = _random_generators(folder / f"generators_{Path(preset.name).stem}", preset)
    if source["codecs"] == "random":
        # Compact and reference share their codecs.
        shapes = json.dumps([config.to_dict(preset.codec(level)) for level in chain.sizes],
                            sort_keys=True)
        digest = hashlib.sha256(shapes.encode()).hexdigest()[:16]
        codecs = _random_codecs(folder / f"codecs_{digest}", preset)
    return ChainWeights(preset.name, chain, codecs, generators, source,
                 folder / "cache" if "random" in source.values() else None)


def _sizes(preset: Preset) -> list:
    return [(level, preset.generator(level).core) for level in preset.chain.generators]


def _random_generators(folder, preset) -> Path:
    quiet.import_keras()
    import keras

    from ..nn.generator import Generator

    folder.mkdir()
    keras.utils.set_random_seed(0)
    for level in preset.chain.sizes:
        one = preset.generator(level)
        weights.save(folder, one.name, "", Generator(one).parts, one)
    weights.save_chain(folder, preset.chain)
    return folder


def _random_codecs(folder, preset) -> Path:
    quiet.import_keras()
    import keras

    from ..nn.codec import VQVAE

    if folder.is_dir():
        return folder
    folder.mkdir()
    keras.utils.set_random_seed(0)
    noise = np.random.default_rng(0).normal(0.0, 0.1,
                                            (2, 65536 // preset.chain.top * preset.chain.top))
    for level in preset.chain.sizes:
        model = VQVAE(preset.codec(level))
        model(noise.astype(np.float32), training=True)  # a codebook in which most codes are in use
        weights.save(folder, model.config.name, "", model.parts, model.config)
    return folder


def _export(chain, all_codecs: bool):
    """Make the graphs that processes without TensorFlow will look for."""
    sets = [*map(chain.generator_weights, chain.chain.sizes),
            *map(chain.codec_weights, chain.chain.sizes if all_codecs else chain.endings)]
    for found in sets:
        for kind in export.kinds(found, "onnx"):
            export.cached_graph(found, kind)


# --- steps a second -------------------------------------------------------------------------------


def steps(chain: ChainWeights, level: int, effort: Effort,
          names: Sequence[str] = (*engine.ENGINES, EAGER)) -> list[dict]:
    """codes/s of one level: a row for each number of streams side by side and each of `names`, the
    engines and the eager loop.

    A step makes one frame in each stream, so codes/s = streams x steps/s x books. `against_eager`
    is the median of the ratios within a round, not the ratio of medians; None without the eager
    loop.
    """
    quiet.import_keras()
    from ..nn.generator import load_generator

    found = chain.generator_weights(level)
    engines = {name: engine.load_generator(found, name) for name in names if name != EAGER}
    eager = load_generator(found) if EAGER in names else None
    loop = loops.LOOPS[type(found.config.core)]
    read = loop.bytes_per_step(found.config, found.load("generator"))
    remembered = 4 * sum(math.prod(shape) for shape in found.config.states.values())
    rows = []
    for streams in effort.streams:
        contenders = {name: chunk_sampler(e, streams) for name, e in engines.items()}
        if eager is not None:
            contenders[EAGER] = eager_sampler(eager, streams)
        rates = race(contenders, effort.rounds, effort.turn)
        ratios = {name: float(np.median(np.divide(rate, rates[EAGER])))
                  for name, rate in rates.items() if EAGER in rates}
        for name, rate in rates.items():
            per_second = float(np.median(rate))
            precision = engines[name].precision if name != EAGER else "float32"
            rows.append({
                "size": chain.size, "level": level, "streams": streams,
                "engine": name, "precision": precision,
                "steps_per_s": per_second, "codes_per_s": per_second * streams * found.config.books,
                "real_time": per_second * streams * level / chain.chain.sample_rate,
                "against_eager": ratios.get(name),
                "weights_bytes_per_s": per_second * read[precision],
                "core": found.config.core.kind, "state_bytes": remembered,
            })
    return rows


def race(contenders: dict, rounds: int, turn: float) -> dict[str, list[float]]:
    """Steps/s of each contender in each round. A contender is a function that takes n steps; they
    take turns.
    """
    sizes = {}
    for name, run_steps in contenders.items():
        run_steps(4)  # what is compiled or allocated at first
        took = _time(run_steps, 4)
        sizes[name] = int(np.clip(4 * turn / took, 4, MOST_STEPS))
        run_steps(sizes[name])
    rates = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run_steps in contenders.items():
            done, took = 0, 0.0
            while took < turn:
                took += _time(run_steps, sizes[name])
                done += sizes[name]
            rates[name].append(done / took)
    return rates


def _time(function, *arguments) -> float:
    began = time.perf_counter()
    function(*arguments)
    return max(time.perf_counter() - began, 1e-9)


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
    """A function that samples n steps as the original does: an eager call of the framework for each
    frame.
    """
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
    """A context float32 [streams, steps, channels], or None at the top, and draws [streams, steps,
    books].
    """
    rng = np.random.default_rng(0)
    context = (rng.normal(size=(streams, MOST_STEPS, c.context_channels)).astype(np.float32)
               if c.conditions else None)
    return context, rng.random((streams, MOST_STEPS, c.books), np.float32)


# --- accuracy -------------------------------------------------------------------------------------


def find_held_out(data_dir, val_split: float | Split) -> list[manifest.Track]:
    """The validation tracks of a data folder."""
    from ..io import splits

    tracks = splits.split(manifest.read(data_dir), val_split, seed=0)[1]
    if not tracks:
        raise UserError(f"{data_dir}: --val-split holds no track out: there is none to measure "
                        f"accuracy on")
    return tracks


def accuracy(chain: ChainWeights, level: int, data_dir, tracks, effort: Effort) -> dict:
    """Bits a frame of held-out music, teacher-forced one row at a time, as a stream plays: in every
    precision that the core's loop knows, whichever of them these weights are played in.
    """
    quiet.import_keras()
    from . import scoring

    found = chain.generator_weights(level)
    codec_engine = engine.load_codec(chain.codec_weights(level))
    source = (engine.load_codec(chain.codec_weights(found.config.source_level))
              if found.config.source else None)
    loop = loops.LOOPS[type(found.config.core)]
    known = loop.bytes_per_step(found.config, found.load("generator"))
    engines = {name: engine.load_generator(found, "onnx") for name in known}
    for name, generator in engines.items():
        generator.precision = name  # type: ignore[attr-defined]  # of the ONNX engine
    each = -(-effort.codes // len(tracks))
    log_probs = {name: [] for name in engines}
    for track in tracks:
        span = _cut_held_out(track, data_dir, codec_engine, source, found.config, each)
        for name, generator in engines.items():
            log_probs[name].append(scoring.score(generator, [span])[0])
    bits = {name: metrics.bits(np.concatenate(values)) for name, values in log_probs.items()}
    return {
        "size": chain.size, "level": level, "weights": "random" if "random" in chain.source.values()
        else "trained",
        "codes": sum(map(len, log_probs["float32"])),
        **{f"bits_{name}": value for name, value in bits.items()},
        **{f"difference_{name}": bits[name] - bits["float32"] for name in known
           if name != "float32"},
    }


def _cut_held_out(track, data_dir, codec_engine, source, c, wanted):
    """A `Span` of at least `wanted` frames from the middle of a track, with what the context sees
    around them.
    """
    from . import scoring

    unit = c.source_level or c.level
    margin = c.halo * c.source_level
    count = min(-(-wanted * c.level // unit), (track.samples - 2 * margin) // unit) * unit
    if count <= 0:
        raise UserError(f"{files.printable(track.file)}: is too short to measure accuracy on: "
                        f"{track.seconds:.1f} s")
    first = (track.samples - count - 2 * margin) // 2
    samples = audio.from_u16(audio.read_window(track.path(data_dir), first, count + 2 * margin))
    coded = scoring.encode_track(samples, codec_engine, source, track, first)
    return scoring.Span(coded, margin // c.level, count // c.level)


# --- the machine ----------------------------------------------------------------------------------


def bandwidth(effort: Effort) -> dict:
    """Bytes/s of memory through one thread: reading (the sum of an array) and copying (read and
    written).
    """
    source = np.ones(effort.bandwidth_bytes // 8)
    target = np.zeros_like(source)  # touched, so that its pages are there
    read = [_time(source.sum) for _ in range(effort.rounds)]
    copy = [_time(np.copyto, target, source) for _ in range(effort.rounds)]
    return {"read_bytes_per_s": source.nbytes / float(np.median(read)),
            "copy_bytes_per_s": 2 * source.nbytes / float(np.median(copy))}


def _share_bandwidth(results):
    """How much of the bandwidth reading the weights takes. Above 1: they stay in the processor's
    caches.
    """
    if results.get("bandwidth"):
        limit = max(results["bandwidth"][0].values())
        for row in results.get("steps", ()):
            row["share_of_bandwidth"] = row["weights_bytes_per_s"] / limit


# --- processes without TensorFlow -----------------------------------------------------------------

_CHILD = "import sys; from vqwave.report import benchmark; benchmark.child(*sys.argv[1:])"

# What the command that plays imports and does, up to where the sound starts.
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


def _child(job: str, chain: ChainWeights, level: int, effort: Effort, **more) -> list[dict]:
    """Rows of a job that plays the chain to `level`."""
    options = {"size": chain.size, "codecs": str(chain.codecs), "generators": str(chain.generators),
               "level": level,
               "effort": vars(effort), **more}
    with _python(_CHILD, job, json.dumps(options)) as process:
        out, error = process.communicate()
    if process.returncode:
        raise RuntimeError(f"measuring {job} of {chain.size} failed:\n{error}")
    return json.loads(out)


def child(job: str, options: str):
    """What runs in a process of its own: one of the functions below; the rows it returns go to
    stdout.
    """
    options = json.loads(options)
    effort = Effort(**options["effort"])
    music = api.load(options["codecs"], options["generators"], default_choice=0)
    jobs: dict[str, Callable] = {"codecs": codecs_rows, "chain": chain_rows,
                                 "warm": warm_rows, "latency": latency_rows, "pull": pull_rows,
                                 "memory": memory_rows}
    levels = () if job == "codecs" else (options["level"],)
    rows = jobs[job](music, effort, *levels, *([options["minutes"]] if job == "memory" else []))
    loaded = {"tensorflow", "keras"} & set(sys.modules)
    if loaded:
        raise RuntimeError(f"playing loaded {loaded}")
    print(json.dumps([{"size": options["size"], **row} for row in rows]))


def _where(chain: ChainConfig, level: int) -> dict:
    """What a row says of the level that the chain is played to."""
    return {"level": level, "ending": level == chain.ending, "whole": level == chain.bottom}


def count_cycle(stream) -> int:
    """Blocks after which the work of a stream repeats: a run of a context model serves several."""
    return math.lcm(*(level.group for level in stream._chain.levels))


def chain_rows(music, effort: Effort, level: int) -> list[dict]:
    """RTF of 1, 8 and 32 streams side by side, which take turns; in total, and the blocks' own
    times.
    """
    with contextlib.ExitStack() as stack:
        streams = {n: stack.enter_context(music.stream(level=level, seed=0,
                                                       batch=None if n == 1 else n))
                   for n in effort.streams}
        for stream in streams.values():
            for _ in range(2):  # the first blocks also fill the levels above, far ahead
                next(stream)
        rtf = {n: [] for n in streams}
        blocks = {n: [] for n in streams}
        for _ in range(effort.chain_rounds):
            for n, stream in streams.items():
                took = []
                while sum(took) < effort.chain_turn or len(took) % count_cycle(stream):
                    took.append(_time(next, stream))
                duration = music.chain.block / stream.sample_rate
                rtf[n].append(n * duration * len(took) / sum(took))
                blocks[n] += took
    rows = []
    for n, took in blocks.items():
        p95 = float(np.percentile(took, 95))
        rows.append({
            **_where(music.chain, level), "streams": n, "rtf": float(np.median(rtf[n])),
            "rtf_rounds": rtf[n],
            "blocks": len(took), "block_median_s": float(np.median(took)), "block_p95_s": p95,
            "p95_share": p95 / duration
        })
    return rows


def warm_rows(music, effort: Effort, level: int) -> list[dict]:
    """Seconds from asking for a new piece to its first block, and to where its sound starts; models
    loaded.
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
    return [{"first_block_s": float(np.median(first)), "sound_s": float(np.median(sound))}]


class Sink:
    """What stands for a sound device: it takes `period` samples at a time out of a `Feed`, as fast
    as they are heard, and compares them with `expected`, the same music as nobody changes it.

    Loudness goes to nothing and back: the first sample that is other than it was without the change
    is the first that heeds it.
    """

    def __init__(self, feed: playback.Feed, expected: np.ndarray, period: int):
        self.feed, self.expected, self.period = feed, expected, period
        self.position, self.began, self.silent = 0, time.perf_counter(), False
        self.heeded = 0  # the sample that did

    def skip(self, seconds: float):
        """Take so much of it."""
        until = self.position + seconds * self.feed.sample_rate
        while self.position < until:
            self._take()

    def heed(self) -> float:
        """When the sample is heard that first heeds a change that was just asked for, on the clock
        of `perf_counter`. Raises `RuntimeError` where the music ends before.
        """
        while True:
            first, audio, at = self.position, *self._take()
            was = np.zeros_like(audio) if self.silent else self.expected[first:][: len(audio)]
            if (other := np.flatnonzero(audio[: len(was)] != was)).size:
                self.silent, self.heeded = not self.silent, first + int(other[0])
                return at + other[0] / self.feed.sample_rate

    def _take(self) -> tuple[np.ndarray, float]:
        """The next samples, and when their first is heard."""
        rate = self.feed.sample_rate
        at = self.began + self.position / rate
        time.sleep(max(0.0, at - time.perf_counter()))
        audio, more = self.feed.read(self.period)
        got = round(self.feed.status.seconds * rate) - self.position
        if not (got or more):
            raise self.feed.error or RuntimeError("the music ended before the control was heeded")
        # Where the sound ran dry silence was heard: the clock goes on, the music does not.
        audio, self.began = audio[:got], self.began + (self.period - got) / rate
        self.position += len(audio)
        return audio, at


def latency_rows(music, effort: Effort, level: int) -> list[dict]:
    """Milliseconds from `Stream.set` to the first sample that heeds it, as a device would play it,
    for each of `playback.LATENCIES`; how often the sound ran dry; RTF of such blocks.
    """
    rows, random = [], np.random.default_rng(0)
    for name, latency in playback.LATENCIES.items():
        wait = latency.buffer + 0.5  # until a change has been heard, and its ramp is over
        seconds = (2 * wait + 1) * (effort.controls + 1)
        samples = round(seconds * music.sample_rate)
        with music.stream(level=level, seed=0, latency=name, samples=samples) as stream:
            began = time.perf_counter()
            expected = np.concatenate(list(stream))
            rtf = seconds / (time.perf_counter() - began)
        with music.stream(level=level, seed=0, latency=name, samples=samples) as stream:
            feed, took = playback.Feed(stream, stream.sample_rate, latency.buffer,
                                       latency.prebuffer), []
            feed.start()
            while not feed.ready:
                time.sleep(0.001)
            sink = Sink(feed, expected, latency.period)
            for i in range(effort.controls):
                sink.skip(wait + random.uniform(0, 0.2))
                asked = time.perf_counter()
                stream.set(loudness=0.0 if i % 2 else controls.QUIETEST)
                took.append(1000 * (sink.heed() - asked))
            feed.close()
        rows.append({**_where(music.chain, level), "latency": name, "block": stream.block,
                     "controls": len(took), "median_ms": float(np.median(took)),
                     "most_ms": float(max(took)), "underruns": feed.underruns, "rtf": rtf})
    return rows


def pull_rows(music, effort: Effort, level: int) -> list[dict]:
    """How far held triads draw the music to them: the share of its energy at their pitch classes
    before they are held, in the second that begins a second after that, and likewise after their
    release; means over as many pieces.

    Each piece is drawn to the major triad that has nearest to the quarter of its energy that three
    of twelve classes have by chance: neither what it plays already nor what it avoids. No row where
    the codecs do not play by oscillators. The strength is what it begins with.
    """
    shares: dict[str, list[float]] = {"before": [], "held": [], "released": []}
    for i in range(effort.controls):
        with music.stream(level=level, seed=i, latency="low") as stream:

            def listen(seconds, stream=stream):
                until, heard = stream.position + round(seconds * stream.sample_rate), []
                while stream.position < until:
                    heard.append(next(stream))
                power = pitches.classes(np.concatenate(heard)[None], stream.sample_rate)[0]
                # Of the triad on each root, C first.
                return sum(np.roll(power, -step) for step in (0, 4, 7)) / max(power.sum(), 1e-12)

            listen(2.0)  # a piece may begin with silence
            before = listen(4.0)
            root = int(np.abs(before - 3 / 12).argmin())
            shares["before"].append(before[root])
            try:
                stream.set(notes=[60 + root + step for step in (0, 4, 7)])
            except UserError:
                return []
            for name in ("held", "released"):
                listen(1.0)
                shares[name].append(listen(1.0)[root])
                listen(2.0)
                stream.set(notes=[])
    return [{**_where(music.chain, level), "triads": effort.controls,
             **{name: float(np.mean(values)) for name, values in shares.items()}}]


def start(chain: ChainWeights, level: int, effort: Effort) -> dict:
    """Seconds to the first block and to where the sound starts; a cold process finds its files
    cached.
    """
    warm = _child("warm", chain, level, effort)[0]
    first, sound = [], []
    for _ in range(effort.starts):
        began = time.perf_counter()
        with _python(_COLD, chain.codecs, chain.generators, level) as process:
            marks = [time.perf_counter() - began for _ in process.stdout]
            error = process.stderr.read()
        if process.returncode:
            raise RuntimeError(f"playing {chain.size} failed:\n{error}")
        first.append(marks[0])
        sound.append(marks[-1])
    return {
        "size": chain.size, **_where(chain.chain, level),
        "warm_first_block_s": warm["first_block_s"],
        "warm_sound_s": warm["sound_s"], "cold_first_block_s": float(np.median(first)),
        "cold_sound_s": float(np.median(sound)), "prebuffer_s": playback.PREBUFFER
    }


def codecs_rows(music, effort: Effort) -> list[dict]:
    """Seconds of audio encoded and decoded per second, one thread."""
    samples = round(effort.seconds * music.sample_rate)
    noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    rows = []
    for level in music.chain.sizes:
        codes = music.encode(noise, level)
        music.decode(codes, level)
        encode, decode = [], []
        for _ in range(effort.rounds):
            encode.append(_time(music.encode, noise, level))
            decode.append(_time(music.decode, codes, level))
        rows.append({"level": level, "encode_rtf": effort.seconds / float(np.median(encode)),
                     "decode_rtf": effort.seconds / float(np.median(decode))})
    return rows


def remember(chain: ChainWeights, level: int, effort: Effort) -> list[dict]:
    """`memory_rows` of a chain after the effort's minutes, in a process of its own."""
    return _child("memory", chain, level, effort, minutes=effort.minutes)


def memory_rows(music, effort: Effort, level: int, minutes) -> list[dict]:
    """Memory of a process that plays one stream as fast as it goes, after so many minutes of music.
    Where the chain has labels they take turns, of half a minute each.
    """
    marks, began, turns = [], time.perf_counter(), itertools.cycle(music.labels)
    with music.stream(level=level, seed=0) as stream:
        turn = 0
        for mark in minutes:
            while stream.position < mark * 60 * stream.sample_rate:
                if music.labels and stream.position >= turn * 30 * stream.sample_rate:
                    stream.set(label={next(turns): 1.0})
                    turn += 1
                next(stream)
            marks.append(machine.memory_use())
        rtf = stream.position / stream.sample_rate / (time.perf_counter() - began)
    return [{
        **_where(music.chain, level), "minutes": list(minutes),
        "peak_bytes": [m["peak"] for m in marks],
        "now_bytes": [m["now"] for m in marks],
        "growth_bytes": marks[-1]["peak"] - marks[0]["peak"] if len(marks) > 1 else None, "rtf": rtf
    }]


# --- targets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A figure that is meant to be reached: `sign` is ≥, < or ≤, `must` has to be, `aim` should;
    None is no bound.

    measured: a function of the results: the figure, or None where it was not measured; where it is
    the worst of several levels, (figure, the levels).
    """

    what: str
    sign: str
    must: float | None
    aim: float | None
    unit: str
    measured: Callable[[dict], float | None | tuple[float, list[int]]]

    def judge(self, results) -> dict:
        found = self.measured(results)
        value, levels = found if isinstance(found, tuple) else (found, [])

        def meets(bound):
            # A figure that is not finite reaches nothing.
            if bound is None or not math.isfinite(value):
                return False
            if self.sign == "≥":
                return value >= bound
            return value < bound if self.sign == "<" else value <= bound

        if value is None:
            verdict = "not measured"
        elif self.must is None and self.aim is None:
            verdict = ""
        elif meets(self.aim):
            verdict = "aim met"
        elif self.must is None:
            verdict = "aim missed"
        else:
            verdict = "must met" if meets(self.must) else "missed"
        covered = f" of {', '.join(f'{x}x' for x in levels)}" if levels else ""
        return {"what": self.what + covered, "sign": self.sign, "must": self.must,
                "aim": self.aim, "unit": self.unit,
                "measured": value, "verdict": verdict}


def worst(part, key, over=min, **wanted):
    """A function of the results: (the worst `key` of a part's rows that have what is wanted, the
    levels these are of).

    None where no row has it; the figure alone where the rows are not one a level.
    """

    def measure(results):
        rows = [r for r in results.get(part, ()) if key in r
                and all(r.get(k) == v for k, v in wanted.items())]
        if not rows:
            return None
        value = over(r[key] for r in rows)
        levels = list(dict.fromkeys(r["level"] for r in rows if r.get("level")))
        return (value, levels) if levels and not {"level", "whole"} & wanted.keys() else value

    return measure


def _growth(results):
    rows = [r for r in results.get("memory", ()) if r["minutes"][0] <= 1 and r["minutes"][-1] >= 10]
    if not rows:
        return None
    # Whole ones: below that an allocator's habits are all there is to see.
    return round(max(r["growth_bytes"] for r in rows) / (1 << 20))


def _pulled(results):
    rows = [r for r in results.get("pull", ()) if r["ending"]]
    return min((r["held"] / r["before"] for r in rows), default=None)


TARGETS = (
    Target("RTF, one stream, what ships, all levels", "≥", 4, 8, "x",
           worst("chain", "rtf", size=config.SHIPPED, streams=1, whole=True)),
    Target("RTF, one stream, reference, all levels", "≥", 1.3, 2.5, "x",
           worst("chain", "rtf", size="reference", streams=1, whole=True)),
    Target("P95 of block time / block duration, what ships, all levels", "<", 0.4, 0.2, "",
           worst("chain", "p95_share", size=config.SHIPPED, streams=1, whole=True)),
    Target("total RTF, 32 streams, what ships, all levels", "≥", 15, 30, "x",
           worst("chain", "rtf", size=config.SHIPPED, streams=32, whole=True)),
    Target("from Enter to sound, cold process, what ships, all levels", "<", 2.5, 1.2, "s",
           worst("start", "cold_sound_s", size=config.SHIPPED, whole=True)),
    Target("from a control to its sound, --latency low, what ships", "≤", 200, 100, "ms",
           worst("latency", "most_ms", max, size=config.SHIPPED, latency="low", ending=True)),
    Target("underruns, --latency low, what ships", "≤", 0, 0, "",
           worst("latency", "underruns", max, size=config.SHIPPED, latency="low", ending=True)),
    Target("a held triad's share of energy, over that before", "≥", 2, None, "x", _pulled),
    Target("against the eager loop, what ships, worst level", "≥", 50, 100, "x",
           worst("steps", "against_eager", size=config.SHIPPED, streams=1, engine="onnx")),
    Target("against the eager loop, reference, worst level", "≥", 50, 100, "x",
           worst("steps", "against_eager", size="reference", streams=1, engine="onnx")),
    Target("growth of memory between minute 1 and 10", "≤", 0, 0, "whole MiB", _growth),
    Target("bits a frame that int8 costs, worst level", "≤", 0.02, 0.02, "bits",
           worst("accuracy", "difference_int8", max, weights="trained")),
)


def judge(results: dict) -> list[dict]:
    """Every target with what was measured and "aim met", "must met", "missed" or "not measured"."""
    return [target.judge(results) for target in TARGETS]


# --- report ---------------------------------------------------------------------------------------


def report(results: dict, console):
    """Print the figures as tables."""
    console.print(describe_run(results), markup=False, highlight=False, soft_wrap=True)
    for size, source in results["weights"].items():
        console.print(f"{size}: generators {source['generators']}, codecs {source['codecs']}; by "
                      f"itself the chain ends at "
                      f"{source['ending']}x", markup=False, highlight=False, soft_wrap=True)
        console.print(", ".join(f"{name} {checksum}"
                                for name, checksum in source["checksums"].items()), markup=False,
                      highlight=False, soft_wrap=True)
    for title, headers, rows in _tables(results):
        if rows:
            console.print(_table(title, headers, rows))
    for part in PARTS:
        if not results.get(part):
            why = (" (it needs prepared music: --data-dir)"
                   if part == "accuracy" and part in results else "")
            console.print(f"{part}: not measured{why}", markup=False, highlight=False)


def describe_run(results) -> str:
    """The machine in two lines."""
    it = results["machine"]
    memory = f"{it['memory_bytes'] / 2**30:.1f} GiB" if it["memory_bytes"] else "memory unknown"
    load = f"load {results['load_before'][0]:.1f} before, {results['load_after'][0]:.1f} after"
    versions = ", ".join(f"{name} {version}" for name, version in it["versions"].items())
    return (f"{it['cpu']}, {it['cores']} cores, {memory}; {it['os']}; {load}; {results['when']}"
            f"{'; quick: figures are rough' if results['quick'] else ''}\nPython {it['python']}, "
            f"{versions}")


def _table(title, headers, rows):
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i else "left", no_wrap=not i)
    for row in rows:
        table.add_row(*row)
    return table


def _tables(results):
    """(title, headers, rows of text) of each part."""
    get = results.get
    yield "Memory bandwidth, one thread, GB/s", ("read", "copy"), [
        (f"{r['read_bytes_per_s'] / 1e9:.1f}", f"{r['copy_bytes_per_s'] / 1e9:.1f}")
        for r in get("bandwidth", ())]
    yield "Codecs, times real time", ("size", "level", "encode", "decode"), [
        (r["size"], f"{r['level']}x", f"{r['encode_rtf']:.1f}", f"{r['decode_rtf']:.1f}")
        for r in get("codecs", ())]
    yield ("Sampling: codes/s (= streams x steps/s), times its level's real time, times the eager "
           "loop",
           ("size", "level", "streams", "engine", "codes/s", "real time",
            "eager", "weights GB/s", "of bandwidth"), [
               (r["size"], f"{r['level']}x", str(r["streams"]), r["engine"],
                f"{r['codes_per_s']:,.0f}",
                f"{r['real_time']:.2f}", f"{r['against_eager']:.1f}",
                f"{r['weights_bytes_per_s'] / 1e9:.1f}",
                f"{r['share_of_bandwidth']:.0%}" if "share_of_bandwidth" in r else "")
               for r in get("steps", ())])
    yield "Cores, what one stream remembers", ("size", "level", "core", "KB"), list(dict.fromkeys(
        (r["size"], f"{r['level']}x", r["core"], f"{r['state_bytes'] / 1e3:,.1f}")
        for r in get("steps", ()) if "state_bytes" in r))
    yield ("Bits a frame on held-out music",
           ("size", "level", "weights", "codes", "float32", "int8"), [
        (r["size"], f"{r['level']}x", r["weights"], f"{r['codes']:,}", f"{r['bits_float32']:.4f}",
         f"{r['difference_int8']:+.4f}") for r in get("accuracy", ())])
    yield "The chain", ("size", "to", "streams", "total RTF", "block median",
                        "block P95", "P95 / duration"), [
        (r["size"], f"{r['level']}x", str(r["streams"]), f"{r['rtf']:.2f}",
         f"{1000 * r['block_median_s']:.0f} ms",
         f"{1000 * r['block_p95_s']:.0f} ms", f"{r['p95_share']:.2f}") for r in get("chain", ())]
    yield ("Seconds to audio (the sound starts when the player's buffer is full)",
           ("size", "to", "warm, first block", "warm, sound", "cold, first block", "cold, sound"), [
               (r["size"], f"{r['level']}x",
                *(f"{r[k]:.2f}"
                  for k in ("warm_first_block_s", "warm_sound_s", "cold_first_block_s",
                            "cold_sound_s")))
               for r in get("start", ())
           ])
    yield ("Milliseconds from a control to the first sample that heeds it",
           ("size", "to", "latency", "block", "median", "most", "underruns", "RTF"), [
               (r["size"], f"{r['level']}x", r["latency"], str(r["block"]),
                f"{r['median_ms']:.0f}", f"{r['most_ms']:.0f}", str(r["underruns"]),
                f"{r['rtf']:.2f}") for r in get("latency", ())])
    yield ("Share of the energy at a held triad's pitches",
           ("size", "to", "triads", "before", "held", "released"), [
               (r["size"], f"{r['level']}x", str(r["triads"]),
                *(f"{r[k]:.2f}" for k in ("before", "held", "released")))
               for r in get("pull", ())])
    yield "Peak memory, MiB", ("size", "to", "after", "growth", "RTF"), [
        (r["size"], f"{r['level']}x", ", ".join(f"{m:g} min: {p / 2**20:.1f}"
                              for m, p in zip(r["minutes"], r["peak_bytes"], strict=True)),
         "" if r["growth_bytes"] is None else f"{r['growth_bytes'] / 2**20:.2f}", f"{r['rtf']:.2f}")
        for r in get("memory", ())]
    yield "Targets", ("target", "measured", "must", "aim", "verdict"), [
        (t["what"], "" if t["measured"] is None else f"{t['measured']:.3g} {t['unit']}".strip(),
         *("" if t[bound] is None else f"{t['sign']} "
                                       f"{t[bound]:g}" for bound in ("must", "aim")), t["verdict"])
        for t in get("targets", ())]


def markdown(results: dict) -> str:
    """The figures as the Markdown of a page: what was measured on what, then the tables, those of
    sampling for the engine that plays.
    """
    from .tables import render

    shown = dict(results)
    shown["steps"] = [r for r in results.get("steps", ()) if r["engine"] == "onnx"]
    tables = {title: (headers, rows) for title, headers, rows in _tables(shown) if rows}
    first = {"Targets": tables.pop("Targets")} if "Targets" in tables else {}
    if rows := _whole_chains(results | shown, results.get("steps", ())):
        first["One stream of the whole chain, against the eager sampling of its levels added "
              "up"] = (
            ("size", "RTF", "eager", "ratio"), rows)
    it = results["machine"]
    lines = [f"Measured on {it['cpu']}, {it['cores']} cores, load {results['load_before'][0]:.1f} "
             f"before and {results['load_after'][0]:.1f} after, {results['when'][:10]}, with "
             f"Python {it['python']}, "
             + ", ".join(f"{name} {it['versions'][name]}"
                         for name in ("vqwave", "onnxruntime", "tensorflow")
                         if name in it["versions"]) + ".", ""]
    for size, source in results["weights"].items():
        sums = ", ".join(f"{name} `{checksum}`"
                         for name, checksum in source["checksums"].items())
        lines.append(f"- {size}: generators {source['generators']}, codecs {source['codecs']} "
                     f"({sums})")
    for title, (headers, rows) in (first | tables).items():
        lines += ["", f"**{title}**", "", render(rows, headers)]
    return "\n".join(lines)


def _whole_chains(results, steps) -> list[tuple[str, ...]]:
    """Rows of text: one stream of the chain down to its finest level, beside the eager loop's
    levels one after the other.
    """
    rows = []
    for size in results["weights"]:
        eager = [r["real_time"] for r in steps if (r["size"], r["engine"],
                                                   r["streams"]) == (size, EAGER, 1)]
        levels = [r["level"] for r in steps if r["size"] == size]
        for r in results["chain"]:
            if eager and (r["size"], r["streams"], r["level"]) == (size, 1, min(levels)):
                together = 1 / sum(1 / x for x in eager)
                rows.append((size, f"{r['rtf']:.2f}", f"{together:.3f}",
                             f"{r['rtf'] / together:.1f}"))
    return rows


def find_page(folder: Path, markers: tuple[str, str] = MARKERS) -> Path | None:
    """The page beside `folder` that shows its results: docs/performance.md of docs/benchmark/."""
    page = folder.absolute().parent / "performance.md"
    return page if page.is_file() and markers[0] in page.read_text(encoding="utf-8") else None


def find_place(folder, lacks: list[str]) -> Path:
    """Where the results of a run with such `lacks` go: into `folder`, but below it where a page
    shows what is in `folder` and the run is not whole.
    """
    folder = Path(folder)
    return folder / PARTIAL if lacks and find_page(folder) else folder


def insert(page: str, text: str, markers: tuple[str, str] = MARKERS) -> str:
    """`page` with `text` between its markers."""
    before, begin, rest = page.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not end:
        raise UserError(f"the page has no {markers[0]} … {markers[1]} to put the tables between")
    return f"{before}{begin}\n{text}\n{end}{after}"


def write(results: dict, folder) -> list[Path]:
    """results.json, report.txt (the machine, the tables) and, where there is what it shows,
    speed.png, where `find_place` says; and the tables of the page that shows what is there, if
    there is one. Returns the paths.
    """
    from rich.console import Console

    from .. import plots

    folder = files.make_folder(find_place(folder, results["lacks"]))
    page = find_page(folder)
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, width=120, record=True)
        report(results, console)
    written = [folder / "results.json", folder / "report.txt"]
    text = console.export_text()
    for path, content in zip(written, (json.dumps(results, indent=1) + "\n", text), strict=True):
        with files.atomic_write(path) as file:
            file.write(content.encode())
    if plots.speeds(results, folder / "speed.png"):
        written.append(folder / "speed.png")
    if page:
        text = insert(page.read_text(encoding="utf-8"), markdown(results))
        with files.atomic_write(page) as file:
            file.write(text.encode())
        written.append(page)
    return written
