"""The graphs of the default chain in a wheel, so that playing needs only ONNX Runtime; and the
quietness of each code. The graphs of a set share most of their bytes, so the archive is a third as
large as one graph.
"""

import io
import lzma
import shutil
import tarfile
from pathlib import Path

import numpy as np

from .. import config
from ..config import QUIETNESS
from ..io import weights
from ..io.files import CHECKOUT, atomic_write, make_folder
from . import export

_XZ = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}


def pack(folder, source=CHECKOUT):
    """Write the default chain of the checkout `source` into `folder`, down to the level that it
    decodes: the YAML, the codebooks, what a score knows of its corpus, the quietness of codes and
    the graphs of each set. Raises `UserError` if weights are missing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    codecs, generators = (Path(source) / name for name in (weights.CODECS, weights.GENERATORS))
    target, chain = make_folder(Path(folder) / weights.GENERATORS), weights.chain(generators)
    chain = config.replace(chain, levels=[
        config.to_dict(level) for level in chain.levels if level.level >= chain.ending])
    weights.save_chain(target, chain)
    for name in chain.names:
        weight_set = weights.find(codecs if name in chain.codecs.values() else generators, name)
        kept = [weights.config_path(weight_set.folder, name),
                *map(weight_set.files.get, ("codebook", "corpus"))]
        for path in filter(None, kept):
            shutil.copy(path, target)
        if weight_set.config.kind == "generator" and (table := quietness(weight_set)) is not None:
            with atomic_write(_quietness_path(target, name)) as file:
                np.save(file, table)
        graphs = {kind: export.cached_graph(weight_set, kind)
                  for kind in export.kinds(weight_set, "onnx")}
        with atomic_write(target / f"{name}{weights.GRAPHS}") as file:
            _write(file, graphs)


def quietness(weight_set) -> np.ndarray | None:
    """The `data.loudness.quietness` of a generator's codes, from its weights or from a wheel: dB,
    float32 [books, codes]; None without `quiet_cost`.
    """
    if "generator" not in weight_set.files:
        path = _quietness_path(weight_set.folder, weight_set.name)
        return np.load(path) if path.exists() else None
    arrays = weight_set.load("generator")
    # The output layers of the books, in order: logits, logits_1, …, logits_10, ….
    names = sorted((name for name in arrays if name.endswith(f"/{QUIETNESS}")),
                   key=lambda name: (len(name), name))
    if not names:
        return None
    outputs = np.concatenate([arrays[name] for name in names])
    return outputs.reshape(weight_set.config.books, -1)[:, : weight_set.config.num_codes]


def _quietness_path(folder: Path, name: str) -> Path:
    return folder / f"{name}_quietness.npy"


def _write(file, graphs: dict[str, bytes]):
    """The archive that `export.unpack` reads."""
    with (lzma.open(file, "w", filters=[_XZ]) as packed,
          tarfile.open(fileobj=packed, mode="w") as archive):
        for kind, graph in graphs.items():
            entry = tarfile.TarInfo(kind)  # without a time, so that equal graphs give equal files
            entry.size = len(graph)
            archive.addfile(entry, io.BytesIO(graph))
