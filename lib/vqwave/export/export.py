"""Exports trained Keras weights as ONNX graphs, cached by checksum. Encoder, decoder and context
are converted by tf2onnx; a generator's core becomes a loop of `loops.py`.
"""

import contextlib
import hashlib
import io
import json
import lzma
import math
import os
import re
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import stderr
from ..codecs.codec import PERIOD, CodecConfig
from ..errors import UserError
from ..io.files import CHECKOUT, atomic_write, cache_folder, make_folder, printable, reason
from ..io.weights import WeightsError, graphs_path
from .loops import LoopBuilder, loop_kinds

EXPORTER = "22"
"""Part of every cached graph's name: increase it when the code below changes the graphs."""
MOST_UNPACKED, MOST_MEMORY = 256 << 20, 128 << 20
"""The most bytes of an archive of graphs, packed or not, and of memory that LZMA may use."""
TRANSPOSED = "VQWAVE.transposed"
"""The header of a graph in an archive: JSON, (offset, shape) of each kernel with reversed axes."""
CACHE_BYTES = 256 << 20
"""The most bytes of cached graphs of trained weights; the least recently used are removed first.
Graphs of shipped weights do not count.
"""
GENERATOR_METADATA = ("level", "source_level", "ratio", "halo", "num_codes",
                      "books", "start_token", "pad_token")
listeners: list[Callable[[], None]] = []
"""Called before each graph is built, see `listen`."""
_models: dict[str, Any] = {}
"""The last Keras model, by checksum, because a model has several graphs."""


def kinds(weight_set, engine: str) -> list[str]:
    """The graphs of a set that an ONNX engine may run."""
    config = weight_set.config
    if isinstance(config, CodecConfig):
        return ["encode", "decode"] + ["decode_part"] * config.can_decode_part
    return (["context"] if config.conditions else []) + loop_kinds(config, engine)


def build(weight_set, kind: str) -> bytes:
    """One serialised ONNX graph of a set: `encode`, `decode`, `decode_part`, `context`,
    `loop[_full,_many,_guided]_{int8,float32}`.

    The metadata hold numbers such as halos. Raises `UserError` without TensorFlow.
    """
    try:
        from onnx import helper

        # TensorFlow and tf2onnx write warnings.
        with warnings.catch_warnings(action="ignore"), stderr.mute(unless_error=True):
            graph, metadata = _graph(weight_set, kind)
    except ImportError as e:
        raise UserError(f"{weight_set.name}: exporting its {kind} graph needs Keras, TensorFlow "
                        f"and tf2onnx: {e}") from e
    helper.set_model_props(graph, {key: str(value) for key, value in metadata.items()})
    return graph.SerializeToString()


def _keras_model(weight_set):
    """The `Codec` or the `Generator` with trained weights; the last one is kept."""
    if weight_set.checksum not in _models:
        stderr.import_keras()
        from ..codecs.codec_layer import load_codec
        from ..generators.generator_layer import load_generator

        load = load_codec if isinstance(weight_set.config, CodecConfig) else load_generator
        _models.clear()
        _models[weight_set.checksum] = load(weight_set)
    return _models[weight_set.checksum]


def _graph(weight_set, kind: str):
    """(the graph, its metadata)."""
    config, trained = weight_set.config, _keras_model(weight_set)
    if not isinstance(config, CodecConfig):
        graph = (keras_graph(trained.context_model(), "context") if kind == "context"
                 else LoopBuilder(trained.core, kind).model(EXPORTER))
        return graph, {key: getattr(config, key) for key in GENERATOR_METADATA}
    codec, outputs = trained, ["codes" if "encode" in kind else "samples"]
    model = getattr(codec, f"{kind}_model")()
    frame_keys = ("num_codes", "books") if config.has_codes else ("frame_width",)
    metadata = {key: getattr(config, key) for key in ("level", *frame_keys, "sample_rate")}
    metadata |= {"encode_halo": codec.encode_halo, "decode_halo": codec.decode_halo,
                 "decode_past": codec.decode_past, "latency": codec.latency,
                 "period": PERIOD // config.level if config.head.needs_position else 0}
    if kind == "decode_part":
        metadata |= {key: getattr(codec, key)
                     for key in ("decode_near", "decode_delay", "decode_window")}
    if len(model.outputs) > 1:
        metadata["state"] = model.outputs[1].shape[-1]
        outputs.append("state_out")
    return keras_graph(model, *outputs), metadata


def keras_graph(model, *outputs: str):
    """A functional Keras model as an `onnx.ModelProto` with these names of outputs. The batch and
    time axes are free: "B", and the name of the tensor.
    """
    import tensorflow as tf
    import tf2onnx

    # Keras's `export` would trace the model twice.
    inputs = [tf.TensorSpec(x.shape, x.dtype, x.name) for x in model.inputs]
    function = tf.function(model.__call__, autograph=False,
                           input_signature=[inputs if len(inputs) > 1 else inputs[0]])
    proto, _ = tf2onnx.convert.from_function(function, function.input_signature,
                                             custom_op_handlers={"Erfc": (_convert_erfc, [])})
    graph = proto.graph
    new_names = dict(zip((tensor.name for tensor in graph.output), outputs, strict=True))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new_names.get(name, name) for name in names]
    for tensor in graph.output:
        tensor.name = new_names[tensor.name]
    for tensor in (*graph.input, *graph.output):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, ("B", tensor.name), strict=False):
            axis.dim_param = name
    return proto


def _convert_erfc(graph, node, *_):
    """Convert Erfc (of TensorFlow's exact GELU) to 1 - Erf, because ONNX lacks Erfc."""
    node.type = "Erf"
    minuend = graph.make_const(f"{node.name}_one", np.ones((), np.float32))
    graph.insert_new_node_on_output("Sub", node.output[0],
                                    inputs=[minuend.output[0], node.output[0]])


def cached_graph(weight_set, kind: str) -> bytes:
    """The graph `kind` of a set: cached, unpacked from the set's archive, or built now. A damaged
    file of the cache is built again. A line on stderr reports a build, and a cache that cannot be
    written.
    """
    shipped = weight_set.folder.resolve().parent == CHECKOUT
    folder = cache_folder() if shipped else cache_folder() / "trained"
    # Graphs of an archive never take the place of graphs of other archives, or built from weights.
    prefix, name = weight_set.graphs and f"{weight_set.graphs[:16]}_", graph_name(weight_set, kind)
    if graph := _read_graph(folder / f"{prefix}{name}"):
        return graph
    graphs = unpack(weight_set)
    if name not in graphs:
        weight_set.require_weights()
        print(f"exporting {weight_set.name} ({kind}) to ONNX, once", file=sys.stderr, flush=True)
        for listener in tuple(listeners):
            listener()
        graphs = {name: build(weight_set, kind)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other, graph in graphs.items():
            _write_graph(folder / f"{prefix}{other}", graph)
        if not shipped:
            _evict(folder)
    except OSError as e:
        print(f"graphs cannot be cached in {printable(cache_folder())} ({reason(e)}) and will be "
              f"exported again next time; VQWAVE_CACHE names another folder", file=sys.stderr,
              flush=True)
    return graphs[name]


@contextlib.contextmanager
def listen(listener: Callable[[], None]):
    """Call `listener` before each graph that any thread builds while the block runs."""
    listeners.append(listener)
    try:
        yield
    finally:
        listeners.remove(listener)


def unpack(weight_set) -> dict[str, bytes]:
    """All graphs of the archive that has a set's graphs, by `graph_name`, see `packing.pack`; {}
    without one. Raises `WeightsError` for any archive but the one that the set's YAML lists.
    """
    if not weight_set.graphs:
        return {}
    path = graphs_path(weight_set.folder)
    try:
        with open(path, "rb") as file:
            packed = file.read(MOST_UNPACKED)
        if hashlib.sha256(packed).hexdigest() != weight_set.graphs:
            raise WeightsError(f"{path}: damaged, or of other weights: its checksum is not the one "
                               f"in {weight_set.yaml}; remove it, or copy both again")
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY)
        content = unpacker.decompress(packed, MOST_UNPACKED)
        if not unpacker.eof:
            raise WeightsError(f"{path}: is cut off, or unpacks to more than "
                               f"{MOST_UNPACKED >> 20} MiB")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return {entry.name: _extract(archive, entry) for entry in archive}
    except (OSError, EOFError, ValueError, TypeError, LookupError, lzma.LZMAError,
            tarfile.TarError) as e:
        raise WeightsError(f"{path}: cannot be read as an archive of graphs: {e}") from e


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    """A graph of the archive, whose kernels are transposed back."""
    if not entry.isreg() or entry.issparse() or not re.fullmatch(r"[\w-]+\.onnx", entry.name):
        raise ValueError(f"{entry.name!r} is no graph")  # a sparse file may be larger than it
    graph = bytearray(archive.extractfile(entry).read())
    for offset, shape in json.loads(entry.pax_headers.get(TRANSPOSED, "[]")):
        kernel = np.frombuffer(graph, np.float32, math.prod(shape), offset)
        graph[offset : offset + kernel.nbytes] = kernel.reshape(shape[::-1]).T.tobytes()
    return bytes(graph)


def graph_name(weight_set, kind: str) -> str:
    """The file name of a graph in the cache and in archives."""
    identity = "\n".join((weight_set.checksum, kind, EXPORTER))
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return f"{weight_set.name}_{kind}_{key}.onnx"


def _read_graph(path: Path) -> bytes | None:
    """A cached graph; None if it is missing or its checksum differs. Sets the file's time to now,
    because `_evict` removes by time.
    """
    with contextlib.suppress(OSError):
        graph = path.read_bytes()
        expected = _checksum_path(path).read_bytes().strip()
        if expected == hashlib.sha256(graph).hexdigest().encode():
            with contextlib.suppress(OSError):  # a read-only cache
                os.utime(path)
            return graph
    return None


def _write_graph(path: Path, graph: bytes):
    """Write the graph, and its sha256 beside it."""
    with atomic_write(path) as file:
        file.write(graph)
    with atomic_write(_checksum_path(path)) as file:
        file.write(hashlib.sha256(graph).hexdigest().encode() + b"\n")


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _evict(folder: Path):
    """Remove the least recently used graphs until the rest takes at most `CACHE_BYTES`."""
    graphs = []
    for path in folder.glob("*.onnx"):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            status = path.stat()
            graphs.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(graphs, reverse=True):
        total += size
        if total > CACHE_BYTES:
            path.unlink(missing_ok=True)
            _checksum_path(path).unlink(missing_ok=True)


def export(weight_set, folder, engine: str = "onnx") -> list[Path]:
    """Write a set's graphs into `folder`, see `paths`; returns their paths."""
    written = paths(weight_set, make_folder(folder), engine)
    for path, kind in zip(written, kinds(weight_set, engine), strict=True):
        graph = cached_graph(weight_set, kind)
        with atomic_write(path) as file:
            file.write(graph)
    return written


def paths(weight_set, folder, engine: str) -> list[Path]:
    """The files NAME_KIND.onnx of a set's graphs in `folder`."""
    return [Path(folder) / f"{weight_set.name}_{kind}.onnx" for kind in kinds(weight_set, engine)]
