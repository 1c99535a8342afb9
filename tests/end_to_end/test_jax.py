"""A generator trains on JAX, where it is installed; TensorFlow then need not be. Codecs: see
test_distributed.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")


def test_a_generator_trains_and_resumes_on_jax(tmp_path, tiny_weights):
    # Most of the time is XLA's: compiled without optimizing, and once for the runs that are the
    # same.
    env = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0",
                        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
                        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    command = [sys.executable, Path(__file__).with_name("jax_run.py"),
               tmp_path, tiny_weights.codecs]
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
