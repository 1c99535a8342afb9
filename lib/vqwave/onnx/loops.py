"""A generator's core and its sampling as one ONNX loop, built node by node from its arrays with
numpy and onnx alone.

What a step does is in `bodies.py`, one class for each kind of the config's `core`, in `LOOPS`. The
arithmetic of drawing is that of `sampling.distribution` and `sampling.pick`. Weights are held in
float32, int8 or 4 bits (`precision`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import (
    Config,
    GeneratorConfig,
    LSTMCore,
    PixelCNNCore,
    TransformerCore,
    WaveNetCore,
)
from .bodies import LSTMBody, PixelCNNBody, TransformerBody, WaveNetBody
from .nodes import Nodes

OPSET = 18
# 4-bit weights are played for up to so many streams: their product takes a row at a time, so that
# int8 is faster for more.
INT4_STREAMS = 2
# From so many streams on the sums that codes are drawn from run through all streams at once.
MANY_STREAMS = 8


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
    guided = ["loop_guided"] if config.labels else []
    return [f"{form}_{one}" for one in held
            for form in ("loop", "loop_full", *(["loop_many"] if one == held[-1] else []), *guided)]


def loop_kind(precision: str, streams: int, full: bool, guided: bool = False) -> str:
    """The loop that plays so many streams; `full` where one of its further inputs is given."""
    form = ("loop_guided" if guided else "loop_full" if full
            else "loop_many" if streams >= MANY_STREAMS else "loop")
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
    `loop_guided` is `loop_full` for 2·B rows of context and states, those with labels and then
    those without, and has the input guidance float32 [].

    Args:
        arrays: by the Keras variables' paths.
        kind: one of `loop_kinds`.
    """
    from onnx import TensorProto, helper

    form, precision = kind.rsplit("_", 1)
    guided, many = form == "loop_guided", form == "loop_many"
    full = guided or form == "loop_full"
    books, codes, channels = config.books, config.num_codes, config.context_channels
    f32, i32, i64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
    info = helper.make_tensor_value_info

    # The body works on [1, B, …], the shape an LSTM node's time, batch and features have: nothing
    # needs reshaping. With one book a frame is [1, B] inside.
    main, body = Nodes("main_"), Nodes("body_")
    core = LOOPS[type(config.core)](config, arrays, precision, main, body)
    shapes = config.states
    frame, rows = [1, "B"] if books == 1 else [1, "B", books], "R" if guided else "B"

    def for_both(x: str) -> str:
        """[1, B, …] as the rows with labels and those without have it."""
        return body("Concat", x, x, axis=1) if guided else x

    def of_book(sequence: str, k: int, keep: bool) -> str:
        """Book k of what is scanned, [1, B, 1] or [1, B]."""
        if books == 1:
            return sequence
        return body("Gather", sequence, np.array([k]) if keep else np.array(k), axis=2)

    bias = main("Mul", "bias", "inverse_temperature") if full else ""
    features = core.features(for_both("body_previous"), "body_context")
    drawn, told, chosen = [], [], []
    # Books that are drawn together have an axis of their own before that of the codes.
    together = core.together
    last = 3 if together else 2
    for k in range(1 if together else books):
        scaled = core.logits(k, features, told)
        if guided:
            halves = [f"body_with_{k}", f"body_without_{k}"]
            body.node("Split", scaled, outputs=halves, axis=1, num_outputs=2)
            scaled = body("Add", halves[1], body("Mul", body("Sub", *halves), "guidance"))
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
        told.append(for_both(code))
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
        scanned.append(info("body_context", f32, [1, rows, core.context_width]))
        sequences.append(main("Unsqueeze", core.context("context"), np.array([1])))
    one = np.array([2])  # the axis of books, where there is one
    if full:
        scanned.append(info("body_forced", i32, frame))
        forced = main("Squeeze", "forced", one) if books == 1 else "forced"
        sequences.append(main("Unsqueeze", forced, np.array([1])))
    step = helper.make_graph(
        body.nodes, "step",
        [info("body_previous", i32, frame),
         *(info(f"body_{s}", f32, [1, rows, *x]) for s, x in shapes.items()),
         *scanned],
        [info(code, i32, frame), *(info(f"body_{s}_out", f32, [1, rows, *x])
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
    inputs += [info("context", f32, ["n", rows, channels])] if channels else []
    inputs += [info("forced", i32, ["n", "B", books]), info("top_k", i64, []),
               info("top_p", f32, []), info("bias", f32, [books, codes])] if full else []
    inputs += [info("guidance", f32, [])] if guided else []
    inputs += [info(s, f32, [rows, *x]) for s, x in shapes.items()]
    outputs = ([info("codes", i32, ["n", "B", books])]
               + ([info("log_probs", f32, ["n", "B", books])] if full else []))
    outputs += [info(f"{s}_out", f32, [rows, *x]) for s, x in shapes.items()]
    return helper.make_model(
        helper.make_graph(main.nodes, config.name, inputs, outputs, main.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9, producer_name="vqwave", producer_version=producer,
    )


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


LOOPS: dict[type[Config], Any] = {LSTMCore: LSTMBody, WaveNetCore: WaveNetBody,
                                 TransformerCore: TransformerBody, PixelCNNCore: PixelCNNBody}
"""The body of each kind of core: a class that offers what `bodies.Body` says."""
