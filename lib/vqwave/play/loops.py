"""A generator's core and its sampling as one ONNX loop, built node by node from its arrays with
numpy and onnx alone.

One class for each kind of the config's `core`, in `LOOPS`. The arithmetic of drawing is that of
`sampling.distribution` and `sampling.pick`. Weights are held in float32, int8 or 4 bits
(`precision`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import Config, GeneratorConfig, LSTMCore

OPSET = 18
# From so many units on 4-bit weights are played for up to so many streams: their product takes a
# row at a time, so that int8 is faster for more.
INT4_UNITS, INT4_STREAMS = 768, 2
# From so many streams on the sums that codes are drawn from run through all streams at once.
MANY_STREAMS = 8
# Weights that share a scale in 4 bits: the most that the kernels take, and the fastest; bits per
# code are as with 64.
INT4_BLOCK = 256


def precisions(config: GeneratorConfig, engine: str) -> list[str]:
    """What an ONNX engine's loops hold their weights in: for up to `INT4_STREAMS` streams the
    first, else the last.
    """
    if engine != "onnx":
        return ["float32"]
    return LOOPS[type(config.core)].precisions(config)


def loop_kinds(config: GeneratorConfig, engine: str) -> list[str]:
    """The loops that an ONNX engine may play, as `export` names their graphs."""
    held = precisions(config, engine)
    return [f"{form}_{one}" for one in held
            for form in ("loop", "loop_full", *(["loop_many"] if one == held[-1] else []))]


def loop_kind(precision: str, streams: int, full: bool) -> str:
    """The loop that plays so many streams; `full` where one of its further inputs is given."""
    form = "loop_full" if full else "loop_many" if streams >= MANY_STREAMS else "loop"
    return f"{form}_{precision}"


def loop_graph(config: GeneratorConfig, arrays: dict[str, np.ndarray], kind: str, producer: str):
    """A chunk of n steps in one call, as an `onnx.ModelProto`.

    Inputs: uniforms float32 [n, B, books], context float32 [n, B, C] (not at the top of the chain),
    previous int32 [B, books], inverse_temperature float32 []; the core's states, each float32 [B,
    …].

    Outputs: codes int32 [n, B, books] and each state, its name with `_out`.

    `loop_full` also has the inputs forced int32 [n, B, books] (-1: sample), top_k int64 [] (0:
    all), top_p float32 [] (1: all) and bias float32 [books, codes], which is added to the logits
    before the temperature, and the output log_probs float32 [n, B, books] (natural).
    `loop_many` makes what `loop` makes, bit for bit: slower for one stream, faster for many.

    Args:
        arrays: by the Keras variables' paths.
        kind: one of `loop_kinds`.
    """
    from onnx import TensorProto, helper

    form, precision = kind.rsplit("_", 1)
    full, many = form == "loop_full", form == "loop_many"
    books, codes, channels = config.books, config.num_codes, config.context_channels
    f32, i32, i64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
    info = helper.make_tensor_value_info

    # The body works on [1, B, …], the shape an LSTM node's time, batch and features have: nothing
    # needs reshaping. With one book a frame is [1, B] inside.
    main, body = Nodes("main_"), Nodes("body_")
    core = LOOPS[type(config.core)](config, arrays, precision, main, body)
    shapes = config.core.states
    frame = [1, "B"] if books == 1 else [1, "B", books]

    def of_book(sequence: str, k: int, keep: bool) -> str:
        """Book k of what is scanned, [1, B, 1] or [1, B]."""
        if books == 1:
            return sequence
        return body("Gather", sequence, np.array([k]) if keep else np.array(k), axis=2)

    bias = main("Mul", "bias", "inverse_temperature") if full else ""
    features = core.features("body_previous", "body_context")
    drawn, chosen = [], []
    # Books that are drawn together have an axis of their own before that of the codes.
    together = core.draws < books
    last = 3 if together else 2
    for k in range(core.draws):
        scaled = core.logits(k, features, drawn)
        if full:
            scaled = body("Add", scaled, bias if together
                          else main("Gather", bias, np.array(k), axis=0))
            scaled = _filter(main, body, scaled, [1, "B", books, codes] if together
                             else [1, "B", codes])
        weights, axis = body("Softmax", scaled, axis=-1), last
        uniform = (body("Unsqueeze", "body_uniform", np.array([3])) if together
                   else of_book("body_uniform", k, True))
        if many:
            # [codes, 1, B]: the kernel adds rows of B numbers, where along the last axis it adds
            # one number at a time. The same numbers are added in the same order.
            weights, uniform = (body("Transpose", x, perm=[last, *range(last)])
                                for x in (weights, uniform))
            axis = 0
        reached = body("CumSum", weights, np.array(axis))
        threshold = body("Mul", body("Gather", reached, np.array([codes - 1]), axis=axis), uniform)
        code = body("ReduceSum", body("Cast", body("LessOrEqual", reached, threshold), to=i32),
                    np.array([axis]),
                    keepdims=0)
        if full:
            given = "body_forced" if together else of_book("body_forced", k, False)
            code = body("Where", body("Less", given, np.array(0, np.int32)), code, given)
            at = body("Unsqueeze", code, np.array([last]))
            found = body("GatherElements", body("LogSoftmax", scaled, axis=-1), at, axis=last)
            chosen.append(body("Squeeze", found, np.array([3])) if together else found)
        drawn.append(code)
    if len(drawn) == 1:
        (code,) = drawn
    else:
        code = body("Concat", *(body("Unsqueeze", c, np.array([2])) for c in drawn), axis=2)
    made = [info(body("Identity", code), i32, frame)]
    if full:
        log_probs = chosen[0] if len(chosen) == 1 else body("Concat", *chosen, axis=2)
        made.append(info(log_probs, f32, [1, "B", books]))

    scanned = [info("body_uniform", f32, [1, "B", books])]
    sequences = [main("Unsqueeze", "uniforms", np.array([1]))]
    if channels:
        scanned.append(info("body_context", f32, [1, "B", core.context_width]))
        sequences.append(main("Unsqueeze", core.context("context"), np.array([1])))
    one = np.array([2])  # the axis of books, where there is one
    if full:
        scanned.append(info("body_forced", i32, frame))
        forced = main("Squeeze", "forced", one) if books == 1 else "forced"
        sequences.append(main("Unsqueeze", forced, np.array([1])))
    step = helper.make_graph(
        body.nodes, "step",
        [info("body_previous", i32, frame),
         *(info(f"body_{s}", f32, [1, "B", *x]) for s, x in shapes.items()),
         *scanned],
        [info(code, i32, frame), *(info(f"body_{s}_out", f32, [1, "B", *x])
                                   for s, x in shapes.items()), *made],
        body.constants,
    )
    previous = main("Squeeze", "previous", np.array([1])) if books == 1 else "previous"
    # A Scan rather than a Loop: it slices its inputs itself, which saves a gather of each at every
    # step.
    main.node(
        "Scan", *(main("Unsqueeze", s, np.array([0])) for s in (previous, *shapes)), *sequences,
        outputs=["last", *(f"last_{s}" for s in shapes), "made_codes",
                 *(["made_log_probs"] if full else [])],
        body=step, num_scan_inputs=len(scanned),
    )
    if books == 1:  # [n, 1, B] -> [n, B, 1]
        main.node("Unsqueeze", main("Squeeze", "made_codes", np.array([1])), one, outputs=["codes"])
    else:
        main.node("Squeeze", "made_codes", np.array([1]), outputs=["codes"])
    if full:
        main.node("Squeeze", "made_log_probs", np.array([1]), outputs=["log_probs"])
    for s in shapes:
        main.node("Squeeze", f"last_{s}", np.array([0]), outputs=[f"{s}_out"])

    inputs = [info("uniforms", f32, ["n", "B", books]), info("previous", i32, ["B", books]),
              info("inverse_temperature", f32, [])]
    inputs += [info("context", f32, ["n", "B", channels])] if channels else []
    inputs += [info("forced", i32, ["n", "B", books]), info("top_k", i64, []),
               info("top_p", f32, []), info("bias", f32, [books, codes])] if full else []
    inputs += [info(s, f32, ["B", *x]) for s, x in shapes.items()]
    outputs = ([info("codes", i32, ["n", "B", books])]
               + ([info("log_probs", f32, ["n", "B", books])] if full else []))
    outputs += [info(f"{s}_out", f32, ["B", *x]) for s, x in shapes.items()]
    return helper.make_model(
        helper.make_graph(main.nodes, config.name, inputs, outputs, main.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9, producer_name="vqwave", producer_version=producer,
    )


class LSTMLoop:
    """The body of `nn.cores.LSTMStack`. In int8 weights are symmetric, one scale a matrix, and
    activations as each step's range asks; in 4 bits one product a layer, where what is read of the
    weights sets the speed.

    What a loop class offers `loop_graph`, for a core of any kind:
        LOOP(config, arrays, precision, main, body): config is the generator's, arrays its weights
            by the Keras variables' paths; it adds nodes to `body`, one step, and to `main`, once a
            chunk.
        precisions(config): what the ONNX engine holds its weights in, the one for few streams
        first. bytes_per_step(config, arrays): bytes of weights that a step reads, by precision:
            every one that the loop can be built in, float32 among them.
        draws: as many as there are books, or 1 where those of a frame are drawn together.
        context_width: channels of what `context` makes.
        context(name): what each step gets of the context, from the whole chunk's float32 [n, B, C];
            a name in `main`, float32 [n, B, context_width].
        features(previous, context): names in `body` of the frame before, int32 [1, B] (with several
            books [1, B, books]), and of the context, float32 [1, B, context_width] -> the name of
            float32 [1, B, any width]. It reads each state s of the config's `states` from
            `body_{s}` and writes `body_{s}_out`, [1, B, …] both.
        logits(book, features, drawn): called for each draw in order; the name of float32 [1, B,
            num_codes], or [1, B, books, num_codes] of books together, times `inverse_temperature`.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        self.config, self.arrays, self.precision = config, arrays, precision
        self.main, self.body = main, body
        self.before = ""  # what the books drawn so far in a frame add to the next one's
        self.previous = ""  # the frame before
        self.draws = config.books if config.core.drawing == "in_order" else 1
        # In 4 bits what the context adds to the first layer's gates comes from outside the loop.
        self.context_width = (4 * config.core.units if precision == "int4"
                              else config.context_channels)

    @staticmethod
    def precisions(config) -> list[str]:
        return ["int4", "int8"] if config.core.units >= INT4_UNITS else ["int8"]

    @staticmethod
    def bytes_per_step(config, arrays: dict[str, np.ndarray]) -> dict[str, int]:
        """The LSTMs' and the logits' matrices, and a row of each book's embedding. In 4 bits a
        block's scale counts too; the first layer's inputs come as a row each of its gates.
        """
        count = sum(a.size for path, a in arrays.items() if path.endswith("kernel"))
        row = 4 * config.books * config.core.embedding_dim
        given = arrays["lstm_0/lstm_cell/kernel"]
        rows = 4 * given.shape[1] * (config.books + bool(config.conditions))
        return {"int4": (count - given.size) // 2 + 4 * (count - given.size) // INT4_BLOCK + rows,
                "int8": count + row, "float32": 4 * count + row}

    def context(self, given: str) -> str:
        return self._context_gates(given) if self.precision == "int4" else given

    def features(self, previous: str, context: str) -> str:
        """The last LSTM's output [1, B, units] from the frame before and the context."""
        self.previous = previous
        return (self._int4_layers if self.precision == "int4" else self._layers)(previous, context)

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        """logits / temperature [1, B, codes] of a book, or [1, B, books, codes] of all; drawn: the
        codes [1, B] of those before it in the frame.
        """
        from onnx import TensorProto

        arrays, body = self.arrays, self.body
        if not book:
            outputs = self._temper("logits", features)
            if self.draws < self.config.books:
                outputs = body("Reshape", outputs, np.array([0, 0, self.config.books, -1]))
            return self._point(0, outputs)
        added = body("Gather", arrays[f"before_{book}/embeddings"], drawn[-1], axis=0)
        if self.config.core.repeats:
            same = body("Cast", body("Equal", drawn[-1], self._previous_code(book - 1)),
                        to=TensorProto.INT32)
            stays_and_changes = arrays[f"changed_{book}/embeddings"][::-1]
            added = body("Add", added, body("Gather", stays_and_changes, same, axis=0))
        self.before = added if book == 1 else body("Add", self.before, added)
        state = self._dense(features, arrays[f"state_{book}/kernel"], arrays[f"state_{book}/bias"])
        hidden = body("FastGelu", body("Add", state, self.before), domain="com.microsoft")
        return self._point(book, self._temper(f"logits_{book}", hidden))

    def _previous_code(self, book: int) -> str:
        """[1, B]: a book's code in the frame before."""
        return (self.previous if self.config.books == 1
                else self.body("Gather", self.previous, np.array(book), axis=2))

    def _point(self, book: int, outputs: str) -> str:
        """A book's outputs, or those of all, -> logits [1, B, codes] or [1, B, books, codes]."""
        body, count = self.body, self.config.num_codes
        if not self.config.core.repeats:
            return outputs
        logits, repeat = body.split(outputs, count, 1)
        together = self.draws < self.config.books
        before = self.previous if together else self._previous_code(book)
        # The start token equals none of them.
        before = body("Unsqueeze", before, np.array([3 if together else 2]))
        here = body("Equal", before, np.arange(count, dtype=np.int32))
        return body("Where", here, body("Add", logits, repeat), logits)

    def _dense(self, x: str, kernel, bias) -> str:
        body = self.body
        if self.precision == "float32":
            return body("Add", body("MatMul", x, kernel), bias)
        if self.precision == "int4":
            return _int4_product(body, x, kernel, bias)
        w, scale = _int8(kernel)
        return body("DynamicQuantizeMatMul", x, w, scale, np.array(0, np.int8),
                    bias, domain="com.microsoft")

    def _temper(self, name: str, x: str) -> str:
        """The layer `name` of x, divided by the temperature."""
        kernel, bias = self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"]
        main, body = self.main, self.body
        if self.precision != "int8":
            return body("Mul", self._dense(x, kernel, bias), "inverse_temperature")
        # The temperature goes into the scale and the bias, once a chunk, and costs the step
        # nothing.
        w, scale = _int8(kernel)
        main.node("Mul", scale, "inverse_temperature", outputs=[f"{name}_scale"])
        main.node("Mul", bias, "inverse_temperature", outputs=[f"{name}_bias"])
        zero = np.array(0, np.int8)
        return body("DynamicQuantizeMatMul", x, w, f"{name}_scale", zero,
                    f"{name}_bias", domain="com.microsoft")

    def _embed(self, table: np.ndarray, previous: str) -> str:
        """[1, B, width]: the vectors of a frame's books side by side."""
        books, body = self.config.books, self.body
        if books == 1:
            return body("Gather", table, previous, axis=0)
        first = (np.arange(books) * (self.config.num_codes + 1)).astype(np.int32)
        vectors = body("Gather", table, body("Add", previous, first), axis=0)
        return body("Reshape", vectors, np.array([0, 0, -1]))

    def _weights(self, layer: int, name: str, order: str) -> np.ndarray:
        return _gates(self.arrays[f"lstm_{layer}/lstm_cell/{name}"], order)

    def _layers(self, previous: str, context: str) -> str:
        body, config = self.body, self.config
        x = self._embed(self.arrays["embedding/embeddings"], previous)
        if config.context_channels:
            x = body("Concat", x, context, axis=-1)
        for i in range(config.core.layers):
            kernel, recurrent, bias = (self._weights(i, name, "iofc")
                                       for name in ("kernel", "recurrent_kernel", "bias"))
            bias = np.concatenate([bias, np.zeros_like(bias)])[None]
            before = f"body_h_{i}", f"body_c_{i}"
            after = ["", f"body_h_{i}_out", f"body_c_{i}_out"]
            if self.precision == "int8":
                (w, w_scale), (r, r_scale) = _int8(kernel), _int8(recurrent)
                scales = (w_scale[None], np.zeros(1, np.int8), r_scale[None], np.zeros(1, np.int8))
                body.node(
                    "DynamicQuantizeLSTM", x, w[None], r[None], bias, "", *before, "", *scales,
                    outputs=after, domain="com.microsoft", hidden_size=config.core.units,
                )
            else:
                body.node("LSTM", x, kernel.T[None], recurrent.T[None],
                          bias, "", *before, outputs=after,
                          hidden_size=config.core.units)
            x = after[1]
        return x

    def _int4_layers(self, previous: str, context: str) -> str:
        """In 4 bits are the recurrence, the layers above the first, and the logits. What the
        previous frame adds to the first layer's gates is looked up in float32, a table a book.
        """
        body, config, units = self.body, self.config, self.config.core.units
        first, bias = (self._weights(0, name, "ifoc") for name in ("kernel", "bias"))
        width, rows = config.core.embedding_dim, config.num_codes + 1
        embeddings = self.arrays["embedding/embeddings"]
        tables = [embeddings[k * rows : (k + 1) * rows] @ first[k * width : (k + 1) * width]
                  for k in range(config.books)]
        tables[0] = tables[0] + bias
        given = self._embed_sum(tables, previous)
        if config.context_channels:
            given = body("Add", given, context)
        x = None
        for i in range(config.core.layers):
            kernel, recurrent, bias = (self._weights(i, name, "ifoc")
                                       for name in ("kernel", "recurrent_kernel", "bias"))
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
        return x

    def _embed_sum(self, tables: list[np.ndarray], previous: str) -> str:
        """[1, B, 4·units]: the rows of a frame's books, added up."""
        if len(tables) == 1:
            return self.body("Gather", tables[0], previous, axis=0)
        first = (np.arange(len(tables)) * len(tables[0])).astype(np.int32)
        rows = self.body("Gather", np.concatenate(tables),
                         self.body("Add", previous, first), axis=0)
        return self.body("ReduceSum", rows, np.array([2]), keepdims=0)

    def _context_gates(self, context: str) -> str:
        """What the context adds to the first layer's gates, for a whole chunk: float32 [n, B,
        4·units].

        One int8 product outside the loop. Each row has a scale of its own and integers add up
        exactly, so that a step's gates do not depend on the chunk it is in.
        """
        main, config = self.main, self.config
        kernel = self._weights(0, "kernel", "ifoc")[config.books * config.core.embedding_dim :]
        scale = np.maximum(np.abs(kernel).max(0), 1e-12).astype(np.float32) / 127
        largest = main("Max", main("ReduceMax", main("Abs", context), np.array([-1])),
                       np.array(1e-12, np.float32))
        unit, zero = np.array(1 / 127, np.float32), np.array(128, np.uint8)
        rows = main("QuantizeLinear", main("Div", context, largest), unit, zero)
        gates = main("MatMulIntegerToFloat", rows, np.round(kernel / scale).astype(np.int8),
                     unit, scale, zero,
                     domain="com.microsoft")
        return main("Mul", gates, largest)


LOOPS: dict[type[Config], Any] = {LSTMCore: LSTMLoop}
"""The body of each kind of core: a class that offers what `LSTMLoop` says."""


class Nodes:
    """Nodes and constants of one graph in the making; arrays among the inputs become constants."""

    def __init__(self, prefix: str):
        self.prefix, self.nodes, self.constants = prefix, [], []

    def __call__(self, kind: str, *inputs, **attributes) -> str:
        """Add a node of one output; its name."""
        name = f"{self.prefix}{len(self.nodes)}"
        self.node(kind, *inputs, outputs=[name], **attributes)
        return name

    def split(self, x: str, *widths: int) -> list[str]:
        """Parts of the last axis."""
        outputs = [f"{self.prefix}{len(self.nodes)}_{i}" for i in range(len(widths))]
        self.node("Split", x, np.array(widths), outputs=outputs, axis=-1)
        return outputs

    def node(self, kind: str, *inputs, outputs: list[str], domain: str = "", **attributes):
        from onnx import helper, numpy_helper

        names = []
        for given in inputs:
            if not isinstance(given, str):
                name = f"{self.prefix}constant_{len(self.constants)}"
                array = np.ascontiguousarray(given).reshape(given.shape)
                self.constants.append(numpy_helper.from_array(array, name))
                given = name
            names.append(given)
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, outputs, name, domain=domain, **attributes))


def _filter(main: Nodes, body: Nodes, scaled: str, shape: list) -> str:
    """`sampling.filter_logits` on the last axis where top_k or top_p leave something out; else
    `scaled`, of this shape, nothing sorted.
    """
    from onnx import TensorProto, helper

    some_k = main("Greater", "top_k", np.array(0))
    some_p = main("Less", "top_p", np.array(1, np.float32))
    filtering = main("Or", some_k, some_p)
    codes, axis = np.array(shape[-1]), len(shape) - 1
    kept = main("Where", some_k, main("Min", "top_k", codes), codes)
    kept = main("Reshape", kept, np.array([1]))
    # All of it, whatever the rounding, where top_p is 1.
    share = main("Where", some_p, "top_p", np.array(2, np.float32))

    sort, leave = Nodes("sort_"), Nodes("leave_")
    sort.node("TopK", scaled, kept, outputs=["ranked", "order"], axis=-1)
    weights = sort("Exp", sort("Sub", "ranked", sort("Gather", "ranked", np.array([0]), axis=axis)))
    total = sort("ReduceSum", weights, np.array([-1]))
    likely = sort("Less", sort("CumSum", weights, np.array(axis), exclusive=1),
                  sort("Mul", total, share))
    lowest = np.array(-np.inf, np.float32)
    nothing = sort("Expand", lowest, sort("Shape", scaled))
    out = sort("ScatterElements", nothing, "order", sort("Where", likely, "ranked", lowest),
               axis=axis)
    branches = {}
    for name, nodes, result in (
        ("then_branch", sort, out), ("else_branch", leave, leave("Identity", scaled))
    ):
        made = helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)
        branches[name] = helper.make_graph(nodes.nodes, name, [], [made], nodes.constants)
    return body("If", filtering, **branches)


def _gates(array: np.ndarray, order: str) -> np.ndarray:
    """The last axis from Keras's gate order (input, forget, cell, output) to another, "iofc" being
    ONNX's.
    """
    parts = dict(zip("ifco", np.split(array, 4, axis=-1), strict=True))
    return np.concatenate([parts[gate] for gate in order], axis=-1)


def _int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [in, out] -> symmetric int8 [in, out], its scale float32 []."""
    scale = np.float32(max(np.abs(array).max(), 1e-12) / 127)
    return np.round(array / scale).astype(np.int8), np.array(scale)


def _int4_product(nodes: Nodes, x: str, weights: np.ndarray, bias: np.ndarray | None = None) -> str:
    """x [..., in] times float32 [in, out], held in 4 bits, plus bias: `MatMulNBits` with its
    products in int8.

    Each block of a column has a scale that takes its largest number to -8 and 0 to 0; two go into a
    byte.
    """
    count, width = weights.shape
    blocks = np.pad(weights.T, ((0, 0), (0, -count % INT4_BLOCK))).reshape(width, -1, INT4_BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scale = np.where(largest == 0, 1, largest / -8).astype(np.float32)
    whole = (np.clip(np.round(blocks / scale), -8, 7) + 8).astype(np.uint8)
    more = [] if bias is None else ["", "", bias]
    return nodes("MatMulNBits", x, whole[..., ::2] | whole[..., 1::2] << 4, scale[..., 0], *more,
                 domain="com.microsoft", K=count, N=width, bits=4, block_size=INT4_BLOCK,
                 accuracy_level=4)
