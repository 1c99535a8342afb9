"""The parts of a training that differ between codecs and generators: data and model."""

import math

import numpy as np

from ..codecs import CodecConfig, Labels, codec_layer, losses_layer
from ..data import codes, form, scores, windows
from ..dsp import beats
from ..dsp.beats import STEPS_PER_BEAT
from ..errors import UserError
from ..generators import GeneratorConfig, generator_layer
from ..io import labels, manifest, silence, splits, weights
from ..levels import SCORE, DataConfig, TrainingConfig, replace
from ..levels.kinds import layer_of
from ..progress import SilentReporter
from . import codecs, performances
from .devices import DeviceGroup
from .options import RunOptions
from .record import STEPS_PER_EPOCH, RunRecord

VALIDATION_WINDOWS = 64


class Job:
    """A model and its data. A subclass also has `check_settings`; `prepare`, which splits and
    encodes the data; `build`, the model with its initial weights; and `take_weights`, which loads
    other weights.
    """

    shown: tuple[str, ...]
    """The metrics in the line of an epoch."""
    training: TrainingConfig
    """The run's settings, from `prepare` on."""
    gives_labels = False
    """Whether labels can be added to weights without labels."""

    def __init__(self, model: CodecConfig | GeneratorConfig, data_dir):
        self.model, self.data_dir = model, data_dir
        self.codec_weights: list[weights.WeightSet] = []
        """The codecs of a generator's codes: of its level, then of the level above."""

    def check(self):
        """Read the manifest. Raises `UserError` if the model cannot train on the data."""
        self.tracks = manifest.read(self.data_dir)

    def resolve_labels(self, saved: CodecConfig | GeneratorConfig | None,
                       source: CodecConfig | GeneratorConfig | None, data: DataConfig, seed: int):
        """Fill in the names of the labels: those of the run that continues, or of the initial
        weights, otherwise those of the training tracks. Parts always come from this folder's
        tracks. seed: see `splits.split`.
        """
        wanted = self.model.labels
        if wanted is None or (wanted.names and not wanted.are_parts):
            return
        before = saved or (None if wanted.are_parts else source)
        earlier = before.labels if before else None
        if earlier and earlier.of == wanted.of:
            names, moods = earlier.names, earlier.moods
        else:
            sides = splits.split(self.tracks, data.split, seed)
            (train, _), _ = silence.trim(self.data_dir, sides, data.trim_silence, SilentReporter())
            names = labels.vocabulary(train, wanted.of)
            moods = labels.moods_of(self.data_dir, train, names) if wanted.are_parts else {}
        self.model = self.model.with_labels(replace(wanted, names=names, moods=moods))

    def check_rate(self, name: str, sample_rate: int, advice: str = ""):
        if self.tracks[0].sample_rate != sample_rate:
            raise UserError(f"{self.data_dir}: is at {self.tracks[0].sample_rate} Hz, {name} at "
                            f"{sample_rate} Hz{advice}")

    def split(self, record: RunRecord, say):
        """Set `train`, `val` and `spans`: the tracks without the silence at their ends."""
        sides = splits.split(self.tracks, record.data.split, record.training.seed)
        (self.train, self.val), self.spans = silence.trim(self.data_dir, sides,
                                                          record.data.trim_silence, say)

    def keep_long(self, record: RunRecord, samples: int, say, what: str, advice: str = ""):
        """Drop tracks shorter than `samples`, which `what` needs, and print what is left. Raises
        `UserError` if no training track is left.
        """
        count = len(self.train) + len(self.val)
        longest = max(map(self.length, self.train), default=0)
        if longest < samples:
            seconds = 1 / self.tracks[0].sample_rate
            raise UserError(f"no training track is as long as {what}, {samples} samples "
                            f"({samples * seconds:.2f} s); the longest has {longest} "
                            f"({longest * seconds:.2f} s): use {advice}longer music")
        self.train, self.val = ([t for t in side if self.length(t) >= samples]
                                for side in (self.train, self.val))
        short = count - len(self.train) - len(self.val)
        hours = [sum(self.length(t) / t.sample_rate for t in side) / 3600
                 for side in (self.train, self.val)]
        say(f"{len(self.train)} tracks to train on ({hours[0]:.2f} h), {len(self.val)} held out "
            f"({hours[1]:.2f} h)"
            + (f"; {short} left out, shorter than {samples} samples" if short else ""))
        if not self.val:
            say("no track is held out: the best set is chosen by the training loss, which does "
                "not reveal over-fitting")
        if self.model.labels and self.model.labels.are_parts:
            say(f"labels: {len(self.model.labels.names)} parts of tracks, about "
                f"{labels.PART_SECONDS:g} s each")
        elif self.model.labels:
            counts = labels.count(self.train, self.model.labels)
            say(f"labels by {self.model.labels.of}: " + ", ".join(
                f"{name or 'none of these'} ({count})" for name, count in counts.items()))
        trained_on = {t.sha256[:16] for t in self.train}.union(
            record.tracks, *(source.record.get("tracks") or () for source in self.codec_weights))
        record.tracks = sorted(trained_on)

    def length(self, track: manifest.Track) -> int:
        """The samples of a track without the silence at its ends."""
        first, last = self.spans[track.file]
        return last - first

    def steps_of_passes(self) -> int:
        """The steps of `passes` over the tracks, at least one epoch; 0 without `passes`."""
        samples = sum(map(self.length, self.train))
        windows = self.training.batch_size * self.training.input_length
        return self.training.passes and max(STEPS_PER_EPOCH,
                                            math.ceil(self.training.passes * samples / windows))

    def compile_options(self) -> dict:
        """The arguments of `compile` besides the optimizer."""
        return {}

    def windows_of(self, tracks, **options) -> windows.AudioWindows | windows.CodeWindows:
        """Batches of windows of tracks."""
        raise NotImplementedError

    def batches(self, step: int):
        """The endless training batches, from batch `step` on."""
        return self.windows_of(self.train, start=step)

    @property
    def validation(self):
        """The validation batches; None if no track is held out."""
        return self.windows_of(self.val, fixed=VALIDATION_WINDOWS) if self.val else None

    def describe_loss(self, loss: float) -> str:
        """The text of a validation loss."""
        return f"validation loss {loss:.5g}"


class CodecJob(Job):
    """A codec on the windows of a prepared folder."""

    shown = ("loss", "val_loss", "val_mel", "val_spectral_convergence",
             "val_usage", "val_perplexity", "val_reconstruction", "val_kl")

    def __init__(self, model: CodecConfig, data_dir, options: RunOptions):
        super().__init__(model, data_dir)
        self.options = options
        self.performed: dict[str, np.ndarray] = {}
        """The codes of performances, see `performances.perform`."""

    def check(self):
        super().check()
        self.check_rate(self.model.name, self.model.sample_rate,
                        "; prepare the audio at that rate or set sample_rate with --config")

    def check_settings(self, training: TrainingConfig):
        model = self.model
        shortest = max(losses_layer.SHORTEST_AUDIO,
                       losses_layer.LINE_BINS * model.level if model.loss.hum else 0,
                       model.adversary.longest // 2 + 1 if model.adversary else 0)
        unit = math.lcm(model.level, losses_layer.CONSTANT_Q.hop if model.loss.constant_q else 1)
        if training.input_length % unit or training.input_length < shortest:
            raise UserError(f"--input-length is {training.input_length}; for {self.model.name} it "
                            f"must be a multiple of {unit} and at least {shortest}")
        if training.mix and self.model.labels:
            raise UserError(f"{self.model.name}: training.mix is {training.mix:g}, but a mixture "
                            f"of two tracks has no label: set it to 0, or train without --label")

    def prepare(self, record: RunRecord, group: DeviceGroup, say):
        self.split(record, say)
        self.training, self.group = record.training, group
        self.keep_long(record, self.training.input_length, say, "--input-length",
                       "a shorter --input-length or ")
        if folder := self.options.performer:
            codec = weights.find(self.options.start_from, self.model.name)
            self.performed = performances.perform(folder, codec, self.data_dir,
                                                  self.train + self.val, say)

    def windows_of(self, tracks, kind=windows.AudioWindows, **options):
        return kind(self.data_dir, tracks, self.training.input_length, seed=self.training.seed,
                    spans=self.spans, label_config=self.model.labels,
                    **{"batch_size": self.training.batch_size, "share": self.group} | options)

    def batches(self, step: int):
        options: dict = {"start": step, "augmentation": self.training}
        if self.performed:
            options |= {"kind": windows.PerformedWindows, "level": self.model.level,
                        "performed": self.performed}
        return self.windows_of(self.train, **options)

    def build(self, seed: int):
        return codec_layer.Codec(self.model, seed, self.options.decoder_only)

    def take_weights(self, model, weight_set: weights.WeightSet):
        codec_layer.take_weights(model, weight_set)


class GeneratorJob(Job):
    """A generator on the codes of a prepared folder under codecs. codec_epoch, chain: see
    `codecs.find_all`. scheduler: the address of a Dask cluster that encodes the tracks.
    """

    shown = ("bits", "top1", "val_bits", "val_top1")
    gives_labels = True

    def __init__(self, model: GeneratorConfig, data_dir, codec_dir, codec_epoch=None,
                 chain=None, scheduler=None):
        super().__init__(model, data_dir)
        self.chain = chain
        self.codec_dir, self.codec_epoch, self.scheduler = codec_dir, codec_epoch, scheduler

    def describe_loss(self, loss: float) -> str:
        return self.model.core.describe_loss(loss, self.model.books)

    def check(self):
        super().check()
        self.codec_weights = codecs.find_all(self.model, self.codec_dir, self.codec_epoch,
                                             self.chain)
        for weight_set in self.codec_weights:
            self.check_rate(weight_set.name, weight_set.config.sample_rate)

    def check_settings(self, training: TrainingConfig):
        unit = self.model.source_level or self.model.level
        if training.mix:
            raise UserError(f"training: mix is {training.mix:g}, but {self.model.name} learns "
                            f"codes, which cannot be mixed: set it to 0")
        if training.input_length % unit:
            raise UserError(f"--input-length is {training.input_length}; for {self.model.name} it "
                            f"must be a multiple of {unit}")

    def prepare(self, record: RunRecord, group: DeviceGroup, say):
        for weight_set in self.codec_weights:
            say(f"codec {weight_set.summary}")
        self.training, self.group = record.training, group
        model, training = self.model, self.training
        unit = model.source_level or model.level
        untransposed = codes.variants(training.offsets, level=unit)
        variants = codes.variants(training.offsets, training.transpose, unit, training.gain)
        # The shortest variant of a track must have two frames, of the level above if there is one.
        shortest = max(math.ceil((v.start + 2 * unit) * 2 ** (v.shift / 12)) for v in variants)
        self.split(record, say)
        self.keep_long(record, shortest, say,
                       "two frames" + (" of the level above" if model.above else ""))
        pairs = ([(t, v) for t in self.train for v in variants]
                 + [(t, v) for t in self.val for v in untransposed])
        corpora = [codes.encode_corpus(
            self.data_dir, pairs, weight_set, say,
            codec_layer.load_echo if sounds else codec_layer.load_encoder, group.first,
            self.scheduler, sounds) for weight_set, sounds in zip(
                self.codec_weights, (False, model.hears), strict=False)]
        # The first copy of a track is the track itself, not transposed and of full length.
        self.code_tracks = {t.file: [] for t in self.train + self.val}
        for (track, variant), entry, *above in zip(pairs, *corpora, strict=True):
            source = (above[0], model.source_level) if above else ()
            self.code_tracks[track.file].append(codes.cut(
                track, variant, self.spans[track.file], entry, model.level, *source))
        if SCORE in model.reads:
            self._read_scores(say)
        self._describe_window(say)
        self._measure_baseline(group, say)

    def _measure_baseline(self, group: DeviceGroup, say):
        """Print the baseline: bits per held-out frame from the codes' frequencies in training."""
        train, held_out = self._copies(self.train), self._copies(self.val or self.train)
        model = self.model
        unigram = group.from_first(
            lambda: codes.unigram_bits(train, held_out, model.num_codes, model.books))
        say(f"{model.name}: baseline: {unigram:.3f} bits a held-out frame from the frequencies of "
            f"the codes ({model.books * math.log2(model.num_codes):.3f} from equal frequencies)")

    def _read_scores(self, say):
        """Add to each copy the score of its track."""
        for file, score in scores.of_corpus(self.data_dir, self.train + self.val, say).items():
            self.code_tracks[file] = [copy._replace(score=score.transposed(copy.shift))
                                      for copy in self.code_tracks[file]]

    @property
    def window(self) -> int:
        """The frames of a window."""
        return self.training.input_length // self.model.level

    def _describe_window(self, say):
        if self.model.core.span >= self.window:
            say(f"{self.model.name}: a layer looks back over {self.model.core.span:,} frames, but "
                f"windows have {self.window:,} (--input-length): it cannot learn from older frames")
        if short := sum(self.code_tracks[t.file][0].frames < self.window for t in self.train):
            say(f"{short} of {len(self.train)} training tracks are shorter than a window of "
                f"{self.training.input_length / self.tracks[0].sample_rate:.3g} s; such a window "
                f"continues with another track")

    def _copies(self, tracks) -> list[windows.CodeTrack]:
        """Every copy of these tracks."""
        return [copy for track in tracks for copy in self.code_tracks[track.file]]

    def windows_of(self, tracks, **options):
        return windows.CodeWindows(self._copies(tracks), self.model, self.window,
                                   self.training.batch_size, self.training.seed, share=self.group,
                                   **options)

    def build(self, seed: int):
        model = generator_layer.Generator(self.model)
        start_from_codebooks(model, self.codec_weights, seed)
        return model

    def take_weights(self, model, weight_set: weights.WeightSet):
        generator_layer.take_weights(model, weight_set)
        if self.model.core.performs:
            # Its codec may have been trained further.
            model.core.start_outputs(_standardised(self.codec_weights[0]))

    def compile_options(self) -> dict:
        return layer_of(self.model.core).compile_options()


class ScoreJob(GeneratorJob):
    """A generator of scores on the transcribed tracks of a prepared folder, in all twelve keys."""

    KEYS = range(-6, 6)

    def check(self):
        Job.check(self)

    def check_settings(self, training: TrainingConfig):
        if training.input_length % (self.model.level * STEPS_PER_BEAT):
            raise UserError(f"--input-length is {training.input_length}; for {self.model.name} it "
                            f"must be a multiple of a beat, "
                            f"{self.model.level * STEPS_PER_BEAT}")

    def prepare(self, record: RunRecord, group: DeviceGroup, say):
        self.training, self.group = record.training, group
        self.split(record, say)
        # The labels of a performer; they include the parts of tracks that are too short here.
        names = labels.vocabulary(self.train, "part")
        self.keep_long(record, 8 * self.model.level, say, "eight steps")
        transcribed = scores.of_corpus(self.data_dir, self.train + self.val, say)
        self.code_tracks = {
            track.file: [
                codes.CodeTrack(roll, len(roll), track=track, shift=shift)
                for shift in sorted(self.KEYS if track in self.train else [0], key=abs)
                for roll in [transcribed[track.file].in_steps(self.model.books, shift)]]
            for track in self.train + self.val}
        self._describe_window(say)
        self._measure_baseline(group, say)
        self.corpus = self._form_of(transcribed, Labels(of="part", names=names))
        say("{}: {:.2f} notes a step, and {:.0%} of the sections return".format(
            self.model.name, *self.corpus["strikes"], *self.corpus["returns"]))

    def _form_of(self, transcribed: dict[str, scores.Score], parts: Labels
                 ) -> dict[str, np.ndarray]:
        """See `form.of_scores`. parts: the labels of a performer of these tracks."""
        rolls = [self.code_tracks[track.file][0].codes for track in self.train]
        numbers = [labels.indices_of(track, parts,
                                     beats.steps(transcribed[track.file].beats)[: len(roll)])
                   for track, roll in zip(self.train, rolls, strict=True)]
        return form.of_scores(rolls, numbers, len(parts.names),
                              [transcribed[track.file].tempo for track in self.train],
                              [transcribed[track.file].band_loudness for track in self.train])

    def build(self, seed: int):
        model = generator_layer.Generator(self.model)
        model.corpus = self.corpus
        return model


GENERATOR_JOBS = {"codes": GeneratorJob, "scores": ScoreJob}
"""The job of each value of `CoreConfig.learns`."""


def start_from_codebooks(model: generator_layer.Generator, codec_weights: list[weights.WeightSet],
                         seed: int):
    """Initialise embeddings and logits from the codebooks of the generator's level and of the level
    above (if any), so that similar codes start with similar embeddings.
    """
    random = windows.rng(seed, windows.FOR_START)
    own, *above = map(_standardised, codec_weights)
    if own:
        model.core.start_inputs(own, random)
    if model.config.source and above[0]:
        condition = model.conditions[model.config.source.input]
        condition.get_layer("embedding").start_from(above[0], random)
    if own:
        model.core.start_outputs(own, random)


def _standardised(codec: weights.WeightSet) -> list[np.ndarray]:
    """The codebook of each code, float32 [num_codes, dim], with mean 0 and deviation 1."""
    return [(vectors - vectors.mean(0)) / (vectors.std() + 1e-6)
            for vectors in codec.codebook_per_code()]
