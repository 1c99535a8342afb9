"""The graphs of the default chain in a wheel, so that playing needs ONNX Runtime and nothing else.

An archive holds all graphs of a set. Graphs of a set share most of their bytes, so that xz with a
large dictionary packs them into a third of one.
"""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
from pathlib import Path

from .. import config
from ..io import weights
from ..io.files import CHECKOUT, atomic_write, make_folder
from . import export

_XZ = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}


def pack(folder, source=CHECKOUT):
    """Write what plays the chain of `source`/weights/chain.yml, down to the level that it decodes
    by default, into `folder`: the chain, and of each set the YAML, the codebooks and the graphs.

    Raises `UserError` where weights are missing. Exporting the graphs needs TensorFlow.
    """
    source, folder = Path(source), Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    chain = weights.chain(source / weights.GENERATORS)
    chain = config.replace(chain, levels=[
        config.to_dict(level) for level in chain.levels if level.level >= chain.ending])
    weights.save_chain(make_folder(folder / weights.GENERATORS), chain)
    for name in chain.names:
        place = weights.CODECS if name in chain.codecs.values() else weights.GENERATORS
        weight_set = weights.find(source / place, name)
        target = make_folder(folder / place)
        kept = [weights.config_path(source / place, name), weight_set.files.get("codebook")]
        for path in filter(None, kept):
            shutil.copy(path, target)
        graphs = {kind: export.cached_graph(weight_set, kind)
                  for kind in export.kinds(weight_set, "onnx")}
        with atomic_write(target / f"{name}{weights.GRAPHS}") as file:
            _write(file, graphs)


def _write(file, graphs: dict[str, bytes]):
    """The archive that `export.unpack` reads."""
    with (lzma.open(file, "w", filters=[_XZ]) as packed,
          tarfile.open(fileobj=packed, mode="w") as archive):
        for kind, graph in graphs.items():
            entry = tarfile.TarInfo(kind)  # without a time, so that equal graphs pack equally
            entry.size = len(graph)
            archive.addfile(entry, io.BytesIO(graph))
