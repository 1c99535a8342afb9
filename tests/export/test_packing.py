"""The archive of graphs, which plays without weights; a wheel carries it."""

import io
import lzma
import shutil
import tarfile

import numpy as np
import onnx
import pytest

from vqwave.errors import UserError
from vqwave.export import export, packing
from vqwave.io import files, weights
from vqwave.levels import fields, load_yaml
from vqwave.presets import load_preset

ENDING = 128
KERNEL = np.random.default_rng(0).normal(size=(64, 32, 1, 8)).astype(np.float32)


def fake_graph(weight_set, kind):
    """A graph with a kernel that is the same in all; half of the graphs have its axes reversed."""
    kernel = onnx.numpy_helper.from_array(KERNEL if "loop" in kind else np.ascontiguousarray(KERNEL.T), weight_set.name)
    return onnx.helper.make_model(onnx.helper.make_graph([], kind, [], [], [kernel, kernel])).SerializeToString()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with sets of every model of the tiny chain, which ends at `ENDING`, and its archive."""
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(export, "build", fake_graph)
    preset, root = load_preset("tiny"), tmp_path / "checkout"
    for name in preset.chain.names:
        config = preset.models[name]
        folder = root / (weights.CODECS if config.kind == "codec" else weights.GENERATORS)
        folder.mkdir(parents=True, exist_ok=True)
        weights.save(folder, name, "", {part: {"x": np.ones(3)} for part in weights.parts_of(config)}, config)
    weights.save_chain(root / weights.GENERATORS, fields.replace(preset.chain, end=ENDING))
    packing.pack(root / weights.CODECS, root / weights.GENERATORS)
    return root


def test_a_wheel_plays_the_default_chain_without_its_weights(checkout, tmp_path, monkeypatch):
    wheel = tmp_path / "wheel"
    (wheel / "stale").mkdir(parents=True)
    packing.fill_wheel(wheel, checkout)
    chain = weights.chain(wheel / weights.GENERATORS)
    assert chain.sizes == (512, ENDING) and chain.ending == ENDING
    expected = {f"{name}.yml" for name in chain.names} | {weights.CHAIN, weights.GRAPHS}
    expected |= {f"{name}_codebook.weights.h5" for name in chain.codecs.values()}
    assert {path.name for path in wheel.rglob("*") if path.is_file()} == expected
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(export, "build", lambda *_: pytest.fail("a wheel needs no export"))
    for level, name in chain.generators.items():
        packed = weights.find(wheel / weights.GENERATORS, name)
        assert packed.checksum == weights.find(checkout / weights.GENERATORS, name).checksum
        for kind in export.kinds(packed, "onnx"):
            assert export.cached_graph(packed, kind) == fake_graph(packed, kind)
        with pytest.raises(UserError, match="the wheel has only its graphs"):
            packed.load("generator")
        codec = weights.find(wheel / weights.GENERATORS, chain.codecs[level])
        assert len(codec.codebooks()) == 1  # colours of codes need them


def test_codecs_play_from_the_archive_of_the_generators_beside_them(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(export, "build", lambda *_: pytest.fail("the archive has it"))
    codec = weights.find(checkout / weights.CODECS, "vqvae_512")
    assert export.cached_graph(codec, "encode") == fake_graph(codec, "encode")
    monkeypatch.setattr(export, "unpack", lambda *_: pytest.fail("the cache has all of the archive"))
    assert export.cached_graph(weights.find(checkout / weights.GENERATORS, NAME), "loop_int8")


def test_a_kernel_is_stored_once_whatever_the_order_of_its_axes(checkout):
    size = (checkout / weights.GENERATORS / weights.GRAPHS).stat().st_size
    assert size < 1.7 * len(lzma.compress(KERNEL.tobytes()))


def test_a_wheel_of_an_archive_that_lacks_a_graph_is_refused(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "EXPORTER", "next")
    with pytest.raises(UserError, match=r"graphs\.tar\.xz: has no graphs of vqvae_512"):
        packing.fill_wheel(tmp_path / "wheel", checkout)


NAME = "generator_512"
ENTRY = f"{NAME}_loop_int8_0.onnx"


@pytest.fixture
def archive(checkout, tmp_path, monkeypatch):
    """Replace the archive in a folder with the YAML of one set by `content`, listed in the YAML if `listed`; the cache
    is empty.
    """
    folder = tmp_path / "packed"
    folder.mkdir()
    shutil.copy(weights.config_path(checkout / weights.GENERATORS, NAME), folder)

    def replace(content, listed=True):
        monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "empty"))
        (folder / weights.GRAPHS).write_bytes(content)
        if listed:
            described = weights.config_path(folder, NAME)
            values = load_yaml(described) | {"graphs": files.sha256(folder / weights.GRAPHS)}
            files.write_yaml(described, values)
        return weights.find(folder, NAME)

    return replace


def tar(*entries, header=None):
    """An archive of (name, content, type) each. header: the places of transposed kernels."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as file:
        for name, data, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(data), kind
            entry.pax_headers = {export.TRANSPOSED: header} if header else {}
            file.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def foreign(weight_set):
    return tar((export.graph_name(weight_set, "loop_int8"), b"other", tarfile.REGTYPE))


def test_only_the_listed_archive_is_read(checkout, archive):
    genuine = weights.find(checkout / weights.GENERATORS, NAME)
    weight_set = archive(foreign(genuine), listed=False)
    with pytest.raises(UserError, match=f"{weights.GRAPHS}: damaged, or of other weights") as caught:
        export.cached_graph(weight_set, "loop_int8")
    assert "\n" not in str(caught.value)


def test_weights_that_list_no_archive_play_themselves(checkout, monkeypatch):
    described = weights.config_path(checkout / weights.GENERATORS, NAME)
    for value in (None, "../../evil", {"sha256": "x"}):
        values = {key: x for key, x in load_yaml(described).items() if key != "graphs"}
        files.write_yaml(described, values | ({"graphs": value} if value else {}))
        found = weights.find(checkout / weights.GENERATORS, NAME)
        assert found.graphs == "" and found.played_as == found.checksum and export.unpack(found) == {}


def test_a_foreign_archive_never_gets_into_the_cache_of_the_genuine_set(checkout, archive):
    genuine = weights.find(checkout / weights.GENERATORS, NAME)
    other = archive(foreign(genuine))
    assert other.checksum == genuine.checksum
    assert export.cached_graph(other, "loop_int8") == b"other"
    assert export.cached_graph(genuine, "loop_int8") == fake_graph(genuine, "loop_int8")


@pytest.mark.parametrize("content, message", [
    (b"", "cut off"), (b"junk" * 99, "cannot be read"), (lzma.compress(b"junk" * 999), "cannot be read"),
    (lzma.compress(b"0" * 9999)[:-9], "cut off"), (lzma.compress(bytes(2 << 20)), "more than 1 MiB"),
    *((tar((name, b"x" * (kind in (tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE)), kind)), f"'{name}' is no graph")
      for name, kind in (("../../evil", tarfile.REGTYPE), (ENTRY, tarfile.SYMTYPE),
                         (ENTRY, tarfile.DIRTYPE), (ENTRY, tarfile.GNUTYPE_SPARSE))),
    *((tar((ENTRY, b"x" * 99, tarfile.REGTYPE), header=places), "cannot be read")
      for places in ("junk", "1", "[[0, [999]]]", "[[-8, [2, 1]]]", "[[0, 1]]")),
], ids=range(14))
def test_an_archive_of_anything_but_graphs_is_refused_in_one_line(archive, content, message, monkeypatch,
                                                                  tmp_path):
    weight_set = archive(content)
    monkeypatch.setattr(export, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(UserError, match=rf"graphs\.tar\.xz: .*{message}") as caught:
        export.cached_graph(weight_set, "loop_int8")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "empty").rglob("*.onnx"))


def test_graphs_of_another_exporter_are_built_from_the_weights(checkout, monkeypatch):
    weight_set = weights.find(checkout / weights.GENERATORS, NAME)
    assert export.graph_name(weight_set, "loop_int8") in export.unpack(weight_set)
    monkeypatch.setattr(export, "EXPORTER", "next")
    monkeypatch.setattr(export, "build", lambda weight_set, kind: b"new")
    assert export.cached_graph(weight_set, "loop_int8") == b"new"
