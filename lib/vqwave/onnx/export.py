"""The bridge between the two planes: trained Keras weights -> ONNX graphs, made once and cached by
checksum.

Convolutional parts (encoder, decoder, context) go through Keras's own ONNX export and need
TensorFlow. A generator's core becomes one ONNX loop, built here node by node from its arrays, which
needs nothing but numpy and onnx.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from .. import quiet
from ..config import PERIOD, CodecConfig
from ..errors import UserError
from ..io.files import atomic_write, make_folder, printable, reason
from .loops import loop_graph, loop_kinds

# Part of every cached graph's name: raise it when what is built below changes.
EXPORTER = "6"
# Cached graphs of one kind of one model.
KEPT = 8
GENERATOR_FACTS = ("level", "source_level", "ratio", "halo", "num_codes",
                   "books", "start_token", "pad_token")

# The folder that stands in for a cache that cannot be written, once there is one.
_stand_in: list[Path] = []


def kinds(weight_set, engine: str) -> list[str]:
    """The graphs that an ONNX engine makes of a set."""
    config = weight_set.config
    if isinstance(config, CodecConfig):
        return (["encode", "decode"] + ["decode_part"] * config.in_parts
                + ["encode_block", "decode_block"] * config.in_blocks)
    return (["context"] if config.conditions else []) + loop_kinds(config, engine)


def build(weight_set, kind: str) -> bytes:
    """One serialised ONNX graph of a set: `encode`, `decode`, `decode_part`, `encode_block`,
    `decode_block`, `context`, `loop[_full,_many,_guided]_{int4,int8,float32}`.

    Its metadata hold the numbers that running it takes. Raises `UserError` where something it needs
    is not installed.
    """
    try:
        from onnx import helper

        if kind.startswith("loop"):
            arrays, config = weight_set.load("generator"), weight_set.config
            made = loop_graph(config, arrays, kind, EXPORTER)
            held = {key: getattr(config, key) for key in GENERATOR_FACTS}
        else:
            with _quiet():
                made, held = _keras_part(weight_set, kind)
    except ImportError as e:
        raise UserError(f"{weight_set.name}: its {kind} graph is made with Keras, TensorFlow and "
                        f"tf2onnx: {e}") from e
    helper.set_model_props(made, {key: str(value) for key, value in held.items()})
    return made.SerializeToString()


# --- convolutional parts --------------------------------------------------------------------------


def _keras_part(weight_set, kind: str):
    """(the graph, its metadata)."""
    quiet.import_keras()
    config = weight_set.config
    if kind == "context":
        from ..nn.generator import load_generator

        model = load_generator(weight_set).context_model()
        frames = 1024 // (config.ratio or 1)
        lengths = {condition.input: frames * (config.ratio or 1) for condition in config.conditions}
        if config.source:
            lengths[config.source.input] = frames + 2 * config.halo
        return (keras_graph(model, "context", length=lengths),
                {key: getattr(config, key) for key in GENERATOR_FACTS})
    from ..nn.codec import load_codec

    codec = load_codec(weight_set)
    facts = ("num_codes", "books") if config.has_codes else ("frame_width",)
    held = {key: getattr(config, key) for key in ("level", *facts, "sample_rate")}
    held |= {"encode_halo": codec.encode_halo, "decode_halo": codec.decode_halo,
             "latency": codec.latency,
             "period": PERIOD // config.level if config.needs_position else 0}
    make, outputs = {
        "encode": (codec.encode_model, ["codes"]),
        "decode": (codec.decode_model, ["samples"]),
        "decode_part": (codec.decode_part_model, ["samples"]),
        "encode_block": (codec.encode_block_model, ["codes", "state_out"]),
        "decode_block": (codec.decode_block_model, ["samples", "state_out"]),
    }[kind]
    model = make()
    if kind == "decode_part":
        held |= {"decode_near": codec.decode_near}
    if kind.endswith("_block"):
        held |= {"state": model.inputs[1].shape[-1]}
    return keras_graph(model, *outputs, length=max(1024, config.level),
                       width=config.frame_width), held


def keras_graph(model, *outputs: str, length: int | dict[str, int] = 1024, width: int = 1):
    """A Keras model, its outputs then called `outputs`, as an `onnx.ModelProto`.

    The batch and time axes stay free: "B", and the tensor's own name. length: of the time axis in
        the call that the exporter wants to have been made; of each input, by name, where they
        differ. width: of the third axis there, where it is free.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        # The exporter wants a model that was called once.
        lengths = [length[x.name] if isinstance(length, dict) else length for x in model.inputs]
        called = [np.zeros([size or free for size, free in zip(x.shape, (2, steps, width, 1),
                                                               strict=False)], x.dtype)
                  for x, steps in zip(model.inputs, lengths, strict=True)]
        model(called if len(called) > 1 else called[0])
        model.export(path, format="onnx", verbose=False)
        made = onnx.load(path)
    graph = made.graph
    called_now = dict(zip((tensor.name for tensor in graph.output), outputs, strict=True))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [called_now.get(name, name) for name in names]
    for tensor in graph.output:
        tensor.name = called_now[tensor.name]
    for tensor in (*graph.input, *graph.output):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, ("B", tensor.name), strict=False):
            axis.dim_param = name
    _replace_erfc(graph)
    return made


def _replace_erfc(graph):
    """1 - Erf for each Erfc: TensorFlow makes its exact GELU of it, tf2onnx passes it on, and ONNX
    has none.
    """
    from onnx import helper, numpy_helper

    one = numpy_helper.from_array(np.ones((), np.float32), "one_of_erfc")
    nodes = []
    for node in graph.node:
        if node.op_type == "Erfc":
            inner = f"{node.output[0]}_erf"
            nodes.append(helper.make_node("Erf", node.input, [inner]))
            node = helper.make_node("Sub", [one.name, inner], node.output)
        nodes.append(node)
    if len(nodes) > len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.append(one)


@contextlib.contextmanager
def _quiet():
    """TensorFlow and tf2onnx say on C's stderr and in warnings what no user can act on, unless they
    fail.
    """
    with warnings.catch_warnings(), quiet.mute_stderr_unless_it_fails():
        warnings.simplefilter("ignore")
        yield


# --- the cache ------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """$VQWAVE_CACHE, else $XDG_CACHE_HOME/vqwave, else ~/.cache/vqwave. Raises `UserError` where
    there is no home.
    """
    if os.environ.get("VQWAVE_CACHE"):
        return Path(os.environ["VQWAVE_CACHE"])
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqwave"
    except RuntimeError as e:
        raise UserError("there is no home folder to cache graphs in: set VQWAVE_CACHE to a "
                        "folder") from e


def cached_graph(weight_set, kind: str) -> bytes:
    """The graph `kind` of a set, from the cache or made and put there. A torn or stale file is made
    again.

    A line on stderr says what is being made. Where the cache cannot be written, another line says
    so, and a folder for temporary files stands in for it as long as the process lives.
    """
    key = hashlib.sha256("\n".join((weight_set.checksum, kind, EXPORTER)).encode()).hexdigest()[:32]
    name = f"{weight_set.name}_{kind}_{key}.onnx"
    for folder in (cache_folder(), *_stand_in):
        with contextlib.suppress(OSError):
            graph = (folder / name).read_bytes()
            expected = (folder / f"{name}.sha256").read_bytes().strip()
            if expected == hashlib.sha256(graph).hexdigest().encode():
                return graph
    print(f"exporting {weight_set.name} ({kind}) to ONNX, once", file=sys.stderr, flush=True)
    graph = build(weight_set, kind)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_graph(cache_folder() / name, graph)
        _forget(f"{weight_set.name}_{kind}_{'?' * len(key)}.onnx")
    except OSError as e:
        if not _stand_in:
            folder = tempfile.mkdtemp(prefix="vqwave_")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _stand_in.append(Path(folder))
            print(
                f"graphs cannot be cached in {printable(cache_folder())} ({reason(e)}) and will be "
                f"made again next time: "
                "VQWAVE_CACHE names another folder",
                file=sys.stderr,
                flush=True)
        with contextlib.suppress(OSError):
            write_graph(_stand_in[0] / name, graph)
    return graph


def _forget(pattern: str):
    """Remove all but the newest graphs of one kind: each epoch that is listened to leaves some."""
    def read_time(path):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_mtime
        return 0.0  # another process has just removed it

    graphs = sorted(cache_folder().glob(pattern), key=read_time, reverse=True)
    for path in graphs[KEPT:]:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)


def write_graph(path: Path, graph: bytes):
    """The graph and its sha256 beside it, each atomically."""
    with atomic_write(path) as file:
        file.write(graph)
    with atomic_write(path.with_name(f"{path.name}.sha256")) as file:
        file.write(hashlib.sha256(graph).hexdigest().encode() + b"\n")


def export(weight_set, folder, engine: str = "onnx") -> list[Path]:
    """Write a set's graphs into `folder` as NAME_KIND.onnx; their paths. Raises `UserError` where
    no such folder can be.
    """
    folder = make_folder(folder)
    made = []
    for kind in kinds(weight_set, engine):
        made.append(folder / f"{weight_set.name}_{kind}.onnx")
        graph = cached_graph(weight_set, kind)
        with atomic_write(made[-1]) as file:
            file.write(graph)
    return made
