"""Imports commands as modules, so that tests can call their `main`."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(ROOT))  # for the package `research`, which is not installed


def script(name: str):
    """scripts/NAME.py, run anew under a name that is not its own; or a module of research."""
    if name.startswith("research."):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
