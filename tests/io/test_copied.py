"""Sets whose files a user copies from a numbered set, as the layout's own step does."""

import shutil
from pathlib import Path

import pytest
from prepared import save_numbers

from vqwave.io import weights
from vqwave.io.weights import WeightsError
from vqwave.presets import load_preset

NAME = "vqvae_512"
PARTS = weights.WEIGHT_PARTS["codec"]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A working folder after a training of ten epochs into `weights`."""
    monkeypatch.chdir(tmp_path)
    for tag in ("00009", "00010", "best"):
        save("weights", tag)


def save(folder, tag):
    number = int(tag) if tag.isdigit() else 9
    save_numbers(Path(folder), load_preset("tiny").models[NAME], tag, number,
                 {"epoch": number, "step": number, "id": "mine"})


def copy(tag, folder, parts=PARTS):
    for part in parts:
        shutil.copy(f"weights/{NAME}_{part}_{tag}.weights.h5",
                    weights.make_folder(folder) / f"{NAME}_{part}.weights.h5")


@pytest.mark.parametrize("folder", ["final_weights", "weights", "elsewhere"])
@pytest.mark.parametrize("occupied", [False, True])
def test_the_copied_files_of_an_epoch_are_a_set(trained, folder, occupied):
    if occupied:
        save(folder, "")
        own = weights.config_path(folder, NAME).read_bytes()
    copy("00010", folder)
    assert weights.tags(folder, NAME)[-1] == "" and weights.holds(folder, [NAME])
    copied = weights.find(folder, NAME)
    assert copied.load("decoder")["a"][0] == 10
    assert copied.record["epoch"] == 10 and copied.codes_id == "mine:10"
    assert weights.record(folder, NAME)["epoch"] == 10
    assert copied.summary == f"{NAME}: a copy of epoch 10 in weights in {folder}"
    assert copied.checksum == weights.find("weights", NAME, 10).checksum
    if occupied:
        assert weights.config_path(folder, NAME).read_bytes() == own


def test_files_of_two_epochs_are_no_set(trained):
    copy("00010", "final_weights")
    copy("00009", "final_weights", parts=["decoder"])
    assert weights.tags("final_weights", NAME) == []
    with pytest.raises(WeightsError, match="no YAML file describes .* not copies of one numbered"):
        weights.find("final_weights", NAME)
    save("final_weights", "")
    copy("00010", "final_weights", parts=["encoder"])
    with pytest.raises(WeightsError, match="vqvae_512_encoder.weights.h5: damaged, or of another set"):
        weights.find("final_weights", NAME)


def test_a_copy_is_copied_on_as_the_set_that_it_is(trained):
    copy("00010", "final_weights")
    best = weights.copy_as_best(weights.find("final_weights", NAME), "tuned")
    assert best.record["epoch"] == 10 and best.origin is None
    weights.add_to_record(weights.find("final_weights", NAME), held_out={"mel": 0.5})
    assert weights.find("weights", NAME, 10).record["held_out"] == {"mel": 0.5}
