"""VQWave: train a music generator on a folder of your own music and listen to it live.

    import vqwave

    model = vqwave.load()
    audio = model.generate(seconds=10, seed=1)      # float32 [220500]
    for block in model.stream(seed=1):              # endless
        ...
"""

import importlib

# This package imports nothing heavy. The module of a name is imported when the name is used.
_HOMES = {"VQWave": "play.api", "load": "play.api", "Stream": "play.stream"}
__all__ = ["Stream", "VQWave", "load"]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
