"""What a wheel carries: the part of the chain that plays by default, as graphs."""

import io
import lzma
import shutil
import tarfile

import numpy as np
import pytest

from vqwave import config as configs
from vqwave.errors import UserError
from vqwave.io import files, weights
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


NAME = "generator_512"


@pytest.fixture
def packed(checkout, tmp_path):
    """A folder with a set that has only its archive, and the path of the archive."""
    folder = tmp_path / "packed"
    folder.mkdir()
    shutil.copy(weights.config_path(checkout / weights.GENERATORS, NAME), folder)
    packing.add_graphs(weights.find(checkout / weights.GENERATORS, NAME), folder)
    return folder, weights.graphs_path(folder, NAME)


@pytest.fixture
def archive(packed, tmp_path, monkeypatch):
    """Replace the archive of a set by `content`, listed in its YAML if `listed`; the cache is empty."""
    folder, path = packed

    def replace(content, listed=True):
        monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "empty"))
        path.write_bytes(content)
        if listed:
            described = weights.config_path(folder, NAME)
            values = configs.load_yaml(described)
            values["graphs"]["sha256"] = files.sha256(path)
            files.write_yaml(described, values)
        return weights.find(folder, NAME)

    return replace


def tar(*entries):
    """An archive of (name, content, type) each."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as file:
        for name, data, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(data), kind
            file.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def test_only_the_listed_archive_is_read(checkout, packed, archive, tmp_path):
    _, path = packed
    weight_set = archive(tar(("loop_int8", b"other", tarfile.REGTYPE)), listed=False)
    with pytest.raises(UserError, match=f"{path.name}: damaged, or of another set") as caught:
        export.cached_graph(weight_set, "loop_int8")
    assert "\n" not in str(caught.value)
    # Beside weights that list no archive, it does not count.
    own = checkout / weights.GENERATORS
    shutil.copy(path, own)
    assert export.cached_graph(weights.find(own, NAME), "loop_int8") == f"{NAME} loop_int8".encode()


def test_a_foreign_archive_never_gets_into_the_cache_of_the_genuine_set(checkout, archive):
    genuine = weights.find(checkout / weights.GENERATORS, NAME)
    foreign = archive(tar(("loop_int8", b"other", tarfile.REGTYPE)))
    assert foreign.checksum == genuine.checksum
    assert export.cached_graph(foreign, "loop_int8") == b"other"
    assert export.cached_graph(genuine, "loop_int8") == f"{NAME} loop_int8".encode()


@pytest.mark.parametrize("content, message", [
    (b"", "cut off"), (b"junk" * 99, "cannot be read"), (lzma.compress(b"junk" * 999), "cannot be read"),
    (lzma.compress(b"0" * 9999)[:-9], "cut off"), (lzma.compress(bytes(2 << 20)), "more than 1 MiB"),
    *((tar((name, b"x" * (kind in (tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE)), kind)), f"'{name}' is none of")
      for name, kind in (("../../evil", tarfile.REGTYPE), ("loop_int8", tarfile.SYMTYPE),
                         ("loop_int8", tarfile.DIRTYPE), ("loop_int8", tarfile.GNUTYPE_SPARSE))),
], ids=range(9))
def test_an_archive_of_anything_but_graphs_is_refused_in_one_line(archive, content, message, monkeypatch,
                                                                  tmp_path):
    weight_set = archive(content)
    monkeypatch.setattr(export, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(UserError, match=rf"{NAME}\.graphs\.tar\.xz: .*{message}") as caught:
        export.cached_graph(weight_set, "loop_int8")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "empty").rglob("*.onnx"))


def test_graphs_of_another_exporter_are_built_from_the_weights(checkout, monkeypatch, tmp_path):
    folder = checkout / weights.GENERATORS
    packing.add_graphs(weights.find(folder, NAME), folder)
    weight_set = weights.find(folder, NAME)
    assert "loop_int8" in export.unpack(weight_set)
    monkeypatch.setattr(export, "EXPORTER", "next")
    assert export.unpack(weight_set) == {}
    monkeypatch.setattr(export, "build", lambda weight_set, kind: b"new")
    assert export.cached_graph(weight_set, "loop_int8") == b"new"
