"""Trains a codec or a generator with plain `compile` and `fit`. The same command resumes a training
at any step. The output folder holds numbered sets of weights, `…_best`, `{name}.state.npz`, a CSV
log, its curves and, with TensorFlow, a TensorBoard folder.
"""

import contextlib
import hashlib
import importlib.util
import json
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np

from .. import machine
from ..codecs import CodecConfig
from ..errors import UserError
from ..generators import GeneratorConfig
from ..io import files, weights
from ..levels import ChainConfig, DataConfig, TrainingConfig, replace
from ..progress import Reporter, SilentReporter
from . import callbacks, devices, resume
from .jobs import GENERATOR_JOBS, CodecJob, GeneratorJob
from .optimizer import Muon, learning_rate
from .options import RunOptions
from .record import EPOCH_MINUTES, STEPS_PER_EPOCH, RunRecord, run_variables

LEAST_GAIN = 1.1
"""Mixed precision is chosen if it is faster than float32 by more than this factor."""


def train_codec(model: CodecConfig, data_dir, options: RunOptions,
                training: TrainingConfig | None = None, data: DataConfig | None = None,
                say: Reporter | None = None, chain: ChainConfig | None = None) -> RunRecord:
    """Train one codec on a prepared folder. chain: see `weights.add_chain`."""
    return _train(CodecJob(model, data_dir, options), options, training, data, say, chain)


def train_generator(model: GeneratorConfig, data_dir, codec_dir, options: RunOptions,
                    training: TrainingConfig | None = None, data: DataConfig | None = None,
                    say: Reporter | None = None, codec_epoch=None, chain: ChainConfig | None = None,
                    scheduler: str | None = None) -> RunRecord:
    """Train one generator on the codes of a prepared folder under the codecs in `codec_dir`.
    codec_epoch, chain, scheduler: see `GeneratorJob` and `weights.add_chain`.
    """
    job = GENERATOR_JOBS[model.core.learns](model, data_dir, codec_dir, codec_epoch, chain,
                                            scheduler)
    return _train(job, options, training, data, say, chain)


def _train(job: CodecJob | GeneratorJob, options: RunOptions, training, data, say,
           chain) -> RunRecord:
    """Run one training. In a group, all processes run this function, and the first one writes."""
    folder, name = Path(options.output_dir), job.model.name
    with devices.join(options.distribute) as group, contextlib.ExitStack() as closing:
        say = (say or Reporter()) if group.first else SilentReporter()
        closing.callback(say.stop)

        # Find the current step.
        job.check()
        group.from_first(lambda: resume.open_folder(folder, name, chain))
        group.from_first(
            lambda: closing.enter_context(files.lock_folder(folder, name, "being trained")))
        training, data = training or TrainingConfig(), data or DataConfig()
        start = resume.find_start(job, options, training, data, say)
        record = start.record
        _check_agreement(group, record)
        if record.finished:
            say(f"{name}: already finished ({record.finished}); best "
                f"{job.describe_loss(record.best)} at epoch {record.best_epoch}; a larger --steps "
                f"continues the training")
            _promote(record, options, group, say)
            return record
        group.check_batch(record.training.batch_size)
        job.check_settings(record.training)

        # Prepare the data, then build and restore the model.
        job.prepare(record, group, say)
        closing.callback(keras.mixed_precision.set_global_policy,
                         keras.mixed_precision.dtype_policy())
        policy = set_precision(record, group, say)
        closing.enter_context(group.scope())
        _plan_steps(job, record, options, group, say)
        model = _build(job, record)
        _restore(job, model, start)
        if options.start_epoch:
            group.from_first(lambda: resume.restore_best(folder, record))
        say(f"{name}: {sum(math.prod(v.shape) for v in model.trainable_variables):,} trainable "
            f"parameters, {policy}, step {record.step} of {record.steps}, "
            f"{record.steps_per_epoch} steps an epoch"
            + f", {group.devices} devices" * (group.devices > 1))

        # Train.
        checkpoint = callbacks.Checkpoint(folder, record, options.keep_last, group, options.ends)
        hooks = _hooks(job, checkpoint, folder, say)
        with checkpoint.listen():
            if start.weights is not None and not record.step:
                _judge_beginning(job, model, checkpoint, say)
            _fit(job, model, checkpoint, hooks)
        say.stop()
        say(f"{name}: {record.finished}; best {job.describe_loss(record.best)} at epoch "
            f"{record.best_epoch}")
        _promote(record, options, group, say)
        return record


def _check_agreement(group: devices.DeviceGroup, record: RunRecord):
    """Raises `UserError` if settings or saved run differ from those of the first process."""
    values = {key: value for key, value in record.to_dict().items() if key != "id"}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    first = group.from_first(lambda: {"id": record.id, "digest": digest})
    if first["digest"] != digest:
        raise UserError(f"process {group.rank} of this training has other settings or another "
                        f"saved run than the first one: all need the same command and must see "
                        f"the same folders")
    record.id = first["id"]  # for a new run, each process has drawn its own id


def _promote(record: RunRecord, options: RunOptions, group, say):
    """Save the best set as the default set; or print how to replace another default set."""
    if not group.first:
        return
    folder, name = options.output_dir, record.name
    if options.promote:
        say(weights.promote(folder, name))
    elif "" in weights.tags(folder, name):
        say(f"{name}: {folder} holds another default set; the same command with --promote replaces "
            f"this set with the best set")
    sys.stdout.flush()


def set_precision(record: RunRecord, group: devices.DeviceGroup, say) -> str:
    """Set Keras's policy: float32, or mixed: float16 on a GPU, otherwise bfloat16. Where the
    settings leave it open, the faster policy of this machine is written into the record.
    """
    narrow = "mixed_float16" if machine.accelerator() == "gpu" else "mixed_bfloat16"
    if record.training.mixed_precision is None:
        gain = group.from_first(lambda: speed_of(narrow) / speed_of("float32"))
        record.training = replace(record.training, mixed_precision=gain > LEAST_GAIN)
        say(f"{record.name}: this machine multiplies matrices {gain:.1f} times as fast in "
            f"{narrow.removeprefix('mixed_')} as in float32")
    policy = narrow if record.training.mixed_precision else "float32"
    keras.mixed_precision.set_global_policy(policy)
    return policy


def speed_of(policy: str, seconds: float = 0.4) -> float:
    """Products of matrices a second by a dense layer with this policy."""
    layer = keras.layers.Dense(1024, dtype=policy)
    model = keras.Sequential([keras.Input((1024,)), layer, layer])
    x, products = np.ones((1024, 1024), "float32"), 0
    model.predict_on_batch(x)  # compiles
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        model.predict_on_batch(x)
        products += 2
    return products / elapsed


def compile_model(model, training: TrainingConfig, steps: int, **losses):
    """Compile `model` with `Muon`. losses: see `Job.compile_options`."""
    # With TensorFlow on a CPU, XLA makes these steps slower.
    jit = keras.backend.backend() == "jax" or bool(machine.accelerator())
    optimizer = Muon(learning_rate(training, steps), training.weight_decay)
    model.compile(optimizer=optimizer, jit_compile=jit, **losses)


def _build(job: CodecJob | GeneratorJob, record: RunRecord, steps: int | None = None):
    keras.utils.set_random_seed(record.training.seed)
    model = job.build(record.training.seed)
    compile_model(model, record.training, steps or record.scheduled_steps, **job.compile_options())
    return model


def _plan_steps(job: CodecJob | GeneratorJob, record: RunRecord, options: RunOptions, group, say):
    """Fill in the number of steps, and of steps per epoch, if the record has none."""
    epochs, minutes = record.training.epochs, 0.0
    if options.minutes:
        minutes = max(0.0, (options.ends - time.monotonic()) / 60)
    if record.steps is None:
        steps, sufficient = _steps_in(minutes, job, record, group, say), job.steps_of_passes()
        if sufficient and sufficient < steps:
            minutes *= sufficient / steps
            steps = sufficient
            say(f"training takes {steps} steps, about {minutes:.0f} minutes: at least "
                f"{record.training.passes} passes over the tracks")
            # Over-fitting begins early, so an epoch is at most one pass.
            epochs = epochs or max(record.training.passes, math.ceil(minutes / EPOCH_MINUTES))
        record.plan(record.step + steps)
    if record.steps_per_epoch is None:
        epochs = epochs or math.ceil(max(record.steps / STEPS_PER_EPOCH, minutes / EPOCH_MINUTES))
        record.steps_per_epoch = max(1, math.ceil(record.steps / epochs))


def _steps_in(minutes: float, job: CodecJob | GeneratorJob, record: RunRecord, group, say) -> int:
    """The number of steps in `minutes`, measured in a short trial with a separate model."""
    say(f"measuring the speed of a step to fill {minutes:.1f} minutes …")
    model, times = _build(job, record, steps=1000), [time.monotonic()]

    def note_time(batch, logs):
        float(logs["loss"])  # waits for the step
        times.append(time.monotonic())
        done = len(times) - 3  # the first steps compile and warm up
        sufficient = done >= 50 or done >= 3 and times[-1] - times[2] > 10
        model.stop_training = group.from_first(lambda: sufficient)

    model.fit(job.batches(0), steps_per_epoch=100, shuffle=False, verbose=0,
              callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note_time)])
    left, step = minutes * 60 - (times[-1] - times[0]), (times[-1] - times[2]) / (len(times) - 3)
    # Validation, saving and drawing take about a twelfth of the steps' time.
    return group.from_first(lambda: max(10, int(left / (step * 1.08))))


def _restore(job: CodecJob | GeneratorJob, model, start: resume.Start):
    """Load the variables or weights of `start` into the model."""
    # A first call creates the model's variables. Its input is zeros, because the processes of a
    # group have different batches, but compute this call together.
    x, *_ = job.batches(0)[0]
    model(np.zeros_like(x) if isinstance(x, np.ndarray)
          else {k: np.zeros_like(v[:1]) for k, v in x.items()},
          training=False)
    model.optimizer.build(model.trainable_variables)
    model.reset_metrics()
    if start.weights is not None:
        job.take_weights(model, start.weights)
    if start.variables is None:
        return
    variables = run_variables(model)
    if [tuple(v.shape) for v in variables] != [a.shape for a in start.variables]:
        raise UserError(f"{start.path}: holds other variables than the model; use another "
                        f"--output-dir")
    for v, array in zip(variables, start.variables, strict=True):
        v.assign(array)


def _hooks(job: CodecJob | GeneratorJob, checkpoint: callbacks.Checkpoint, folder: Path,
           say) -> list:
    """The callbacks of `fit`."""
    hooks, record = [checkpoint], checkpoint.record
    if checkpoint.group.first:
        # The log comes before the checkpoint, which may end the run, so that each epoch has a row.
        hooks = [callbacks.Log(folder / f"{record.name}.csv"), checkpoint,
                 callbacks.Progress(record, say, job.shown, checkpoint.deadline.ends)]
    hooks.insert(0, checkpoint.deadline)  # first, because it changes what the checkpoint saves
    if keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard"):
        board = folder / "tensorboard" / record.name
        hooks.append(keras.callbacks.TensorBoard(str(board), write_graph=False))
    return hooks


def _fit(job: CodecJob | GeneratorJob, model, checkpoint: callbacks.Checkpoint, hooks: list):
    """Train all remaining steps."""
    record, validation = checkpoint.record, job.validation
    for first, last, count in _stretches(record.step, record.steps, record.steps_per_epoch):
        if record.finished:
            break
        model.fit(job.batches(record.step), initial_epoch=first, epochs=last, steps_per_epoch=count,
                  validation_data=validation, callbacks=hooks, shuffle=False, verbose=0)


def _judge_beginning(job: CodecJob | GeneratorJob, model, checkpoint: callbacks.Checkpoint, say):
    """Validate the initial model, and save it as the best set so far: epoch 0."""
    if job.validation is None:
        return
    # No callbacks: a signal may stop this at once, because there is nothing to save yet.
    figures = model.evaluate(job.validation, return_dict=True, verbose=0)
    checkpoint.set_model(model)
    checkpoint.save_beginning(figures["loss"])
    model.reset_metrics()
    say(f"{checkpoint.record.name}: before training {job.describe_loss(checkpoint.record.best)}")


def _stretches(step: int, steps: int, per_epoch: int):
    """(initial_epoch, epochs, steps_per_epoch) of each `fit`: rest of the epoch, epochs, rest."""
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
