"""Sums over TensorFlow's replicas, for the few layers and losses that are not means over a batch's
rows.

JAX divides a program that is written for the whole batch and adds up by itself. On TensorFlow each
replica runs for its own rows, and what is not a mean over rows is summed over all replicas here; on
one device these functions do nothing.
"""

from __future__ import annotations


def _replicas():
    """TensorFlow's replica context where there are several replicas and this is inside one of them,
    else None.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if (tf.distribute.get_strategy().num_replicas_in_sync == 1
        or tf.distribute.in_cross_replica_context()):
        return None
    return tf.distribute.get_replica_context()


def total(x):
    """The sum of x over all replicas, in each of them; gradients pass."""
    here = _replicas()
    return x if here is None else here.all_reduce("SUM", x)


def mean(x):
    """The mean over all elements of x in all replicas, which have as many each."""
    from keras import ops

    here = _replicas()
    return ops.mean(x) if here is None else total(ops.mean(x)) / here.num_replicas_in_sync


def mean_rows(x):
    """The mean of x [n, …] over its first axis and all replicas, which have as many rows each."""
    from keras import ops

    here = _replicas()
    return (ops.mean(x, axis=0) if here is None
            else total(ops.mean(x, axis=0)) / here.num_replicas_in_sync)


def means(gradients: list) -> list:
    """The means of gradients over the replicas, in each of them."""
    here = _replicas()
    if here is None:
        return gradients
    import tensorflow as tf

    # An embedding's gradient names the rows that it is of, which differ from replica to replica.
    return [g / here.num_replicas_in_sync
            for g in total([tf.convert_to_tensor(g) for g in gradients])]


def part(loss):
    """This replica's part of a loss that is a mean over its rows: Keras adds up the replicas'
    parts.
    """
    here = _replicas()
    return loss if here is None else loss / here.num_replicas_in_sync


def joint(count):
    """How many rows the replicas have together, where this one has `count`."""
    here = _replicas()
    return count if here is None else count * here.num_replicas_in_sync


def take(x, rows):
    """x[rows], where `rows` are counted over the rows of all replicas and x is this one's share of
    them.
    """
    from keras import ops

    here = _replicas()
    if here is None:
        return ops.take(x, rows, axis=0)
    count = ops.shape(x)[0]
    own = ops.take(x, rows % count, axis=0)
    return total(ops.where((rows // count == here.replica_id_in_sync_group)[:, None], own, 0.0))


def share(values):
    """This replica's share of `values` [joint rows, …], which are the same in all of them."""
    from keras import ops

    here = _replicas()
    if here is None:
        return values
    count = ops.shape(values)[0] // here.num_replicas_in_sync
    return ops.take(values, here.replica_id_in_sync_group * count + ops.arange(count), axis=0)


def gather(values):
    """The `values` [rows] of all replicas, one's behind the other's: [joint rows], of which `share`
    gives each its own.
    """
    from keras import ops

    here = _replicas()
    if here is None:
        return values
    own = ops.one_hot(here.replica_id_in_sync_group, here.num_replicas_in_sync, dtype=values.dtype)
    return ops.reshape(total(own[:, None] * values), (-1,))
