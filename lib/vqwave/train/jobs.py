"""What differs between training a codec and a generator: the data, the model, what is shown."""

from __future__ import annotations

import math
import re
from pathlib import Path

import keras

from .. import config
from ..config import QUIETNESS
from ..data import codes, loudness, windows
from ..data.vocoders import vocoder
from ..errors import UserError
from ..io import labels, manifest, silence, splits, weights
from ..nn import codec as nn_codec
from ..nn import generator as nn_generator
from ..nn import losses
from ..progress import SilentReporter
from . import callbacks
from .devices import Group
from .record import STEPS_PER_EPOCH, RunRecord

VALIDATION_WINDOWS = 64
SHORT_TRACKS = 0.1
"""The share of a folder's tracks that may be shorter than the window of a codec's training."""


class Job:
    """A model and what it is trained on.

    In order: `check` before anything is written, `check_settings` and `prepare` once the run's
    settings are known, then `build` and, unless the run goes on from its saved state, `begin`;
    then `batches` and `validation`.
    """

    shown: tuple[str, ...]
    training: config.TrainingConfig
    """The run's settings, from `prepare` on."""
    gives_labels = False
    """Whether it can begin with weights that know no labels, and give the model some."""

    def __init__(self, model: config.CodecConfig | config.GeneratorConfig, data_dir):
        self.model, self.data_dir = model, data_dir
        self.codec_weights: list[weights.WeightSet] = []
        """The codecs on whose codes a generator trains: its own, then that of the level above."""
        self.choose_window = False
        """Whether the folder may choose a shorter window than the settings have."""

    def check(self):
        """Read what there is. Raises `UserError` where the model cannot train on it."""
        self.tracks = manifest.read(self.data_dir)

    def complete(self, before: config.CodecConfig | config.GeneratorConfig | None,
                 split: float | config.Split, seed: int):
        """Fill in what the model leaves open: the vocabulary of its labels, that of the model
        before or else of the tracks that train.

        before: the model that the run goes on with or begins with; None: it begins with nothing.
        split, seed: see `splits.split`.
        """
        own = self.model.labels
        if own is None or own.names:
            return
        known = before.labels if before else None
        names = (known.names if known and known.of == own.of
                 else labels.vocabulary(splits.split(self.tracks, split, seed)[0], own.of))
        self.model = self.model.with_labels(config.replace(own, names=names))

    def check_rate(self, name: str, sample_rate: int, advice: str = ""):
        if self.tracks[0].sample_rate != sample_rate:
            raise UserError(f"{self.data_dir}: is at {self.tracks[0].sample_rate} Hz, {name} at "
                            f"{sample_rate} Hz"
                            + advice)

    def split(self, record: RunRecord, samples: int, group: Group, say, what="--input-length"):
        """Keep what is long enough of the tracks on both sides, without the silence at their ends,
        and note down what is trained on.

        samples: what is long enough; what: who wants so many.
        """
        sides = splits.split(self.tracks, record.data.split, record.training.seed)
        (train, val), self.spans = silence.trim(self.data_dir, sides, record.data.trim_silence,
                                                say, group.first)
        kept = splits.keep_long(train, samples, what, self.length)
        kept_val = [t for t in val if self.length(t) >= samples]
        short = len(train) + len(val) - len(kept) - len(kept_val)
        hours = [sum(self.length(t) / t.sample_rate for t in side) / 3600
                 for side in (kept, kept_val)]
        say(f"{len(kept)} tracks to train on ({hours[0]:.2f} h), {len(kept_val)} held out "
            f"({hours[1]:.2f} h)"
            + (f"; {short} left out as shorter than {samples} samples" if short else ""))
        if not kept_val:
            say("no track is held out: the best set is chosen by the training loss, which cannot "
                "see over-fitting")
        self.train, self.val = kept, kept_val
        met = {t.sha256[:16] for t in kept}
        for source in self.codec_weights:
            met |= set(source.record.get("tracks") or ())
        record.tracks = sorted(met | set(record.tracks))

    def _describe_labels(self, say):
        """How many tracks are trained on of each label."""
        if self.model.labels:
            counts = labels.count(self.train, self.model.labels)
            say(f"labels by {self.model.labels.of}: " + ", ".join(
                f"{name or 'none of these'} ({found})" for name, found in counts.items()))

    def length(self, track: manifest.Track) -> int:
        """Samples of a track that are trained on."""
        first, last = self.spans[track.file]
        return last - first

    def steps_of_passes(self) -> int:
        """How many steps are the passes over the tracks that the run's settings name, but no fewer
        than an epoch's; 0: they name none.
        """
        heard = self.training.batch_size * self.training.input_length
        samples = sum(map(self.length, self.train))
        return self.training.passes and max(STEPS_PER_EPOCH,
                                            math.ceil(self.training.passes * samples / heard))

    def check_settings(self, training: config.TrainingConfig):
        """The run's settings fit the model. Raises `UserError` where they do not."""
        raise NotImplementedError

    def prepare(self, record: RunRecord, group: Group, say):
        """Get the data ready: split it, encode it."""
        raise NotImplementedError

    def build(self, seed: int) -> keras.Model:
        """The model, with its initial weights."""
        raise NotImplementedError

    def compile_options(self) -> dict:
        """What `compile` is given besides the optimizer."""
        return {}

    def take_weights(self, model, weight_set: weights.WeightSet):
        """The weights of a set into the model."""
        raise NotImplementedError

    def begin(self, model):
        """What the model is told of the tracks, once, before its run's first step."""

    def batches(self, step: int):
        """The training batches from number `step` on, without end."""
        raise NotImplementedError

    @property
    def validation(self):
        """The validation batches; None where no track is held out."""
        raise NotImplementedError

    def judgement(self, loss: float) -> str:
        """What the validation said, in words."""
        return f"validation loss {loss:.5g}"

    def examples(self, folder) -> list[keras.callbacks.Callback]:
        """Callbacks that show in TensorBoard what the model makes."""
        return []


class CodecJob(Job):
    """A codec on the windows of a prepared folder."""

    shown = ("loss", "val_loss", "val_mel", "val_spectral_convergence",
             "val_usage", "val_perplexity", "val_reconstruction", "val_kl")

    def __init__(self, model: config.CodecConfig, data_dir, decoder_only: bool):
        super().__init__(model, data_dir)
        self.decoder_only = decoder_only

    def check(self):
        super().check()
        self.check_rate(self.model.name, self.model.sample_rate,
                        "; prepare the audio at that rate or set sample_rate with --config")

    @property
    def _window_bounds(self) -> tuple[int, int]:
        """Samples that a window must be a multiple of, and have at least."""
        shortest = max(losses.SHORTEST, losses.LINE_BINS * self.model.level
                       if self.model.loss.hum else 0, self._shortest_of_adversary)
        unit = (math.lcm(self.model.level, losses.CONSTANT_Q.hop) if self.model.loss.constant_q
                else self.model.level)
        return unit, shortest

    @property
    def _shortest_of_adversary(self) -> int:
        """Samples that a window must have for the discriminators' spectra, as `losses.SHORTEST`
        for those of the loss.
        """
        return self.model.adversary.longest // 2 + 1 if self.model.adversary else 0

    def check_settings(self, training: config.TrainingConfig):
        unit, shortest = self._window_bounds
        if training.input_length < shortest == self._shortest_of_adversary:
            raise UserError(f"--input-length is {training.input_length}, but the adversary of "
                            f"{self.model.name} has a window of {self.model.adversary.longest} "
                            f"samples, more than half of which it must be")
        if training.input_length % unit or training.input_length < shortest:
            raise UserError(f"--input-length is {training.input_length}; for {self.model.name} it "
                            f"must be a multiple of {unit} and at least {shortest}")
        if training.mix and self.model.labels:
            raise UserError(f"{self.model.name}: training.mix is {training.mix:g}, but a mixture "
                            f"of two tracks has no label: set it to 0, or train without --label")

    def prepare(self, record: RunRecord, group: Group, say):
        if self.choose_window:
            self._fit_window(record, group, say)
        self.training, self.group = record.training, group
        self.split(record, self.training.input_length, group, say)
        self._describe_labels(say)

    def _fit_window(self, record: RunRecord, group: Group, say):
        """Shorten the window until all but `SHORT_TRACKS` of the tracks are as long."""
        unit, shortest = self._window_bounds
        (train, _), spans = silence.trim(
            self.data_dir, splits.split(self.tracks, record.data.split, record.training.seed),
            record.data.trim_silence, SilentReporter(), group.first)
        lengths = sorted(last - first for first, last in (spans[t.file] for t in train))
        window, rate = record.training.input_length, self.model.sample_rate
        fits = lengths[int(SHORT_TRACKS * len(lengths))]
        chosen = max(fits // unit, -(-shortest // unit)) * unit
        if chosen >= window or lengths[-1] < chosen:
            return
        short = sum(length < window for length in lengths)
        say(f"a window of {chosen / rate:.3g} s in place of {window / rate:.3g} s, which {short} "
            f"of {len(lengths)} training tracks are shorter than")
        record.training = config.replace(record.training, input_length=chosen)

    def _windows(self, tracks, **more):
        chosen = {"batch_size": self.training.batch_size, "share": self.group} | more
        return windows.AudioWindows(self.data_dir,
                                    tracks,
                                    self.training.input_length,
                                    seed=self.training.seed,
                                    spans=self.spans,
                                    told=self.model.labels,
                                    **chosen)

    def batches(self, step: int):
        """The training batches from number `step` on, without end."""
        return self._windows(self.train, start=step, changes=windows.Changes.of(self.training))

    @property
    def validation(self):
        """The validation batches; None where no track is held out."""
        return self._windows(self.val, fixed=VALIDATION_WINDOWS) if self.val else None

    def examples(self, folder):
        given, sound = self._windows(self.val or self.train, batch_size=4, fixed=4,
                                     share=splits.WHOLE)[0]
        return [callbacks.AudioExamples(folder, sound, self.model.sample_rate, given,
                                        vocoder(self.model))]

    def build(self, seed: int):
        return nn_codec.Codec(self.model, seed, self.decoder_only)

    def take_weights(self, model, weight_set: weights.WeightSet):
        nn_codec.take_weights(model, weight_set)


class GeneratorJob(Job):
    """A generator on the codes that codecs make of a prepared folder.

    Args:
        chain: names the codec of each level; None where `codec_dir` tells.
        scheduler: the address of a Dask cluster that does the encoding.
    """

    shown = ("bits", "top1", "val_bits", "val_top1")
    gives_labels = True

    def judgement(self, loss: float) -> str:
        # The loss is a mean over the books of a frame.
        return f"validation {self.model.books * loss / math.log(2):.5g} bits a frame"

    def __init__(self, model: config.GeneratorConfig, data_dir, codec_dir,
                 codec_epoch, chain, scheduler):
        super().__init__(model, data_dir)
        self.chain = chain
        self.codec_dir, self.codec_epoch, self.scheduler = codec_dir, codec_epoch, scheduler

    def check(self):
        super().check()
        model = self.model
        asked = [(model.level, "", model.num_codes, model.books)]
        if model.source:
            above = model.source
            asked.append((above.level, "the level above: ", above.num_codes, above.books))
        self.codec_weights = [find_codec(self.codec_dir, level, self.codec_epoch, self.chain)
                              for level, *_ in asked]
        for weight_set, (_, which, num_codes, books) in zip(self.codec_weights, asked, strict=True):
            weight_set.config.check_codes(model.name)
            for key, value in (("num_codes", num_codes), ("books", books)):
                if getattr(weight_set.config, key) != value:
                    raise UserError(f"{model.name}: {which}{key} is {value}, but {weight_set.name} "
                                    f"has {getattr(weight_set.config, key)}")
            self.check_rate(weight_set.name, weight_set.config.sample_rate)

    def check_settings(self, training: config.TrainingConfig):
        unit = self.model.source_level or self.model.level
        if training.mix:
            raise UserError(f"training: mix is {training.mix:g}; {self.model.name} learns codes, "
                            f"which cannot be added: mix is of codecs alone")
        if training.input_length % unit:
            raise UserError(f"--input-length is {training.input_length}; for {self.model.name} it "
                            f"must be a multiple of {unit}")

    def prepare(self, record: RunRecord, group: Group, say):
        for weight_set in self.codec_weights:
            say(f"codec {weight_set.summary}")
        self.training, self.group = record.training, group
        model, training = self.model, self.training
        unit = model.source_level or model.level
        own = codes.variants(training.offsets, level=unit)
        all_variants = codes.variants(training.offsets, training.transpose, unit, training.gain)
        # What a variant takes off a track must still leave a frame, and one of the level above.
        shortest = max(math.ceil((v.start + 2 * unit) * 2 ** (v.shift / 12)) for v in all_variants)
        self.split(record, shortest, group, say,
                   "two frames" + (" of the level above" if model.source else ""))
        wanted = ([(t, v) for t in self.train for v in all_variants]
                  + [(t, v) for t in self.val for v in own])
        corpora = [codes.encode_corpus(self.data_dir, wanted, weight_set,
                                       say, nn_codec.load_encoder, group.first,
                                       self.scheduler) for weight_set in self.codec_weights]
        self.rows = {t.file: [] for t in self.train + self.val}
        for (track, variant), (_, _, entry), *above in zip(wanted, *corpora, strict=True):
            self.rows[track.file].append(codes.cut(
                track, variant, self.spans[track.file], entry, model.level, *(
                    (above[0][2], model.source_level) if above else ())))
        self._choose_window(say)
        self._describe_labels(say)
        sides = [self._rows(self.train), self._rows(self.val or self.train)]
        bits = group.from_first(
            lambda: codes.unigram_bits(sides[0], sides[1], model.num_codes, model.books))
        say(f"{model.name}: held-out frames have {bits:.3f} bits each by their codes' frequencies "
            f"alone ({model.books * math.log2(model.num_codes):.3f} knows nothing)")
        record.unigram_bits = round(bits, 4)

    def _choose_window(self, say):
        """Frames a window, and what becomes of tracks that are shorter."""
        self.window = self.training.input_length // self.model.level
        if self.model.core.span >= self.window:
            say(f"{self.model.name}: a layer looks back over {self.model.core.span:,} frames, but "
                f"windows have {self.window:,}: nothing learns what is further back "
                f"(--input-length)")
        # The first row of a track is the one of its own pitch and full length.
        if short := sum(self.rows[t.file][0].frames < self.window for t in self.train):
            say(f"{short} of {len(self.train)} training tracks are shorter than a window of "
                f"{self.training.input_length / self.tracks[0].sample_rate:.3g} s, which goes on "
                f"with another track")

    def _rows(self, tracks) -> list[windows.CodeTrack]:
        """Every variant of these tracks."""
        return [row for track in tracks for row in self.rows[track.file]]

    def _windows(self, tracks, **more):
        return windows.CodeWindows(self._rows(tracks), self.model, self.window,
                                   self.training.batch_size,
                                   self.training.seed, share=self.group, **more)

    def batches(self, step: int):
        """The training batches from number `step` on, without end."""
        return self._windows(self.train, start=step)

    @property
    def validation(self):
        """The validation batches; None where no track is held out."""
        return self._windows(self.val, fixed=VALIDATION_WINDOWS) if self.val else None

    def build(self, seed: int):
        model = nn_generator.Generator(self.model)
        start_from_codebooks(model, self.codec_weights, seed)
        return model

    def take_weights(self, model, weight_set: weights.WeightSet):
        nn_generator.take_weights(model, weight_set, except_for=QUIETNESS)

    def begin(self, model):
        """How quiet the music of each code is, is measured on these tracks, wherever the weights
        are from.
        """
        if self.model.core.quiet_cost:
            # The first row of a track is the one of its own pitch and full length.
            model.core.set_quiet(loudness.quietness(
                self.data_dir, [self.rows[t.file][0] for t in self.train], self.model.level,
                self.model.num_codes, self.model.books))

    def compile_options(self) -> dict:
        return {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "weighted_metrics": [Bits(), keras.metrics.SparseCategoricalAccuracy(name="top1")]}


class Bits(keras.metrics.MeanMetricWrapper):
    """Bits per frame: Σ over books of −log2 p of the right code; logits [batch, T, books,
    num_codes].
    """

    def __init__(self, name="bits", **kwargs):
        def bits(y, logits):
            each = (keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
                    / math.log(2))
            return keras.ops.sum(each, axis=-1)

        super().__init__(bits, name=name, **kwargs)


def find_codec(folder, level: int, epoch=None, chain: config.ChainConfig
               | None = None) -> weights.WeightSet:
    """The codec of that level in a folder: the one that `chain` names, the folder's own chain, or
    the only one.

    Raises:
        UserError: there is none, or there are several and no chain says which.
    """
    names = [one.codecs[level] for one in (chain, weights.chain(folder))
             if one and level in one.codecs]
    for name in names:
        if weights.tags(folder, name):
            return weights.find(folder, name, epoch)
    stems = {re.sub(r"_(best|\d{5,})$", "", path.stem) for path in Path(folder).glob("*.yml")}
    there = [weights.find(folder, name, epoch) for name in sorted(stems)
             if weights.tags(folder, name) and _describes_codec(folder, name, level)]
    if len(there) > 1:
        raise UserError(f"{folder}: holds several codecs of level {level}, "
                        f"{', '.join(one.name for one in there)}; a {weights.CHAIN} there must "
                        f"name one")
    return there[0] if there else weights.find(folder, names[0] if names
                                               else f"vqvae_{level}", epoch)


def _describes_codec(folder, name: str, level: int) -> bool:
    path = weights.config_path(folder, name, weights.tags(folder, name)[-1])
    values = config.load_yaml(path)
    if (values.get("model") or {}).get("kind") != "codec":
        return False
    return config.validate_model(values["model"], name).level == level


def start_from_codebooks(model: nn_generator.Generator, codec_weights: list[weights.WeightSet],
                         seed: int):
    """Begin with what the codecs know: codes whose vectors lie near each other start with near
    embeddings and logits. Codes of a quantizer without codebooks start anywhere.

    codec_weights: that of the generator's level, and that of the level above where it has one.
    """
    random = windows.rng(seed, windows.START)

    def standardise(vectors):
        return (vectors - vectors.mean(0)) / (vectors.std() + 1e-6)

    own, *above = [[standardise(vectors) for vectors in weight_set.codebooks_of_frame()]
                   for weight_set in codec_weights]
    if own:
        model.core.start_inputs(own, random)
    if model.config.source and above[0]:
        condition = model.conditions[model.config.source.input]
        condition.get_layer("embedding").start_from(above[0], random)
    if own:
        model.core.start_outputs(own, random)
