"""distribution.py: several devices, and several processes, train as one device does with the joint batch.

Processes are tried in end_to_end/test_distributed.py.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import cli, config
from vqwave.data.windows import AudioWindows, CodeWindows
from vqwave.errors import UserError
from vqwave.train import replicas
from vqwave.train.replicas import Group

# Two replicas on one machine's processor, which must be said before TensorFlow is up.
REPLICAS = """
import dataclasses, json, sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
"""
QUANTIZER = REPLICAS + """
from vqwave import distribution
from vqwave.layers import VectorQuantizer

# The latents drift, so that codes fall out of use and are revived.
latents = np.random.default_rng(0).normal(0, 0.3, (12, 4, 32, 8)) + np.linspace(0, 3, 12)[:, None, None, None]
latents = latents.astype("float32")
with distribution.joined(True, 4) as group:
    ends = []
    for devices in (1, 2):
        with group.scope() if devices == 2 else tf.device("CPU:0"):
            quantizer = VectorQuantizer(64, 8)
            quantizer.build((None, None, 8))
            strategy = tf.distribute.get_strategy()

            @tf.function
            def step(x):
                quantizer(x, training=True)
                return quantizer.batch_count, distribution.mean(x)

            seen = []
            for joint in latents:
                share = strategy.experimental_distribute_values_from_function(
                    lambda here: tf.constant(np.split(joint, devices)[here.replica_id_in_sync_group]))
                counts, mean = strategy.run(step, args=(share,))
                seen.append([strategy.experimental_local_results(x)[-1].numpy().tolist() for x in (counts, mean)])
            ends.append([seen, [np.array(v).tolist() for v in (quantizer.codebook, quantizer.count, quantizer.total)]])
print(json.dumps([group.devices, *ends]))
"""
MIRRORED = REPLICAS + """
from vqwave import callbacks, config, training

codec = config.codec_preset("vqvae_8", "tiny")
if sys.argv[4] == "adversary":
    # Everything that could see a part of the batch where it should see all: both banks of the decoder, the adversary,
    # the norms, the codebook.
    loss = dataclasses.replace(codec.loss, adversarial=0.5, feature_matching=1.0, hum=0.1)
    codec = dataclasses.replace(codec, tones=24, noise=True, loss=loss)
name = "generator_512" if sys.argv[4] == "generator_512" else codec.name

def ends(distribute):
    folder = f"{sys.argv[2]}/{distribute}"
    options = training.Options(folder, steps=3, epochs=1, batch_size=4, warmup=1, learning_rate=1e-3,
                               input_length=4096 if name == "generator_512" else 2048, distribute=distribute)
    if name == "vqvae_8":
        training.train_codec(codec, sys.argv[1], options)
    else:
        # Wide enough that Muon trains some of it.
        generator = dataclasses.replace(config.generator_preset(name, "tiny"), units=40)
        training.train_generator(generator, sys.argv[1], sys.argv[3], options, offsets=1)
    record, variables = callbacks.RunState(folder, name).load()
    rows = [line.split(",") for line in open(f"{folder}/{name}.csv")]
    return {"losses": dict(zip(rows[0], map(float, rows[1]))), "end": [a.tolist() for a in variables]}

print(json.dumps([ends(distribute) for distribute in (False, True)]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "data"
    return folder, data_folder(folder, {f"track {i}": music(1.5, i) for i in range(3)})


def test_the_codebook_follows_the_batch_of_all_replicas():
    done = subprocess.run([sys.executable, "-c", QUANTIZER], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    devices, (alone, codebook), (together, same) = json.loads(done.stdout)
    assert devices == 2
    for (counts, mean), (joint, over_all) in zip(alone, together, strict=True):
        assert sum(counts) == 4 * 32 and counts == joint and over_all == pytest.approx(mean, rel=1e-5)
    for a, b in zip(codebook, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("what", ["vqvae_8", "generator_512", "adversary"])
def test_two_replicas_train_as_one_device_does(data, tmp_path, request, what):
    codecs = request.getfixturevalue("tiny_weights").codecs if what == "generator_512" else tmp_path
    done = subprocess.run([sys.executable, "-c", MIRRORED, data[0], tmp_path, codecs, what], text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    alone, together = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("[{"))
    assert alone["losses"].keys() == together["losses"].keys()
    for key, loss in alone["losses"].items():
        assert together["losses"][key] == pytest.approx(loss, rel=2e-3, abs=0.02), key
    for a, b in zip(alone["end"], together["end"], strict=True):
        a, b = np.array(a), np.array(b)
        # Adam moves a number whose gradient is next to nothing by a whole step this way or that.
        assert np.abs(a - b).mean() < 1e-3 * max(1.0, np.abs(a).mean())


def test_the_shares_of_a_batch_are_the_batch(data):
    folder, tracks = data
    for fixed in (None, 12, 9):
        alone = AudioWindows(folder, tracks, 2048, 8, 0, fixed=fixed, group=Group(4))
        shares = [AudioWindows(folder, tracks, 2048, 8, 0, fixed=fixed, group=Group(4, 2, rank)) for rank in (0, 1)]
        for batch in range(alone.num_batches or 3):
            parts = [share[batch][0] for share in shares]
            assert len(parts[0]) == len(parts[1])
            assert np.array_equal(alone[batch][0], np.concatenate(parts))
    # As many as the devices can share, even where there are fewer places than devices.
    assert AudioWindows(folder, tracks, 2048, 8, 0, fixed=9, group=Group(4)).fixed == 8
    short = [t for t in tracks[:1]]
    assert AudioWindows(folder, short, short[0].samples - 1, 8, 0, fixed=9, group=Group(4)).fixed == 4


def test_the_shares_of_codes_are_the_batch(tmp_path):
    np.arange(4000, dtype="<u2").tofile(tmp_path / "codes")
    generator = config.generator_preset("generator_512", "tiny")
    rows = [(tmp_path / "codes", 4000, None, 0)]
    joint, *shares = (CodeWindows(rows, generator, 16, 6, 0, group=group)
                      for group in (Group(3), *(Group(3, 3, rank) for rank in range(3))))
    assert np.array_equal(joint[1][1], np.concatenate([share[1][1] for share in shares]))


def test_outside_of_replicas_a_sum_is_its_own(rng):
    x = rng.normal(size=(6, 3)).astype("float32")
    assert np.array_equal(replicas.total(x), x) and np.array_equal(replicas.share(x), x)
    assert np.array_equal(replicas.take(x, np.array([4, 0])), x[[4, 0]])
    assert float(replicas.mean(x)) == pytest.approx(x.mean()) and replicas.joint(6) == 6
    assert Group().from_first(lambda: {"a": 1}) == {"a": 1} and Group().greatest(15) == 15


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", text)
    with pytest.raises(UserError, match="KERAS_DISTRIBUTION_NUM_PROCESSES"):
        replicas.processes()


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(replicas, "_join", lambda: Group(3))
    with pytest.raises(UserError, match="--batch-size is 8; .* a multiple of 3"), replicas.joined(True, 8):
        pass
    with replicas.joined(True, 6) as group:
        assert group.devices == 3
    with replicas.joined(False, 7) as group:
        assert group is replicas.ALONE


def test_several_processes_need_jax(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="KERAS_BACKEND=jax"), replicas.joined(True, 8):
        pass


def test_only_the_first_process_leads(monkeypatch):
    assert replicas.leads()
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    for rank, leads in (("0", True), ("1", False)):
        monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", rank)
        assert replicas.leads() == leads


# A training whose peer dies, as JAX lets it end: pages from C and SIGABRT.
DYING = r"""
import os, sys
from vqwave import cli
def main(argv):
    if (code := cli.guarded(argv)) is not None:
        return code
    if argv == ["explained"]:
        print("E1120 12:00:00.000001 7 x.cc:1] bad", "F1120 12:00:00.000001 7 client.h:77] Terminating",
              "more of it", "end.py: the batch is too large", sep="\n", file=sys.stderr)
        return 2
    if argv == ["said"]:
        print(f"end.py: {cli.distribution.DIED}", "See the logs of the leader", sep="\n", file=sys.stderr)
        return 2
    os.write(2, b"our own\nE1120 12:00:00.000001 7 x.cc:1] bad\nF1120 12:00:00.000001 7 client.h:7] Ending\n:more\n")
    os.abort()
sys.exit(cli.entry(main, sys.argv[1:]))
"""


def test_a_guarded_training_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    script = tmp_path / "end.py"
    script.write_text(DYING)
    for argv, line in (([], f"our own\nend.py: {replicas.DIED}\n"),
                       (["explained"], "end.py: the batch is too large\n"),
                       (["said"], f"end.py: {replicas.DIED}\n")):
        done = subprocess.run([sys.executable, script, *argv], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, line)


def test_the_flag_is_there():
    parser = cli.parser("", "")
    cli.add_training_options(parser, 8, 8192)
    assert cli.training_options(parser.parse_args(["--data-dir", "d", "--distribute"])).distribute
