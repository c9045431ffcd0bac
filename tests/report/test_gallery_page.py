"""The gallery in a real browser, opened from disk."""

import time

import pandas as pd
import pytest

from piva_bench.report.gallery.write import write_gallery
from piva_bench.report.results import load_results
from piva_bench.runs.edit import Edit
from piva_bench.runs.record import Record
from piva_bench.runs.store import Store
from tests.report.browser import open_browser, resize
from tests.report.conftest import METHODS
from tests.report.runs import make_run

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def gallery(samples, tmp_path_factory):
    """A gallery with one failed edit; its samples' target prompts hold a script element."""
    folder = tmp_path_factory.mktemp("gallery")
    run = make_run(folder / "run", samples, METHODS)
    with Store(run) as store:
        record = next(r for r in store.records().values() if r.method == "dds" and r.sample_id.endswith("3"))
        changes = {"status": "failed", "reason": "<img src=x onerror=alert(2)>", "image_sha": None}
        store.commit([Edit(Record(**{**record.model_dump(), **changes}))])
    return write_gallery(folder / "gallery", load_results(run), samples, run)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = open_browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, gallery):
    browser.get("about:blank")
    browser.get(gallery.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready")
    yield browser
    severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert severe == []


def rows(page):
    return page.execute_script("return [...document.querySelectorAll('.row h2 a')].map(a => a.textContent)")


def choose(page, **values):
    page.execute_script(
        "for (const [id, value] of Object.entries(arguments[0])) {"
        "  const e = document.getElementById(id);"
        "  if (e.type === 'checkbox') e.checked = value; else e.value = value;"
        "  e.dispatchEvent(new Event('input', {bubbles: true})); }",
        values,
    )
    time.sleep(0.3)


def press(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()
    time.sleep(0.1)


def test_every_picture_that_is_in_view_loads(page):
    wait_until = time.time() + 10
    while time.time() < wait_until:
        pictures = page.execute_script(
            "return [...document.querySelectorAll('.row:first-child img')]"
            ".map(i => [i.complete, i.naturalWidth, getComputedStyle(i).imageRendering])"
        )
        if all(complete for complete, _, _ in pictures):
            break
    assert len(pictures) == 4  # source, dds, piva, counterfactual
    assert {tuple(each) for each in pictures} == {(True, 64, "pixelated")}


def test_a_script_in_a_prompt_or_a_reason_is_text(page, samples):
    text = page.execute_script("return document.querySelector('.row').innerText")
    assert "<script>alert(1)</script>" in text
    page.execute_script("location.hash = '#sample=000000000003&method=dds'")
    time.sleep(0.3)
    text = page.execute_script("return document.getElementById('sample').innerText")
    assert "<img src=x onerror=alert(2)>" in text
    assert "<script>alert(1)</script>" in text
    found = page.execute_script(
        "return [document.scripts.length, document.querySelectorAll('img[src=x]').length]"
    )
    assert found == [6, 0]


def test_filters(page):
    assert len(rows(page)) == 8
    choose(page, type="8_change_background")
    assert rows(page) == [f"{i:012d}" for i in (1, 3, 5, 7)]
    choose(page, failed=True)
    assert rows(page) == ["000000000003"]
    assert "1 of 8 samples" in page.find_element("id", "count").text
    choose(page, search="no such words")
    assert rows(page) == []
    page.execute_script("document.querySelector('[type=reset]').click()")
    assert len(rows(page)) == 8
    # piva scores 20 plus the sample's index.
    piva = page.execute_script("return model.data.variants.findIndex(v => v.name === 'piva')")
    choose(page, metric="psnr", of=str(piva), low="22", high="24")
    assert rows(page) == [f"{i:012d}" for i in (2, 4, 3)]


def test_sorting_puts_samples_without_a_value_last(page):
    piva = page.execute_script("return model.data.variants.findIndex(v => v.name === 'piva')")
    choose(page, metric="psnr_outside", of=str(piva), sort="score")
    assert [int(i) for i in rows(page)] == [0, 1, 2, 4, 5, 6, 3, 7]
    page.execute_script("document.getElementById('direction').click()")
    assert [int(i) for i in rows(page)] == [6, 5, 4, 2, 1, 0, 3, 7]
    choose(page, metric="psnr", sort="disagreement")
    # dds failed on 3: nothing there to disagree with.
    assert int(rows(page)[-1]) == 3


def test_a_link_opens_its_sample_and_keys_walk_on(page, gallery):
    from selenium.webdriver.common.keys import Keys

    page.get("about:blank")
    page.get(gallery.as_uri() + "#sample=000000000002&method=piva")
    title = "return document.getElementById('sample-title')?.innerText"
    pressed = "return document.querySelector('.picker [aria-pressed=true]').innerText"
    assert "000000000002" in page.execute_script(title)
    assert "piva" in page.execute_script(pressed)
    press(page, "j")
    assert "000000000004" in page.execute_script(title)
    press(page, "k", "1")
    assert "000000000002" in page.execute_script(title)
    assert "dds" in page.execute_script(pressed)
    at = "return document.querySelector('.slider').style.getPropertyValue('--at')"
    assert page.execute_script(at) == "50%"
    press(page, Keys.ARROW_RIGHT)
    assert page.execute_script(at) == "52%"
    press(page, Keys.ESCAPE)
    assert not page.execute_script("return document.getElementById('sample').open")
    assert page.execute_script("return location.hash") == ""
    press(page, Keys.ENTER)
    assert "000000000002" in page.execute_script(title)


def test_the_slider_follows_the_pointer(page):
    from selenium.webdriver.common.action_chains import ActionChains

    page.execute_script("location.hash = '#sample=000000000002&method=piva'")
    time.sleep(0.3)
    slider = page.find_element("css selector", ".slider")
    offset = round(slider.size["width"] * 0.25)
    ActionChains(page).move_to_element(slider).click_and_hold().move_by_offset(
        offset, -20
    ).release().perform()
    assert page.execute_script("return document.querySelector('.slider input').value") in ("74", "75", "76")


def test_overlays(page):
    press(page, "d")
    assert page.execute_script("return document.querySelectorAll('.row .difference').length") > 8
    press(page, "d")
    assert page.execute_script("return document.querySelectorAll('.row .difference').length") == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("link", ["", "#sample=000000000003&method=piva"])
def test_nothing_runs_out_of_the_page(page, gallery, width, link):
    resize(page, width, 844)
    page.get("about:blank")
    page.get(gallery.as_uri() + link)
    widths = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    whole, seen = page.execute_script(widths)
    assert whole <= seen
    if link:
        body = page.execute_script(
            "const b = document.querySelector('#sample .body'); return [b.scrollWidth, b.clientWidth]"
        )
        assert body[0] <= body[1]


@pytest.mark.slow
def test_the_first_view_of_700_samples_and_8_methods_is_there_in_two_seconds(browser, samples, tmp_path):
    results = load_results(make_run(tmp_path / "run", samples, METHODS))
    some = results[results["method"] == "piva"]
    many = pd.concat(
        some.assign(sample_id=some["sample_id"] + f" {i}", variant=f"method {j}")
        for i in range(88)
        for j in range(8)
    )
    page = write_gallery(tmp_path / "gallery", many, {}, tmp_path / "run")
    times = []
    for _ in range(3):
        browser.get("about:blank")
        browser.get(page.as_uri())
        times.append(int(browser.execute_script("return document.documentElement.dataset.ready")))
    assert "704 of 704 samples · 8 methods" in browser.find_element("id", "count").text
    assert min(times) < 2000
