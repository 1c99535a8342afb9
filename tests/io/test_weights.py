import dataclasses
import os
import shutil

import h5py
import keras
import numpy as np
import pytest

from vqwave.codecs.codec_layer import Codec, load_codec
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.io.weights import WeightsError
from vqwave.levels import (
    ChainConfig,
    DataConfig,
    TrainingConfig,
    dump_yaml,
    load_yaml,
    override,
    replace,
    to_dict,
)
from vqwave.presets import load_preset

NAME = "vqvae_8"


@pytest.fixture(scope="module")
def codec():
    keras.utils.set_random_seed(0)
    model = Codec(load_preset("tiny").codec(NAME))
    model(np.random.default_rng(0).normal(0, 0.1, (1, 4096)).astype("float32"), training=True)
    return model


@pytest.fixture
def save(tmp_path, codec):
    """Save the codec under a tag, with its numbers shifted so that no two sets are alike."""

    def save(tag="", shift=0.0, dtype="float32", **info):
        parts = {p: {v.path: v.numpy() + shift for v in variables}
                 for p, variables in codec.parts.items()}
        weights.save(tmp_path, NAME, tag, parts, codec.config, info, dtype)
        return weights.find(tmp_path, NAME, int(tag) if tag.isdigit() else tag or None)

    return save


def first(weight_set, part="codebook"):
    return next(iter(weight_set.load(part).values())).ravel()[0]


def refused(text, *more, call):
    with pytest.raises(WeightsError) as e:
        call()
    for part in (text, *more):
        assert str(part) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 0), ("float16", 1e-3)])
def test_a_saved_set_is_loaded(tmp_path, codec, save, dtype, tolerance):
    weight_set = save(dtype=dtype)
    assert weight_set.config == codec.config
    assert {part: p.name for part, p in weight_set.files.items()} == {p: f"{NAME}_{p}.weights.h5"
                                                                 for p in codec.parts}
    for part, variables in codec.parts.items():
        arrays = weight_set.load(part)
        assert set(arrays) == {v.path for v in variables}
        for v in variables:
            assert arrays[v.path].dtype == np.float32
            np.testing.assert_allclose(arrays[v.path], v.numpy(), atol=tolerance, rtol=tolerance)
    with h5py.File(weight_set.files["codebook"]) as f:
        assert f[codec.quantizer.codebook.path].dtype == dtype


def test_a_copy_is_the_same_set_elsewhere(tmp_path, save):
    weight_set = save("00003", epoch=3)
    weights.copy_set(weight_set, tmp_path / "a" / "b", "", "float16")
    copied = weights.find(tmp_path / "a" / "b", NAME)
    assert copied.config == weight_set.config
    assert copied.record == weight_set.record
    np.testing.assert_allclose(first(copied), first(weight_set), rtol=1e-3)


def test_the_default_set_is_taken_else_the_best(save, tmp_path):
    save("00002", shift=2.0)
    save("00010", shift=10.0)
    best = save("best", shift=3.0)
    base = first(best) - 3.0
    assert first(weights.find(tmp_path, NAME)) == first(best)
    assert "best" in weights.find(tmp_path, NAME).summary
    save("", shift=0.0)
    shipped = weights.find(tmp_path, NAME)
    assert first(shipped) == pytest.approx(base, abs=1e-5)
    assert shipped.summary == f"{NAME}: the default set in {tmp_path}"
    for epoch, shift in ((2, 2.0), ("2", 2.0), (10, 10.0), ("best", 3.0)):
        assert first(weights.find(tmp_path, NAME, epoch)) == pytest.approx(base + shift)
    assert "epoch 10" in weights.find(tmp_path, NAME, 10).summary
    assert weights.tags(tmp_path, NAME) == ["00002", "00010", "best", ""]
    assert weights.epochs(tmp_path, NAME) == [2, 10]


def test_an_error_names_the_missing_set_and_those_there_are(save, tmp_path):
    refused("no such folder", "nowhere", call=lambda: weights.find(tmp_path / "nowhere", NAME))
    refused("no weights of vqvae_8", call=lambda: weights.find(tmp_path, NAME))
    save("00002")
    save("00010")
    refused("no epoch 3", "there are: 2, 10", call=lambda: weights.find(tmp_path, NAME, 3))
    refused("no best set", "2, 10", call=lambda: weights.find(tmp_path, NAME, "best"))
    refused("no weights", "2, 10", call=lambda: weights.find(tmp_path, NAME))
    refused("newest", "best", call=lambda: weights.find(tmp_path, NAME, "newest"))
    save("best")
    save()
    refused("2, 10, best, the default set", call=lambda: weights.find(tmp_path, NAME, 99))


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "text", "gone", "another"])
def test_a_damaged_file_or_one_of_another_set_is_named(save, harm):
    weight_set, other = save(), save("00001", shift=1.0)
    path = weight_set.files["decoder"]
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:-10], "flip": flipped, "empty": b"", "text": b"hello",
                          "another": other.files["decoder"].read_bytes()}[harm])
    refused(path, "cannot be read" if harm == "gone" else "damaged",
            call=lambda: weights.find(weight_set.folder, NAME))


def test_a_torn_best_is_taken_from_the_set_it_was_copied_from(save, tmp_path):
    """A crash between the files of `best`: new encoder, old rest."""
    save("00001", shift=1.0, epoch=1)
    best = save("best", shift=1.0, epoch=1)
    newer = save("00002", shift=2.0, epoch=2)
    shutil.copy(newer.files["encoder"], best.files["encoder"])
    for weight_set in (weights.find(tmp_path, NAME), weights.find(tmp_path, NAME, "best")):
        assert weight_set.tag == "00001"
        assert first(weight_set) == first(best)


def test_a_torn_set_without_a_description_is_no_set(save, tmp_path):
    """A crash before the YAML, which is written last."""
    save("00001")
    save("00002")
    (tmp_path / f"{NAME}_00002.yml").unlink()
    assert weights.epochs(tmp_path, NAME) == [1]


def test_a_description_of_another_model_is_refused(save, tmp_path):
    save()
    other = load_preset("tiny").codec("vqvae_32")
    path = weights.config_path(tmp_path, NAME)
    described = load_yaml(path)
    path.write_text(dump_yaml(described | {"model": to_dict(other)}))
    refused("vqvae_32", "vqvae_8", call=lambda: weights.find(tmp_path, NAME))
    path.write_text(dump_yaml(described | {"sha256": {"encoder": "0"}}))
    refused("encoder", "codebook", call=lambda: weights.find(tmp_path, NAME))
    path.write_text(dump_yaml(described | {"sha256": {"encoder": "0", 1: "0"}}))
    refused("sha256", call=lambda: weights.find(tmp_path, NAME))


def test_a_layer_too_few_or_too_many_is_named(codec):
    arrays = {v.path: v.numpy() for v in codec.encoder.weights}
    before = codec.encoder.weights[0].numpy()
    spoilt = {key: array + 1 for key, array in arrays.items()} | {"stray": np.zeros(1)}
    refused("f.h5", "stray", call=lambda: weights.assign(codec.encoder.weights, spoilt, "f.h5"))
    del arrays["latents/bias"]
    refused("f.h5", "latents/bias",
            call=lambda: weights.assign(codec.encoder.weights, arrays, "f.h5"))
    np.testing.assert_array_equal(codec.encoder.weights[0].numpy(), before)


@pytest.mark.parametrize("kind", ["elsewhere", "virtual", "text", "hollow", "packed"])
def test_non_arrays_in_a_file_are_refused_unread(tmp_path, kind, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_bytes(np.zeros(4, "float32").tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = np.zeros(4, "float32")
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        f["good"] = np.ones(2, "float32")
        if kind == "elsewhere":
            f.create_dataset("bad", (4,), "float32", external=[(os.fspath(secret), 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "float32")
            layout[:] = h5py.VirtualSource(os.fspath(tmp_path / "other.h5"), "x", (4,))
            f.create_virtual_dataset("bad", layout)
        elif kind == "text":
            f["bad"] = "words"
        elif kind == "hollow":  # 4 TB by its shape, without a byte
            f.create_dataset("bad", (10**12,), "float32")
        else:
            f.create_dataset("bad", (250_000_000,), "float32", chunks=(1_000_000,),
                             compression="gzip", fillvalue=0)[:1_000_000] = 0
    reading = []
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: reading.append(1))
    refused(path, "bad", call=lambda: weights.read_arrays(path))
    assert not reading


def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, save, codec):
    before = save("best")
    parts = {p: {v.path: v.numpy() for v in variables} for p, variables in codec.parts.items()}
    (codebook,) = parts["codebook"].values()
    files = {p: p.stat().st_mtime_ns for p in before.files.values()}
    codebook[0, 0] = np.nan
    refused("quantizer/codebook", "not finite",
            call=lambda: weights.save(tmp_path, NAME, "best", parts, codec.config))
    codebook[0, 0] = 1e6  # too large for float16
    refused("float16", call=lambda: weights.save(tmp_path, NAME, "best",
                                                 parts, codec.config, dtype="float16"))
    assert {p: p.stat().st_mtime_ns for p in before.files.values()} == files
    assert weights.find(tmp_path, NAME, "best").checksum == before.checksum
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["a/b"] = np.array([1, np.inf], "float32")
    refused("f.h5", "a/b", "finite", call=lambda: weights.read_arrays(tmp_path / "f.h5"))


def test_saving_that_fails_leaves_the_set_before(save, tmp_path, codec, monkeypatch):
    before = save("", shift=1.0)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            weights.save(tmp_path, NAME, "", codec.parts, codec.config)
    assert weights.find(tmp_path, NAME).checksum == before.checksum
    assert not list(tmp_path.glob(".vqwave-*"))


def test_a_set_keeps_its_settings_and_a_wrong_one_is_named(tmp_path, codec):
    training = TrainingConfig(steps=3, batch_size=2)
    data = DataConfig(split={"test": ["a"]})
    weights.save(tmp_path, NAME, "", codec.parts, codec.config, {"step": 3},
                 training=training, data=data)
    weight_set = weights.find(tmp_path, NAME)
    assert (weight_set.training, weight_set.data, weight_set.record) == (training, data, {"step": 3})
    path = weights.config_path(tmp_path, NAME)
    described = load_yaml(path)
    assert set(described) == {"schema", "model", "training", "data", "record", "sha256"}
    path.write_text(dump_yaml(described | {"training": {"stpes": 3}}))
    refused(path, "training: unknown key 'stpes'; did you mean 'steps'",
            call=lambda: weights.find(tmp_path, NAME))


def test_a_chain_lies_beside_its_generators(tmp_path):
    default = load_preset("compact").chain
    assert weights.chain(tmp_path) == replace(default, end=None)
    own = ChainConfig(sample_rate=3000, block=960, end=60, levels=[
        {"level": 60, "codec": "a", "generator": "b"},
        {"level": 12, "codec": "c", "generator": "d"}])
    weights.save_chain(tmp_path, own)
    assert weights.chain(tmp_path) == own
    for wrong in ("level: 64", "level: true", "depth: 8", "level: 8\nmore: 1",
                  "schema: 9\nchain: {}",
                  "schema: 2\nchain: {levels: []}"):
        (tmp_path / "chain.yml").write_text(wrong)
        with pytest.raises(UserError, match="chain.yml"):
            weights.chain(tmp_path)


def test_without_a_file_the_chain_is_of_the_upper_generators_that_are_there(tmp_path):
    def train(name):
        (tmp_path / f"{name}_best.yml").touch()
        return weights.chain(tmp_path).sizes

    assert train("vqvae_512") == (512, 128, 32, 8)
    assert train("generator_512") == (512,)
    assert train("generator_128") == (512, 128)
    assert train("generator_8") == (512, 128, 32, 8), "the one in between is missed by name"


def test_codebooks_come_in_the_order_they_are_used_in(tmp_path, codec):
    path = tmp_path / "codebook.weights.h5"
    config = override(codec.config, {"quantizer": {"kind": "residual", "books": 11}}, "")
    weights.write_arrays(path, {f"quantizer/book_{k}/codebook": np.full((4, 2), k, "float32")
                                for k in reversed(range(11))})
    weight_set = weights.WeightSet(tmp_path, NAME, "", config, {"codebook": path}, "", {})
    assert [book[0, 0] for book in weight_set.codebooks()] == list(range(11))


def test_another_shape_names_file_layer_and_both_shapes(save, codec):
    weight_set = save()
    wider = dataclasses.replace(weight_set, config=replace(
        codec.config, stages=[{"stride": 8, "channels": 10}]))
    refused(weight_set.files["encoder"], "down_0/kernel", "(16, 1, 8)", "(16, 1, 10)",
            call=lambda: load_codec(wider))


def test_no_link_is_followed_and_no_array_is_read_twice(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = np.zeros(4, "float32")
    with h5py.File(tmp_path / "f.h5", "w") as f:
        group = f
        for _ in range(15):  # 2^15 paths
            below = group.create_group("a")
            group["again"] = below
            group = below
        f["array"] = np.ones(2, "float32")
        f["twice"] = f["array"]
        f["soft"] = h5py.SoftLink("/array")
        f["external"] = h5py.ExternalLink(os.fspath(tmp_path / "other.h5"), "/x")
    assert list(weights.read_arrays(tmp_path / "f.h5")) == ["array"]


@pytest.mark.parametrize("shape", ["deep", "wide"])
def test_groups_that_would_take_minutes_to_list_are_refused(tmp_path, shape, monkeypatch):
    monkeypatch.setattr(weights, "MOST_OBJECTS", 100)
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["good"], group = np.ones(2, "float32"), f
        for i in range(101 if shape == "wide" else 18):
            below = group.create_group(f"g{i}")
            group = below if shape == "deep" else f
    refused(tmp_path / "f.h5", "100 objects, or groups deeper than 16",
            call=lambda: weights.read_arrays(tmp_path / "f.h5"))


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[2J"])
def test_an_array_whose_name_is_no_text_is_refused(tmp_path, name):
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f[name] = np.ones(2, "float32")
    refused("f.h5: the name ", "is no text", call=lambda: weights.read_arrays(tmp_path / "f.h5"))


def test_a_file_with_flipped_bytes_is_read_or_refused_in_one_line(tmp_path):
    path, random = tmp_path / "f.h5", np.random.default_rng(0)
    weights.write_arrays(path, {f"block_{i}/kernel": np.ones((2, 3), "float32") for i in range(4)})
    whole, accepted = np.fromfile(path, np.uint8), 0
    for _ in range(40):
        bytes_ = whole.copy()
        bytes_[random.integers(whole.size, size=random.integers(1, 6))] = random.integers(256)
        bytes_.tofile(path)
        try:
            accepted += bool(weights.read_arrays(path))
        except WeightsError as e:
            assert "\n" not in str(e)
    assert 0 < accepted < 40
