"""The same training on JAX, where it is installed; TensorFlow then need not be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")


def test_codecs_and_generators_train_and_resume_on_jax(tmp_path):
    script = Path(__file__).with_name("jax_run.py")
    done = subprocess.run([sys.executable, script, tmp_path], env=os.environ | {"KERAS_BACKEND": "jax"}, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
