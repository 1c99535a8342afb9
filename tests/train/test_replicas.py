"""replicas.py: several devices, and several processes, train as one device does with the joint
batch.

Processes are tried in end_to_end/test_distributed.py.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
from apart import assert_apart
from prepared import data_folder, music

from vqwave import config
from vqwave.data.windows import AudioWindows, CodeTrack, CodeWindows
from vqwave.errors import UserError
from vqwave.nn import replica_sums
from vqwave.train import options, replicas
from vqwave.train.replicas import Group

# Two replicas on one machine's processor, which must be said before TensorFlow is up.
REPLICAS = """
import json, sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
"""
QUANTIZER = REPLICAS + """
from vqwave.nn.quantizers import VectorQuantizer
from vqwave.nn.replica_sums import mean as joint_mean
from vqwave.train import replicas

# The latents drift, so that codes fall out of use and are revived.
latents = np.random.default_rng(0).normal(0, 0.3, (12, 4, 32, 8)) + np.linspace(0, 3, 12)[:, None, None, None]
latents = latents.astype("float32")
windows = np.resize(np.array([0, 1, 1, 0, 0, 1, 1], "float32"), (12, 4))
with replicas.join(True) as group:
    ends = []
    for devices in (1, 2):
        with group.scope() if devices == 2 else tf.device("CPU:0"):
            quantizer = VectorQuantizer(64, 8, decay=0.96, revival_threshold=0.3, commitment=0.25)
            quantizer.build((None, None, 8))
            strategy = tf.distribute.get_strategy()

            @tf.function
            def step(x, counted):
                quantizer(x, training=True, counts=counted)
                return quantizer.batch_count, joint_mean(x)

            seen = []
            for joint, kept in zip(latents, windows):
                share, own = (strategy.experimental_distribute_values_from_function(
                    lambda here: tf.constant(np.split(all, devices)[here.replica_id_in_sync_group]))
                    for all in (joint, kept))
                counts, mean = strategy.run(step, args=(share, own if sys.argv[1] == "some" else None))
                seen.append([strategy.experimental_local_results(x)[-1].numpy().tolist() for x in (counts, mean)])
            ends.append([seen, [np.array(v).tolist() for v in (quantizer.codebook, quantizer.count, quantizer.total)]])
print(json.dumps([group.devices, *ends]))
"""
MIRRORED = REPLICAS + """
from vqwave import config
from vqwave.config import TrainingConfig
from vqwave.train import record, replicas, training
from vqwave.train.options import RunOptions

class Half(replicas.Group):
    def rows(self, count):
        return range((count + 1) // 2)

tiny = config.preset("tiny")
if sys.argv[4] == "generator_512":
    # Wide enough that Muon trains some of it.
    model = config.override(tiny.generator("generator_512"), {"core": {"units": 40}}, "test")
else:
    model = tiny.codec("vqvae_8")
if sys.argv[4] == "adversary":
    # Everything that could see a part of the batch where it should see all: both banks of the
    # decoder, the adversary, the norms, the codebook.
    model = config.override(model, {"head": {"kind": "tones", "tones": 24}, "loss": {"hum": 0.1},
                                    "adversary": {"weight": 0.5}}, "test")
name = model.name

def ends(kind):
    folder = f"{sys.argv[2]}/{kind}"
    if kind == "half":
        # Wrong on purpose: what a device makes of its own half of every batch.
        replicas._join = Half
    options = RunOptions(folder, distribute=kind != "one")
    settings = TrainingConfig(steps=3, epochs=1, batch_size=4, warmup=1, learning_rate=1e-3, offsets=1,
                              input_length=4096 if name == "generator_512" else 2048)
    if name == "vqvae_8":
        training.train_codec(model, sys.argv[1], options, settings)
    else:
        training.train_generator(model, sys.argv[1], sys.argv[3], options, settings)
    _, variables = record.RunState(folder, name).load(model)
    rows = [line.split(",") for line in open(f"{folder}/{name}.csv")]
    return {"losses": dict(zip(rows[0], map(float, rows[1]))), "end": [a.tolist() for a in variables]}

print(json.dumps([ends(kind) for kind in ("one", "two", "half")]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "data"
    return folder, data_folder(folder, {f"track {i}": music(1.5, i) for i in range(3)})


@pytest.mark.parametrize("count", ["all", "some"])
def test_the_codebook_follows_the_batch_of_all_replicas(count):
    done = subprocess.run([sys.executable, "-c", QUANTIZER, count], text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    devices, (alone, codebook), (together, same) = json.loads(done.stdout)
    assert devices == 2
    for (counts, mean), (joint, over_all) in zip(alone, together, strict=True):
        assert sum(counts) == 4 * 32 or count == "some"
        assert counts == joint and over_all == pytest.approx(mean, rel=1e-5)
    for a, b in zip(codebook, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("what", ["vqvae_8", "generator_512", "adversary"])
def test_two_replicas_train_as_one_device_does(data, tmp_path, request, what):
    codecs = request.getfixturevalue("tiny_weights").codecs if what == "generator_512" else tmp_path
    done = subprocess.run([sys.executable, "-c", MIRRORED, data[0], tmp_path, codecs, what],
                          text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two, half = next(json.loads(line) for line in done.stdout.splitlines()
                          if line.startswith("[{"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3, abs=0.01)
    # Measured: nothing is off by more than a thousandth of what half the batch makes it.
    ends = ([[run["losses"]["loss"], run["losses"]["val_loss"]], *run["end"]]
            for run in (one, two, half))
    assert_apart(*ends, worst=0.05, middle=0.005)


def test_the_shares_of_a_batch_are_the_batch(data):
    folder, tracks = data
    for fixed in (None, 12, 9):
        alone = AudioWindows(folder, tracks, 2048, 8, 0, fixed=fixed, share=Group(4))
        shares = [AudioWindows(folder, tracks, 2048, 8, 0, fixed=fixed, share=Group(4, 2, rank))
                  for rank in (0, 1)]
        for batch in range(alone.num_batches or 3):
            parts = [share[batch][0] for share in shares]
            assert len(parts[0]) == len(parts[1])
            assert np.array_equal(alone[batch][0], np.concatenate(parts))
    # As many as the devices can share, even where there are fewer places than devices.
    assert AudioWindows(folder, tracks, 2048, 8, 0, fixed=9, share=Group(4)).fixed == 8
    short = [t for t in tracks[:1]]
    assert AudioWindows(folder, short, short[0].samples - 1, 8, 0, fixed=9,
                        share=Group(4)).fixed == 4


def test_the_shares_of_codes_are_the_batch(tmp_path):
    np.arange(4000, dtype="<u2").tofile(tmp_path / "codes")
    generator = config.preset("tiny").generator("generator_512")
    rows = [CodeTrack(tmp_path / "codes", 4000)]
    joint, *shares = (CodeWindows(rows, generator, 16, 6, 0, share=share)
                      for share in (Group(3), *(Group(3, 3, rank) for rank in range(3))))
    assert np.array_equal(joint[1][1], np.concatenate([share[1][1] for share in shares]))


def test_outside_of_replicas_a_sum_is_its_own(rng):
    x = rng.normal(size=(6, 3)).astype("float32")
    assert np.array_equal(replica_sums.total(x), x) and np.array_equal(replica_sums.share(x), x)
    assert np.array_equal(replica_sums.take(x, np.array([4, 0])), x[[4, 0]])
    assert np.array_equal(replica_sums.gather(x[:, 0]), x[:, 0])
    assert float(replica_sums.mean(x)) == pytest.approx(x.mean()) and replica_sums.joint(6) == 6
    assert Group().from_first(lambda: {"a": 1}) == {"a": 1} and Group().greatest(15) == 15


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", text)
    with pytest.raises(UserError, match="KERAS_DISTRIBUTION_NUM_PROCESSES"):
        replicas.processes()


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(replicas, "_join", lambda: Group(3))
    with replicas.join(True) as group:
        assert group.devices == 3
        group.check_batch(6)
        with pytest.raises(UserError, match="--batch-size is 8; .* a multiple of 3"):
            group.check_batch(8)
    with replicas.join(False) as group:
        assert group is replicas.ALONE
        group.check_batch(7)


def test_several_processes_need_jax(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="KERAS_BACKEND=jax"), replicas.join(True):
        pass


def test_only_the_first_process_leads(monkeypatch):
    assert replicas.is_first()
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    for rank, first in (("0", True), ("1", False)):
        monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", rank)
        assert replicas.is_first() == first


def test_the_flag_is_there():
    parser = argparse.ArgumentParser()
    options.add_options(parser, "codec")
    args = parser.parse_args(["--model", "vqvae_8", "--data-dir", "d", "--distribute"])
    assert options.read_settings(args, "codec").options.distribute
