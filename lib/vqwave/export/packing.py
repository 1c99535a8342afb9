"""The archive of the default chain's graphs, so that playing needs only ONNX Runtime. Graphs share
most of their bytes: the archive is a quarter as large as its graphs.
"""

import io
import json
import lzma
import shutil
import tarfile
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..io import weights
from ..io.files import CHECKOUT, atomic_write, make_folder, sha256, write_yaml
from ..levels.chain import ChainConfig
from ..levels.fields import load_yaml, replace, to_dict
from . import export

_XZ = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26, "lc": 0, "lp": 2}
"""Graphs are mostly float32, four bytes each."""


def default_chain(codecs, generators) -> tuple[ChainConfig, list[weights.WeightSet]]:
    """The chain of a folder of generators down to the level that it decodes, and its sets."""
    chain = weights.chain(generators)
    chain = replace(chain, levels=[
        to_dict(level) for level in chain.levels if level.level >= chain.ending])
    return chain, [weights.find(codecs if name in chain.codecs.values() else generators, name)
                   for name in chain.names]


def pack(codecs, generators) -> Path:
    """Build the graphs of the default chain, write their archive into the folder of generators, and
    list its checksum in the YAML of each set. Returns the archive's path.
    """
    path, (_, weight_sets) = Path(generators) / weights.GRAPHS, default_chain(codecs, generators)
    with (atomic_write(path) as file, lzma.open(file, "w", filters=[_XZ]) as packed,
          tarfile.open(fileobj=packed, mode="w") as archive):
        for weight_set in weight_sets:
            for kind in export.kinds(weight_set, "onnx"):
                graph, places = _transpose(export.build(weight_set, kind))
                # Without a time, so that equal graphs give equal files.
                entry = tarfile.TarInfo(export.graph_name(weight_set, kind))
                entry.size, entry.pax_headers = len(graph), {export.TRANSPOSED: json.dumps(places)}
                archive.addfile(entry, io.BytesIO(graph))
    for weight_set in weight_sets:
        values = load_yaml(weight_set.yaml)
        write_yaml(weight_set.yaml, values | {"graphs": sha256(path)})
    return path


def _transpose(graph: bytes) -> tuple[bytes, list]:
    """A graph whose large kernels of convolutions have their axes in reverse order, as in other
    graphs; and the offset and the shape of each.
    """
    import onnx

    changed, places, end = bytearray(graph), [], 0
    for tensor in onnx.load_from_string(graph).graph.initializer:
        raw, shape = tensor.raw_data, list(tensor.dims)
        if len(shape) > 2 and len(raw) >= 1 << 16 and tensor.data_type == onnx.TensorProto.FLOAT:
            offset = graph.index(raw, end)  # tensors of equal content stand one after the other
            end = offset + len(raw)
            changed[offset:end] = np.frombuffer(raw, np.float32).reshape(shape).T.tobytes()
            places.append((offset, shape))
    return bytes(changed), places


def fill_wheel(folder, source=CHECKOUT):
    """Write the default chain of the checkout `source` into `folder`: the YAML, the codebooks, what
    a score knows of its corpus, and the archive. Raises `UserError` if it lacks a graph.
    """
    shutil.rmtree(folder, ignore_errors=True)
    target, codecs, generators = (Path(path) / name for path, name in (
        (folder, weights.GENERATORS), (source, weights.CODECS), (source, weights.GENERATORS)))
    chain, weight_sets = default_chain(codecs, generators)
    weights.save_chain(make_folder(target), chain)
    archive = weights.graphs_path(generators)
    for each in weight_sets:
        needed = {export.graph_name(each, kind) for kind in export.kinds(each, "onnx")}
        if not needed <= export.unpack(each).keys():
            raise UserError(f"{archive}: has no graphs of {each.name}; vqwave export --archive "
                            f"writes it again")
        for path in (each.yaml, *map(each.files.get, ("codebook", "corpus"))):
            if path:
                shutil.copy(path, target)
    shutil.copy(archive, target)
