from pathlib import Path

import pytest
import yaml

from vqwave.errors import UserError
from vqwave.io import defaults, weights
from vqwave.levels import SCHEMA, ChainConfig


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A checkout with a whole chain, in which no command runs: the working folder is beside it."""
    for name in ("checkout", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(defaults, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(defaults, "_noted", set())
    for level in (512, 128):
        write(tmp_path / "checkout" / weights.CODECS, f"vqvae_{level}", id="shipped", step=9)
        write(tmp_path / "checkout" / weights.GENERATORS, f"generator_{level}",
              codecs={f"vqvae_{level}": "shipped:9"})
    return tmp_path / "checkout"


def write(folder, name, tag="", **record):
    """The YAML file of a set, which is what the search reads."""
    path = weights.config_path(folder, name, tag)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"schema": SCHEMA, "record": record}))
    levels = [{"level": x, "codec": f"vqvae_{x}", "generator": f"generator_{x}"} for x in (512, 128)]
    weights.save_chain(path.parent, ChainConfig(sample_rate=22050, block=8192, levels=levels))


def test_from_anywhere_the_shipped_folders_are_the_default(shipped):
    assert defaults.folders() == (shipped / "final_weights", shipped / "weights")
    assert defaults.codecs() == shipped / "final_weights"


def test_a_named_folder_is_never_replaced(shipped):
    assert defaults.folders("final_weights", "weights") == (Path("final_weights"), Path("weights"))
    assert defaults.generators(["weights"]) == {"weights": Path("weights")}
    assert defaults.generators() == {"weights": shipped / "weights"}
    with pytest.raises(UserError, match="final_weights: no such folder"):
        defaults.codecs("final_weights")


def test_half_a_chain_here_does_not_play_and_its_gap_is_named(shipped, capsys):
    for missing, more in ("generator_512", ["vqvae_512", "vqvae_128", "generator_128"]), ("", []):
        for name in more:
            write(Path("weights"), name, "best", id="mine")
        assert (defaults.folder("weights") == shipped / "weights") == bool(missing)
        said = capsys.readouterr().err
        assert said == (f"weights: lacks {missing}, so {shipped / 'weights'} plays\n" if missing else "")
        write(Path("weights"), "generator_512", "best")


def test_codecs_play_with_the_generators_that_learned_their_codes(shipped, capsys):
    own, other = shipped / "weights", shipped / "final_weights"
    write(own, "vqvae_512", "best", id="mine", step=3)
    assert defaults.folders()[0] == defaults.folders(generators=own)[0]
    assert capsys.readouterr().err == (f"{own}: generator_512 was not trained with its vqvae_512, so the "
                                       f"codecs of final_weights play\n"), "once"
    assert defaults.folders(generators=own)[0] == other
    write(own, "generator_512", "00002", codecs={"vqvae_512": "mine:2"})
    assert defaults.folders(generators=own, epoch=2)[0] == own
    # Weights that record no codecs play with those beside them, if all are there.
    for level in (512, 128):
        write(own, f"generator_{level}", "00003")
    assert defaults.folders(generators=own, epoch=3)[0] == other
    assert "vqvae_128 is missing beside its vqvae_512" in capsys.readouterr().err
    write(own, "vqvae_128", "best")
    assert defaults.folders(generators=own, epoch=3)[0] == own
