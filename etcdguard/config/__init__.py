"""Configuration: a YAML file, the environment and flags become one frozen, typed ``Config``.

``load`` is the only entry a command needs; it raises ConfigError for everything a person can get wrong.
"""

from __future__ import annotations

from etcdguard.config.load import Loaded, load, parse
from etcdguard.config.schema import Config

__all__ = ["Config", "Loaded", "load", "parse"]
