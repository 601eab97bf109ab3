"""A real browser without a window: Chromium, as Debian packages it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from tests.support.commands import command_path

__all__ = ["printed", "rendered", "screenshot"]

_SECONDS = 120.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def rendered(url: str) -> str:
    """The document as the browser has it once it is loaded."""
    return _browse(url, "--dump-dom")


def screenshot(url: str, target: Path, *, width: int = 1100, height: int = 1600) -> Image.Image:
    """What a person sees."""
    _browse(url, f"--screenshot={target}", f"--window-size={width},{height}")
    with Image.open(target) as image:
        picture: Image.Image = image.convert("RGB")
    return picture


def printed(url: str, target: Path) -> bytes:
    """The PDF that comes out of its printer."""
    _browse(url, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    return target.read_bytes()


def _browse(url: str, *flags: str) -> str:
    program = command_path("chromium")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [program, *_FLAGS, f"--user-data-dir={profile}", *flags, url],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
