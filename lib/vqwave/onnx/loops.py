"""A generator's core and its sampling as one ONNX loop, built with numpy and onnx alone.

The arithmetic of drawing is that of `sampling.distribution` and `sampling.pick`. Weights are in
float32 or int8 (`precision`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import GeneratorConfig
from .bodies import LSTMBody, PixelCNNBody, TransformerBody, WaveNetBody
from .nodes import Nodes

OPSET = 18

MANY_STREAMS = 8
"""The number of streams from which `loop_many` is faster than `loop`."""

LOOPS: dict[str, Any] = {"lstm": LSTMBody, "wavenet": WaveNetBody, "transformer": TransformerBody,
                         "pixelcnn": PixelCNNBody}
"""The body of each kind of core: a class with the methods of `bodies.Body`."""


def precision(engine: str) -> str:
    """The number format of the weights in the loops of an ONNX engine."""
    return "int8" if engine == "onnx" else "float32"


def loop_kinds(config: GeneratorConfig, engine: str) -> list[str]:
    """The kinds of loops that an ONNX engine may play."""
    guided = ["loop_guided"] if config.labels else []
    return [f"{form}_{precision(engine)}"
            for form in ("loop", "loop_full", "loop_many", *guided)]


def loop_kind(precision: str, streams: int, full: bool, guided: bool = False) -> str:
    """The kind of loop for a number of streams. full: whether an input of `loop_full` is used."""
    form = ("loop_guided" if guided else "loop_full" if full
            else "loop_many" if streams >= MANY_STREAMS else "loop")
    return f"{form}_{precision}"


def loop_graph(config: GeneratorConfig, arrays: dict[str, np.ndarray], kind: str, producer: str):
    """n steps in one call, as an `onnx.ModelProto`.

    Inputs: uniforms float32 [n, B, books], previous int32 [B, books], inverse_temperature float32
    [], context float32 [n, B, C] (where the generator has one), and the core's states, each float32
    [B, …]. Outputs: codes int32 [n, B, books], and each state under its name with `_out`.

    `loop_full` has the further inputs forced int32 [n, B, books] (-1: sample), top_k int64 [] (0:
    all), top_p float32 [] (1: all) and bias float32 [books, codes], which is added to the logits
    before the temperature; and the output log_probs float32 [n, B, books] (natural).
    `loop_many` equals `loop`, bit for bit: slower for one stream, faster for many.
    `loop_guided` is `loop_full` with 2·B rows of context and states, with labels and then without,
    and the input guidance float32 [].

    Args:
        arrays: by the paths of the Keras variables.
        kind: one of `loop_kinds`.
    """
    return LoopBuilder(config, arrays, kind).model(producer)


class LoopBuilder:
    """Builds one loop. `body` holds the nodes of a step, `main` those that run once a chunk.

    A step works on [1, B, …], the shape of an LSTM node, so that no node reshapes. In the body a
    frame of one book is [1, B]. Books that are drawn together have an axis before the codes.
    """

    def __init__(self, config: GeneratorConfig, arrays: dict[str, np.ndarray], kind: str):
        form, precision = kind.rsplit("_", 1)
        self.config, self.books = config, config.books
        self.guided, self.many = form == "loop_guided", form == "loop_many"
        self.full = form in ("loop_full", "loop_guided")
        self.main, self.body = Nodes("main_"), Nodes("body_")
        self.core = LOOPS[config.core.kind](config, arrays, precision, self.main, self.body)
        self.together = self.core.together
        self.code_axis = 3 if self.together else 2
        self.frame_shape = [1, "B"] if self.books == 1 else [1, "B", self.books]
        self.rows = "R" if self.guided else "B"

    def model(self, producer: str):
        from onnx import helper

        self._scan(*self._step())
        inputs, outputs = self._inputs(), self._outputs()
        return helper.make_model(
            helper.make_graph(self.main.nodes, self.config.name, inputs, outputs,
                              self.main.constants),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
            ir_version=9, producer_name="vqwave", producer_version=producer,
        )

    # --- a step ---

    def _step(self) -> tuple[str, str]:
        """Draw the books of a frame in order; names of the frame and of its log-probabilities."""
        body = self.body
        if self.full:
            self.bias = self.main("Mul", "bias", "inverse_temperature")
        features = self.core.features(self._for_all_rows("body_previous"), "body_context")
        codes, rows, log_probs = [], [], []
        for book in range(1 if self.together else self.books):
            logits = self.core.logits(book, features, rows)
            if self.guided:
                logits = self._guide(book, logits)
            if self.full:
                logits = self._filter(self._add_bias(book, logits))
            code = self._draw(book, logits)
            if self.full:
                code = self._force(book, code)
                log_probs.append(self._log_prob(logits, code))
            codes.append(code)
            rows.append(self._for_all_rows(code))
        if len(codes) == 1:
            return codes[0], "".join(log_probs)
        frame = body("Concat", *(body("Unsqueeze", c, np.array([2])) for c in codes), axis=2)
        return frame, body("Concat", *log_probs, axis=2) if self.full else ""

    def _for_all_rows(self, x: str) -> str:
        """[1, B, …] for the rows of the core: with guidance twice, with labels and without."""
        return self.body("Concat", x, x, axis=1) if self.guided else x

    def _of_book(self, scanned: str, index: np.ndarray) -> str:
        """The part of a book from [1, B, books]: an index [1] keeps the axis, an index [] drops it.
        """
        return scanned if self.books == 1 else self.body("Gather", scanned, index, axis=2)

    def _guide(self, book: int, logits: str) -> str:
        """Classifier-free guidance: logits with labels, moved away from logits without labels."""
        body, halves = self.body, [f"body_with_{book}", f"body_without_{book}"]
        body.node("Split", logits, outputs=halves, axis=1, num_outputs=2)
        return body("Add", halves[1], body("Mul", body("Sub", *halves), "guidance"))

    def _add_bias(self, book: int, logits: str) -> str:
        bias = (self.bias if self.together
                else self.main("Gather", self.bias, np.array(book), axis=0))
        return self.body("Add", logits, bias)

    def _draw(self, book: int, logits: str) -> str:
        """`sampling.pick`: the number of cumulative weights up to the uniform draw."""
        from onnx import TensorProto

        body, axis = self.body, self.code_axis
        weights = body("Softmax", logits, axis=-1)
        uniform = (body("Unsqueeze", "body_uniform", np.array([3])) if self.together
                   else self._of_book("body_uniform", np.array([book])))
        if self.many:
            # With the codes as the first axis, CumSum adds rows of B numbers instead of single
            # numbers, in the same order.
            weights, uniform = (body("Transpose", x, perm=[axis, *range(axis)])
                                for x in (weights, uniform))
            axis = 0
        cumulated = body("CumSum", weights, np.array(axis))
        total = body("Gather", cumulated, np.array([self.config.num_codes - 1]), axis=axis)
        reached = body("LessOrEqual", cumulated, body("Mul", total, uniform))
        return body("ReduceSum", body("Cast", reached, to=TensorProto.INT32), np.array([axis]),
                    keepdims=0)

    def _force(self, book: int, code: str) -> str:
        """The forced code, or the drawn code where no code is forced."""
        body = self.body
        forced = "body_forced" if self.together else self._of_book("body_forced", np.array(book))
        return body("Where", body("Less", forced, np.array(0, np.int32)), code, forced)

    def _log_prob(self, logits: str, code: str) -> str:
        body, axis = self.body, self.code_axis
        index = body("Unsqueeze", code, np.array([axis]))
        log_prob = body("GatherElements", body("LogSoftmax", logits, axis=-1), index, axis=axis)
        return body("Squeeze", log_prob, np.array([3])) if self.together else log_prob

    def _filter(self, logits: str) -> str:
        """`sampling.filter_logits`, without sorting where top_k and top_p keep all codes."""
        from onnx import TensorProto, helper

        main, body = self.main, self.body
        shape = [self.books] * self.together + [self.config.num_codes]
        some_k = main("Greater", "top_k", np.array(0))
        some_p = main("Less", "top_p", np.array(1, np.float32))
        branches = {}
        keep = Nodes("keep_")
        for name, nodes, result in (
            ("then_branch", *self._sort(logits, some_k, some_p)),
            ("else_branch", keep, keep("Identity", logits)),
        ):
            info = helper.make_tensor_value_info(result, TensorProto.FLOAT, [1, "B", *shape])
            branches[name] = helper.make_graph(nodes.nodes, name, [], [info], nodes.constants)
        return body("If", main("Or", some_k, some_p), **branches)

    def _sort(self, logits: str, some_k: str, some_p: str) -> tuple[Nodes, str]:
        """The nodes of the branch that filters, and its output."""
        main, sort, axis = self.main, Nodes("sort_"), self.code_axis
        codes = np.array(self.config.num_codes)
        count = main("Where", some_k, main("Min", "top_k", codes), codes)
        count = main("Reshape", count, np.array([1]))
        # A share of 2 keeps all codes, however the sum of the weights is rounded.
        share = main("Where", some_p, "top_p", np.array(2, np.float32))
        sort.node("TopK", logits, count, outputs=["ranked", "order"], axis=-1)
        first = sort("Gather", "ranked", np.array([0]), axis=axis)
        weights = sort("Exp", sort("Sub", "ranked", first))
        total = sort("ReduceSum", weights, np.array([-1]))
        likely = sort("Less", sort("CumSum", weights, np.array(axis), exclusive=1),
                      sort("Mul", total, share))
        lowest = np.array(-np.inf, np.float32)
        none = sort("Expand", lowest, sort("Shape", logits))
        return sort, sort("ScatterElements", none, "order",
                          sort("Where", likely, "ranked", lowest), axis=axis)

    # --- the loop around it ---

    def _scan(self, frame: str, log_probs: str):
        """The step as a Scan, which slices its inputs; a Loop needs a Gather for each input."""
        from onnx import TensorProto, helper

        main, books, info = self.main, self.books, helper.make_tensor_value_info
        f32, i32 = TensorProto.FLOAT, TensorProto.INT32
        states, channels = self.config.states, self.config.context_channels
        book_axis = np.array([2])
        scanned = [info("body_uniform", f32, [1, "B", books])]
        sequences = ["uniforms"]
        if channels:
            scanned.append(info("body_context", f32, [1, self.rows, channels]))
            sequences.append("context")
        if self.full:
            scanned.append(info("body_forced", i32, self.frame_shape))
            sequences.append(main("Squeeze", "forced", book_axis) if books == 1 else "forced")
        outputs = [info(self.body("Identity", frame), i32, self.frame_shape)]
        if self.full:
            outputs.append(info(log_probs, f32, [1, "B", books]))

        def state_infos(end: str) -> list:
            return [info(f"body_{s}{end}", f32, [1, self.rows, *x]) for s, x in states.items()]

        step = helper.make_graph(
            self.body.nodes, "step",
            [info("body_previous", i32, self.frame_shape), *state_infos(""), *scanned],
            [info(frame, i32, self.frame_shape), *state_infos("_out"), *outputs],
            self.body.constants)
        previous = main("Squeeze", "previous", np.array([1])) if books == 1 else "previous"
        main.node("Scan", *(main("Unsqueeze", x, np.array([0])) for x in (previous, *states)),
                  *(main("Unsqueeze", x, np.array([1])) for x in sequences),
                  outputs=["last_frame", *(f"last_{s}" for s in states), "scanned_codes",
                           *["scanned_log_probs"] * self.full],
                  body=step, num_scan_inputs=len(scanned))
        codes = main("Squeeze", "scanned_codes", np.array([1])) if books == 1 else "scanned_codes"
        main.node("Unsqueeze" if books == 1 else "Squeeze", codes,
                  book_axis if books == 1 else np.array([1]), outputs=["codes"])
        if self.full:
            main.node("Squeeze", "scanned_log_probs", np.array([1]), outputs=["log_probs"])
        for s in states:
            main.node("Squeeze", f"last_{s}", np.array([0]), outputs=[f"{s}_out"])

    def _inputs(self) -> list:
        from onnx import TensorProto

        f32, i32, steps = TensorProto.FLOAT, TensorProto.INT32, ["n", "B", self.books]
        inputs = {"uniforms": (f32, steps), "previous": (i32, ["B", self.books]),
                  "inverse_temperature": (f32, [])}
        if self.config.context_channels:
            inputs["context"] = f32, ["n", self.rows, self.config.context_channels]
        if self.full:
            inputs |= {"forced": (i32, steps), "top_k": (TensorProto.INT64, []),
                       "top_p": (f32, []), "bias": (f32, [self.books, self.config.num_codes])}
        if self.guided:
            inputs["guidance"] = f32, []
        return _infos(inputs | self._states(""))

    def _outputs(self) -> list:
        from onnx import TensorProto

        steps = ["n", "B", self.books]
        log_probs = {"log_probs": (TensorProto.FLOAT, steps)} if self.full else {}
        return _infos({"codes": (TensorProto.INT32, steps)} | log_probs | self._states("_out"))

    def _states(self, end: str) -> dict:
        from onnx import TensorProto

        return {s + end: (TensorProto.FLOAT, [self.rows, *shape])
                for s, shape in self.config.states.items()}


def _infos(tensors: dict[str, tuple[int, list]]) -> list:
    """{name: (type, shape)} as ONNX describes inputs and outputs."""
    from onnx import helper

    return [helper.make_tensor_value_info(name, *x) for name, x in tensors.items()]
