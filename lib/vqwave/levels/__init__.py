"""Chains, levels, and the base of all configs: what a system is, as data, validated by pydantic.

A fact is stated once. If two statements disagree, a `ConfigError` prints both sides.
"""

from .chain import *
from .conditions import *
from .fields import *
from .names import *
from .training import *
