"""Every figure of RESULTS.md, from shipped weights and a prepared corpus with its split.

`Evaluation` measures part by part; each figure is cached as JSON under what it depends on (weights' checksums, the
tracks, the settings), so that a run that was interrupted, or asked for other parts, goes on from what there is. The
distance is `fad.frechet`; the test tracks are read here and nowhere else.

| part | what it tells |
|---|---|
| controls | the scale of the distance: other real music, noise, silence |
| codecs | how much of the test tracks each codec keeps, beside Opus and MP3 at like bit rates; hum; silence |
| generators | bits per code of the test tracks: the unigram's, the model's, the model's without its context |
| chain | how far ten minutes of generated music are from the test tracks |
| variations | the same where the codes of one level are real and those below are generated |
| copying | the longest run of generated codes that stands in the training set; the nearest training passage |
| health | loudness over ten minutes, the longest exact repeat |
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import metrics, quiet, weights
from ..config import LEVELS, SAMPLE_RATE, codec_name, generator_name
from ..data import audio, manifest
from ..errors import UserError
from ..files import atomic_write
from ..play import api, engine
from . import copying as runs
from . import fad

PARTS = ("controls", "codecs", "generators", "chain", "variations", "copying", "health")
PROTOCOL = 2
"""Counts up when a figure would come out otherwise for the same weights; what is cached under another is not read."""

EXCERPT = 20.0
"""Seconds of each test track, from a third of its length, that codecs are judged by."""

BASELINES = (("Opus", "libopus", 32000), ("Opus", "libopus", 6000), ("MP3", "libmp3lame", 32000),
             ("MP3", "libmp3lame", 8000))
"""Name, encoder and bits per second: near to the codecs at 8x and 32x."""

SILENT_DB, LOUD_DB = -60.0, -3.0
LONGEST_PAUSE, LONGEST_REPEAT, MOST_CLIPPED = 20.0, 20.0, 0.01
"""A healthy piece has no pause and no exact repeat of more seconds, and no larger share of samples at full scale."""

_CHUNK = 2048


@dataclass(frozen=True)
class Setting:
    """How a chain is played: down to level `depth`, `temperature` and `top_p` one number, one a level, or None."""

    depth: int = LEVELS[-1]
    temperature: tuple[float, ...] | None = None
    top_p: float | None = None

    @property
    def levels(self) -> list[int]:
        """Those of the whole chain, from the top down."""
        return [x for x in LEVELS if x >= self.depth]

    def options(self, generated: Sequence[int] | None = None) -> dict:
        """For `model.VQWave.stream`; generated: the levels at work, the last ones of the chain, where not all are."""
        if self.temperature is None or len(self.temperature) == 1:
            temperature = self.temperature and self.temperature[0]
        else:
            if len(self.temperature) < len(self.levels):
                raise UserError(f"a chain down to {self.depth}x has {len(self.levels)} levels; "
                                f"{len(self.temperature)} temperatures are too few")
            by_level = dict(zip(self.levels, self.temperature, strict=False))
            temperature = [by_level[x] for x in generated or self.levels]
        return {"level": self.depth, "temperature": temperature, "top_p": self.top_p}

    def __str__(self):
        said = "temperature " + ("/".join(f"{t:g}" for t in self.temperature) if self.temperature else "as shipped")
        return f"down to {self.depth}x, {said}" + (f", top-p {self.top_p:g}" if self.top_p else "")


@dataclass(frozen=True)
class Plan:
    """How much is measured. minutes: of music a generated piece; seeds: one such piece each; bits_seconds: of each
    test track that generators are asked about; offsets: alignments of the training codes that copies are sought in."""

    settings: tuple[Setting, ...] = (Setting(),)
    seeds: tuple[int, ...] = (1,)
    minutes: float = 10.0
    bits_seconds: float = 60.0
    warm_up: float = 5.0
    offsets: int = 4
    keeps: tuple[int, ...] = (512, 128, 32)


class _Absent(Exception):
    """A figure that is not cached, of a part that was not asked for."""


class Evaluation:
    """Measures what `plan` says of `music` on the corpus in `data_dir`.

    split: the path of a `split.yml` that names test tracks; musicnn: see `fad.checkpoint`; context_free: a folder of
    generators trained with `source_level: 0`, for comparison; progress(part, what, share): called as things go on.
    Errors: `UserError`.
    """

    def __init__(self, music: api.VQWave, data_dir, split, plan: Plan = Plan(), *, cache_dir=None, musicnn=None,
                 context_free=None, progress: Callable[[str, str, float], None] = lambda part, what, share: None):
        quiet.import_keras()
        from ..data import windows

        self.music, self.data_dir, self.plan, self.progress = music, Path(data_dir), plan, progress
        self.musicnn, self.context_free = musicnn, context_free
        self.cache_dir = Path(cache_dir) if cache_dir else self.data_dir / ".evaluation"
        tracks = manifest.read(data_dir)
        if tracks[0].sample_rate != SAMPLE_RATE:
            raise UserError(f"{data_dir}: is at {tracks[0].sample_rate} Hz; figures are told at {SAMPLE_RATE} Hz")
        named = windows.read_split(split)
        self.train, self.validation = windows.split(tracks, split, seed=0)
        self.test = [t for name in named["test"] for t in tracks if windows.track_name(t) == name]
        if not self.test:
            raise UserError(f"{split}: names no test track, which is what is measured here")
        self.read_window, self.track_name = windows.read_window, windows.track_name
        self.asked = set(PARTS)
        self.part = ""

    # ---------------------------------------------------------------------------------------------- the parts' frame

    def run(self, parts: Sequence[str] = PARTS) -> dict[str, object]:
        """{part: its figures}; parts that are not among `parts` only as far as they were measured before."""
        for part in parts:
            if part not in PARTS:
                raise UserError(f"no part of the evaluation is called {part!r}; there are {', '.join(PARTS)}")
        found = {}
        for part in PARTS:
            self.asked, self.part = set(parts), part
            try:
                found[part] = getattr(self, part)()
            except _Absent:
                continue
        return found

    def figure(self, key: dict, make: Callable[[], object], what: str):
        """What `make()` gives, as JSON has it: from the cache where the same `key` was measured before."""
        path = self._path(key, ".json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        except (OSError, ValueError, KeyError):
            pass
        if self.part not in self.asked:
            raise _Absent
        self.progress(self.part, what, 0.0)
        value = json.loads(json.dumps(make()))
        self._write(path, lambda f: f.write((json.dumps({"key": key, "value": value}, indent=1) + "\n").encode()))
        self.progress(self.part, what, 1.0)
        return value

    def _path(self, key: dict, suffix: str) -> Path:
        digest = hashlib.sha256(json.dumps([PROTOCOL, key], sort_keys=True).encode()).hexdigest()[:24]
        return self.cache_dir / f"{key['figure']}-{digest}{suffix}"

    def _arrays(self, key: dict, make: Callable[[], dict]) -> dict[str, np.ndarray]:
        """As `figure`, for arrays that figures are made of."""
        path = self._path(key, ".npz")
        try:
            with np.load(path) as f:
                return {name: f[name] for name in f.files}
        except (OSError, ValueError, KeyError):
            pass
        made = make()
        self._write(path, lambda f: np.savez(f, **made))
        return made

    def _write(self, path, writer):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as f:
                writer(f)
        except OSError as e:
            raise UserError(f"{path}: cannot be written: {(e.strerror or str(e)).lower()}") from e

    # ------------------------------------------------------------------------------------------------ what is shared

    @cached_property
    def embed(self) -> fad.Embedder:
        return fad.load(self.musicnn)

    def samples(self, track, start: int = 0, count: int | None = None) -> np.ndarray:
        """float32 [count] of a track of the corpus, from sample `start`."""
        count = track.samples - start if count is None else count
        return audio.from_u16(self.read_window(track.path(self.data_dir), start, count))

    def excerpts(self) -> dict[str, np.ndarray]:
        """`EXCERPT` seconds from a third of each test track's length, cut to a multiple of 512 samples."""
        made = {}
        for track in self.test:
            start = track.samples // 3
            count = min(round(EXCERPT * SAMPLE_RATE), track.samples - start) // LEVELS[0] * LEVELS[0]
            made[self.track_name(track)] = self.samples(track, start, count)
        return made

    def passages(self) -> dict[str, np.ndarray]:
        """The middle of each test track, so long that all together are `plan.minutes`, for variations."""
        each = round(self.plan.minutes * 60 / len(self.test) * SAMPLE_RATE)
        made = {}
        for track in self.test:
            count = min(each, track.samples) // LEVELS[0] * LEVELS[0]
            made[self.track_name(track)] = self.samples(track, (track.samples - count) // 2, count)
        return made

    def embedded(self, name: str, tracks) -> np.ndarray:
        """Embeddings [patches, 256] of whole tracks, one after the other."""
        made = []
        for i, track in enumerate(tracks):
            self.progress(self.part, f"listening to {name}", i / len(tracks))
            key = {"figure": "heard", "track": track.sha256, "samples": track.samples}
            made.append(self._arrays(key, lambda t=track: {"patches": self.embed(self.samples(t))})["patches"])
        return np.concatenate(made)

    @cached_property
    def reference(self) -> np.ndarray:
        """Embeddings of all that the test tracks hold: what generated music is compared with."""
        return self.embedded("the test tracks", self.test)

    def corpus(self, tracks) -> str:
        return hashlib.sha256(json.dumps([[t.file, t.sha256, t.samples] for t in tracks]).encode()).hexdigest()[:16]

    def codec_key(self, *levels: int) -> dict[str, str]:
        return {codec_name(x): self.music.found(codec_name(x)).checksum[:16] for x in levels}

    def chain_key(self, depth: int, below: int = 2 * LEVELS[0]) -> dict[str, str]:
        """What the sound of a chain depends on: its generators finer than `below`, the codec, the engine."""
        names = [generator_name(x) for x in LEVELS if depth <= x < below]
        return ({name: self.music.found(name).checksum[:16] for name in names} | self.codec_key(depth)
                | {"engine": self.music.engine})

    def collected(self, stream, levels, what: str) -> dict[str, np.ndarray]:
        """A finite stream as {"audio": uint16 [samples], "codes_L": uint16 [n] for each of `levels`}."""
        blocks, codes = [], {level: [] for level in levels}
        with stream:
            for block in stream:
                blocks.append(audio.to_u16(block))
                for level in levels:
                    codes[level].append(stream.codes[level])
                self.progress(self.part, what, stream.position / stream.samples)
        return {"audio": np.concatenate(blocks)} | {
            f"codes_{level}": np.concatenate(values).astype(np.uint16) for level, values in codes.items()}

    def piece(self, setting: Setting, seed: int, minutes: float | None = None) -> dict[str, np.ndarray]:
        """A generated piece: {"audio": uint16 [samples], "codes_512": uint16 [n], …}."""
        minutes = self.plan.minutes if minutes is None else minutes
        options = setting.options()
        key = {"figure": "piece", "seed": seed, "minutes": minutes, **options, "by": self.chain_key(setting.depth)}
        return self._arrays(key, lambda: self.collected(
            self.music.stream(seconds=60 * minutes, seed=seed, **options), setting.levels,
            f"generating {minutes:g} min {setting}, seed {seed}"))

    def heard(self, setting: Setting, seed: int) -> np.ndarray:
        """Embeddings of a generated piece."""
        return self.embed(audio.from_u16(self.piece(setting, seed)["audio"]))

    def training_codes(self, level: int, offsets: int = 1) -> list[tuple[manifest.Track, int, np.ndarray]]:
        """[(track, samples left off its start, codes)] of the training tracks, from the cache that training uses."""
        from ..data import codes

        say = _Encoding(lambda what, share: self.progress(self.part, what, share))
        by_file = {t.file: t for t in self.train}
        made = codes.encode_corpus(self.data_dir, self.train, self.music.found(codec_name(level)), offsets, say)
        return [(by_file[file], offset * codes.OFFSET_STEP, self.read_window(path, 0, count))
                for file, offset, (path, count) in made]

    # ------------------------------------------------------------------------------------------------------- controls

    def controls(self) -> list[dict]:
        """[{"what", "fad"}]: what the distance to the test tracks is for sounds whose worth is known."""
        seconds = round(60 * self.plan.minutes)

        def noise():
            random = np.random.Generator(np.random.Philox(key=0))
            return self.embed(random.normal(0, 0.1, seconds * SAMPLE_RATE).astype(np.float32))

        rows = {
            "training tracks, all": lambda: self.embedded("the training tracks", self.train),
            f"{self.plan.minutes:g} minutes of training tracks": self._some_training,
            "white noise": noise,
            "silence": lambda: self.embed(np.zeros(seconds * SAMPLE_RATE, np.float32)),
        }
        if self.validation:
            rows["validation tracks, all"] = lambda: self.embedded("the validation tracks", self.validation)
        made = []
        for what, make in rows.items():
            key = {"figure": "control", "what": what, "test": self.corpus(self.test), "seconds": seconds,
                   "train": self.corpus(self.train), "validation": self.corpus(self.validation)}
            made.append({"what": what, "fad": self.figure(
                key, lambda make=make: fad.frechet(make(), self.reference), what)})
        return sorted(made, key=lambda row: row["fad"])

    def _some_training(self):
        """Embeddings of as much training music as is generated, spread evenly over the tracks."""
        patches = self.embedded("the training tracks", self.train)
        # A patch begins every 1.5 s; whole stretches of ten keep what is near together.
        wanted = max(2, round(self.plan.minutes * 60 / 1.5))
        blocks = np.array_split(patches, max(1, len(patches) // 10))
        step = max(1, round(len(patches) / wanted))
        return np.concatenate(blocks[::step])

    # --------------------------------------------------------------------------------------------------------- codecs

    def codecs(self) -> list[dict]:
        """A row for each codec and baseline: {"codec", "kbps", "sc_db", "mel", "si_sdr_db", "fad", …}."""
        common = {"figure": "codec", "test": self.corpus(self.test), "excerpt": EXCERPT}
        rows = []
        for level in LEVELS:
            key = common | {"by": self.codec_key(level), "engine": self.music.engine}
            rows.append(self.figure(key, lambda level=level: self._codec(level), codec_name(level)))
        for name, encoder, rate in BASELINES:
            key = common | {"by": encoder, "rate": rate}
            rows.append(self.figure(key, lambda b=(name, encoder, rate): self._baseline(*b), f"{name} {rate // 1000}"))
        return rows

    def _compared(self, pairs) -> dict:
        """The means of the distances of (original, made), and the distance between both sides as a whole."""
        rows = [metrics.distances(x, y, SAMPLE_RATE) for x, y in pairs]
        sides = [np.concatenate([self.embed(pair[i]) for pair in pairs]) for i in (0, 1)]
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {"fad": fad.frechet(*sides)}

    def _codec(self, level) -> dict:
        codec = self.music.codec(level)
        pairs = []
        for x in self.excerpts().values():
            pairs.append((x, codec.decode(codec.encode(x[None]))[0, : len(x)]))
        counts = self.counts(level)
        silence = codec.decode(codec.encode(np.zeros((1, 5 * SAMPLE_RATE), np.float32)))[0]
        return {"codec": codec_name(level), "level": level, "kbps": metrics.bitrate(codec.config)} | self._compared(
            pairs) | {"usage": metrics.usage(counts), "perplexity": metrics.perplexity(counts),
                      "silence_db": loudness(silence), "silence_peak_db": decibels(float(np.abs(silence).max()))
                      } | buzz(pairs, level)

    def counts(self, level: int) -> np.ndarray:
        """How often each code of a level occurs in the test tracks: int64 [num_codes]."""

        def count():
            counts = np.zeros(self.music.codec(level).config.num_codes, np.int64)
            for i, track in enumerate(self.test):
                self.progress(self.part, codec_name(level), i / len(self.test))
                counts += metrics.histogram(self.music.encode(self.samples(track), level), len(counts))
            return {"counts": counts}

        key = {"figure": "counts", "by": self.codec_key(level), "test": self.corpus(self.test)}
        return self._arrays(key | {"engine": self.music.engine}, count)["counts"]

    def _baseline(self, name, encoder, rate) -> dict:
        pairs, size, seconds = [], 0, 0.0
        for x in self.excerpts().values():
            made, length = recoded(x, encoder, rate)
            pairs.append((x, made))
            size, seconds = size + length, seconds + len(x) / SAMPLE_RATE
        row = {"codec": f"{name} {rate // 1000}", "level": 0, "kbps": 8 * size / seconds / 1000}
        return row | self._compared(pairs)

    # ----------------------------------------------------------------------------------------------------- generators

    def generators(self) -> list[dict]:
        """A row a level: {"generator", "unigram", "bits", "without" …}, bits per code of the test tracks.

        "padded": all source codes replaced by the token for "nothing there"; "foreign": by those of other test music;
        both ask a model that was trained with a context. "context_free": a model of its own, trained without one.
        """
        rows = []
        for level in LEVELS:
            name = generator_name(level)
            found = self.music.found(name)
            source = found.config.source_level
            key = {"figure": "bits", "by": found.checksum[:16], "engine": self.music.engine,
                   "codecs": self.codec_key(level, *[source] * bool(source)), "test": self.corpus(self.test),
                   "train": self.corpus(self.train), "seconds": self.plan.bits_seconds, "warm_up": self.plan.warm_up}
            row = self.figure(key, lambda found=found: self._bits(found), name)
            if self.context_free and source and weights.tags(self.context_free, name):
                free = weights.find(self.context_free, name)
                if free.config.source_level:
                    raise UserError(f"{free.described}: has a context (source_level {free.config.source_level}); one "
                                    "trained without is what --context-free is for")
                row["context_free"] = self.figure(
                    key | {"by": free.checksum[:16]}, lambda free=free: self._bits(free), f"{name} without context"
                )["bits"]
            rows.append(row)
        return rows

    def _bits(self, found) -> dict:
        config, level = found.config, found.config.level
        codes, source, warm = self._asked(config)
        made = {"generator": config.name, "level": level}
        counts = np.zeros(config.num_codes)
        for _, _, track in self.training_codes(level):
            counts += np.bincount(track, minlength=config.num_codes)
        p = (counts + 1) / (counts.sum() + config.num_codes)
        made["unigram"] = float(-np.log2(p[codes[:, warm:]]).mean())
        generator = engine.load_generator(found, self.music.engine)
        variants = {"bits": source}
        if source is not None:
            variants["padded"] = np.full_like(source, config.pad_token)
            variants["foreign"] = np.roll(source, 1, 0) if len(source) > 1 else np.roll(source, source.shape[1] // 2, 1)
        for i, (name, given) in enumerate(variants.items()):
            made[name] = self._scored(generator, codes, given, warm, f"{config.name}, {name}", i / len(variants))
        return made | {"codes": int(codes[:, warm:].size)}

    def _asked(self, config):
        """(codes [tracks, n], source codes [tracks, n / ratio + 2·halo] or None, codes at the start not to count).

        From the middle of each test track; all rows have the length that the shortest track allows.
        """
        top, ratio = LEVELS[0], config.ratio or 1
        warm = round(self.plan.warm_up * SAMPLE_RATE) // top * top
        each = min(warm + round(self.plan.bits_seconds * SAMPLE_RATE), *(t.samples for t in self.test)) // top * top
        if each <= warm:
            raise UserError(f"the test tracks are shorter than {self.plan.warm_up:g} s: too short to ask about")
        codec = self.music.codec(config.level)
        above = self.music.codec(config.source_level) if config.source_level else None
        codes, sources = [], []
        for track in self.test:
            start = (track.samples - each) // 2 // top * top
            # The codes are those of the whole track: some seconds to either side are all an encoder sees.
            margin = min(start, 8 * SAMPLE_RATE // top * top)
            x = self.samples(track, start - margin, min(margin + each + margin, track.samples - start + margin))[None]
            first, count = margin // config.level, each // config.level
            codes.append(codec.encode(x)[0, first : first + count])
            if above is not None:
                made = above.encode(x)[0]
                first, count, halo = margin // config.source_level, count // ratio, config.halo
                row = made[max(0, first - halo) : first + count + halo]
                left = max(0, halo - first)
                outside = left, count + 2 * halo - left - len(row)
                sources.append(np.pad(row, outside, constant_values=config.pad_token))
        return np.stack(codes), np.stack(sources) if sources else None, warm // config.level

    def _scored(self, generator, codes, source, warm, what, begun) -> float:
        """Bits per code of `codes` after the first `warm`, each given the real ones before it."""
        config = generator.config
        ratio = config.ratio or 1
        chunk = _CHUNK // ratio * ratio
        previous = np.full(len(codes), config.start_token, np.int32)
        state, nats = generator.initial_state(len(codes)), []
        for i in range(0, codes.shape[1], chunk):
            part = codes[:, i : i + chunk]
            context = None
            if config.source_level:
                first = i // ratio
                context = generator.context(source[:, first : first + part.shape[1] // ratio + 2 * config.halo])
            _, chosen, state = generator.sample(context, np.zeros(part.shape, np.float32), previous, state, forced=part)
            previous = part[:, -1]
            nats.append(chosen)
            self.progress(self.part, what, begun + i / codes.shape[1] / 3)
        return metrics.bits(np.concatenate(nats, 1)[:, warm:])

    # ---------------------------------------------------------------------------------------------------------- chain

    def chain(self) -> list[dict]:
        """A row for each setting: {"setting", "depth", "fad": mean over the seeds, "each": [fad]}."""
        rows = []
        for setting in self.plan.settings:
            options = setting.options()
            each = []
            for seed in self.plan.seeds:
                key = {"figure": "chain", "seed": seed, "minutes": self.plan.minutes, **options,
                       "by": self.chain_key(setting.depth), "test": self.corpus(self.test)}
                each.append(self.figure(key, lambda s=setting, seed=seed: fad.frechet(
                    self.heard(s, seed), self.reference), f"{setting}, seed {seed}"))
            rows.append({"setting": str(setting), "depth": setting.depth, "fad": float(np.mean(each)), "each": each})
        return rows

    # ----------------------------------------------------------------------------------------------------- variations

    def variations(self) -> list[dict]:
        """{"setting", "depth", "keep", "fad"}: real codes at level `keep`, all below generated (keep = depth: none)."""
        rows = []
        for setting in self.plan.settings:
            for keep in (*(k for k in self.plan.keeps if k > setting.depth), setting.depth):
                below = [x for x in setting.levels if x < keep]
                options = setting.options(below) if below else {"level": setting.depth}
                key = {"figure": "variation", "keep": keep, "minutes": self.plan.minutes, **options,
                       "by": self.chain_key(setting.depth, keep) | self.codec_key(keep),
                       "test": self.corpus(self.test), "seed": self.plan.seeds[0]}
                rows.append({"setting": str(setting), "depth": setting.depth, "keep": keep, "fad": self.figure(
                    key, lambda k=keep, o=options: self._variation(k, o), f"{keep}x kept, {setting}")})
        return rows

    def _variation(self, keep, options) -> float:
        passages = self.passages()
        made = []
        for i, (name, x) in enumerate(passages.items()):
            what = f"{keep}x of {name} kept"
            codes = self.music.encode(x, keep)
            if keep == options["level"]:
                sound = self.music.decode(codes, keep)
            else:
                sound = audio.from_u16(self.collected(self.music.stream(
                    source_codes=codes, keep=keep, seed=self.plan.seeds[0] + i, **options), (), what)["audio"])
            made.append(self.embed(sound))
        return fad.frechet(np.concatenate(made), self.reference)

    # -------------------------------------------------------------------------------------------------------- copying

    def copying(self) -> dict:
        """{"codes": a row a level, "passages": …}: what of the first setting's piece stands in the training set.

        The same is told of the test tracks, which nobody copied: what chance and music alone make alike.
        """
        setting, seed = self.plan.settings[0], self.plan.seeds[0]
        options, rows = setting.options(), []
        for level in setting.levels:
            key = {"figure": "copied", "level": level, "minutes": self.plan.minutes, "seed": seed,
                   **options, "by": self.chain_key(setting.depth) | self.codec_key(level),
                   "train": self.corpus(self.train), "test": self.corpus(self.test), "offsets": self.plan.offsets}
            rows.append(self.figure(key, lambda x=level: self._copied(setting, seed, x), f"copies at {level}x"))
        key = {"figure": "nearest", "minutes": self.plan.minutes, "seed": seed, **options,
               "by": self.chain_key(setting.depth), "train": self.corpus(self.train), "test": self.corpus(self.test)}
        return {"setting": str(setting), "codes": rows,
                "passages": self.figure(key, lambda: self._nearest(setting, seed), "the nearest training passage")}

    def _copied(self, setting, seed, level) -> dict:
        training = self.training_codes(level, self.plan.offsets)
        corpus = [codes for _, _, codes in training]
        generated = self.piece(setting, seed)[f"codes_{level}"]
        run = runs.longest_shared(generated, corpus)
        self.progress(self.part, f"copies at {level}x", 0.5)
        real = np.concatenate([self.music.encode(x, level) for x in self.passages().values()])
        control = runs.longest_shared(real, corpus)
        track, skipped, _ = training[run.track]
        return {"level": level, "codes": run.length, "seconds": run.length * level / SAMPLE_RATE,
                "distinct": run.distinct, "at": run.position * level / SAMPLE_RATE, "track": self.track_name(track),
                "track_at": (run.other * level + skipped) / SAMPLE_RATE, "held_out_codes": control.length,
                "held_out_seconds": control.length * level / SAMPLE_RATE, "held_out_distinct": control.distinct}

    def _nearest(self, setting, seed) -> dict:
        training = self.embedded("the training tracks", self.train)
        sides = {"generated": self.heard(setting, seed), "held_out": self.reference}
        made = {}
        for name, patches in sides.items():
            distances = fad.nearest(patches, training)
            made[name] = {"least": float(distances.min()), "median": float(np.median(distances))}
        return made

    # --------------------------------------------------------------------------------------------------------- health

    def health(self) -> list[dict]:
        """A row for each setting and seed: `vitals` of the piece, and "ailments" in words."""
        rows = []
        for setting in self.plan.settings:
            options = setting.options()
            for seed in self.plan.seeds:
                key = {"figure": "health", "seed": seed, "minutes": self.plan.minutes, **options,
                       "by": self.chain_key(setting.depth)}
                row = self.figure(key, lambda s=setting, seed=seed: self._vitals(s, seed), f"{setting}, seed {seed}")
                rows.append({"setting": str(setting), "seed": seed} | row | {"ailments": ailments(row)})
        return rows

    def _vitals(self, setting, seed):
        piece = self.piece(setting, seed)
        return vitals(audio.from_u16(piece["audio"]), {x: piece[f"codes_{x}"] for x in setting.levels})


class _Encoding:
    """Stands where training has its `Say`: passes on how far the encoding of a corpus has come."""

    def __init__(self, progress):
        self.progress, self.what, self.total = progress, "", 1

    def __call__(self, line):
        """Told by the bar alone."""

    def start(self, total, done, what):
        self.what, self.total = what, max(total, 1)

    def advance(self, done, loss=None):
        self.progress(self.what, done / self.total)

    def stop(self):
        """There is nothing to take down."""


# ----------------------------------------------------------------------------------------------------- single figures


def recoded(x, encoder: str, bit_rate: int) -> tuple[np.ndarray, int]:
    """float32 [samples] at 22,050 Hz through an encoder of FFmpeg and back: (float32 [samples], bytes of the file).

    Opus: 24 kHz, frames of 60 ms (the best at such rates) and a constant bit rate, so that it is the one named; what
    comes back is shifted by the few samples that its low-rate mode is late, since a waveform's figures would hear
    nothing but that. MP3: as LAME does by itself, at 22,050 Hz.
    """
    data = encoded(x, encoder, bit_rate, **({"frame_duration": 60, "vbr": "off"} if encoder == "libopus" else {}))
    # Decoded as music is everywhere here, which takes a file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "music"
        path.write_bytes(data)
        made = audio.decode(path, SAMPLE_RATE)
    late = 8 if encoder == "libopus" else 1
    made = np.pad(made, (0, max(0, len(x) + late - len(made))))
    shifted = [made[i : i + len(x)] for i in range(late)]
    return max(shifted, key=lambda y: metrics.si_sdr(x, y)), len(data)


def encoded(x, encoder: str, bit_rate: int, **options) -> bytes:
    """float32 [samples] at 22,050 Hz as a file: Ogg for `libopus`, else MP3. options: FFmpeg's, of the encoder."""
    import av

    opus = encoder == "libopus"
    rate = 24000 if opus else SAMPLE_RATE
    file = io.BytesIO()
    with av.open(file, "w", format="ogg" if opus else "mp3") as box:
        options = {key: str(value) for key, value in options.items()}
        stream = box.add_stream(encoder, rate=rate, layout="mono", options=options)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x, np.float32)[None], "flt", "mono")
        frame.sample_rate = SAMPLE_RATE
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format.name, "mono", rate, context.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            box.mux(stream.encode(part))
        box.mux(stream.encode(None))
    return file.getvalue()


def buzz(pairs, level: int) -> dict[str, float]:
    """How much a codec hums at the rate of its codes, from (original, made) float32 [n] each: three figures in dB.

    At 22050 / level Hz and each of its multiples: the level there, made against original ("line_db", the greatest), and
    how much further it stands out of what lies beside it than the original's does. Notes that come back a little off
    make such differences anywhere, so "buzz_db" is the greatest of these less the greatest half-way between the
    multiples, where no codec hums: more than 3 dB can be heard as a tone. "notch_db": the same of the least ones, where
    the line is missed. Long-term spectra of all pairs; what is 80 dB under the loudest is taken for silence.
    """
    n_fft = max(8192, 32 * level)
    spectra = []
    for side in (0, 1):
        power, frames = 0.0, 0
        for pair in pairs:
            for block in metrics.magnitudes(pair[side], n_fft, n_fft // 2, frames=64):
                power, frames = power + np.square(block, dtype=np.float64).sum(0), frames + len(block)
        spectra.append(power / frames)
    floor = spectra[0].max() * 1e-8
    original, made = (np.maximum(s, floor) for s in spectra)
    spacing = n_fft // level

    def gained(bins):
        """dB that each place gained, and dB by which it gained more than what lies beside it."""
        at, around = ([fold(power[bins[:, None] + near], 1) for power in (made, original)]
                      for fold, near in ((np.max, metrics.LINE), (np.median, metrics.BESIDE)))
        gain = 10 * np.log10(at[0] / at[1])
        return gain, gain - 10 * np.log10(around[0] / around[1])

    lines = np.arange(spacing, n_fft // 2 - 8, spacing)
    gain, excess = gained(lines)
    _, elsewhere = gained(lines - spacing // 2)
    return {"line_db": float(gain.max()), "buzz_db": float(excess.max() - max(0.0, elsewhere.max())),
            "notch_db": float(excess.min() - min(0.0, elsewhere.min()))}


def vitals(sound, codes: dict[int, np.ndarray]) -> dict:
    """Figures of a piece, float32 [samples] at 22,050 Hz and its codes by level, that tell whether it lives.

    loudness_db: rms of every ten seconds; peak; clipped: share of samples at full scale; pause: seconds of the longest
    stretch below -60 dBFS; end_db: rms of the last ten seconds; repeat: {level: {"seconds", "distinct"}}, the longest
    run of codes that occurs twice.
    """
    rate = SAMPLE_RATE
    window = 10 * rate
    parts = [sound[i : i + window] for i in range(0, max(1, len(sound) - window // 2), window)]
    rms = [loudness(p) for p in parts]
    hop = rate // 10
    loud = np.array([float(np.abs(sound[i : i + hop]).max()) for i in range(0, len(sound), hop)])
    repeats = {}
    for level, values in codes.items():
        run = runs.longest_repeat(values)
        repeats[str(level)] = {"seconds": run.length * level / rate, "distinct": run.distinct,
                               "at": run.position * level / rate, "again": run.other * level / rate}
    return {"seconds": len(sound) / rate, "loudness_db": rms, "peak": float(np.abs(sound).max()),
            "clipped": float(np.mean(np.abs(sound) >= 32767 / 32768)), "end_db": rms[-1],
            "pause": _longest_true(loud < 10 ** (SILENT_DB / 20)) * hop / rate, "repeat": repeats}


def ailments(figures: dict) -> list[str]:
    """What is wrong with a piece by its `vitals`, in words; nothing where it is healthy."""
    found = []
    if figures["pause"] > LONGEST_PAUSE:
        found.append(f"silent for {figures['pause']:.0f} s")
    if figures["end_db"] < SILENT_DB:
        found.append("ends in silence")
    if max(figures["loudness_db"]) > LOUD_DB:
        found.append(f"as loud as {max(figures['loudness_db']):.1f} dBFS over ten seconds")
    if figures["clipped"] > MOST_CLIPPED:
        found.append(f"{figures['clipped']:.1%} of its samples at full scale")
    for level, repeat in figures["repeat"].items():
        if repeat["seconds"] > LONGEST_REPEAT:
            found.append(f"{repeat['seconds']:.0f} s repeated exactly at {level}x")
    return found


def loudness(sound) -> float:
    """The rms of float [samples] in dB of full scale."""
    return decibels(float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))))


def decibels(amplitude: float) -> float:
    """dB of full scale; -120 is as quiet as is told."""
    return max(20 * math.log10(max(amplitude, 1e-6)), -120.0)


def _longest_true(flags) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
