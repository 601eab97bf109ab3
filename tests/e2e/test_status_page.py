"""The status page in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from etcdguard.daemon.observe.page import render
from etcdguard.daemon.observe.problems import problems
from etcdguard.daemon.observe.server import Answer, StatusServer
from etcdguard.daemon.state import DaemonState
from tests.support.browser import rendered, screenshot
from tests.unit.daemon.observe.states import CHECKS, HOUR, job, repository, run, state

Serve = Callable[[DaemonState], str]

GOOD = state(job(last=run()), job("check", run(document={"checks": CHECKS["checks"][:1]})))
BAD = state(
    job(last=run("failed", error="<b>the bucket</b> is gone"), failures=3, circuit_open=True),
    job("check", run("failed", document=CHECKS)),
)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves the page of a state at a URL."""
    servers: list[StatusServer] = []
    main = repository(5 * HOUR, 4 * HOUR, 2 * HOUR, HOUR, verified="data")

    def start(shown: DaemonState) -> str:
        page = render(shown, [main], problems(shown, [main], None))
        servers.append(StatusServer("127.0.0.1", 0, {"/": lambda: Answer(page, "text/html; charset=utf-8")}))
        return f"http://127.0.0.1:{servers[-1].port}/"

    yield start
    for server in servers:
        server.close()


def _reddish(image: Image.Image) -> int:
    """How many pixels are in the colour of what is critical."""
    pixels = (image.getpixel((x, y)) for x in range(image.width) for y in range(image.height))
    return sum(
        1
        for pixel in pixels
        if isinstance(pixel, tuple) and pixel[0] > 150 and pixel[1] < 90 and pixel[2] < 90
    )


def test_what_the_browser_makes_of_it(serve: Serve) -> None:
    document = rendered(serve(BAD))
    assert "<title>etcdguard: prod</title>" in document
    assert "&lt;b&gt;the bucket&lt;/b&gt; is gone" in document
    assert document.count("<table") == 4  # problems, backups, jobs, checks
    assert document.count("<polyline") == 1
    assert "2026-11-21 12:00:00 UTC" in document


def test_what_a_person_sees(serve: Serve, tmp_path: Path) -> None:
    """Under the page's own content policy: the style applies, the chart is drawn, and trouble is red."""
    good = screenshot(serve(GOOD), tmp_path / "good.png")
    bad = screenshot(serve(BAD), tmp_path / "bad.png")
    assert _reddish(good) == 0
    assert _reddish(bad) > 200
    # Text and lines down to the last table, on a ground that is still mostly empty.
    background = good.getpixel((1, 1))
    inked = [
        y for y in range(good.height) if any(good.getpixel((x, y)) != background for x in range(0, 1100, 2))
    ]
    assert inked[0] < 80
    assert inked[-1] > 400
    assert len(inked) < good.height * 0.9
