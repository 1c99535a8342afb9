"""Trainings of a few steps run eagerly: TensorFlow's tracing of `fit` would take most of their time."""

CODEC_STEPS, GENERATOR_STEPS = 3, 8
"""Steps up to which eager steps take less time than tracing."""
VALIDATION_WINDOWS = 4


def train_eagerly():
    """From here on, short trainings of this process run eagerly and validate on few windows."""
    from vqwave.train import jobs, training

    compile_model = training.compile_model

    def compile_quickly(model, settings, steps, **losses):
        compile_model(model, settings, steps, **losses)
        # A codec computes its losses itself.
        model.run_eagerly = steps <= (GENERATOR_STEPS if losses else CODEC_STEPS)

    training.compile_model, jobs.VALIDATION_WINDOWS = compile_quickly, VALIDATION_WINDOWS
