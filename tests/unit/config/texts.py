"""Configuration files for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from etcdguard.config import Loaded, parse

RECIPIENT = "age1lsrg5usumelta8yj7mzfjhjk5hmhcewp4nmggjq53ysjyxj4a4ksnsu9dw"

MINIMAL = f"""\
cluster:
  name: prod
encryption:
  recipients: [{RECIPIENT}]
"""

PATH = Path("/etc/etcdguard/config.yaml")


def parsed(text: str) -> Loaded:
    return parse(text, PATH)
