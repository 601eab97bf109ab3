"""The audit's page in a real browser, on the screen and on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from etcdguard.audit.document import report
from etcdguard.audit.page import page
from etcdguard.model import Tool
from etcdguard.retention import Policy
from tests.support.browser import printed, rendered, screenshot
from tests.unit.audit.scenes import HOUR, Scene

A4 = 794
"""Pixels that a sheet is wide, as browsers count."""


def _page(scene: Scene, target: Path) -> str:
    case = scene.case()
    document = report([scene.report()], case.period, case.now, Tool(name="etcdguard", version="1"))
    target.write_text(page(document))
    return target.as_uri()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One of a quiet day, one of a bad one."""
    folder = tmp_path_factory.mktemp("pages")
    good = Scene(folder / "good", "one", "two")
    good.hours(8)
    good.drill(good.ids[2])
    quiet = _page(good, folder / "good.html")
    bad = Scene(folder / "bad", "one", "two")
    bad.hours(5)
    bad.drill(bad.ids[1], outcome="failed")
    for number in (0, 1):
        bad.prune(Policy(keep_last=3), number)
    bad.to(bad.clock.moment + 6 * HOUR)
    bad.hours(3)
    bad.store.delete(bad.manifest_key(bad.ids[3]))
    bad.store.put(bad.object_key(bad.ids[6]), b"short")
    return quiet, _page(bad, folder / "bad.html")


def _coloured(image: Image.Image, like: Any) -> int:
    """How many pixels are of a kind."""
    colours: Any = image.getcolors(1 << 24)
    return sum(like(*colour) * count for count, colour in colours)


def _reddish(red: int, green: int, blue: int) -> bool:
    return red > 140 and green < 90 and blue < 90


def _bluish(red: int, green: int, blue: int) -> bool:
    return blue > 140 and red < 90 and 90 < green < 140


def test_what_the_browser_makes_of_it(pages: tuple[str, str]) -> None:
    document = rendered(pages[1])
    assert "<title>Audit of etcd backups: prod</title>" in document
    assert document.count("<svg") == 1
    assert document.count('<table class="controls">') == 1
    assert len(re.findall('<span class="FAIL">FAIL</span>', document)) >= 4
    assert "manifest-missing" in document


def test_what_a_person_sees(pages: tuple[str, str], tmp_path: Path) -> None:
    good, bad = (
        screenshot(url, tmp_path / f"{number}.png", width=A4, height=2600) for number, url in enumerate(pages)
    )
    assert _coloured(good, _reddish) == 0
    assert _coloured(bad, _reddish) > 1000
    assert _coloured(good, _bluish) > 500, "the bars of the drawing"
    for image in (good, bad):
        assert image.getpixel((1, 1)) == (255, 255, 255)
        edge = image.crop((A4 - 8, 0, A4, image.height))
        assert _coloured(edge, lambda *colour: colour != (255, 255, 255)) == 0, "a sheet is wide enough"


def test_it_prints_on_a4(pages: tuple[str, str], tmp_path: Path) -> None:
    data = printed(pages[1], tmp_path / "bad.pdf")
    boxes = set(re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", data))
    assert len(boxes) == 1
    width, height = (float(one) for one in boxes.pop())
    assert (round(width), round(height)) == (595, 842)
    sheets = len(re.findall(rb"/Type\s*/Page\b(?!s)", data))
    assert 1 <= sheets <= 6
