"""A wheel carries what plays the default chain; all else is said in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithGraphs(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            sys.path.insert(0, str(ROOT / "lib"))
            from vqwave.export.packing import fill_wheel

            fill_wheel(Path(self.build_lib) / "vqwave" / "shipped", ROOT)


setup(cmdclass={"build_py": BuildWithGraphs})
