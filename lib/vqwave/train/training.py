"""Training a codec or a generator: plain `compile` and `fit`, resumable at any step.

    prepare the data  ->  build the model  ->  (load where it stood)  ->  fit  ->  say what came out

A run lives in its output folder: numbered weights sets, `…_best`, `{name}.state.npz` (see `callbacks.RunState`), a CSV
log, a picture of the curves and, on TensorFlow, a TensorBoard folder. The same command again goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import secrets
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import config, files, machine, weights
from ..data import codes, manifest
from ..data import windows as dataset
from ..errors import UserError
from ..nn import losses
from ..nn.codec import VQVAE
from ..nn.generator import Generator
from . import callbacks
from . import replicas as distribution
from .optimizer import Muon

VALIDATION_WINDOWS = 64
STEPS_PER_EPOCH = 250


@dataclasses.dataclass(frozen=True)
class Options:
    """What a person may choose of a run; `input_length` in samples, `minutes` in place of `steps` where given."""

    output_dir: Path
    steps: int = 10000
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    input_length: int = 65536
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warmup: int = 200
    seed: int = 0
    patience: int = 0
    val_split: str = "0.1"
    start_epoch: int | None = None
    start_from: str | Path | None = None
    decoder_only: bool = False
    keep_all: bool = False
    promote: bool = False
    mixed_precision: bool = False
    distribute: bool = False


class Say:
    """What a run tells: lines on stdout, and a bar on stderr where that is a terminal."""

    def __init__(self):
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   TextColumn("{task.fields[loss]}"))
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.task = None

    def __call__(self, line: str):
        if self.bar.disable:
            print(line, flush=True)
        else:
            self.bar.console.print(line, highlight=False, markup=False)

    def start(self, total: int, done: int, what="training"):
        self.stop()
        self.task = self.bar.add_task(what, total=total, completed=done, loss="")
        self.bar.start()

    def advance(self, done: int, loss: float | None = None):
        self.bar.update(self.task, completed=done, loss="" if loss is None else f"loss {loss:.4g}")

    def stop(self):
        if self.task is not None:
            self.bar.stop()
            self.bar.remove_task(self.task)
            self.task = None


class Silent(Say):
    """For the processes that the first one speaks for."""

    def __init__(self):
        super().__init__()
        self.bar.disable = True

    def __call__(self, line: str):
        pass


def set_precision(mixed: bool, say) -> str:
    """Keras's global policy: float32, or (`mixed`) float16 on a GPU and bfloat16 on a CPU."""
    policy = "float32"
    if mixed:
        policy = "mixed_float16" if accelerator() else "mixed_bfloat16"
        if policy == "mixed_bfloat16" and not machine.bfloat16_cpu():
            say("--fp16: this processor has no bfloat16 arithmetic, so it will be slower than leaving the flag out")
    keras.mixed_precision.set_global_policy(policy)
    return policy


def accelerator() -> bool:
    """Is there a GPU or TPU that Keras's backend sees?"""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return False


def train_codec(codec: config.CodecConfig, data_dir, options: Options, say=None) -> dict:
    """Train one codec on a prepared folder. Returns the run's record (`step`, `best`, `finished` …)."""
    with distribution.joined(options.distribute, options.batch_size) as group:
        return _train_codec(codec, data_dir, options, group, (say or Say()) if group.first else Silent())


def _train_codec(codec, data_dir, options, group, say):
    shortest = max(losses.SHORTEST, losses.LINE_BINS * codec.level if codec.loss.hum else 0)
    if options.input_length % codec.level or options.input_length < shortest:
        raise UserError(f"--input-length is {options.input_length}; for {codec.name} it must be a multiple of "
                        f"{codec.level} and at least {shortest}")
    tracks = manifest.read(data_dir)
    group.from_first(lambda: _open_folder(options.output_dir, codec.name))
    if tracks[0].sample_rate != codec.sample_rate:
        raise UserError(f"{data_dir}: is at {tracks[0].sample_rate} Hz, {codec.name} at {codec.sample_rate} Hz; "
                        "prepare the audio at that rate or set sample_rate with --config")
    train, val = _split(tracks, options, options.input_length, say)
    length, batch = options.input_length, options.batch_size
    validation = None
    if val:
        validation = dataset.AudioWindows(data_dir, val, length, batch, options.seed, fixed=VALIDATION_WINDOWS,
                                          group=group)

    def data(step):
        return dataset.AudioWindows(data_dir, train, length, batch, options.seed, start=step, group=group)

    def examples(folder):
        sound = dataset.AudioWindows(data_dir, val or train, length, 4, options.seed, fixed=4)[0][0]
        return [callbacks.AudioExamples(folder, sound, codec.sample_rate)]

    show = ("loss", "val_loss", "val_mel", "val_spectral_convergence", "val_usage", "val_perplexity")
    return _run(codec, lambda: VQVAE(codec, options.seed, options.decoder_only), data, validation, options, group, say,
                show, examples, {})


def train_generator(generator: config.GeneratorConfig, data_dir, codec_dir, options: Options, codec_epoch=None,
                    offsets: int = codes.OFFSETS, say=None, scheduler: str | None = None) -> dict:
    """Train one generator on the codes that the codecs in `codec_dir` make of a prepared folder.

    scheduler: the address of a Dask cluster that does the encoding.
    """
    with distribution.joined(options.distribute, options.batch_size) as group:
        return _train_generator(generator, data_dir, codec_dir, options, codec_epoch, offsets, scheduler, group,
                                (say or Say()) if group.first else Silent())


def _train_generator(generator, data_dir, codec_dir, options, codec_epoch, offsets, scheduler, group, say):
    unit = generator.source_level or generator.level
    if options.input_length % unit:
        raise UserError(f"--input-length is {options.input_length}; for {generator.name} it must be a multiple of "
                        f"{unit}")
    tracks = manifest.read(data_dir)
    group.from_first(lambda: _open_folder(options.output_dir, generator.name))
    levels = [generator.level] + ([generator.source_level] if generator.source_level else [])
    codecs = [weights.find(codec_dir, config.codec_name(level), codec_epoch) for level in levels]
    for codec, key in zip(codecs, ("num_codes", "source_codes"), strict=False):
        say(f"codec {codec.described}")
        if codec.config.num_codes != getattr(generator, key):
            raise UserError(f"{generator.name}: {key} is {getattr(generator, key)}, but {codec.name} has "
                            f"{codec.config.num_codes} codes")
        if codec.config.sample_rate != tracks[0].sample_rate:
            raise UserError(f"{data_dir}: is at {tracks[0].sample_rate} Hz, {codec.name} at "
                            f"{codec.config.sample_rate} Hz")
    # Offsets take a little off each track's end; what is left must still hold a window.
    train, val = _split(tracks, options, options.input_length + codes.OFFSET_STEP * (offsets - 1) + unit, say)
    corpora = [codes.encode_corpus(data_dir, train + val, codec, offsets, say, group.first, scheduler)
               for codec in codecs]
    length, batch = options.input_length // generator.level, options.batch_size

    def windows(chosen, **more):
        files = {(t, o): c for t, o, c in corpora[0]}
        above = {(t, o): c for t, o, c in corpora[1]} if len(corpora) > 1 else {}
        names = {t.file for t in chosen}
        wanted = [k for k in files if k[0] in names]
        rows = [(*files[k], *above.get(k, (None, 0))) for k in wanted]
        return dataset.CodeWindows(rows, generator, length, batch, options.seed, group=group, **more)

    sides = [{t.file for t in side} for side in (train, val or train)]
    unigram = group.from_first(lambda: codes.unigram_bits(
        *([c for t, o, c in corpora[0] if t in side] for side in sides), generator.num_codes))
    say(f"{generator.name}: held-out codes have {unigram:.3f} bits each by their frequencies alone "
        f"({math.log2(generator.num_codes):.3f} knows nothing)")
    validation = windows(val, fixed=VALIDATION_WINDOWS) if val else None
    extra = {"codecs": {c.name: c.codes_id for c in codecs}, "unigram_bits": round(unigram, 4)}
    show = ("bits", "top1", "val_bits", "val_top1")
    return _run(generator, lambda: _from_codebooks(Generator(generator), codecs, options.seed),
                lambda step: windows(train, start=step), validation, options, group, say, show, lambda folder: [],
                extra)


def _from_codebooks(model: Generator, codecs, seed: int) -> Generator:
    """Begin with what the codecs know: codes whose vectors lie near each other start with near embeddings and logits.

    Embeddings are the standardised codebook (or a random projection of it, where the widths differ), with zeros for the
    start and pad tokens; the head is its transpose behind a random projection, at the scale of Glorot's initialiser.
    """
    random = dataset.rng(seed, dataset.START)
    books = []
    for codec in codecs:
        (vectors,) = codec.load("codebook").values()
        books.append((vectors - vectors.mean(0)) / (vectors.std() + 1e-6))

    def projected(book, width):
        if book.shape[1] != width:
            book = book @ random.normal(0, book.shape[1] ** -0.5, (book.shape[1], width))
        return book

    def embed(layer, book):
        layer.embeddings.assign(np.concatenate([projected(book, layer.output_dim), np.zeros((1, layer.output_dim))]))

    embed(model.core.get_layer("embedding"), books[0])
    if model.context is not None:
        embed(model.context.get_layer("embedding"), books[1])
    kernel = model.core.get_layer("logits").kernel
    scale = (2.0 / sum(kernel.shape)) ** 0.5
    unit = books[0] / (np.linalg.norm(books[0], axis=1, keepdims=True) + 1e-6)
    kernel.assign(random.normal(0, scale, (kernel.shape[0], unit.shape[1])) @ unit.T)
    return model


def _open_folder(folder, name: str):
    """Make the output folder, and see that it can be written to, before hours go into what would be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with open(Path(folder) / f".{name}.lock", "a"), tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as e:
        raise UserError(f"{folder}: cannot be written to: {e.strerror}") from e
    files.sweep(folder)


def _split(tracks, options, samples, say):
    train, val = dataset.split(tracks, options.val_split, options.seed)
    kept, kept_val = dataset.long_enough(train, samples), [t for t in val if t.samples >= samples]
    short = len(train) + len(val) - len(kept) - len(kept_val)
    hours = [sum(t.seconds for t in side) / 3600 for side in (kept, kept_val)]
    say(f"{len(kept)} tracks to train on ({hours[0]:.2f} h), {len(kept_val)} held out ({hours[1]:.2f} h)"
        + (f"; {short} left out as shorter than {samples} samples" if short else ""))
    if not kept_val:
        say("no track is held out: the best set is chosen by the training loss, which cannot see over-fitting")
    return kept, kept_val


def _compile(model, options: Options, steps: int, group: distribution.Group):
    warmup = min(options.warmup, steps // 2)
    peak = options.learning_rate
    # A schedule even where there is nothing to warm up: a bare rate would be one more variable in the saved state.
    rate = keras.optimizers.schedules.CosineDecay(
        peak / 100 if warmup else peak, max(1, steps - warmup), alpha=0.05, warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )
    replicas = group.devices if keras.backend.backend() == "tensorflow" else 1
    optimizer = Muon(rate, options.weight_decay, replicas)
    # XLA makes these steps slower on a CPU, and knows no replicas; JAX's accelerators compile whatever is said here.
    jit = keras.backend.backend() == "jax" or (accelerator() and replicas == 1)
    if isinstance(model, VQVAE):
        model.compile(optimizer=optimizer, jit_compile=jit)
    else:
        model.compile(
            optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit,
            metrics=[Bits(), keras.metrics.SparseCategoricalAccuracy(name="top1")],
        )


class Bits(keras.metrics.MeanMetricWrapper):
    """Bits per code: mean −log2 p of the right code; logits [..., num_codes]."""

    def __init__(self, name="bits", **kwargs):
        def bits(y, logits):
            return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True) / math.log(2)

        super().__init__(bits, name=name, **kwargs)


def _run(model_config, build, data, validation, options: Options, group, say, show, examples, extra) -> dict:
    """One training from where it stands to its end; in a group each process is here, and the first one writes."""
    folder, name = Path(options.output_dir), model_config.name
    with contextlib.ExitStack() as closing:
        group.from_first(lambda: closing.enter_context(files.lock_folder(folder, name, "being trained")))
        closing.callback(say.stop)
        closing.callback(keras.mixed_precision.set_global_policy, keras.mixed_precision.dtype_policy())
        policy = set_precision(options.mixed_precision, say)
        state = callbacks.RunState(folder, name)
        saved = state.load()
        if options.start_from and not saved:
            source = weights.find(options.start_from, name)
            say(f"begins with {source.described}")
            if options.decoder_only:
                extra = extra | {"codes_of": source.codes_id}
        record = _record(saved, model_config, options, extra, folder, say)
        if saved and options.decoder_only != ("codes_of" in record):
            begun = "with" if "codes_of" in record else "without"
            raise UserError(f"{folder}: holds a run of {name} that was begun {begun} --decoder-only; use another "
                            "--output-dir")
        _agree(group, record)
        if record.get("finished"):
            say(f"{name}: already finished ({record['finished']}); best validation loss {record['best']:.5g} at epoch "
                f"{record['best_epoch']}. More --steps go on from here")
            _tell_promotion(folder, name, options, group, say)
            return record
        closing.enter_context(group.scope())
        if record["steps"] is None:
            record["steps"] = record["step"] + _steps_for(build, data, options, group, say)
        if record["steps_per_epoch"] is None:
            epochs = options.epochs or math.ceil(record["steps"] / STEPS_PER_EPOCH)
            record["steps_per_epoch"] = max(1, math.ceil(record["steps"] / epochs))
        steps, per_epoch = record["steps"], record["steps_per_epoch"]

        keras.utils.set_random_seed(options.seed)
        model = build()
        _compile(model, options, steps, group)
        _restore(model, data, saved, record, options, folder, name)
        say(f"{name}: {sum(int(np.prod(v.shape)) for v in model.trainable_variables):,} trainable numbers, {policy}, "
            f"step {record['step']} of {steps}, {per_epoch} steps an epoch"
            + (f", {group.devices} devices in {group.processes} processes" if options.distribute else ""))

        hooks = [checkpoint := callbacks.Checkpoint(folder, model_config, state, record, per_epoch, options.patience,
                                                    None if options.keep_all else 3, say, group)]
        if group.first:
            table = folder / f"{name}.csv"
            log = callbacks.Log(table, record["step"] // per_epoch)
            closing.callback(log.close)
            # The log first: the checkpoint may end the run, and an epoch that is saved has its row.
            hooks = [log, checkpoint, callbacks.Curves(table, folder / f"{name}.png"),
                     callbacks.Progress(record, steps, per_epoch, say, show)]
        if _has_tensorboard():
            board = folder / "tensorboard" / name
            hooks += [keras.callbacks.TensorBoard(str(board), write_graph=False), *examples(board)]
        with checkpoint.listening():
            if "unjudged" in record:
                _judge(model, checkpoint, hooks, validation, record, per_epoch)
            for first, last, count in _stretches(record["step"], steps, per_epoch):
                if "finished" in record:
                    break
                model.fit(data(record["step"]), initial_epoch=first, epochs=last, steps_per_epoch=count,
                          validation_data=validation, callbacks=hooks, shuffle=False, verbose=0)
        say.stop()
        say(f"{name}: {record['finished']}; best validation loss {record['best']:.5g} at epoch {record['best_epoch']}")
        _tell_promotion(folder, name, options, group, say)
        return record


def _judge(model, checkpoint, hooks, validation, record, per_epoch: int):
    """The end of an epoch that was stopped before its validation was through, as `fit` would have made it."""
    found = model.evaluate(validation, return_dict=True, verbose=0, callbacks=[checkpoint])
    logs = record["unjudged"] | {f"val_{key}": value for key, value in found.items()}
    every = keras.callbacks.CallbackList(hooks, model=model)
    every.on_train_begin()
    every.on_epoch_end(math.ceil(record["step"] / per_epoch) - 1, logs)
    every.on_train_end()


def _agree(group, record: dict):
    """See that every process of the group is about to do what the first one is."""
    keys = ("name", "config", "batch_size", "input_length", "learning_rate", "seed", "steps", "step", "steps_per_epoch",
            "best", "finished")
    own = {key: record.get(key) for key in keys}
    own["config"] = hashlib.sha256(json.dumps(own["config"], sort_keys=True).encode()).hexdigest()
    # The id names a run for good; each process has drawn its own for a new one.
    theirs = group.from_first(lambda: own | {"id": record["id"]})
    record["id"] = theirs["id"]
    for key, value in own.items():
        if theirs[key] != value:
            raise UserError(f"process {group.rank} of this training has {key} {value!r} where the first one has "
                            f"{theirs[key]!r}: all need the same command and must see the same folders")


def _stretches(step: int, steps: int, per_epoch: int):
    """(initial_epoch, epochs, steps_per_epoch) for `fit`: the rest of a begun epoch, whole ones, a last short one."""
    while step < steps:
        epoch, done = divmod(step, per_epoch)
        whole = (steps - step) // per_epoch
        if done or not whole:
            count = min(per_epoch - done, steps - step)
            yield epoch, epoch + 1, count
            step += count
        else:
            yield epoch, epoch + whole, per_epoch
            step += whole * per_epoch


def _record(saved, model_config, options, extra, folder, say) -> dict:
    """What the run remembers, new or as it was saved, and what differs from how it began told to the user."""
    chosen = {"batch_size": options.batch_size, "input_length": options.input_length,
              "learning_rate": options.learning_rate, "seed": options.seed}
    steps = None if options.minutes else options.steps
    begin = None if options.start_epoch is None else weights.find(folder, model_config.name, options.start_epoch)
    if begin and saved and all(saved[0][key] == begin.info.get(key) for key in ("step", "id")):
        begin = None  # the saved state is that very point
    if begin or not saved:
        record = {"name": model_config.name, "config": config.to_dict(model_config), **chosen, "steps": steps,
                  "steps_per_epoch": None, "step": 0, "best": None, "best_epoch": None, "waited": 0,
                  "id": secrets.token_hex(8), **extra}
        return record | _rewound(begin, options, saved) if begin else record
    record = saved[0]
    if record["config"] != config.to_dict(model_config):
        key = next(k for k, v in config.to_dict(model_config).items() if record["config"].get(k) != v)
        raise UserError(
            f"{folder}: holds a run of {model_config.name} with another config ({key}: {record['config'].get(key)!r} "
            f"there, {config.to_dict(model_config)[key]!r} now); use another --output-dir, or remove "
            f"{model_config.name}.state.npz"
        )
    if record.get("codecs") != extra.get("codecs"):
        raise UserError(f"{folder}: holds a run of {model_config.name} on the codes of other codecs; use another "
                        f"--output-dir, or remove {model_config.name}.state.npz to begin anew")
    for key, value in chosen.items():
        if record[key] != value:
            say(f"the run so far had {key} {record[key]}; it goes on with {value}")
    record |= chosen
    planned = record["steps_per_epoch"]
    if options.epochs and planned and planned != math.ceil((steps or record["steps"]) / options.epochs):
        say(f"--epochs: an epoch keeps the {planned} steps that it had when the run began")
    if steps is not None and steps != record["steps"]:
        if steps > record["step"]:
            say(f"the run was planned for {record['steps']} steps; it goes on to {steps}")
            record |= {"steps": steps, "waited": 0}
            record.pop("finished", None)
        elif "finished" not in record:
            raise UserError(f"{model_config.name} in {folder} is at step {record['step']} of {record['steps']} "
                            f"already; --steps {steps} is not beyond that")
    return record


def _rewound(begin: weights.WeightSet, options, saved) -> dict:
    """What a record holds of a run that goes on from a numbered set."""
    step, epoch = begin.info.get("step"), options.start_epoch
    if not isinstance(step, int) or step < 1:
        raise UserError(f"{begin.described}: does not say at which step it was saved, so no run can go on from it")
    if not options.minutes and options.steps <= step:
        raise UserError(f"{begin.described}: is step {step} already; --steps {options.steps} is not beyond that")
    best, best_epoch = begin.info.get("validation_loss"), epoch
    with contextlib.suppress(UserError, KeyError):
        # A later epoch may have been better; what follows must beat that one to stand in its place.
        known = weights.find(begin.folder, begin.name, "best").info
        if best is None or known["validation_loss"] < best:
            best, best_epoch = known["validation_loss"], known["epoch"]
    per_epoch = saved[0]["steps_per_epoch"] if saved else -(-step // epoch)
    return {"step": step, "steps_per_epoch": per_epoch, "best": best, "best_epoch": best_epoch, "restart": epoch}


def _restore(model, data, saved, record, options, folder, name):
    """Bring the model to where the record says the run stands."""
    # Variables exist once the model has seen a batch of its data and the optimizer its variables.
    x, _ = data(0)[0]
    # Of zeros: the processes of a group have different batches, and this is computed by all of them as one.
    model(np.zeros_like(x) if isinstance(x, np.ndarray) else {k: np.zeros_like(v[:1]) for k, v in x.items()},
          training=False)
    model.optimizer.build(model.trainable_variables)
    model.reset_metrics()
    restart = record.pop("restart", None)
    if restart is not None:
        _take(model, weights.find(folder, name, restart))
        model.optimizer.iterations.assign(record["step"])
        return
    if saved is None:
        if options.start_from:
            _take(model, weights.find(options.start_from, name))
        return
    variables = callbacks.run_variables(model)
    if [tuple(v.shape) for v in variables] != [a.shape for a in saved[1]]:
        raise UserError(f"{folder}/{name}.state.npz: was saved by another version of the program; remove it and use "
                        "--start-epoch")
    for v, array in zip(variables, saved[1], strict=True):
        v.assign(array)


def _take(model, found: weights.WeightSet):
    """The weights of a set into a model of its shapes."""
    for part, variables in model.parts.items():
        weights.assign(variables, found.load(part), found.files[part])
    if isinstance(model, VQVAE):
        model.quantizer.set_codebook(model.quantizer.codebook.value)


class _Clock(keras.callbacks.Callback):
    """Times steps: the first two compile and warm up, those after them count."""

    def __init__(self, group):
        super().__init__()
        self.group, self.done = group, -2

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # waits for the step
        self.now = time.monotonic()
        self.done += 1
        if self.done == 0:
            self.warm = self.now
        enough = self.done >= 50 or self.done >= 3 and self.now - self.warm > 10
        self.model.stop_training = self.group.from_first(lambda: enough)


def _steps_for(build, data, options: Options, group, say) -> int:
    """How many steps fit into `options.minutes`, from a short trial whose model is thrown away."""
    say(f"measuring the speed of a step to fill {options.minutes:g} minutes …")
    keras.utils.set_random_seed(options.seed)
    model = build()
    _compile(model, options, 1000, group)
    began, clock = time.monotonic(), _Clock(group)
    model.fit(data(0), steps_per_epoch=100, callbacks=[clock], shuffle=False, verbose=0)
    # Validation, saving and drawing take about a twelfth on top of the steps.
    steps = int((options.minutes * 60 - (clock.now - began)) / ((clock.now - clock.warm) / clock.done * 1.08))
    return group.from_first(lambda: max(10, steps))


def _has_tensorboard() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    return True


def _tell_promotion(folder, name, options, group, say):
    """Copy the best set to where the shipped one stands (float16), or say how to."""
    if not group.first:
        return
    if options.promote:
        weights.copy_set(weights.find(folder, name, "best"), folder, "", "float16")
        say(f"{name}: the best set now stands without a number in {folder} (float16)")
        return
    copies = [(weights.weights_path(folder, name, part, "best"), weights.weights_path(folder, name, part))
              for part in weights.PARTS[weights.kind(name)]]
    copies.append((weights.config_path(folder, name, "best"), weights.config_path(folder, name)))
    line = " && ".join(f"cp '{a}' '{b}'" for a, b in copies if a.exists())
    say(f"to make the best set the one that is loaded by default:\n  {line}")
    sys.stdout.flush()
