import argparse
from pathlib import Path

import pytest

from vqwave.errors import UserError
from vqwave.io import files, weights
from vqwave.levels import DataConfig, Split, override, replace
from vqwave.presets import load_preset
from vqwave.train import options
from vqwave.train.options import RunOptions

TINY = load_preset("tiny")


def read(*argv, role="codec"):
    parser = argparse.ArgumentParser()
    options.add_options(parser, role)
    return options.read_settings(parser.parse_args(["--data-dir", "d", *map(str, argv)]), role)


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "c.yml").write_text(text)
        return tmp_path / "c.yml"

    return write


def test_defaults_are_the_presets():
    for role, name in (("codec", "vqvae_32"), ("generator", "generator_32")):
        flag = "--model" if role == "codec" else "--generator"
        settings = read(flag, name, "--size", "tiny", role=role)
        assert settings.model == TINY.models[name] and settings.training == TINY.trainings[name]
        assert settings.options == RunOptions("weights", set_by_user=frozenset())
        assert settings.data == DataConfig() and settings.chain == TINY.chain


def test_a_flag_overrides_the_file_and_the_file_overrides_the_preset(write):
    path = write("training: {batch_size: 3, seed: 7}\ndata: {split: 0.5}\nmodel: {quantizer: "
                 "{num_codes: 32}}\n")
    settings = read("--model", "vqvae_8", "--preset", "tiny", "--config", path, "--seed", 9)
    assert (settings.training.batch_size, settings.training.seed,
            settings.training.input_length) == (3, 9, 8192)
    assert settings.data.split == 0.5
    assert settings.options.set_by_user == {"batch_size", "seed", "split"}
    assert settings.model == override(TINY.codec(8),
                                              {"quantizer": {"num_codes": 32}}, "test")
    assert read("--model", "vqvae_8", "--config", path, "--val-split", "0.25").data.split == 0.25


def test_every_flag_reaches_its_setting(tmp_path):
    (tmp_path / "s.yml").write_text("validation: [a]\n")
    line = ("--model vqvae_8 --output-dir o --minutes 3 --seed 4 --patience 5 --fp16 --keep-last 4 "
            f"--promote --epochs 6 --val-split {tmp_path}/s.yml --learning-rate 1e-4 "
            f"--batch-size 3 --input-length 16 --steps 8 --start-from w --distribute")
    settings = read(*line.split())
    assert settings.training == replace(
        load_preset().trainings["vqvae_8"], seed=4, patience=5, mixed_precision=True,
        epochs=6, learning_rate=1e-4,
        batch_size=3, input_length=16, steps=8)
    assert settings.data.split == Split(validation=("a",))
    assert settings.options == RunOptions("o", minutes=3.0,
                                          start_from=Path("w"), keep_last=4, promote=True,
                                          distribute=True, set_by_user=settings.options.set_by_user)


def test_the_yaml_of_a_set_reproduces_its_training(tmp_path, tiny_weights):
    weight_set = weights.find(tiny_weights.codecs, "vqvae_32")
    model = replace(weight_set.config, name="my_own")
    training = replace(TINY.trainings["vqvae_32"], batch_size=5)
    weights.save(tmp_path, "my_own", "", {p: weight_set.load(p) for p in weight_set.files},
                 model, {"step": 3},
                 training=training, data=DataConfig(split={"test": ["a"]}))
    settings = read("--config", tmp_path / "my_own.yml")
    assert (settings.model, settings.training) == (model, training)
    assert settings.data == DataConfig(split={"test": ["a"]})


def test_the_files_beside_the_shipped_weights_train_them_again():
    for path in sorted((files.CHECKOUT / "final_weights").glob("*.yml")):
        settings, weight_set = read("--config", path), weights.find(path.parent, path.stem)
        assert settings.model == weight_set.config
        assert settings.training == (weight_set.training or load_preset().trainings[path.stem])
        assert settings.data == (weight_set.data or load_preset().data)


@pytest.mark.parametrize("text, role, message", [
    ("model: {quantiser: {}}", "codec", "did you mean 'quantizer'"),
    ("training: {batchsize: 3}", "codec", "c.yml: training: unknown key 'batchsize'; did you mean "
                                          "'batch_size'"),
    ("model: {}\ntrainings: {}", "codec", "unknown key 'trainings'; did you mean 'training'"),
    ("model: {kind: generator}", "codec", "describes a generator, not a codec"),
    ("schema: 99", "codec", "schema is 99"),
])
def test_an_invalid_file_is_refused_in_one_line(write, text, role, message):
    name = ("--model", "vqvae_8") if role == "codec" else ("--generator", "generator_8")
    with pytest.raises(UserError, match=message) as e:
        read(*name, "--config", write(text), role=role)
    assert "c.yml" in str(e.value) and "\n" not in str(e.value)
