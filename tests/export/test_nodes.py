import numpy as np

from vqwave.export.loops import LoopBuilder
from vqwave.export.nodes import int8
from vqwave.generators import GeneratorConfig
from vqwave.generators.generator_layer import Generator
from vqwave.play.engine import session

UNITS, CODES, STEPS = 64, 16, 100
CONFIG = GeneratorConfig(name="generator_512", level=512, num_codes=CODES, core={
    "kind": "lstm", "layers": 1, "units": UNITS, "embedding_dim": UNITS})


def product(x, matrix) -> np.ndarray:
    """x [in] · matrix [in, out], both quantized, in integers without a limit."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    step = np.float32((high - low) / 255 if high > low else 1)
    zero = np.rint(-low / step)
    (whole, scale), activations = int8(matrix), np.clip(np.rint(x / step) + zero, 0, 255) - zero
    return activations.astype(int) @ whole.astype(int) * step * scale


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_int8_loops_draw_the_codes_of_exact_integers():
    """Activations of ±1 and uniform weights are the worst case of sums in 16 bits."""
    random = np.random.default_rng(0)
    shapes = {"lstm_0/lstm_cell/kernel": UNITS, "lstm_0/lstm_cell/recurrent_kernel": UNITS}
    arrays = {name: random.uniform(-0.2, 0.2, (rows, 4 * UNITS)) for name, rows in shapes.items()}
    arrays |= {"lstm_0/lstm_cell/bias": np.zeros(4 * UNITS), "logits/bias": np.zeros(CODES),
               "logits/kernel": random.uniform(-0.5, 0.5, (UNITS, CODES)),
               "embedding/embeddings": random.choice([-1.0, 1.0], (CODES + 1, UNITS))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    uniforms, expected = random.random((STEPS, 1, 1), np.float32), [CODES]
    h, c = np.zeros((2, UNITS), np.float32)
    for u in uniforms.ravel():
        gates = sum(product(x, arrays[name]) for name, x in zip(
            shapes, (arrays["embedding/embeddings"][expected[-1]], h), strict=True))
        i, f, new, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        cumulated = np.exp(product(h, arrays["logits/kernel"])).cumsum()
        expected.append(int((cumulated <= u * cumulated[-1]).sum()))
    core = Generator(CONFIG).core
    for variable in core.weights:
        variable.assign(arrays[variable.path])
    loop = session(LoopBuilder(core, "loop_int8").model("test").SerializeToString())
    codes, *_ = loop.run(None, {
        "uniforms": uniforms, "previous": np.int32([[CODES]]),
        "inverse_temperature": np.array(1, np.float32), "h_0": np.zeros((1, UNITS), np.float32),
        "c_0": np.zeros((1, UNITS), np.float32)})
    np.testing.assert_array_equal(codes.ravel(), expected[1:])
