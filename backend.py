"""setuptools, which needs TensorFlow for one thing: a wheel carries the shipped models' graphs."""

import tomllib

from setuptools.build_meta import *  # noqa: F403


def get_requires_for_build_wheel(config_settings=None):
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    return project["dependencies"] + project["optional-dependencies"]["train"]
