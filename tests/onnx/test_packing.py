"""What a wheel carries: the part of the chain that plays by default, as graphs."""

import numpy as np
import pytest

from vqwave import config as configs
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.onnx import export, packing

ENDING = 128


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with sets of every model of the tiny chain, which ends at `ENDING`."""
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(export, "build", lambda weight_set, kind: f"{weight_set.name} {kind}".encode())
    preset, root = configs.preset("tiny"), tmp_path / "checkout"
    for name in preset.chain.names:
        config = preset.models[name]
        folder = root / (weights.CODECS if config.kind == "codec" else weights.GENERATORS)
        folder.mkdir(parents=True, exist_ok=True)
        weights.save(folder, name, "", {part: {"x": np.ones(3)} for part in weights.parts_of(config)}, config)
    weights.save_chain(root / weights.GENERATORS, configs.replace(preset.chain, end=ENDING))
    return root


def test_a_wheel_plays_the_default_chain_without_its_weights(checkout, tmp_path, monkeypatch):
    wheel = tmp_path / "wheel"
    (wheel / "stale").mkdir(parents=True)
    packing.pack(wheel, checkout)
    chain = weights.chain(wheel / weights.GENERATORS)
    assert chain.sizes == (512, ENDING) and chain.ending == ENDING
    expected = {f"{name}{end}" for name in chain.names for end in (".yml", weights.GRAPHS)}
    expected |= {f"{name}_codebook.weights.h5" for name in chain.codecs.values()} | {weights.CHAIN}
    assert {path.name for path in wheel.rglob("*") if path.is_file()} == expected
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(export, "build", lambda *_: pytest.fail("a wheel needs no export"))
    for level, name in chain.generators.items():
        packed = weights.find(wheel / weights.GENERATORS, name)
        assert packed.checksum == weights.find(checkout / weights.GENERATORS, name).checksum
        for kind in export.kinds(packed, "onnx"):
            assert export.cached_graph(packed, kind) == f"{name} {kind}".encode()
        with pytest.raises(UserError, match="the wheel has only its graphs"):
            packed.load("generator")
        codec = weights.find(wheel / weights.GENERATORS, chain.codecs[level])
        assert len(codec.codebooks()) == 1  # colours of codes need them


def test_a_wheel_knows_how_quiet_codes_are(checkout, tmp_path):
    folder = checkout / weights.GENERATORS
    config = weights.find(folder, "generator_512").config
    table = np.arange(config.num_codes, dtype=np.float32)
    quiet = {"logits/quiet": table, "x": np.ones(3)}
    weights.save(folder, "generator_512", "", {"generator": quiet}, config)
    packing.pack(tmp_path / "wheel", checkout)
    for place in (folder, tmp_path / "wheel" / weights.GENERATORS):
        weight_set = weights.find(place, "generator_512")
        np.testing.assert_array_equal(packing.quietness(weight_set), [table])
    other = weights.find(tmp_path / "wheel" / weights.GENERATORS, "generator_128")
    assert packing.quietness(other) is None
