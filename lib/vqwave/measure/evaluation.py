"""Every figure of RESULTS.md, from shipped weights and a prepared corpus with its split.

`Evaluation` measures part by part; each figure is cached as JSON under what it depends on (weights'
checksums, the tracks, the settings), so that a run that was interrupted, or asked for other parts,
goes on from what there is. The distance is `fad.frechet`. The test tracks, and those of the fresh
split, are read here and nowhere else; settings are chosen on the validation tracks
(`Evaluation.on("validation")`).

controls: the scale of the distance, by other real music, noise and silence.
codecs: how much of the test tracks each keeps, beside Opus and MP3 at like bit rates; hum; silence.
generators: bits a frame of the test tracks, of the model, without its context, of the unigram.
chain: how far ten minutes of generated music are from the test tracks.
variations: the same where the codes of one level are real and those below are generated.
copying: the longest run of generated codes in the training set; the nearest training passage.
health: loudness over ten minutes, the longest pause, the longest exact repeat.
"""

from __future__ import annotations

import copy
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
from ..config import ChainConfig
from ..data import audio, manifest
from ..errors import UserError
from ..files import atomic_write
from ..play import api, engine
from . import copying as runs
from . import fad

PARTS = ("controls", "codecs", "generators", "chain", "variations", "copying", "health")
FRESH_PARTS = ("codecs", "generators", "chain", "variations")
"""What is measured on the tracks of the fresh split too."""
SIDES = ("test", "fresh", "validation")
PROTOCOL = 2
"""Counts up when a figure would come out otherwise for the same weights; what is cached under
another is not read.
"""

EXCERPT = 20.0
"""Seconds of each test track, from a third of its length, that codecs are judged by."""

BASELINES = (("Opus", "libopus", 32000), ("Opus", "libopus", 6000), ("MP3", "libmp3lame", 32000),
             ("MP3", "libmp3lame", 8000))
"""Name, encoder and bits per second: near to the codecs at 8x and 32x."""

SILENT_DB, LOUD_DB = -60.0, -3.0
PAUSE_WINDOW = 0.1
"""Seconds whose rms says whether a piece pauses: what a codec makes of digital silence is -66 to
-70 dBFS, with single
peaks of 20 dB more."""
HUM_FFT = 8192
"""Samples of a spectrum in which hum is looked for, at least."""
LONGEST_PAUSE, LONGEST_REPEAT, MOST_CLIPPED = 20.0, 20.0, 0.01
"""A healthy piece has no pause and no exact repeat of more seconds, and no larger share of samples
at full scale.
"""

_CHUNK = 2048


@dataclass(frozen=True)
class Setting:
    """How a chain is played: down to level `depth`.

    temperature: one number, or one a level from the top down; None, as top_p None: what the
        generators' configs say.
    """

    depth: int
    temperature: tuple[float, ...] | None = None
    top_p: float | None = None

    def levels(self, chain: ChainConfig) -> list[int]:
        """Those that play, from the top down."""
        return [x for x in chain.sizes if x >= self.depth]

    def sampling(self, chain: ChainConfig, generated: Sequence[int] | None = None) -> dict[int, dict]:
        """What differs from the generators' own sampling, by level; generated: the levels at work
        (None: all).
        """
        levels = self.levels(chain)
        temperatures = self.temperature or ()
        if len(temperatures) == 1:
            temperatures *= len(levels)
        if temperatures and len(temperatures) < len(levels):
            raise UserError(f"a chain down to {self.depth}x has {len(levels)} levels; "
                            f"{len(temperatures)} temperatures are too few")
        chosen = {level: {} for level in levels}
        for level, temperature in zip(levels, temperatures, strict=False):
            chosen[level]["temperature"] = temperature
        if self.top_p is not None:
            for one in chosen.values():
                one["top_p"] = self.top_p
        return {level: one for level, one in chosen.items() if one and (generated is None or level in generated)}

    def key(self, chain: ChainConfig, generated: Sequence[int] | None = None) -> dict:
        """What a figure's cache knows the setting by."""
        return {"level": self.depth, "sampling": sorted(self.sampling(chain, generated).items(), reverse=True)}

    def __str__(self):
        said = "temperature " + ("/".join(f"{t:g}" for t in self.temperature) if self.temperature else "as shipped")
        return f"down to {self.depth}x, {said}" + (f", top-p {self.top_p:g}" if self.top_p else "")


@dataclass(frozen=True)
class Extent:
    """How much is measured. minutes: of music a generated piece; seeds: one such piece each;
    bits_seconds: of each test track that generators are asked about; offsets: alignments of the
    training codes that copies are sought in;
    keeps: the levels whose real codes variations keep (None: each); rough: a short run, to try
        things out.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...] = (1,)
    minutes: float = 10.0
    bits_seconds: float = 60.0
    warm_up: float = 5.0
    offsets: int = 4
    keeps: tuple[int, ...] | None = None
    rough: bool = False


class _Absent(Exception):
    """A figure that is not cached, of a part that was not asked for."""


class Evaluation:
    """Measures what `plan` says of `music` on the corpus in `data_dir`.

    `test` are the tracks that figures are of: those of `side`.

    Args:
        split: the path of a `split.yml` that names test tracks.
        musicnn: see `fad.checkpoint`.
        context_free: a folder of generators that were trained without conditions, for comparison.
        progress: called with (part, what, share) as things go on.
        side: `test`, `fresh` or `validation`.

    Raises:
        UserError: the corpus, the split and the chain do not fit each other.
    """

    def __init__(self, music: api.VQWave, data_dir, split, plan: Extent, *, cache_dir=None, musicnn=None,
                 context_free=None, progress: Callable[[str, str, float], None] = lambda part, what, share: None,
                 side: str = "test"):
        quiet.import_keras()
        from ..data import splits, windows

        self.music, self.rate = music, music.sample_rate
        self.data_dir, self.plan, self.progress = Path(data_dir), plan, progress
        self.musicnn, self.context_free = musicnn, context_free
        self.cache_dir = Path(cache_dir) if cache_dir else self.data_dir / ".evaluation"
        tracks = manifest.read(data_dir)
        if tracks[0].sample_rate != self.rate:
            raise UserError(f"{data_dir}: is at {tracks[0].sample_rate} Hz, but the chain at {self.rate} Hz")
        self.split = splits.read_split(split)
        self.train, self.validation = splits.split(tracks, self.split, seed=0)
        self.sides = {name: [t for wanted in getattr(self.split, name) for t in tracks
                             if splits.track_name(t) == wanted] for name in SIDES}
        if not self.sides[side]:
            raise UserError(f"{split}: names no {side} track, which is what is measured here")
        self.side, self.test = side, self.sides[side]
        self.read_window, self.read_frames = windows.read_window, windows.read_frames
        self.track_name = splits.track_name
        self.asked = set(PARTS)
        self.part = ""

    def on(self, side: str) -> Evaluation:
        """The same of another side's tracks."""
        other = copy.copy(self)
        other.__dict__.pop("reference", None)
        other.side, other.test = side, self.sides[side]
        return other

    # ---------------------------------------------------------------------------------------------- the parts' frame

    def run(self, parts: Sequence[str] = PARTS) -> dict[str, object]:
        """{part: its figures}; parts that are not among `parts` only as far as they were measured
        before.

        Of the test side, where the split names fresh tracks, "fresh" holds the `FRESH_PARTS` of
        those.
        """
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
        if self.side == "test" and self.sides["fresh"]:
            fresh = self.on("fresh").run([p for p in parts if p in FRESH_PARTS])
            if fresh := {part: fresh[part] for part in FRESH_PARTS if part in fresh}:
                found["fresh"] = fresh
        return found

    def overlap(self) -> dict[str, list[str] | None]:
        """{model: the tracks of this side that it, or the codecs it learnt from, were trained on},
        by name.

        None where the model's record names no tracks: it was trained by an older program.
        """
        found = {}
        for name in self.music.chain.names:
            try:
                record = self.music.weight_set(name).record
            except UserError:
                continue  # a part that needs it will say so
            known = record.get("tracks")
            # Records hold the first 16 digits.
            found[name] = None if known is None else [
                self.track_name(t) for t in self.test if t.sha256[:16] in {digits[:16] for digits in known}]
        return found

    def figure(self, key: dict, make: Callable[[], object], what: str):
        """What `make()` gives, as JSON has it: from the cache where the same `key` was measured
        before.
        """
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

    def cut(self, samples: int) -> int:
        """`samples`, less what is over a multiple of the top level."""
        return samples // self.music.chain.top * self.music.chain.top

    def excerpts(self) -> dict[str, np.ndarray]:
        """`EXCERPT` seconds from a third of each test track's length, cut to a multiple of the top
        level.
        """
        made = {}
        for track in self.test:
            start = track.samples // 3
            count = self.cut(min(round(EXCERPT * self.rate), track.samples - start))
            made[self.track_name(track)] = self.samples(track, start, count)
        return made

    def passages(self) -> dict[str, np.ndarray]:
        """The middle of each test track, so long that all together are `plan.minutes`, for
        variations.
        """
        each = round(self.plan.minutes * 60 / len(self.test) * self.rate)
        made = {}
        for track in self.test:
            count = self.cut(min(each, track.samples))
            made[self.track_name(track)] = self.samples(track, (track.samples - count) // 2, count)
        return made

    def embedded(self, name: str, tracks) -> np.ndarray:
        """Embeddings [patches, 256] of whole tracks, one after the other."""
        made = []
        for i, track in enumerate(tracks):
            self.progress(self.part, f"listening to {name}", i / len(tracks))
            key = {"figure": "heard", "track": track.sha256, "samples": track.samples}
            made.append(self._arrays(key, lambda t=track: {"patches": self.embed(self.samples(t), self.rate)}
                                     )["patches"])
        return np.concatenate(made)

    @cached_property
    def reference(self) -> np.ndarray:
        """Embeddings of all that the test tracks hold: what generated music is compared with."""
        return self.embedded("the test tracks", self.test)

    def corpus(self, tracks) -> str:
        return hashlib.sha256(json.dumps([[t.file, t.sha256, t.samples] for t in tracks]).encode()).hexdigest()[:16]

    def codec_key(self, *levels: int) -> dict[str, str]:
        names = (self.music.chain.codecs[x] for x in levels)
        return {name: self.music.weight_set(name).checksum[:16] for name in names}

    def chain_key(self, depth: int, below: float = math.inf) -> dict[str, str]:
        """What the sound of a chain depends on: its generators finer than `below`, the codec, the
        engine.
        """
        names = [name for x, name in self.music.chain.generators.items() if depth <= x < below]
        return ({name: self.music.weight_set(name).checksum[:16] for name in names} | self.codec_key(depth)
                | {"engine": self.music.engine})

    def collect(self, stream, levels, what: str) -> dict[str, np.ndarray]:
        """A finite stream as {"audio": uint16 [samples], "codes_L": uint16 [n] (or [n, books]) for
        each of `levels`}.
        """
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
        """A generated piece: {"audio": uint16 [samples], "codes_L": uint16 [n] (or [n, books]) of
        each level L}.
        """
        minutes = self.plan.minutes if minutes is None else minutes
        key = {"figure": "piece", "seed": seed, "minutes": minutes, **setting.key(self.music.chain),
               "by": self.chain_key(setting.depth)}
        return self._arrays(key, lambda: self.collect(
            self.music.stream(level=setting.depth, seconds=60 * minutes, seed=seed,
                              sampling=setting.sampling(self.music.chain)),
            setting.levels(self.music.chain), f"generating {minutes:g} min {setting}, seed {seed}"))

    def heard(self, setting: Setting, seed: int) -> np.ndarray:
        """Embeddings of a generated piece."""
        return self.embed(audio.from_u16(self.piece(setting, seed)["audio"]), self.rate)

    def training_codes(self, level: int, offsets: int = 1, tracks=None
                       ) -> list[tuple[manifest.Track, int, np.ndarray]]:
        """[(track, samples left off its start, codes [frames, books])] of the training tracks, or
        of `tracks`.

        They come from the cache that training uses.
        """
        from ..data import codes
        from ..nn import codec

        say = _Encoding(lambda what, share: self.progress(self.part, what, share))
        tracks = self.train if tracks is None else tracks
        by_file, found = {t.file: t for t in tracks}, self.music.weight_set(self.music.chain.codecs[level])
        made = codes.encode_corpus(
            self.data_dir, [(t, v) for t in tracks for v in codes.variants(offsets)], found, say, codec.load_encoder)
        return [(by_file[file], variant.skipped, self.read_frames(path, 0, count, found.config.books))
                for file, variant, (path, count) in made]

    @cached_property
    def searched(self) -> list[manifest.Track]:
        """The tracks that what is generated may have been copied from.

        Those of the fresh split too, unless every model's record says that it did not train on
        them.
        """
        overlap = self.on("fresh").overlap()
        seen = [t for t in self.sides["fresh"] if any(
            names is None or self.track_name(t) in names for names in overlap.values())]
        return [*self.train, *seen]

    # ------------------------------------------------------------------------------------------------------- controls

    def controls(self) -> list[dict]:
        """[{"what", "fad"}]: what the distance to the test tracks is for sounds whose worth is
        known.
        """
        seconds = round(60 * self.plan.minutes)

        def noise():
            random = np.random.Generator(np.random.Philox(key=0))
            return self.embed(random.normal(0, 0.1, seconds * self.rate).astype(np.float32), self.rate), seconds

        rows = {
            "training tracks": lambda: self._some("the training tracks", self.train),
            "white noise": noise,
            "silence": lambda: (self.embed(np.zeros(seconds * self.rate, np.float32), self.rate), seconds),
        }
        if self.validation and self.side != "validation":
            rows["validation tracks"] = lambda: self._some("the validation tracks", self.validation)
        made = []
        for what, make in rows.items():
            key = {"figure": "control", "what": what, "test": self.corpus(self.test), "seconds": seconds,
                   "train": self.corpus(self.train), "validation": self.corpus(self.validation)}
            made.append({"what": what} | self.figure(key, lambda make=make: self._distance(*make()), what))
        return sorted(made, key=lambda row: row["fad"])

    def _distance(self, patches, seconds: float) -> dict:
        """The Fréchet distance to the test tracks, and the seconds of sound that both sides are
        made of.
        """
        return {"fad": fad.frechet(patches, self.reference), "seconds": seconds,
                "reference_seconds": sum(t.seconds for t in self.test)}

    def _some(self, name, tracks):
        """(embeddings, seconds) of as much of `tracks` as is generated, spread evenly over them, or
        of all there is.
        """
        patches = self.embedded(name, tracks)
        seconds = min(60 * self.plan.minutes, sum(t.seconds for t in tracks))
        wanted = fad.patch_count(seconds)
        if len(patches) <= wanted:
            return patches, seconds
        # Whole stretches of ten keep what is near together.
        blocks = np.array_split(patches, max(1, len(patches) // 10))
        starts = np.linspace(0, len(blocks), max(1, -(-wanted // 10)), endpoint=False).astype(int)
        return np.concatenate([blocks[i] for i in starts])[:wanted], seconds

    # --------------------------------------------------------------------------------------------------------- codecs

    def codecs(self) -> list[dict]:
        """A row for each codec and baseline: {"codec", "kbps", "sc_db", "mel", "si_sdr_db", "fad",
        …}.
        """
        common = {"figure": "codec", "test": self.corpus(self.test), "excerpt": EXCERPT}
        rows = []
        for level, name in self.music.chain.codecs.items():
            key = common | {"by": self.codec_key(level), "engine": self.music.engine}
            rows.append(self.figure(key, lambda level=level: self._codec(level), name))
        for name, encoder, rate in BASELINES:
            key = common | {"by": encoder, "rate": rate}
            rows.append(self.figure(key, lambda b=(name, encoder, rate): self._baseline(*b), f"{name} {rate // 1000}"))
        return rows

    def _compare(self, pairs) -> dict:
        """The means of the distances of (original, made), and the distance between both sides as a
        whole.
        """
        rows = [metrics.distances(x, y, self.rate) for x, y in pairs]
        original, made = (np.concatenate([self.embed(pair[i], self.rate) for pair in pairs]) for i in (0, 1))
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {
            "fad": fad.frechet(made, original), "seconds": sum(len(x) for x, _ in pairs) / self.rate}

    def _codec(self, level) -> dict:
        codec = self.music.codec(level)
        pairs = []
        for x in self.excerpts().values():
            pairs.append((x, codec.decode(codec.encode(x[None]))[0, : len(x)]))
        counts = self.counts(level)
        silence = codec.decode(codec.encode(np.zeros((1, 5 * self.rate), np.float32)))[0]
        return {"codec": codec.config.name, "level": level, "kbps": metrics.bitrate(codec.config)} | self._compare(
            pairs) | metrics.codebook_figures(counts) | {
                "silence_db": loudness(silence), "silence_peak_db": decibels(float(np.abs(silence).max()))
            } | buzz(pairs, level)

    def counts(self, level: int) -> np.ndarray:
        """How often each code of a level's books occurs in the test tracks: int64 [books,
        num_codes].
        """

        def count():
            codec, counts = self.music.codec(level), 0
            for i, track in enumerate(self.test):
                self.progress(self.part, codec.config.name, i / len(self.test))
                codes = codec.encode(self.samples(track)[None])[0]
                counts = counts + metrics.histogram(codes, codec.config.num_codes)
            return {"counts": counts}

        key = {"figure": "counts", "by": self.codec_key(level), "test": self.corpus(self.test)}
        return self._arrays(key | {"engine": self.music.engine}, count)["counts"]

    def _baseline(self, name, encoder, rate) -> dict:
        pairs, size, seconds = [], 0, 0.0
        for x in self.excerpts().values():
            made, length = recode(x, self.rate, encoder, rate)
            pairs.append((x, made))
            size, seconds = size + length, seconds + len(x) / self.rate
        row = {"codec": f"{name} {rate // 1000}", "level": 0, "kbps": 8 * size / seconds / 1000}
        return row | self._compare(pairs)

    # ----------------------------------------------------------------------------------------------------- generators

    def generators(self) -> list[dict]:
        """A row a level: {"generator", "unigram", "bits", "padded" …}, bits a frame of the test
        tracks.

        "padded": all source codes replaced by the token for "nothing there"; "foreign": by those of
        other test music; both ask a model that was trained with a context. "context_free": a model
        of its own, trained without one.
        """
        rows = []
        for level, name in self.music.chain.generators.items():
            found = self.music.weight_set(name)
            source = found.config.source_level
            key = {"figure": "bits", "by": found.checksum[:16], "engine": self.music.engine,
                   "codecs": self.codec_key(level, *[source] * bool(source)), "test": self.corpus(self.test),
                   "train": self.corpus(self.train), "seconds": self.plan.bits_seconds, "warm_up": self.plan.warm_up}
            row = self.figure(key, lambda found=found: self._bits(found), name)
            if self.context_free and source and weights.tags(self.context_free, name):
                free = weights.find(self.context_free, name)
                if free.config.conditions:
                    raise UserError(f"{free.described}: has a context (it reads level {free.config.source_level}); one "
                                    "trained without is what --context-free is for")
                row["context_free"] = self.figure(
                    key | {"by": free.checksum[:16]}, lambda free=free: self._bits(free), f"{name} without context"
                )["bits"]
            rows.append(row)
        return rows

    def _bits(self, found) -> dict:
        from ..data.codes import count_codes, unigram_costs

        config, level = found.config, found.config.level
        codes, source, warm = self._ask(config)
        made = {"generator": config.name, "level": level, "most": config.books * math.log2(config.num_codes)}
        costs = unigram_costs(count_codes((c for _, _, c in self.training_codes(level)), config.num_codes,
                                          config.books))
        asked = codes[:, warm:].reshape(-1, config.books)
        made["unigram"] = float(sum(costs[book][asked[:, book]].mean() for book in range(config.books)))
        generator = engine.load_generator(found, self.music.engine)
        variants = {"bits": source}
        if source is not None:
            variants["padded"] = np.full_like(source, config.pad_token)
            variants["foreign"] = np.roll(source, 1, 0) if len(source) > 1 else np.roll(source, source.shape[1] // 2, 1)
        for i, (name, given) in enumerate(variants.items()):
            made[name] = self._score(generator, codes, given, warm, f"{config.name}, {name}", i / len(variants))
        return made | {"frames": len(asked)}

    def _ask(self, config):
        """(codes [tracks, n, books], source [tracks, n / ratio + 2·halo, books] or None, frames at
        first not to count).

        From the middle of each test track; all rows have the length that the shortest track allows.
        """
        top, ratio = self.music.chain.top, config.ratio or 1
        warm = self.cut(round(self.plan.warm_up * self.rate))
        each = self.cut(min(warm + round(self.plan.bits_seconds * self.rate), *(t.samples for t in self.test)))
        if each <= warm:
            raise UserError(f"the test tracks are shorter than {self.plan.warm_up:g} s: too short to ask about")
        codec = self.music.codec(config.level)
        above = self.music.codec(config.source_level) if config.source_level else None
        reach = codec.encode_halo * config.level
        if above is not None:
            reach = max(reach, (above.encode_halo + config.halo) * config.source_level)
        codes, sources = [], []
        for track in self.test:
            start = self.cut((track.samples - each) // 2)
            # Codes and source are those of the whole track: what encoders and context see to either
            # side is there.
            margin = min(start, -(-reach // top) * top)
            x = self.samples(track, start - margin, min(margin + each + margin, track.samples - start + margin))[None]
            first, count = margin // config.level, each // config.level
            codes.append(codec.encode(x)[0, first : first + count])
            if above is not None:
                made = above.encode(x)[0]
                first, count, halo = margin // config.source_level, count // ratio, config.halo
                row = made[max(0, first - halo) : first + count + halo]
                left = max(0, halo - first)
                outside = left, count + 2 * halo - left - len(row)
                sources.append(np.pad(row, (outside, (0, 0)), constant_values=config.pad_token))
        return np.stack(codes), np.stack(sources) if sources else None, warm // config.level

    def _score(self, generator, codes, source, warm, what, begun) -> float:
        """Bits a frame of `codes` after the first `warm` frames, each given the real ones before
        it.
        """
        config = generator.config
        ratio = config.ratio or 1
        chunk = _CHUNK // ratio * ratio
        previous = np.full((len(codes), config.books), config.start_token, np.int32)
        state, nats = generator.initial_state(len(codes)), []
        for i in range(0, codes.shape[1], chunk):
            part = codes[:, i : i + chunk]
            context = None
            if config.conditions:
                first = i // ratio
                above = source[:, first : first + part.shape[1] // ratio + 2 * config.halo]
                context = generator.context({"source": above})
            _, chosen, state = generator.sample(context, np.zeros(part.shape, np.float32), previous, state, forced=part)
            previous = part[:, -1]
            nats.append(chosen.sum(axis=-1))
            self.progress(self.part, what, begun + i / codes.shape[1] / 3)
        return metrics.bits(np.concatenate(nats, 1)[:, warm:])

    # ---------------------------------------------------------------------------------------------------------- chain

    def chain(self) -> list[dict]:
        """A row for each setting: {"setting", "depth", "fad": mean over the seeds, "each": [fad],
        "seconds" …}.
        """
        rows = []
        for setting in self.plan.settings:
            each = []
            for seed in self.plan.seeds:
                key = {"figure": "chain", "seed": seed, "minutes": self.plan.minutes, **setting.key(self.music.chain),
                       "by": self.chain_key(setting.depth), "test": self.corpus(self.test)}
                each.append(self.figure(key, lambda s=setting, seed=seed: self._distance(
                    self.heard(s, seed), 60 * self.plan.minutes), f"{setting}, seed {seed}"))
            distances = [row["fad"] for row in each]
            rows.append({"setting": str(setting), "depth": setting.depth} | each[0] | {
                "fad": float(np.mean(distances)), "each": distances})
        return rows

    # ----------------------------------------------------------------------------------------------------- variations

    def variations(self) -> list[dict]:
        """{"setting", "depth", "keep", "fad"}: real codes at level `keep`, all below generated
        (keep = depth: none).
        """
        rows = []
        for setting in self.plan.settings:
            keeps = self.music.chain.sizes if self.plan.keeps is None else self.plan.keeps
            for keep in (*(k for k in keeps if k > setting.depth), setting.depth):
                below = [x for x in setting.levels(self.music.chain) if x < keep]
                key = {
                    "figure": "variation", "keep": keep, "minutes": self.plan.minutes, **setting.key(
                        self.music.chain, below), "by": self.chain_key(setting.depth, keep) | self.codec_key(keep),
                    "test": self.corpus(self.test), "seed": self.plan.seeds[0]
                }
                rows.append({"setting": str(setting), "depth": setting.depth, "keep": keep} | self.figure(
                    key, lambda k=keep, s=setting, b=below: self._variation(k, s, b), f"{keep}x kept, {setting}"))
        return rows

    def _variation(self, keep, setting, below) -> dict:
        made, samples = [], 0
        for i, (name, x) in enumerate(self.passages().items()):
            if below:
                stream = self.music.stream(level=setting.depth,
                                           begin=self.music.source(x, keep),
                                           seed=self.plan.seeds[0] + i,
                                           sampling=setting.sampling(self.music.chain, below))
                sound = audio.from_u16(self.collect(stream, (), f"{keep}x of {name} kept")["audio"])
            else:
                sound = self.music.decode(self.music.encode(x, keep), keep)
            made.append(self.embed(sound, self.rate))
            samples += len(sound)
        return self._distance(np.concatenate(made), samples / self.rate)

    # -------------------------------------------------------------------------------------------------------- copying

    def copying(self) -> dict:
        """{"codes": a row a level, "passages": …}: what of the first setting's piece stands in the
        training set.

        The same is told of the test tracks, which nobody copied: what chance and music alone make
            alike.
        """
        setting, seed = self.plan.settings[0], self.plan.seeds[0]
        rows = []
        common = {"minutes": self.plan.minutes, "seed": seed, **setting.key(self.music.chain),
                  "train": self.corpus(self.searched), "test": self.corpus(self.test)}
        for level in setting.levels(self.music.chain):
            key = {"figure": "copied", "at": level, **common, "offsets": self.plan.offsets,
                   "by": self.chain_key(setting.depth) | self.codec_key(level)}
            rows.append(self.figure(key, lambda x=level: self._find_copies(setting, seed, x), f"copies at {level}x"))
        key = {"figure": "nearest", **common, "by": self.chain_key(setting.depth), "where": True}
        return {"setting": str(setting), "codes": rows,
                "passages": self.figure(key, lambda: self._nearest(setting, seed), "the nearest training passage")}

    def _find_copies(self, setting, seed, level) -> dict:
        training = self.training_codes(level, self.plan.offsets, self.searched)
        corpus = [codes for _, _, codes in training]
        generated = self.piece(setting, seed)[f"codes_{level}"]
        run = runs.longest_shared(generated, corpus)
        self.progress(self.part, f"copies at {level}x", 0.5)
        real = np.concatenate([self.music.encode(x, level) for x in self.passages().values()])
        control = runs.longest_shared(real, corpus)
        track, skipped, _ = training[run.track]
        return {"level": level, "codes": run.length, "seconds": run.length * level / self.rate,
                "distinct": run.distinct, "at": run.position * level / self.rate, "track": self.track_name(track),
                "track_at": (run.other * level + skipped) / self.rate, "held_out_codes": control.length,
                "held_out_seconds": control.length * level / self.rate, "held_out_distinct": control.distinct}

    def _nearest(self, setting, seed) -> dict:
        """{"generated", "held_out": {"least", "median", and where: "at", "track", "track_at" (and
        "of": whose)}}.

        "loudness_db": of the three seconds that are nearest: two endings that fade out are alike,
        and no copy.
        """

        def places(name, tracks):
            """[(track, second)] of each patch of `embedded`."""
            return [(self.track_name(t), i * fad.STEP_SECONDS) for t in tracks
                    for i in range(len(self.embedded(name, [t])))]

        piece = audio.from_u16(self.piece(setting, seed)["audio"])
        named = {self.track_name(t): t for t in self.test}
        training = self.embedded("the training tracks", self.searched)
        where = places("the training tracks", self.searched)
        made = {}
        for name, patches in (("generated", self.heard(setting, seed)), ("held_out", self.reference)):
            distances, others = fad.nearest(patches, training)
            first = int(distances.argmin())
            made[name] = {"least": float(distances[first]), "median": float(np.median(distances)),
                          "at": first * fad.STEP_SECONDS}
            made[name]["track"], made[name]["track_at"] = where[others[first]]
            if name == "held_out":
                made[name]["of"], made[name]["at"] = places("the test tracks", self.test)[first]
            begin = round(made[name]["at"] * self.rate)
            sound = piece if name == "generated" else self.samples(named[made[name]["of"]])
            made[name]["loudness_db"] = loudness(sound[begin : begin + round(fad.PATCH_SECONDS * self.rate)])
        return made

    # --------------------------------------------------------------------------------------------------------- health

    def health(self) -> list[dict]:
        """A row for each setting and seed: `vitals` of the piece, and "ailments" in words."""
        rows = []
        for setting in self.plan.settings:
            for seed in self.plan.seeds:
                key = {"figure": "health", "seed": seed, "minutes": self.plan.minutes, **setting.key(self.music.chain),
                       "by": self.chain_key(setting.depth), "pauses": ["rms", PAUSE_WINDOW, SILENT_DB]}
                row = self.figure(key, lambda s=setting, seed=seed: self._vitals(s, seed), f"{setting}, seed {seed}")
                rows.append({"setting": str(setting), "seed": seed} | row | {"ailments": ailments(row)})
        return rows

    def _vitals(self, setting, seed):
        piece = self.piece(setting, seed)
        codes = {x: piece[f"codes_{x}"] for x in setting.levels(self.music.chain)}
        return vitals(audio.from_u16(piece["audio"]), codes, self.rate)


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


# ----------------------------------------------------------------------------------- single figures


def recode(x, sample_rate: int, encoder: str, bit_rate: int) -> tuple[np.ndarray, int]:
    """float32 [samples] through an encoder of FFmpeg and back: (float32 [samples], bytes of the
    file).

    Opus: 24 kHz, frames of 60 ms (the best at such rates) and a constant bit rate, so that it is
    the one named; what comes back is shifted by the few samples that its low-rate mode is late,
    since a waveform's figures would hear nothing but that. MP3: as LAME does by itself, at the rate
    of the music.
    """
    options = {"frame_duration": 60, "vbr": "off"} if encoder == "libopus" else {}
    data = encode_file(x, sample_rate, encoder, bit_rate, **options)
    # Decoded as music is everywhere here, which takes a file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "music"
        path.write_bytes(data)
        made = audio.decode(path, sample_rate)
    late = 8 if encoder == "libopus" else 1
    made = np.pad(made, (0, max(0, len(x) + late - len(made))))
    shifted = [made[i : i + len(x)] for i in range(late)]
    return max(shifted, key=lambda y: metrics.si_sdr(x, y)), len(data)


def encode_file(x, sample_rate: int, encoder: str, bit_rate: int, **options) -> bytes:
    """float32 [samples] as a file: Ogg for `libopus`, else MP3. options: FFmpeg's, of the encoder.
    """
    import av

    opus = encoder == "libopus"
    rate = 24000 if opus else sample_rate
    file = io.BytesIO()
    with av.open(file, "w", format="ogg" if opus else "mp3") as box:
        options = {key: str(value) for key, value in options.items()}
        stream = box.add_stream(encoder, rate=rate, layout="mono", options=options)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x, np.float32)[None], "flt", "mono")
        frame.sample_rate = sample_rate
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format.name, "mono", rate, context.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            box.mux(stream.encode(part))
        box.mux(stream.encode(None))
    return file.getvalue()


def buzz(pairs, level: int) -> dict[str, float]:
    """How much a codec hums at the rate of its codes, from (original, made) float32 [n] each: three
    figures in dB.

    At sample rate / level Hz and each of its multiples: the level there, made against original
    ("line_db", the greatest), and how much further it stands out of what lies beside it than the
    original's does. Notes that come back a little off make such differences anywhere, so "buzz_db"
    is the greatest of these less the greatest half-way between the
    multiples, where no codec hums: more than 3 dB can be heard as a tone. "notch_db": the same of
    the least ones, where the line is missed. Long-term spectra of all pairs; what is 80 dB under
    the loudest is taken for silence.
    """
    n_fft = level * max(-(-HUM_FFT // level), 32)
    spectra = []
    for side in (0, 1):
        power, frames = np.zeros(1), 0
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


def vitals(sound, codes: dict[int, np.ndarray], rate: int) -> dict:
    """Figures of a piece that tell whether it lives.

    Args:
        sound: float32 [samples] at `rate`.
        codes: int [n], or [n, books], by level.

    Returns:
        loudness_db: rms of every ten seconds; peak; clipped: share of samples at full scale; pause:
        seconds of the longest stretch whose every `PAUSE_WINDOW` has an rms under -60 dBFS,
        pause_at: where it begins, pause_peak_db: the loudest sample in it (None without a pause);
        end_db: rms of the last ten seconds; repeat: {level: {"seconds", "distinct", …}}, the
        longest run of codes that occurs twice.
    """
    window = 10 * rate
    parts = [sound[i : i + window] for i in range(0, max(1, len(sound) - window // 2), window)]
    rms = [loudness(p) for p in parts]
    hop = max(1, round(PAUSE_WINDOW * rate))
    quiet_windows = [loudness(sound[i : i + hop]) < SILENT_DB for i in range(0, len(sound), hop)]
    first, count = _longest_true(quiet_windows)
    pause = sound[first * hop : (first + count) * hop]
    repeats = {}
    for level, values in codes.items():
        run = runs.longest_repeat(values)
        repeats[str(level)] = {"seconds": run.length * level / rate, "distinct": run.distinct,
                               "at": run.position * level / rate, "again": run.other * level / rate}
    return {"seconds": len(sound) / rate, "loudness_db": rms, "peak": float(np.abs(sound).max()),
            "clipped": float(np.mean(np.abs(sound) >= 32767 / 32768)), "end_db": rms[-1],
            "pause": len(pause) / rate, "pause_at": first * hop / rate,
            "pause_peak_db": decibels(float(np.abs(pause).max())) if count else None, "repeat": repeats}


def ailments(figures: dict) -> list[str]:
    """What is wrong with a piece by its `vitals`, in words; nothing where it is healthy."""
    found = []
    if figures["pause"] > LONGEST_PAUSE:
        found.append(f"silent for {figures['pause']:.0f} s (peaks of {figures['pause_peak_db']:.0f} dBFS)")
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
    """dB of full scale, not less than -120."""
    return max(20 * math.log10(max(amplitude, 1e-6)), -120.0)


def _longest_true(flags) -> tuple[int, int]:
    """(where the longest run of true begins, its length)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return (int(edges[2 * lengths.argmax()]), int(lengths.max())) if len(lengths) else (0, 0)
