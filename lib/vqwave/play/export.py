"""The bridge between the two planes: trained Keras weights -> ONNX graphs, made once and cached by checksum.

Convolutional parts (encoder, decoder, context) go through Keras's own ONNX export and need TensorFlow. A generator's
core becomes one ONNX loop, built here node by node from its arrays, which needs nothing but numpy and onnx.
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

from .. import quiet, weights
from ..config import PERIOD, CodecConfig
from ..data import chunking
from ..errors import UserError
from ..files import atomic_write, printable, reason

# Part of every cached graph's name: raise it when what is built below changes.
EXPORTER = "4"
# Cached graphs of one kind of one model.
KEPT = 8
OPSET = 18
# From so many units on a loop is bound by the weights it reads, and 4-bit ones pay for up to so many streams.
INT4_UNITS, INT4_STREAMS = 768, 8
# Weights that share a scale in 4 bits: the most that the kernels take, and the fastest; bits per code are as with 64.
INT4_BLOCK = 256

# The folder that stands in for a cache that cannot be written, once there is one.
_stand_in: list[Path] = []


def kinds(weight_set, engine: str) -> list[str]:
    """The graphs that an ONNX engine makes of a set."""
    if weights.kind(weight_set.name) == "vqvae":
        return ["encode", "decode"]
    loops = [f"{kind}_{number}" for number in numbers(weight_set.config, engine) for kind in ("loop", "loop_full")]
    return (["context"] if weight_set.config.source_level else []) + loops


def numbers(config, engine: str) -> list[str]:
    """What an ONNX engine's loops hold their weights in: for up to `INT4_STREAMS` streams the first, else the last."""
    if engine != "onnx":
        return ["float32"]
    return ["int4", "int8"] if config.units >= INT4_UNITS else ["int8"]


def build(weight_set, kind: str) -> bytes:
    """One serialised ONNX graph of a set: `encode`, `decode`, `context`, `loop[_full]_{int4,int8,float32}`.

    Its metadata hold the numbers that running it takes (`facts`). Errors: `UserError` where something it needs is not
    installed.
    """
    try:
        from onnx import helper

        if kind.startswith("loop"):
            arrays = weight_set.load("generator")
            made = loop_graph(weight_set.config, arrays, kind.rsplit("_", 1)[1], "full" in kind)
        else:
            with _quiet():
                made = _keras_part(weight_set, kind)
    except ImportError as e:
        raise UserError(f"{weight_set.name}: its {kind} graph is made with Keras, TensorFlow and tf2onnx: {e}") from e
    helper.set_model_props(made, {key: str(value) for key, value in facts(weight_set.config).items()})
    return made.SerializeToString()


def facts(config) -> dict[str, int]:
    """What a graph's metadata say of its model. A codec's halo is for running it in windows."""
    if isinstance(config, CodecConfig):
        held = {key: getattr(config, key) for key in ("level", "num_codes", "sample_rate")}
        halo = max(chunking.encode_halo(config), chunking.decode_halo(config))
        return held | {"halo": halo, "period": PERIOD // config.level if config.positioned else 0}
    keys = ("level", "source_level", "ratio", "halo", "num_codes", "start_token", "pad_token")
    return {key: getattr(config, key) for key in keys}


# --- convolutional parts ---------------------------------------------------------------------------------------------


def _keras_part(weight_set, kind: str):
    if kind == "context":
        return keras_graph(weights.load_generator(weight_set).context, "context")
    codec = weights.load_codec(weight_set)
    if kind == "encode":
        return keras_graph(_encode_model(codec), "codes")
    return keras_graph(codec.decode_model(), "samples")


def _encode_model(codec):
    """`VQVAE.encode_model` with its argmin as a top-1: Keras's argmin tests for -0.0 bit by bit, ONNX cannot."""
    import keras
    from keras import layers, ops

    class Nearest(layers.Layer):
        def call(self, latents):
            codebook = codec.quantizer.codebook
            distance = ops.sum(codebook**2, axis=1) - 2.0 * ops.matmul(latents, ops.transpose(codebook))
            return ops.top_k(-distance, 1)[1][..., 0]

    audio = keras.Input((None,), name="samples")
    latents = codec.encoder(layers.Reshape((-1, 1), name="channel")(audio))
    return keras.Model(audio, Nearest(name="codes")(latents), name="encode")


def keras_graph(model, output: str):
    """A Keras model of one output, then called `output`, as an `onnx.ModelProto`.

    The batch and time axes stay free: "B", and the tensor's own name.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        # The exporter wants a model that was called once.
        called = [np.zeros((2, 1024)[: len(x.shape)], x.dtype) for x in model.inputs]
        model(called if len(called) > 1 else called[0])
        model.export(path, format="onnx", verbose=False)
        made = onnx.load(path)
    graph = made.graph
    ending = graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [output if name == ending else name for name in names]
    graph.output[0].name = output
    for tensor in (*graph.input, graph.output[0]):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, ("B", tensor.name), strict=False):
            axis.dim_param = name
    _replace_erfc(graph)
    return made


def _replace_erfc(graph):
    """1 - Erf for each Erfc: TensorFlow makes its exact GELU of it, tf2onnx passes it on, and ONNX has none."""
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
    """TensorFlow and tf2onnx say on C's stderr and in warnings what no user can act on, unless they fail."""
    with warnings.catch_warnings(), quiet.unless_it_fails():
        warnings.simplefilter("ignore")
        yield


# --- the loop --------------------------------------------------------------------------------------------------------


def loop_graph(config, arrays: dict[str, np.ndarray], number: str, full: bool):
    """A generator's core and its sampling as one `onnx.ModelProto`: a chunk of n steps in one call.

    Inputs: uniforms float32 [n, B], context float32 [n, B, C] (not at the top of the chain), previous int32 [B],
    inverse_temperature float32 []; h_0, c_0, h_1, … float32 [B, units].
    Outputs: codes int32 [n, B], h_0_out, c_0_out, …
    A full graph also has the inputs forced int32 [n, B] (-1: sample), top_k int64 [] (0: all) and top_p float32 []
    (1: all), and the output log_probs float32 [n, B] (natural).
    The arithmetic is `sampling.distribution` and `sampling.pick`. `arrays`: by the Keras variables' paths.
    number: what the weights are held in, "float32", "int8" or "int4".
    """
    from onnx import TensorProto, helper

    units, layers, codes, channels = config.units, config.lstm_layers, config.num_codes, config.context_channels
    states = [f"{name}_{i}" for i in range(layers) for name in "hc"]
    f32, i32, i64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
    info = helper.make_tensor_value_info

    # The body works on [1, B, …], the shape an LSTM node's time, batch and features have: nothing needs reshaping.
    main, body = _Nodes("main_"), _Nodes("body_")
    if number == "int4":
        scaled, width = _int4_core(config, arrays, main, body), 4 * units
    else:
        scaled, width = _core(config, arrays, main, body, number == "int8"), channels
    if full:
        scaled = _filter(main, body, scaled, codes)
    reached = body("CumSum", body("Softmax", scaled, axis=-1), np.array(2))
    threshold = body("Mul", body("Gather", reached, np.array([codes - 1]), axis=2), "body_uniform")
    code = body("ReduceSum", body("Cast", body("LessOrEqual", reached, threshold), to=i32), np.array([-1]), keepdims=0)
    if full:
        code = body("Where", body("Less", "body_forced", np.array(0, np.int32)), code, "body_forced")
    made = [info(body("Identity", code), i32, [1, "B"])]
    if full:
        at = body("Unsqueeze", code, np.array([2]))
        chosen = body("GatherElements", body("LogSoftmax", scaled, axis=-1), at, axis=2)
        made.append(info(chosen, f32, [1, "B", 1]))

    scanned = [info("body_uniform", f32, [1, "B", 1])]
    sequences = [main("Unsqueeze", "uniforms", np.array([1, 3]))]
    if config.source_level:
        scanned.append(info("body_context", f32, [1, "B", width]))
        given = _context_gates(config, arrays, main) if number == "int4" else "context"
        sequences.append(main("Unsqueeze", given, np.array([1])))
    if full:
        scanned.append(info("body_forced", i32, [1, "B"]))
        sequences.append(main("Unsqueeze", "forced", np.array([1])))
    state_shape = [1, "B", units]
    step = helper.make_graph(
        body.nodes, "step",
        [info("body_previous", i32, [1, "B"]), *(info(f"body_{s}", f32, state_shape) for s in states), *scanned],
        [info(code, i32, [1, "B"]), *(info(f"body_{s}_out", f32, state_shape) for s in states), *made],
        body.constants,
    )
    # A Scan rather than a Loop: it slices its inputs itself, which saves a gather of each at every step.
    main.node(
        "Scan", *(main("Unsqueeze", s, np.array([0])) for s in ("previous", *states)), *sequences,
        outputs=["last", *(f"last_{s}" for s in states), "made_codes", *(["made_log_probs"] if full else [])],
        body=step, num_scan_inputs=len(scanned),
    )
    main.node("Squeeze", "made_codes", np.array([1]), outputs=["codes"])
    if full:
        main.node("Squeeze", "made_log_probs", np.array([1, 3]), outputs=["log_probs"])
    for s in states:
        main.node("Squeeze", f"last_{s}", np.array([0]), outputs=[f"{s}_out"])

    inputs = [info("uniforms", f32, ["n", "B"]), info("previous", i32, ["B"]), info("inverse_temperature", f32, [])]
    inputs += [info("context", f32, ["n", "B", channels])] if config.source_level else []
    inputs += [info("forced", i32, ["n", "B"]), info("top_k", i64, []), info("top_p", f32, [])] if full else []
    inputs += [info(s, f32, ["B", units]) for s in states]
    outputs = [info("codes", i32, ["n", "B"])] + ([info("log_probs", f32, ["n", "B"])] if full else [])
    outputs += [info(f"{s}_out", f32, ["B", units]) for s in states]
    return helper.make_model(
        helper.make_graph(main.nodes, config.name, inputs, outputs, main.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9, producer_name="vqwave", producer_version=EXPORTER,
    )


def _core(config, arrays, main: _Nodes, body: _Nodes, int8: bool) -> str:
    """Embedding, LSTMs and logits / temperature [1, B, codes].

    int8: symmetric weights, one scale a matrix; activations as each step's range asks (`DynamicQuantizeLSTM`).
    """
    x = body("Gather", arrays["embedding/embeddings"], "body_previous", axis=0)
    if config.source_level:
        x = body("Concat", x, "body_context", axis=-1)
    for i in range(config.lstm_layers):
        kernel, recurrent, bias = (
            _gates(arrays[f"lstm_{i}/lstm_cell/{name}"], "iofc") for name in ("kernel", "recurrent_kernel", "bias")
        )
        bias = np.concatenate([bias, np.zeros_like(bias)])[None]
        before, after = (f"body_h_{i}", f"body_c_{i}"), ["", f"body_h_{i}_out", f"body_c_{i}_out"]
        if int8:
            (w, w_scale), (r, r_scale) = _int8(kernel), _int8(recurrent)
            scales = (w_scale[None], np.zeros(1, np.int8), r_scale[None], np.zeros(1, np.int8))
            body.node(
                "DynamicQuantizeLSTM", x, w[None], r[None], bias, "", *before, "", *scales,
                outputs=after, domain="com.microsoft", hidden_size=config.units,
            )
        else:
            body.node("LSTM", x, kernel.T[None], recurrent.T[None], bias, "", *before, outputs=after,
                      hidden_size=config.units)
        x = after[1]
    kernel, bias = arrays["logits/kernel"], arrays["logits/bias"]
    if not int8:
        return body("Mul", body("Add", body("MatMul", x, kernel), bias), "inverse_temperature")
    # The temperature goes into the scale and the bias, once a chunk, and costs the step nothing.
    w, w_scale = _int8(kernel)
    main.node("Mul", w_scale, "inverse_temperature", outputs=["logits_scale"])
    main.node("Mul", bias, "inverse_temperature", outputs=["logits_bias"])
    zero = np.array(0, np.int8)
    return body("DynamicQuantizeMatMul", x, w, "logits_scale", zero, "logits_bias", domain="com.microsoft")


def _int4_core(config, arrays, main: _Nodes, body: _Nodes) -> str:
    """`_core` with 4-bit weights, one product a layer, where what is read of them sets the speed.

    In 4 bits are the recurrence, the layers above the first, and the logits. What the previous code adds to the first
    layer's gates is looked up in float32; what the context adds comes from `_context_gates`.
    """
    first, bias = (_gates(arrays[f"lstm_0/lstm_cell/{name}"], "ifoc") for name in ("kernel", "bias"))
    table = arrays["embedding/embeddings"] @ first[: config.embedding_dim] + bias
    given = body("Gather", table, "body_previous", axis=0)
    if config.source_level:
        given = body("Add", given, "body_context")
    x, units = None, config.units
    for i in range(config.lstm_layers):
        kernel, recurrent, bias = (
            _gates(arrays[f"lstm_{i}/lstm_cell/{name}"], "ifoc") for name in ("kernel", "recurrent_kernel", "bias")
        )
        h, c = f"body_h_{i}_out", f"body_c_{i}_out"
        if x is None:
            gates = body("Add", given, _int4_product(body, f"body_h_{i}", recurrent))
        else:
            both = body("Concat", x, f"body_h_{i}", axis=-1)
            gates = _int4_product(body, both, np.concatenate([kernel, recurrent]), bias)
        ifo, new = body.split(gates, 3 * units, units)
        i_, f_, o_ = body.split(body("Sigmoid", ifo), units, units, units)
        added = body("Mul", i_, body("Tanh", new))
        body.node("Add", body("Mul", f_, f"body_c_{i}"), added, outputs=[c])
        body.node("Mul", o_, body("Tanh", c), outputs=[h])
        x = h
    logits = _int4_product(body, x, arrays["logits/kernel"], arrays["logits/bias"])
    return body("Mul", logits, "inverse_temperature")


def _context_gates(config, arrays, main: _Nodes) -> str:
    """What the context adds to the first layer's gates, for a whole chunk: float32 [n, B, 4·units].

    One int8 product outside the loop. Each row has a scale of its own and integers add up exactly, so that a step's
    gates do not depend on the chunk it is in.
    """
    kernel = _gates(arrays["lstm_0/lstm_cell/kernel"], "ifoc")[config.embedding_dim :]
    scale = np.maximum(np.abs(kernel).max(0), 1e-12).astype(np.float32) / 127
    largest = main("Max", main("ReduceMax", main("Abs", "context"), np.array([-1])), np.array(1e-12, np.float32))
    unit, zero = np.array(1 / 127, np.float32), np.array(128, np.uint8)
    rows = main("QuantizeLinear", main("Div", "context", largest), unit, zero)
    gates = main("MatMulIntegerToFloat", rows, np.round(kernel / scale).astype(np.int8), unit, scale, zero,
                 domain="com.microsoft")
    return main("Mul", gates, largest)


class _Nodes:
    """Nodes and constants of one graph in the making; arrays among the inputs become constants."""

    def __init__(self, prefix: str):
        self.prefix, self.nodes, self.constants = prefix, [], []

    def __call__(self, kind: str, *inputs, **attributes) -> str:
        """Add a node of one output; its name."""
        name = f"{self.prefix}{len(self.nodes)}"
        self.node(kind, *inputs, outputs=[name], **attributes)
        return name

    def split(self, x: str, *widths: int) -> list[str]:
        """Parts of the last of three axes."""
        outputs = [f"{self.prefix}{len(self.nodes)}_{i}" for i in range(len(widths))]
        self.node("Split", x, np.array(widths), outputs=outputs, axis=2)
        return outputs

    def node(self, kind: str, *inputs, outputs: list[str], domain: str = "", **attributes):
        from onnx import helper, numpy_helper

        names = []
        for given in inputs:
            if not isinstance(given, str):
                name = f"{self.prefix}constant_{len(self.constants)}"
                self.constants.append(numpy_helper.from_array(np.ascontiguousarray(given).reshape(given.shape), name))
                given = name
            names.append(given)
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, outputs, name, domain=domain, **attributes))


def _filter(main: _Nodes, body: _Nodes, scaled: str, codes: int) -> str:
    """`sampling.filtered` on [1, B, codes] where top_k or top_p leave something out; else `scaled`, nothing sorted."""
    from onnx import TensorProto, helper

    some_k, some_p = main("Greater", "top_k", np.array(0)), main("Less", "top_p", np.array(1, np.float32))
    filtering = main("Or", some_k, some_p)
    kept = main("Where", some_k, main("Min", "top_k", np.array(codes)), np.array(codes))
    kept = main("Reshape", kept, np.array([1]))
    # All of it, whatever the rounding, where top_p is 1.
    share = main("Where", some_p, "top_p", np.array(2, np.float32))

    sort, leave = _Nodes("sort_"), _Nodes("leave_")
    sort.node("TopK", scaled, kept, outputs=["ranked", "order"], axis=-1)
    weights = sort("Exp", sort("Sub", "ranked", sort("Gather", "ranked", np.array([0]), axis=2)))
    total = sort("ReduceSum", weights, np.array([-1]))
    likely = sort("Less", sort("CumSum", weights, np.array(2), exclusive=1), sort("Mul", total, share))
    lowest = np.array(-np.inf, np.float32)
    nothing = sort("Expand", lowest, sort("Shape", scaled))
    out = sort("ScatterElements", nothing, "order", sort("Where", likely, "ranked", lowest), axis=2)
    branches = {}
    for name, nodes, result in (
        ("then_branch", sort, out), ("else_branch", leave, leave("Identity", scaled))
    ):
        shape = helper.make_tensor_value_info(result, TensorProto.FLOAT, [1, "B", codes])
        branches[name] = helper.make_graph(nodes.nodes, name, [], [shape], nodes.constants)
    return body("If", filtering, **branches)


def _gates(array: np.ndarray, order: str) -> np.ndarray:
    """The last axis from Keras's gate order (input, forget, cell, output) to another, "iofc" being ONNX's."""
    parts = dict(zip("ifco", np.split(array, 4, axis=-1), strict=True))
    return np.concatenate([parts[gate] for gate in order], axis=-1)


def _int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [in, out] -> symmetric int8 [in, out], its scale float32 []."""
    scale = np.float32(max(np.abs(array).max(), 1e-12) / 127)
    return np.round(array / scale).astype(np.int8), np.array(scale)


def _int4_product(nodes: _Nodes, x: str, weights: np.ndarray, bias: np.ndarray | None = None) -> str:
    """x [..., in] times float32 [in, out], held in 4 bits, plus bias: `MatMulNBits` with its products in int8.

    Each block of a column has a scale that takes its largest number to -8 and 0 to 0; two go into a byte.
    """
    count, width = weights.shape
    blocks = np.pad(weights.T, ((0, 0), (0, -count % INT4_BLOCK))).reshape(width, -1, INT4_BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scale = np.where(largest == 0, 1, largest / -8).astype(np.float32)
    whole = (np.clip(np.round(blocks / scale), -8, 7) + 8).astype(np.uint8)
    more = [] if bias is None else ["", "", bias]
    return nodes("MatMulNBits", x, whole[..., ::2] | whole[..., 1::2] << 4, scale[..., 0], *more,
                 domain="com.microsoft", K=count, N=width, bits=4, block_size=INT4_BLOCK, accuracy_level=4)


# --- the cache -------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """$VQWAVE_CACHE, else $XDG_CACHE_HOME/vqwave, else ~/.cache/vqwave. Errors: `UserError` where there is no home."""
    if os.environ.get("VQWAVE_CACHE"):
        return Path(os.environ["VQWAVE_CACHE"])
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqwave"
    except RuntimeError as e:
        raise UserError("there is no home folder to cache graphs in: set VQWAVE_CACHE to a folder") from e


def cached_graph(weight_set, kind: str) -> bytes:
    """The graph `kind` of a set, from the cache or made and put there. A torn or stale file is made again.

    A line on stderr says what is being made. Where the cache cannot be written, another line says so, and a folder for
    temporary files stands in for it as long as the process lives.
    """
    key = hashlib.sha256("\n".join((weight_set.checksum, kind, EXPORTER)).encode()).hexdigest()[:32]
    name = f"{weight_set.name}_{kind}_{key}.onnx"
    for folder in (cache_folder(), *_stand_in):
        with contextlib.suppress(OSError):
            graph = (folder / name).read_bytes()
            if (folder / f"{name}.sha256").read_bytes().strip() == hashlib.sha256(graph).hexdigest().encode():
                return graph
    print(f"exporting {weight_set.name} ({kind}) to ONNX, once", file=sys.stderr, flush=True)
    graph = build(weight_set, kind)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_graph(cache_folder() / name, graph)
        _forget(f"{weight_set.name}_{kind}_*.onnx")
    except OSError as e:
        if not _stand_in:
            folder = tempfile.mkdtemp(prefix="vqwave_")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _stand_in.append(Path(folder))
            print(f"graphs cannot be cached in {printable(cache_folder())} ({reason(e)}) and will be made again next time: "
                  "VQWAVE_CACHE names another folder", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            write_graph(_stand_in[0] / name, graph)
    return graph


def _forget(pattern: str):
    """Remove all but the newest graphs of one kind: each epoch that is listened to leaves some."""
    graphs = sorted(cache_folder().glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
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
    """Write a set's graphs into `folder` as NAME_KIND.onnx; their paths. Errors: `UserError`: no such folder can be."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{printable(folder)}: cannot be made: {reason(e)}") from e
    made = []
    for kind in kinds(weight_set, engine):
        made.append(folder / f"{weight_set.name}_{kind}.onnx")
        graph = cached_graph(weight_set, kind)
        with atomic_write(made[-1]) as file:
            file.write(graph)
    return made
