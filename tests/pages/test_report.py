"""The report: what the file holds, and what a browser makes of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from cxrsynth.encoding import dumps, png
from cxrsynth.errors import UsageError
from cxrsynth.pages.report import charts, thumbs, write_report
from cxrsynth.pages.report.gather import choose_rejects
from cxrsynth.pages.summary import choose, evenly
from cxrsynth.store import Store
from tests.browser import Page, browse
from tests.small_dataset import FINGERPRINT, HOSTILE, chest, make, make_real

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make(tmp_path_factory.mktemp("report") / "small"))


@pytest.fixture(scope="module")
def html(report: Path) -> str:
    return report.read_text(encoding="utf-8")


@pytest.fixture
def visit(report: Path, tmp_path: Path) -> Open:
    """Open the report at a place (``#...``), after a script has acted on it like a person."""
    numbers = count()

    def visit(place: str = "", acts: str = "") -> Page:
        page = report
        if acts:
            page = tmp_path / "acted.html"
            page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"<script>{acts}</script></body>"))
        return browse(f"{page.as_uri()}#{place}", tmp_path / f"profile-{next(numbers)}")

    return visit


def shown(page: Page, gallery: str = "gallery") -> list[str]:
    """Keys of the tiles that are not hidden, in the open view or the rejected one."""
    wanted = gallery == "rejected"
    tiles = [tile for tile in page.find(class_="tile") if bool(tile["data-reason"]) == wanted]
    return [tile["data-id"] for tile in tiles if "hidden" not in tile]


def press(*keys: str) -> str:
    """A script that presses keys, wherever the focus is."""
    event = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', bubbles: true}));"
    return "".join(event % key for key in keys)


# -- the file ---------------------------------------------------------------------------------------------------


def test_the_report_is_one_file_that_refers_to_nothing_outside(html: str) -> None:
    targets = re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']?(.{1,12})""", html.split("<script>")[0])
    assert len(targets) > 20
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.findall(r"url\(|@import", html)


def test_the_report_names_the_dataset_and_its_fingerprint(html: str) -> None:
    assert "<h1>small</h1>" in html
    assert FINGERPRINT[:12] in html


def test_a_hostile_prompt_appears_as_text_only(html: str) -> None:
    assert "<script>window.hacked" not in html
    assert str(escape(HOSTILE)) in html


def test_the_report_says_which_slots_stayed_empty(html: str) -> None:
    assert "1 planned image is missing" in html


def test_seeds_keep_all_their_digits(html: str) -> None:
    assert '"seed": "9007199254740993"' in html


def test_the_command_makes_the_shard_of_the_picture(html: str) -> None:
    assert "cxrsynth generate --prompts recipe.yaml -o again --shard 1/3" in html


def test_a_limit_keeps_the_page_small_and_says_so(tmp_path: Path) -> None:
    text = write_report(make(tmp_path / "small"), limit=2).read_text()
    assert text.count('class="tile" data-id') == 3  # two kept, one rejected
    assert "2 of 6 images, evenly chosen" in text


def test_two_hundred_pictures_stay_under_fifteen_megabytes() -> None:
    image, mask = chest(0, 512)
    noisy = (image.astype(int) + np.random.default_rng(0).integers(-20, 20, image.shape)).clip(0, 255).astype(np.uint8)
    size = thumbs.fitting(noisy.shape, 320)
    one = len(thumbs.image(noisy, size)) + sum(len(thumbs.region(mask == i, i, size)) for i in (1, 2, 3))
    assert 300 * one < 15e6


def test_real_images_are_not_called_synthetic(tmp_path: Path) -> None:
    text = write_report(make_real(tmp_path / "images")).read_text()
    assert "Real images" in text
    assert "Synthetic" not in text
    assert "cxrsynth generate" not in text


def test_a_dataset_of_rejects_alone_can_be_looked_at(tmp_path: Path) -> None:
    text = write_report(make(tmp_path / "small", count=0)).read_text()
    assert "Nothing was kept" in text
    assert text.count('class="tile" data-id') == 1


def test_overlapping_layers_are_shown_whole(tmp_path: Path) -> None:
    root = make(tmp_path / "small")
    layers = np.zeros((3, 64, 64), dtype=bool)
    layers[0, 10:50, 10:50] = layers[2, 20:30, 20:30] = True
    path = root / "layers/00000/000000000.png"
    path.parent.mkdir(parents=True)
    bits = np.packbits(layers, axis=0, bitorder="little")[0]
    Store(root).write(str(path.relative_to(root)), png(bits))
    meta = root / "meta/00000.jsonl"
    meta.write_text(meta.read_text().replace('"image"', '"layers": "layers/00000/000000000.png", "image"', 1))
    text = write_report(root).read_text()
    first = text[text.index('data-id="000000000"') : text.index('data-id="000000001"')]
    assert thumbs.region(layers[0], 1, (64, 64)) in first
    assert thumbs.region(layers[2], 3, (64, 64)) in first


def test_a_folder_that_is_no_dataset_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a cxrsynth dataset") as caught:
        write_report(tmp_path)
    assert caught.value.hint


def test_a_dataset_without_pictures_is_an_error_with_a_hint(tmp_path: Path) -> None:
    Store(tmp_path).write("classes.json", dumps({"classes": []}))
    with pytest.raises(UsageError, match="no finished image") as caught:
        write_report(tmp_path)
    assert "status" in caught.value.hint


def test_every_reject_reason_has_a_picture() -> None:
    rows = [{"reason": "common", "n": n} for n in range(50)]
    rows[33] = {"reason": "rare", "n": 33}
    chosen = choose_rejects(rows, 5)
    assert len(chosen) == 5
    assert {row["reason"] for row in chosen} == {"common", "rare"}


def test_few_masks_among_many_images_get_half_of_the_places() -> None:
    rows = [{"n": n, "mask": "m.png" if n % 10 == 0 else None} for n in range(100)]
    chosen = choose(rows, 8)
    assert sum(row["mask"] is not None for row in chosen) == 4
    assert [row["n"] for row in chosen] == sorted(row["n"] for row in chosen)
    assert len(choose(rows, 60)) == 60
    assert choose(rows, 200) == rows


def test_even_choice_reaches_from_first_to_last() -> None:
    assert evenly(range(101), 3) == [0, 50, 100]


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, 2.0, 2.5]])
def test_a_histogram_counts_every_value(values: list[float]) -> None:
    shares = re.findall(r": ([\d.]+) %</title>", charts.histogram(values))
    assert sum(map(float, shares)) == pytest.approx(100, abs=0.2)


def test_limits_of_curation_are_lines_in_the_histograms(tmp_path: Path) -> None:
    checks = [{"use": "stability", "least": 0.4}, {"use": "area"}]
    text = write_report(make(tmp_path / "small", curate={"checks": checks})).read_text()
    assert "kept from 0.4" in text
    assert "kept from 2 to 25 %" in text  # of the heart
    assert text.count('class="limit"') == 1 + 3 * 2


def test_reasons_and_scores_are_said_in_words(html: str) -> None:
    assert '<em title="area.heart.small">heart too small</em>' in html
    assert "heart: mask at a higher and a lower threshold" in html


def test_captions_show_the_finding_first(tmp_path: Path) -> None:
    root = make(tmp_path / "small")
    meta = root / "meta/00000.jsonl"
    meta.write_text(meta.read_text().replace("PA chest x-ray, number 0", "PA view of a woman. Findings: effusion.", 1))
    text = write_report(root).read_text()
    first = text[text.index('data-id="000000000"') : text.index('data-id="000000001"')]
    assert "<b>effusion</b>" in first
    assert "PA · woman · 000000000" in first
    assert 'data-finding="effusion"' not in text  # one finding: nothing to choose from


# -- in a browser -----------------------------------------------------------------------------------------------


def test_a_browser_shows_every_picture_with_its_masks(visit: Open) -> None:
    page = visit()
    assert len(shown(page)) == 6
    assert len(page.find(class_="m")) == 18
    assert page.body["data-mask"] == "on"


def test_an_address_can_switch_the_masks_off(visit: Open) -> None:
    look = "document.body.dataset.seen = getComputedStyle(document.querySelector('.m')).display"
    page = visit("mask=off&hide=heart", look)
    assert page.body["data-mask"] == "off"
    assert page.body["data-seen"] == "none"
    assert "hide-c3" in page.body["class"]


def test_the_switch_and_the_keys_change_masks_and_address(visit: Open) -> None:
    acts = f"document.getElementById('mask').click(); {press('3', 'm')}"
    page = visit("", f"{acts} document.body.dataset.address = location.hash")
    # off by click, on again with class 3 hidden by key, off by key
    assert page.body["data-mask"] == "off"
    assert page.body["data-address"] == "#mask=off&hide=heart"


def test_filters_leave_what_was_asked_for(visit: Open) -> None:
    acts = "const s = document.getElementById('split'); s.value = 'train'; s.dispatchEvent(new Event('input'));"
    assert shown(visit("q=ap&class=heart", acts)) == ["000000001"]


def test_views_can_be_chosen(visit: Open) -> None:
    acts = "const s = document.getElementById('view'); s.value = 'AP'; s.dispatchEvent(new Event('input'));"
    assert shown(visit("", acts)) == ["000000001", "000000003", "000000005"]


def test_a_reject_reason_in_the_address_opens_the_rejects(visit: Open) -> None:
    page = visit("reason=area.heart.small")
    assert page.body["data-tab"] == "rejected"
    assert shown(page, "rejected") == ["000000006-0"]


def test_the_large_view_opens_and_steps_by_keyboard(visit: Open) -> None:
    page = visit("", "document.querySelectorAll('.tile button')[0].click();" + press("ArrowRight", "ArrowRight"))
    assert page.find(id="large")[0].get("open") == ""
    assert '<b id="d-key">000000002</b>' in page.html
    assert "PA chest x-ray, number 2" in page.html.split('id="d-prompt"')[1][:200]


def test_a_hostile_prompt_does_not_run_in_the_large_view(visit: Open) -> None:
    page = visit("open=000000005", "document.body.dataset.hacked = String('hacked' in window)")
    assert page.body["data-hacked"] == "false"
    assert "&lt;script&gt;window.hacked=1&lt;/script&gt; &amp; " in page.html.split('id="d-prompt"')[1]


def test_the_page_asks_no_server_for_anything(report: Path, tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, requests = asked
    # All traffic has to pass this proxy, wherever it goes.
    proxy = (f"--proxy-server={address}", "--proxy-bypass-list=<-loopback>")
    inside = "<img src='http://a.test/x.png'><script>fetch('http://b.test/y').catch(() => 0)</script></body>"
    leaky = report.read_text(encoding="utf-8").replace("</body>", inside)
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<meta http-equiv[^>]*>", "", leaky))
    browse(bare.as_uri(), tmp_path / "control", *proxy)
    assert {"http://a.test/x.png", "http://b.test/y"} <= set(requests)  # the proxy does see what a page asks for
    requests.clear()
    guarded = tmp_path / "guarded.html"
    guarded.write_text(leaky)
    browse(f"{guarded.as_uri()}#open=000000001", tmp_path / "test", *proxy)
    # Its policy stops even what was smuggled in. (What a Chromium asks its maker for by itself is not the page's.)
    assert not [request for request in requests if ".test" in request]


def test_all_that_the_page_loads_lies_within_it(visit: Open) -> None:
    entries = "performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 5))"
    page = visit("open=000000001", f"document.body.dataset.loaded = [...new Set({entries})].join()")
    assert page.body["data-loaded"] in ("", "data:")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A proxy that answers nothing and remembers what it was asked for: (its address, the list)."""
    requests: list[str] = []

    class Nothing(BaseHTTPRequestHandler):
        def answer(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD = do_POST = do_CONNECT = answer

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()
