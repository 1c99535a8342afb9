"""A generator's core and its sampling as one ONNX loop. Sampling divides the logits by the
temperature, then applies top-k, then top-p to the codes that remain. The inverse of the cumulative
distribution, in the order of the codes, draws the code. Weights are float32 or int8.
"""

from typing import Any

import numpy as np

from ..generators.generator import GeneratorConfig
from .nodes import BOOL, FLOAT, INT32, INT64, Nodes, tensors

OPSET = 18
MANY_STREAMS = 8
"""The number of streams from which `loop_many` is faster than `loop`."""


def precision(config: GeneratorConfig, engine: str) -> str:
    """The number format of a generator's weights in its loops."""
    return "int8" if engine == "onnx" and config.core.int8 else "float32"


def loop_kinds(config: GeneratorConfig, engine: str) -> list[str]:
    """The kinds of loops that an ONNX engine may play."""
    guided = ["loop_guided"] if config.labels else []
    return [f"{form}_{precision(config, engine)}"
            for form in ("loop", "loop_full", "loop_many", *guided)]


def loop_kind(precision: str, streams: int, full: bool, guided: bool = False) -> str:
    """The kind of loop for a number of streams. full: whether an input of `loop_full` is used."""
    form = ("loop_guided" if guided else "loop_full" if full
            else "loop_many" if streams >= MANY_STREAMS else "loop")
    return f"{form}_{precision}"


class LoopBuilder:
    """Builds one loop: n steps in one call.

    Inputs: uniforms float32 [n, B, books], previous int32 [B, books], inverse_temperature float32
    [], context float32 [n, B, C] (if the generator has conditions), and the core's states, each
    float32 [B, …]. Outputs: codes int32 [n, B, books], and each state with the suffix `_out`.

    `loop_full` has more inputs: forced int32 [n, B, books] (-1: sample), top_k int64 [] (0: all),
    top_p float32 [] (1: all) and bias float32 [books, codes], which is added to the logits before
    the temperature. It has one more output: log_probs float32 [n, B, books] (natural).
    `loop_many` equals `loop`, bit for bit, but is slower for one stream and faster for many.
    `loop_guided` is `loop_full` with the input guidance float32 [], and with 2·B rows of context
    and states: first with labels, then without.

    `body` holds the nodes of a step, `main` the nodes that run once per chunk. A step works on
    [1, B, …], the shape of an LSTM node, so that no node reshapes. In the body, a frame of one book
    is [1, B]. The codes have an axis of books before them where all books are drawn together.

    Args:
        core: a `cores_layer.Core` with its weights, whose `step` becomes the nodes of `body`.
        kind: one of `loop_kinds`.
    """

    def __init__(self, core, kind: str):
        from .step import Walk, of_all_books  # which need Keras

        form, precision = kind.rsplit("_", 1)
        self.core, self.config, self.books = core, core.config, core.config.books
        self.guided, self.many = form == "loop_guided", form == "loop_many"
        self.full = form in ("loop_full", "loop_guided")
        self.main, self.body = Nodes("main_"), Nodes("body_")
        self.walk = Walk(self.body, precision)
        self.codes: list[Any] = []
        self.logits: list[Any] = []
        self._trace()
        whole = of_all_books(self.logits)
        self.parallel = core.jacobi or whole is not None
        self.logits = self.logits if whole is None else [whole]
        self.code_axis = 3 if self.parallel else 2
        self.frame_shape = [1, "B"] if self.books == 1 else [1, "B", self.books]
        self.rows = "R" if self.guided else "B"

    def model(self, producer: str):
        """The graph as an `onnx.ModelProto`."""
        from onnx import helper

        self._scan(*self._step())
        return helper.make_model(
            helper.make_graph(self.main.nodes, self.config.name, tensors(self._inputs()),
                              tensors(self._outputs()), self.main.constants),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
            ir_version=9, producer_name="vqwave", producer_version=producer,
        )

    def _trace(self):
        """Take `step` of the core for symbolic tensors: logits, codes to be drawn, next states."""
        import keras

        def bind(name: str, shape, dtype: str = "float32"):
            tensor = keras.Input(shape, dtype=dtype)
            self.walk.bind(tensor, name)
            return tensor

        def draw(book, logits):
            self.logits.append(logits)
            self.codes.append(keras.Input((), dtype="int32"))
            return self.codes[-1]

        config, context = self.config, None
        previous = bind(self._for_all_rows("body_previous"), (self.books,), "int32")
        if self.books == 1:
            self.walk.without_books.add(id(previous))
        if config.context_channels:
            context = bind("body_context", (config.context_channels,))
        state = [bind(f"body_{name}", shape) for name, shape in config.states.items()]
        if self.core.jacobi:
            self.features, self.next_states = self.core.advance(previous, state)
            return
        options = ({"uniforms": bind(self._for_all_rows("body_uniforms"), (self.books,))}
                   if config.core.performs else {})
        _, self.next_states = self.core.step(previous, context, state, draw, **options)

    def _step(self) -> tuple[str, str]:
        """Draw the books of a frame in order: (name of the frame, name of its log_probs)."""
        body, uniforms = self.body, "body_uniforms"
        if self.parallel:
            uniforms = body("Unsqueeze", uniforms, [3])
        uniforms = self._by_book(body, uniforms, axis=2, keep=True)
        if self.full:
            forced = self._by_book(body, "body_forced", axis=2)
            biases = self._by_book(self.main, self.main("Mul", "bias", "inverse_temperature"), 0)
        inputs = [uniforms, *([forced, biases] if self.full else [])]
        if self.core.jacobi:
            return self._passes(*(x[0] for x in inputs))
        codes, all_logits = [], []
        for book, logits in enumerate(self.logits):
            logits, code = self._sample(book, logits, *(x[book] for x in inputs))
            codes.append(code)
            all_logits.append(logits)
            self.walk.bind(self.codes[book], self._for_all_rows(code))
        log_probs = [*map(self._log_prob, all_logits, codes)] if self.full else []
        if len(codes) == 1:
            return codes[0], "".join(log_probs)
        frame = body("Concat", *(body("Unsqueeze", code, [2]) for code in codes), axis=2)
        return frame, body("Concat", *log_probs, axis=2) if self.full else ""

    def _sample(self, book: int, tensor, uniform: str, forced: str = "",
                bias: str = "") -> tuple[str, str]:
        """(logits, code) of a book, or of all books at once. tensor: its symbolic logits."""
        logits = self.walk.scaled(tensor, "inverse_temperature", self.main)
        if self.guided:
            logits = self._guide(book, logits)
        if not self.full:
            return logits, self._draw(uniform, logits)
        logits = self._filter(self.body("Add", logits, bias))
        return logits, self._force(forced, self._draw(uniform, logits))

    def _passes(self, *inputs: str) -> tuple[str, str]:
        """Draw the books of a frame in a few passes: (frame, log_probs). inputs: as of `_sample`.

        A pass draws all books at once, as if the codes of the pass before were those of the lower
        books (Jacobi iteration; Song et al. 2021, "Accelerating Feedforward Computation via
        Parallel Nonlinear Equation Solving"). After k passes the lowest k books have the codes that
        drawing one book after another gives. When a pass changes nothing, all books have them. The
        first pass assumes that the notes of the frame before keep sounding.
        """
        import keras
        from onnx import helper

        outer = self.body
        for tensor in (*self.features, *self.next_states):
            self.walk(tensor)  # before the passes, which would do it again
        given = keras.Input((self.books,), dtype="int32")
        self.walk.bind(given, self._for_all_rows("pass_codes"))
        sounding = outer("Greater", "body_previous", np.array(0, np.int32))
        assumed = outer("Cast", sounding, to=INT32)
        # Until the graph of a pass is complete, its nodes are added to it.
        self.body = self.walk.nodes = body = Nodes("pass_")
        logits, codes = self._sample(0, self.core.frame_logits(self.features, given), *inputs)
        changed = body("Not", body("Equal", codes, "pass_codes"))
        any_changed = body("ReduceMax", body("Cast", changed, to=INT32), keepdims=0)
        goes_on = body("Cast", any_changed, to=BOOL)
        shape = [1, "B", self.books]
        step = helper.make_graph(
            body.nodes, "pass",
            tensors({"pass_number": (INT64, []), "pass_goes_on": (BOOL, []),
                     "pass_codes": (INT32, shape)}),
            tensors({goes_on: (BOOL, []), codes: (INT32, shape),
                     logits: (FLOAT, [*shape, self.config.num_codes])}), body.constants)
        self.body = self.walk.nodes = outer
        outer.node("Loop", np.array(self.books), "", assumed, outputs=["body_codes", "body_logits"],
                   body=step)
        if not self.full:
            return "body_codes", ""
        logits = outer("Gather", "body_logits", -1, axis=0)
        return "body_codes", self._log_prob(logits, "body_codes")

    def _for_all_rows(self, x: str) -> str:
        """[1, B, …] for all rows of the core; with guidance [1, 2·B, …], repeated."""
        return self.body("Concat", x, x, axis=1) if self.guided else x

    def _by_book(self, nodes: Nodes, x: str, axis: int, keep: bool = False) -> list[str]:
        """x, if one book is drawn or all are drawn together; otherwise the part of each book. keep:
        the part keeps the axis of books.
        """
        if self.books == 1 or self.parallel:
            return [x]
        return [nodes("Gather", x, [book] if keep else book, axis=axis)
                for book in range(self.books)]

    def _guide(self, book: int, logits: str) -> str:
        """Classifier-free guidance: logits with labels, moved away from logits without labels."""
        body, halves = self.body, [f"body_with_{book}", f"body_without_{book}"]
        body.node("Split", logits, outputs=halves, axis=1, num_outputs=2)
        return body("Add", halves[1], body("Mul", body("Sub", *halves), "guidance"))

    def _draw(self, uniform: str, logits: str) -> str:
        """Count the cumulative weights up to u · (sum of weights)."""
        body, axis = self.body, self.code_axis
        weights = body("Softmax", logits, axis=-1)
        if self.many:
            # With the codes on the first axis, CumSum adds rows of B numbers instead of single
            # numbers, in the same order.
            weights, uniform = (body("Transpose", x, perm=[axis, *range(axis)])
                                for x in (weights, uniform))
            axis = 0
        cumulated = body("CumSum", weights, axis)
        total = body("Gather", cumulated, [self.config.num_codes - 1], axis=axis)
        below = body("LessOrEqual", cumulated, body("Mul", total, uniform))
        return body("ReduceSum", body("Cast", below, to=INT32), [axis], keepdims=0)

    def _force(self, forced: str, code: str) -> str:
        """The forced code, or the drawn code where no code is forced."""
        is_free = self.body("Less", forced, np.array(0, np.int32))
        return self.body("Where", is_free, code, forced)

    def _log_prob(self, logits: str, code: str) -> str:
        body, axis = self.body, self.code_axis
        index = body("Unsqueeze", code, [axis])
        log_prob = body("GatherElements", body("LogSoftmax", logits, axis=-1), index, axis=axis)
        return body("Squeeze", log_prob, [3]) if self.parallel else log_prob

    def _filter(self, logits: str) -> str:
        """Keep the likeliest codes, without sorting where top_k and top_p keep all codes."""
        from onnx import helper

        main, body, keep = self.main, self.body, Nodes("keep_")
        shape = [1, "B", *[self.books] * self.parallel, self.config.num_codes]
        some_k = main("Greater", "top_k", 0)
        some_p = main("Less", "top_p", np.array(1, np.float32))
        branches = {name: helper.make_graph(nodes.nodes, name, [],
                                            tensors({result: (FLOAT, shape)}), nodes.constants)
                    for name, nodes, result in (
                        ("then_branch", *self._sort(logits, some_k, some_p)),
                        ("else_branch", keep, keep("Identity", logits)))}
        return body("If", main("Or", some_k, some_p), **branches)

    def _sort(self, logits: str, some_k: str, some_p: str) -> tuple[Nodes, str]:
        """The nodes of the branch that filters, and its output."""
        main, sort, axis = self.main, Nodes("sort_"), self.code_axis
        codes = self.config.num_codes
        count = main("Where", some_k, main("Min", "top_k", codes), codes)
        count = main("Reshape", count, [1])
        # A share of 2 keeps all codes, despite rounding errors of the sum.
        share = main("Where", some_p, "top_p", np.array(2, np.float32))
        sort.node("TopK", logits, count, outputs=["ranked", "order"], axis=-1)
        first = sort("Gather", "ranked", [0], axis=axis)
        weights = sort("Exp", sort("Sub", "ranked", first))
        total = sort("ReduceSum", weights, [-1])
        likely = sort("Less", sort("CumSum", weights, axis, exclusive=1), sort("Mul", total, share))
        lowest = np.array(-np.inf, np.float32)
        none = sort("Expand", lowest, sort("Shape", logits))
        return sort, sort("ScatterElements", none, "order",
                          sort("Where", likely, "ranked", lowest), axis=axis)

    def _scan(self, frame: str, log_probs: str):
        """The step as a Scan, which slices its inputs; a Loop needs a Gather for each input."""
        from onnx import helper

        main, books, states = self.main, self.books, self.config.states
        frames = INT32, self.frame_shape
        scanned = {"uniforms": (FLOAT, [1, "B", books])}
        outputs = {self.body("Identity", frame): frames}
        if self.config.context_channels:
            scanned["context"] = FLOAT, [1, self.rows, self.config.context_channels]
        if self.full:
            scanned["forced"] = frames
            outputs[log_probs] = FLOAT, [1, "B", books]

        def step_states(names) -> dict:
            return {name: (FLOAT, [1, self.rows, *x])
                    for name, x in zip(names, states.values(), strict=True)}

        next_states = step_states([self.walk(x) for x in self.next_states])
        step = helper.make_graph(
            self.body.nodes, "step",
            tensors({"body_previous": frames} | step_states([f"body_{s}" for s in states])
                    | {f"body_{name}": x for name, x in scanned.items()}),
            tensors({frame: frames} | next_states | outputs), self.body.constants)
        previous = main("Squeeze", "previous", [1]) if books == 1 else "previous"
        sequences = [main("Squeeze", x, [2]) if books == 1 and x == "forced" else x
                     for x in scanned]
        main.node("Scan", *(main("Unsqueeze", x, [0]) for x in (previous, *states)),
                  *(main("Unsqueeze", x, [1]) for x in sequences),
                  outputs=["last_frame", *(f"last_{s}" for s in states), "scanned_codes",
                           *["scanned_log_probs"] * self.full],
                  body=step, num_scan_inputs=len(scanned))
        codes = main("Unsqueeze", "scanned_codes", [3]) if books == 1 else "scanned_codes"
        main.node("Squeeze", codes, [1], outputs=["codes"])
        if self.full:
            main.node("Squeeze", "scanned_log_probs", [1], outputs=["log_probs"])
        for s in states:
            main.node("Squeeze", f"last_{s}", [0], outputs=[f"{s}_out"])

    def _inputs(self) -> dict:
        steps = ["n", "B", self.books]
        inputs = {"uniforms": (FLOAT, steps), "previous": (INT32, ["B", self.books]),
                  "inverse_temperature": (FLOAT, [])}
        if self.config.context_channels:
            inputs["context"] = FLOAT, ["n", self.rows, self.config.context_channels]
        if self.full:
            inputs |= {"forced": (INT32, steps), "top_k": (INT64, []), "top_p": (FLOAT, []),
                       "bias": (FLOAT, [self.books, self.config.num_codes])}
        if self.guided:
            inputs["guidance"] = FLOAT, []
        return inputs | self._states("")

    def _outputs(self) -> dict:
        steps = ["n", "B", self.books]
        log_probs = {"log_probs": (FLOAT, steps)} if self.full else {}
        return {"codes": (INT32, steps)} | log_probs | self._states("_out")

    def _states(self, end: str) -> dict:
        return {s + end: (FLOAT, [self.rows, *shape]) for s, shape in self.config.states.items()}
