"""The page as text; what a browser makes of it is in tests/e2e/test_audit_page.py."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from etcdguard.audit.document import report
from etcdguard.audit.page import page
from etcdguard.audit.timeline import timeline
from etcdguard.model import Tool
from etcdguard.retention import Policy
from tests.support.backups import START
from tests.unit.audit.scenes import HOUR, Scene


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    scene = Scene(tmp_path_factory.mktemp("scene"), "one", "two")
    ids = scene.hours(6)
    scene.verify(ids[1])
    scene.drill(ids[2], seconds=83.0)
    scene.hold(ids[3], reason="<b>lawsuit</b> & more")
    for number in (0, 1):
        scene.prune(Policy(keep_last=3), number)
    scene.to(scene.clock.moment + 3 * HOUR)
    ids += scene.hours(2)
    scene.store.put(scene.object_key(ids[6]), b"short")
    case = scene.case()
    return report([scene.report()], case.period, case.now, Tool(name="etcdguard", version="1"))


class Reader(HTMLParser):
    """Checks that what is opened is closed, and collects text and links."""

    VOID = frozenset({"meta", "br", "path", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_nothing_comes_from_elsewhere_and_nothing_stays_open(document: Any) -> None:
    html = page(document)
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert reader.links == []
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "<b>lawsuit" not in html
    assert "<b>lawsuit</b> & more" in "".join(reader.text)


def test_everything_is_in_it(document: Any) -> None:
    html = page(document)
    (cluster,) = document["clusters"]
    for control in cluster["controls"]:
        assert control["id"] in html
    for backup in cluster["backups"]:
        assert html.count(backup["id"]) >= 1
    assert "1m23s" in html
    assert html.count("class=failed>") >= 1
    deletions = html.partition("class=deletions>")[2].partition("</table>")[0]
    assert deletions.count("<tr>") == 1 + len(cluster["deletions"]) == 6


def test_the_drawing_says_what_it_shows(document: Any) -> None:
    (cluster,) = document["clusters"]
    drawing = timeline(cluster, document["period"]["start"], document["period"]["end"])
    assert "8 backups, databases up to" in drawing
    assert "1 gap too long; 1 verification, 1 drill" in drawing
    bars = {state: path.count("M") for state, path in re.findall(r'class="bar (\w+)" d="([^"]+)"', drawing)}
    assert bars == {"deleted": 2, "present": 5, "damaged": 1}
    across = [float(number) for number in re.findall(r'(?: x="|M)([\d.]+)', drawing)]
    assert len(across) > 20
    assert all(82 <= number <= 1000 for number in across)


def test_an_empty_one(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.clock.now()
    case = scene.case()
    empty = report([scene.report()], case.period, case.now, Tool(name="etcdguard", version="1"))
    assert "0 backups" in page(empty)


def test_a_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.to(START + 216 * HOUR + HOUR / 2)
    case = scene.case(start=START)
    document = report([scene.report(start=START)], case.period, case.now, Tool(name="etcdguard", version="1"))
    (cluster,) = document["clusters"]
    findings = [one for control in cluster["controls"] for one in control["findings"]]
    assert len(findings) > 200
    html = page(document)
    table = html.partition("class=findings>")[2].partition("</table>")
    assert table[0].count("<tr>") == 1 + 200
    assert table[2].startswith(f"<p class=quiet>{len(findings) - 200} more are in the JSON report.</p>")


@pytest.mark.parametrize("hours", [1, 30, 24 * 30, 24 * 800])
def test_the_axis_has_some_labels_and_not_too_many(document: Any, hours: int) -> None:
    drawing = timeline(document["clusters"][0], START, START + hours * HOUR)
    labels = drawing.count(f'y="{216 + 19}"')
    assert 1 <= labels <= 10
