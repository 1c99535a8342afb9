"""Of every core: teacher-forced logits equal those step by step; the ONNX loop equals Keras."""

from types import SimpleNamespace

import keras
import numpy as np
import onnx
import pytest
from keras import ops

from vqwave.codecs import WHOLE_SHARE
from vqwave.export import export
from vqwave.generators import CORES, GeneratorConfig, Sampling
from vqwave.generators.generator_layer import Generator, take_weights
from vqwave.io import weights
from vqwave.levels import replace, to_dict
from vqwave.play import engine

CODES, STEPS = 16, 24
SMALL = {
    "lstm": {"kind": "lstm", "units": 12},
    "lstm-deep": {"kind": "lstm", "units": 12, "layers": 3},
    "wavenet": {"kind": "wavenet", "channels": 12, "skip_channels": 10, "dilations": [1, 2, 4, 1]},
    "wavenet-wide": {"kind": "wavenet", "channels": 8, "skip_channels": 10, "kernel_size": 3,
                     "dilations": [3, 1]},
    "transformer": {"kind": "transformer", "width": 12, "heads": 3, "layers": 2, "hidden_dim": 16,
                    "window": 5, "sinks": 2},
    "transformer-long": {"kind": "transformer", "width": 8, "heads": 2, "layers": 1,
                         "hidden_dim": 8, "window": 32, "sinks": 0},
    "pixelcnn": {"kind": "pixelcnn", "channels": 6, "kernel_books": 3, "dilations": [1, 2, 1]},
    "pixelcnn-wide": {"kind": "pixelcnn", "channels": 6, "kernel_frames": 3, "kernel_books": 7,
                      "dilations": [1, 2]},
}
"""A small core of every kind: what it remembers fits into less than `STEPS`."""

SHAPES = {
    "top": {},
    "below": {"books": 3, "source": 2},
}
CASES = [*(f"{core} below" for core in SMALL), "pixelcnn top"]


def describe(core, books=1, source=0):
    conditions = [{"kind": "codes", "level": 512, "num_codes": 8, "books": source, "channels": 5,
                   "dilations": [1]}] if source else []
    common = {"embedding_dim": 6, "head_dim": 7}
    return GeneratorConfig(name="generator_128", level=128, num_codes=CODES, books=books,
                           core=SMALL[core] | common, conditions=conditions)


def save_lively(folder, config):
    """A generator with random weights so large that each code clearly depends on the past."""
    keras.utils.set_random_seed(2)
    model = Generator(config)
    # The embeddings of earlier books are initialised too small to matter here.
    scales = {"embedding": 15.0, "before_": 15.0, "logits": 3.0, "lstm_": 2.0,
              "enter": 3.0, "down_": 3.0, "gates_": 3.0, "across_": 3.0, "hidden": 3.0}
    for variable in model.core.weights:
        for name, scale in scales.items():
            if variable.path.startswith(name) and not variable.path.endswith("bias"):
                variable.assign(variable * scale)
        if variable.path.startswith("sinks_"):
            variable.assign(keras.random.normal(variable.shape))
    weights.save(folder, config.name, "", model.parts, config)
    return model


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A generator in Keras, its saved weights, a batch of three pieces of codes, and their context."""
    core, shape = request.param.split()
    config = describe(core, **SHAPES[shape])
    folder = tmp_path_factory.mktemp("weights")
    model = save_lively(folder, config)
    rng = np.random.default_rng(4)
    codes = rng.integers(0, CODES, (3, STEPS, config.books)).astype(np.int32)
    codes[:, 1::3] = codes[:, ::3]  # some stay
    start = np.full((3, 1, config.books), config.start_token, np.int32)
    inputs = {"previous": np.concatenate([start, codes[:, :-1]], axis=1), "current": codes}
    context = None
    if config.source:
        frames = STEPS // config.ratio + 2 * config.halo
        inputs["source"] = rng.integers(0, 8, (3, frames, config.source.books)).astype(np.int32)
        context = ops.convert_to_numpy(model.context(inputs))
    return SimpleNamespace(config=config, model=model, inputs=inputs, context=context,
                           shapes={v.path: v.shape for v in model.core.weights},
                           codes=codes, start=start[:, 0], weight_set=weights.find(folder, config.name),
                           draws=rng.random(codes.shape, np.float32))


@pytest.fixture(scope="module")
def teacher_forced(case):
    """Teacher-forced logits float32 [3, STEPS, books, codes]."""
    return ops.convert_to_numpy(case.model(case.inputs))


def test_new_labels_change_nothing_until_they_are_trained(case, teacher_forced):
    labels = {"kind": "labels", "of": "folder", "names": ["a", "b"], "channels": 4}
    others = [to_dict(condition) for condition in case.config.conditions]
    config = replace(case.config, conditions=[*others, labels])
    assert config.with_labels(None) == case.config
    model = Generator(config)

    def logits(label):
        labels = np.tile(np.array([[label, WHOLE_SHARE]], np.int32), (3, 1, 1, 1))
        return ops.convert_to_numpy(model(case.inputs | {"label": labels}))

    take_weights(model, case.weight_set)
    for label in (0, 2):
        np.testing.assert_allclose(logits(label), teacher_forced, atol=1e-5)
    new_rows = [v for v in model.core.trainable_variables if not v.numpy().all()
                and v.shape[0] > case.shapes.get(v.path, (0,))[0]]
    for v in new_rows:
        v.assign(keras.random.normal(v.shape))
    assert np.abs(logits(0) - logits(2)).max() > 1e-3


def test_every_weight_has_its_own_path(case):
    # Of a score and of a performer: test_passes.py, generators/test_performer.py.
    assert {describe(core).core.kind for core in SMALL} == CORES.configs.keys() - {"roll", "frames"}
    held = case.model.parts["generator"]
    assert len({v.path for v in held}) == len(held) == len({id(v) for v in held})
    assert {v.path for v in held} == set(case.weight_set.load("generator"))


def test_step_by_step_is_teacher_forcing(case, teacher_forced):
    assert teacher_forced.std() > 0.1
    state = [np.zeros((3, *shape), np.float32) for shape in case.model.config.states.values()]
    for t in range(STEPS):
        seen = []

        def draw(book, logits, t=t, seen=seen):
            seen.append(ops.convert_to_numpy(logits))
            return ops.convert_to_tensor(case.codes[:, t, book])

        context = None if case.context is None else case.context[:, t]
        frame, state = case.model.core.step(case.inputs["previous"][:, t], context, state, draw)
        np.testing.assert_array_equal(frame, case.codes[:, t])
        np.testing.assert_allclose(np.stack(seen, axis=1), teacher_forced[:, t], atol=1e-4)
        # The states keep the shapes of the config.
        assert [tuple(x.shape[1:]) for x in state] == list(case.config.states.values())


def test_the_loop_scores_codes_as_teacher_forcing_does(case, teacher_forced):
    logits = teacher_forced / 0.9
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.take_along_axis(expected, case.codes[..., None], -1)[..., 0]
    # The mean error, as a share of the spread of the logits.
    for name, limit in (("onnx", 0.05), ("onnx-float32", 1e-5)):
        played = engine.GeneratorEngine(case.weight_set, name)
        codes, scored, _ = played.sample(case.context, case.draws, case.start,
                                         played.initial_state(3), Sampling(temperature=0.9),
                                         forced=case.codes)
        np.testing.assert_array_equal(codes, case.codes)
        assert np.abs(scored - expected).mean() < limit * teacher_forced.std()


def test_sums_of_two_int8_products_fit_into_16_bits(case):
    """Some processors saturate there. Activations are 0 … 255."""
    model = onnx.load_from_string(export.build(case.weight_set, "loop_full_int8"))
    [step] = (attribute.g for node in model.graph.node for attribute in node.attribute
              if attribute.type == onnx.AttributeProto.GRAPH)
    matrices = [onnx.numpy_helper.to_array(x) for x in step.initializer
                if x.data_type == onnx.TensorProto.INT8 and len(x.dims) > 1]
    assert matrices and all(2 * 255 * np.abs(x.astype(int)).max() < 1 << 15 for x in matrices)


def test_chunks_and_saved_states_continue_bit_for_bit(case):
    played = engine.GeneratorEngine(case.weight_set)
    state, previous = played.initial_state(3), case.start
    whole, scored, last = played.sample(case.context, case.draws, previous, state)
    codes, log_probs, begin = [], [], 0
    for stop in (1, 2, 9, STEPS):
        part = slice(begin, stop)
        part_codes, chosen, state = played.sample(None if case.context is None else case.context[:, part],
                                            case.draws[:, part], previous, state)
        state = [np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape) for x in state]
        codes.append(part_codes)
        log_probs.append(chosen)
        previous, begin = part_codes[:, -1], stop
    np.testing.assert_array_equal(np.concatenate(codes, axis=1), whole)
    np.testing.assert_array_equal(np.concatenate(log_probs, axis=1), scored)
    for a, b in zip(state, last, strict=True):
        np.testing.assert_array_equal(a, b)
    # Codes alone, with nothing scored, are the same ones.
    plain, _, _ = played.sample(case.context, case.draws, case.start, played.initial_state(3),
                                log_probs=False)
    np.testing.assert_array_equal(plain, whole)


def test_float32_rows_of_a_batch_equal_single_rows(case):
    played = engine.GeneratorEngine(case.weight_set, "onnx-float32")
    together, _, _ = played.sample(case.context, case.draws, case.start, played.initial_state(3))
    for i in range(3):
        row = slice(i, i + 1)
        alone, _, _ = played.sample(None if case.context is None else case.context[row],
                                    case.draws[row], case.start[row], played.initial_state(1))
        np.testing.assert_array_equal(alone, together[row])
