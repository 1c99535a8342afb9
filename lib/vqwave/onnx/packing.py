"""Archives of the graphs of a set, so that playing needs only ONNX Runtime. The graphs of a set
share most of their bytes, so the archive is a third as large as one graph. A wheel has the archives
of the default chain.
"""

import io
import lzma
import shutil
import tarfile
from pathlib import Path

from .. import config
from ..io import weights
from ..io.files import CHECKOUT, atomic_write, make_folder, sha256, write_yaml
from . import export

_XZ = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}


def pack(folder, source=CHECKOUT):
    """Write the default chain of the checkout `source` into `folder`, down to the level that it
    decodes: the YAML, the codebooks, what a score knows of its corpus, and the graphs of each
    set. Raises `UserError` if weights are missing.
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
        add_graphs(weight_set, target)


def add_graphs(weight_set, folder):
    """Write the archive of a set's graphs into `folder`, and list its checksum in the set's YAML
    there. In the set's own folder the archive plays instead of the weights.
    """
    name, tag = weight_set.name, weight_set.tag
    archive, described = (path(folder, name, tag)
                          for path in (weights.graphs_path, weights.config_path))
    graphs = {kind: export.cached_graph(weight_set, kind)
              for kind in export.kinds(weight_set, "onnx")}
    with atomic_write(archive) as file:
        _write(file, graphs)
    listed = weights.Graphs(sha256=sha256(archive), exporter=export.EXPORTER)
    write_yaml(described, config.load_yaml(described) | {"graphs": config.to_dict(listed)})


def _write(file, graphs: dict[str, bytes]):
    """The archive that `export.unpack` reads."""
    with (lzma.open(file, "w", filters=[_XZ]) as packed,
          tarfile.open(fileobj=packed, mode="w") as archive):
        for kind, graph in graphs.items():
            entry = tarfile.TarInfo(kind)  # without a time, so that equal graphs give equal files
            entry.size = len(graph)
            archive.addfile(entry, io.BytesIO(graph))
