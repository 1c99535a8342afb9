import numpy as np
import pytest

from vqwave.codecs import DilatedBlock
from vqwave.codecs.blocks_layer import Conv, ResidualBlock, SubPixelUpsampling, gelu
from vqwave.codecs.family.multiresolution import MultiresolutionBlock
from vqwave.codecs.family.multiresolution_layer import MultiresolutionResidual
from vqwave.codecs.family.resnet import ResNetBlock
from vqwave.codecs.family.resnet_layer import ResNetResidual
from vqwave.codecs.family.transposed_layer import TransposedUpsampling
from vqwave.levels.kinds import layer_of


def dilated(channels, dilation, kernel_size=3, padding="same"):
    return ResidualBlock(DilatedBlock(kernel_size=kernel_size), channels, dilation, padding)


def multiresolution(channels, dilation, depth, padding="same"):
    return MultiresolutionResidual(MultiresolutionBlock(depth=depth), channels, dilation,
                                   padding)


@pytest.mark.parametrize("block", [DilatedBlock(), MultiresolutionBlock(),
                                   ResNetBlock()])
def test_every_block_begins_as_the_identity_and_keeps_the_shape(block, rng):
    x = rng.normal(size=(2, 21, 4)).astype("float32")
    layer = layer_of(block)(block, 4, 3)
    np.testing.assert_array_equal(layer(x), x)
    for v in layer.trainable_variables:
        v.assign(v + rng.normal(size=v.shape))
    assert layer(x).shape == x.shape and not np.allclose(layer(x), x)


def test_even_upsampling_keeps_a_constant_input_constant(rng):
    x = np.broadcast_to(rng.normal(0, 1, (1, 1, 5)), (1, 30, 5)).astype("float32")
    changes = [rng.normal(0, 1, (7, 5, 24)), rng.normal(0, 1, 24)]
    ripple = {}
    for even in (0.0, 0.75, 1.0):
        layer = SubPixelUpsampling(3, 8, 7, even)
        layer.build(x.shape)
        # Untrained, all do.
        assert np.ptp(np.asarray(layer(x))[0, 24:-24], axis=0).max() < 1e-5
        for weight, change in zip((layer.conv.kernel, layer.conv.bias), changes, strict=True):
            weight.assign(change)
        middle = np.asarray(layer(x))[0, 24:32]
        ripple[even] = middle - middle.mean(0)
        # It is no constant function: what changes still differs from phase to phase.
        changing = np.asarray(layer(x * rng.normal(0, 1, (1, 30, 1)).astype("float32")))[0, 24:32]
        assert np.ptp(changing, axis=0).min() > 0.01
    assert np.abs(ripple[0.0]).max() > 1
    np.testing.assert_allclose(ripple[0.75], 0.25 * ripple[0.0], atol=1e-4)
    np.testing.assert_allclose(ripple[1.0], 0, atol=1e-4)


# what it is, its stride or ratio, the steps of the input, samples a step
SEEN = [
    (lambda: dilated(3, 5), 1, 1), (lambda: Conv(3, 3), 1, 1),
    (lambda: Conv(3, 8, strides=4), 4, 1),
    (lambda: SubPixelUpsampling(3, 4, 3), 1, 4), (lambda: SubPixelUpsampling(3, 2, 7), 1, 2),
    (lambda: dilated(3, 5, padding="causal"), 1, 1), (lambda: Conv(3, 3, padding="causal"), 1, 1),
    (lambda: Conv(3, 8, strides=4, padding="causal"), 4, 1),
    (lambda: SubPixelUpsampling(3, 4, 3, padding="causal"), 1, 4),
    (lambda: SubPixelUpsampling(3, 4, 3, 0.5, padding="causal"), 1, 4),
    (lambda: multiresolution(3, 2, 3), 1, 1),
    (lambda: multiresolution(3, 1, 3, "causal"), 1, 1),
    (lambda: ResNetResidual(ResNetBlock(kernel_size=5), 3, 3), 1, 1),
    (lambda: TransposedUpsampling(3, 2, 3), 1, 2), (lambda: TransposedUpsampling(3, 4, 7), 1, 4),
]


def built(layer, channels: int, rng):
    layer(np.zeros((1, 8, channels), "float32"))
    for v in layer.trainable_variables:
        v.assign(rng.normal(size=v.shape))
    return layer


@pytest.mark.parametrize("make, stride, ratio", SEEN)
def test_layers_see_no_further_than_their_receptive_field(make, stride, ratio, rng):
    layer = built(make(), 3, rng)
    x = rng.normal(size=(1, 64, 3)).astype("float32")
    before = np.asarray(layer(x))
    at = 32
    changed = x.copy()
    changed[0, at] += 1.0
    moved = np.flatnonzero(np.abs(np.asarray(layer(changed)) - before).max((0, 2)) > 1e-6)
    left, right = layer.receptive_field
    first, last = moved.min() * stride // ratio, moved.max() * stride // ratio
    assert at - right <= last + stride - 1 and first - left <= at
    # An output at step t sees t - left … t + right (and, with a stride, its own steps).
    assert first >= at - right - stride + 1 and last <= at + left


def test_a_multiresolution_block_is_that_of_its_paper(rng):
    depth, dilation = 3, 2
    layer = built(multiresolution(4, dilation, depth, "causal"), 4, rng)
    low, high, shares = (v.numpy() for v in (layer.low, layer.high, layer.shares))
    x = rng.normal(size=(1, 50, 4)).astype("float32")
    a = np.asarray(gelu(x))[0]
    expected = shares[0] * a
    for j in range(depth):
        step = dilation * 2**j
        padded = np.concatenate([np.zeros((2 * step, 4)), a])
        taps = [padded[k * step : k * step + 50] for k in range(3)]
        expected = expected + shares[j + 1] * sum(h * tap for h, tap in zip(high, taps, strict=True))
        a = sum(h * tap for h, tap in zip(low, taps, strict=True))
    expected = (expected + shares[-1] * a).astype("float32")
    np.testing.assert_allclose(layer(x)[0], x[0] + np.asarray(layer.mix(gelu(expected[None])))[0],
                               atol=1e-4)
