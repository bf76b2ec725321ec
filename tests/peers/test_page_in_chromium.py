"""The pages in a real browser over a real agent: every click, both schemes, the keyboard, and axe's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from tests.peers.chromium import TOKEN, Browser, axe_says, chromium, follow, modules, shot
from tests.support.agent_process import AgentProcess

pytestmark = [pytest.mark.peers, pytest.mark.acceptance]


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, peer_tool: Callable[[str], Path], free_port: Callable[[], int]
) -> Iterator[Browser]:
    """Three studies, two of one patient: an agent that has scored them, and Chromium."""
    modules()
    executable = peer_tool("chromium")
    dicom_port, web_port = free_port(), free_port()
    settings = {"AGENT_WEB__TOKEN": TOKEN, "AGENT_WEB__PATIENT": "initials"}
    settings["AGENT_WEB__UPLOAD_TO"] = f"STEATOSIS@127.0.0.1:{dicom_port}"
    home = tmp_path_factory.mktemp("page") / "agent"
    agent = AgentProcess(home, dicom_port=dicom_port, web_port=web_port, settings=settings)
    agent.token = TOKEN
    made = [
        make_study(5, seed=7, when=datetime(2026, 5, 4, 9, tzinfo=UTC), fat_fraction_percent=8.0),
        make_study(5, seed=8, when=datetime(2026, 11, 23, 9, tzinfo=UTC), fat_fraction_percent=20.0),
        make_study(6, seed=7, when=datetime(2026, 11, 23, 10, tzinfo=UTC)),
    ]
    try:
        agent.start()
        for study in made:
            send_study(study.instances, host="127.0.0.1", port=dicom_port)
        uids = [study.study_instance_uid for study in made]
        for uid in uids:
            agent.await_state(uid, seconds=240)
        with chromium(executable) as running:
            yield Browser(running, agent, uids)
    finally:
        agent.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["worklist", "study", "confirm", "login", "watch", "grade", "upload"])
def test_axe_finds_nothing(browser: Browser, tmp_path: Path, scheme: str, which: str) -> None:
    study = f"/studies/{browser.studies[1]}"
    paths = {"worklist": "/", "study": study, "confirm": f"{study}/replay", "login": "/login"}
    path = (paths | {"watch": "/watch", "grade": f"{study}/grade", "upload": "/upload"})[which]
    page = browser.page(path, scheme=scheme)
    found = axe_says(page)
    shot(page, tmp_path, f"{which}-{scheme}")
    assert found == []
    assert page.faults == []


def test_filters_search_and_sort_are_clicked(browser: Browser) -> None:
    page = browser.page("/")
    follow(page, page.get_by_role("link", name="Done").first)
    assert page.url.endswith("state=done")
    assert page.locator("tbody tr").count() == 3
    follow(page, page.get_by_role("link", name="Fat fraction"))
    assert page.url.endswith("sort=fat")
    fat = [float(cell.split("%")[0]) for cell in page.locator("tbody td:nth-child(6)").all_inner_texts()]
    assert fat == sorted(fat, reverse=True)
    page.get_by_label("Study UID").fill(browser.studies[2])
    page.keyboard.press("Enter")
    page.wait_for_url("**q=**")
    assert page.locator("tbody tr").count() == 1
    assert "state=done" in page.url
    follow(page, page.get_by_role("link", name="Show all"))
    assert page.locator("tbody tr").count() == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700, 420])
def test_the_trends_dates_can_be_read(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    page = browser.page(f"/studies/{browser.studies[1]}", width=width, scheme=scheme)
    section = page.locator("section[aria-labelledby=trend]")
    dates = [label.bounding_box() for label in section.locator(".date text").all() if label.is_visible()]
    assert len(dates) >= 2
    assert all(left["x"] + left["width"] + 4 < right["x"] for left, right in pairwise(dates)), "none over another"
    assert dates[-1]["x"] + dates[-1]["width"] <= width
    assert all(12 <= box["height"] <= 20 for box in dates), "letters keep their size on any screen"
    section.scroll_into_view_if_needed()
    shot(page, tmp_path, f"trend-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1000, 700, 420])
def test_the_worklist_is_read_without_scrolling_sideways(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    page = browser.page("/", width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
    for cell in page.locator("tbody tr:first-child td").all():
        box = cell.bounding_box()
        assert cell.inner_text() != "–"
        assert box["width"] > 20, "nothing is left out"
        assert box["x"] + box["width"] <= width
    assert page.get_by_role("columnheader").count() == page.get_by_role("row").nth(1).get_by_role("cell").count() == 12
    follow(page, page.get_by_role("link", name="Certainty"))
    assert page.url.endswith("sort=certainty")
    page.locator("tbody summary").first.click()
    assert axe_says(page) == []
    shot(page, tmp_path, f"worklist-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a UID that is opened wraps"
    assert page.faults == []


@pytest.mark.parametrize("width", [1400, 1280, 700, 420])
def test_a_long_reason_moves_no_column_off_the_page(browser: Browser, width: int) -> None:
    page = browser.page("/", width=width)
    fits = page.evaluate(
        """() => {
            const said = 'connection refused by ORTHANC@archive.hospital.example:104; ' + 'x'.repeat(60)
            const cell = document.querySelector('tbody td')
            cell.insertAdjacentHTML('beforeend', `<span class="quiet detail">${said.repeat(3)}</span>`)
            const table = document.querySelector('.scroll')
            return table.scrollWidth <= table.clientWidth
        }"""
    )
    assert fits


def test_who_logs_out_is_asked_for_the_token(browser: Browser) -> None:
    page = browser.stranger()
    page.goto(browser.address("/"))
    page.get_by_label("web.token").fill(TOKEN)
    page.get_by_role("button", name="Enter").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(browser.address("/"))
    page.wait_for_url("**/login?to=%2F")


def test_the_worklist_is_used_by_keyboard_alone(browser: Browser) -> None:
    page = browser.page("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if "/studies/" in (page.evaluate("document.activeElement.href") or ""):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "focus is seen"
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")


def test_the_slider_changes_the_map_alone(browser: Browser) -> None:
    page = browser.page(f"/studies/{browser.studies[1]}")
    slider = page.get_by_label("Strength of the map")
    slider.focus()
    slider.press("Home")
    assert page.evaluate("getComputedStyle(document.querySelector('img.map')).opacity") == "0"
    slider.press("End")
    assert page.evaluate("getComputedStyle(document.querySelector('img.map')).opacity") == "1"
    sizes = page.evaluate(
        "Promise.all([...document.images].filter(i => i.closest('.pair')).map(i => (i.loading = 'eager', i.decode()"
        ".then(() => [i.naturalWidth, i.naturalHeight]))))"
    )
    assert sizes
    assert all(width >= 128 for width, _ in sizes)
    assert "This patient" in page.inner_text("main")


def test_replay_is_asked_and_done_and_seen_without_a_reload(browser: Browser) -> None:
    uid = browser.studies[2]
    page = browser.page(f"/studies/{uid}")
    follow(page, page.get_by_role("link", name="Replay"))
    assert "Replay this study?" in page.inner_text("h1")
    page.get_by_role("button", name="Replay").click()
    page.wait_for_url(f"**/studies/{uid}")
    page.wait_for_selector(".state.s-done", timeout=120_000)
    items = browser.agent.get(f"/api/studies/{uid}")["work_items"]
    assert [item["cause"] for item in items] == ["replay", "new"]
    assert '"audit"' in browser.agent.log.read_text() or "operator action" in browser.agent.log.read_text()
    assert page.faults == []


def test_a_reader_grades_a_study_and_sees_it_watched(browser: Browser, tmp_path: Path) -> None:
    uid = browser.studies[0]
    page = browser.page(f"/studies/{uid}")
    page.get_by_role("link", name="Add a reader's grade").click()
    page.get_by_role("radio", name="S2").check()
    page.get_by_label("Your initials or id").fill("AR")
    page.get_by_label("I graded before").check()
    follow(page, page.get_by_role("button", name="Go on"))
    assert "Keep this grade?" in page.inner_text("h1")
    shot(page, tmp_path, "grade-confirm")
    page.get_by_role("button", name="Keep").click()
    page.wait_for_url(f"**/studies/{uid}")
    assert "without knowing the result" in page.inner_text("section[aria-labelledby=readers]")
    page.get_by_role("link", name="Watching the model").click()
    page.wait_for_url("**/watch")
    assert "Given without the result" in page.inner_text("section[aria-labelledby=readers]")
    shot(page, tmp_path, "watch-small")
    assert page.faults == []


def test_the_worklist_renews_itself(browser: Browser) -> None:
    page = browser.page("/")
    before = page.inner_text('[data-live="told"]')
    page.wait_for_function("before => document.querySelector('[data-live=told]').innerText !== before", arg=before)


def test_what_is_opened_stays_open_while_the_rest_renews(browser: Browser) -> None:
    page = browser.page("/")
    page.locator("tbody summary").first.click()
    shown = page.locator("tbody details[open] .uid").inner_text()
    assert shown in browser.studies
    before = page.inner_text('[data-live="told"]')
    page.wait_for_function("before => document.querySelector('[data-live=told]').innerText !== before", arg=before)
    assert page.locator("tbody details[open] .uid").inner_text() == shown


def test_the_summary_and_the_identifiers_are_opened(browser: Browser) -> None:
    page = browser.page(f"/studies/{browser.studies[1]}")
    page.get_by_text("Summary as sent to the archive").click()
    picture = page.locator("img.whole")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('img.whole').naturalWidth > 500")
    page.get_by_text("Identifiers").click()
    assert browser.studies[1] in page.inner_text("section[aria-labelledby=provenance]")
    page.get_by_role("link", name="2026-05-04").click()
    page.wait_for_url(f"**/studies/{browser.studies[0]}")
    page.get_by_role("link", name="Worklist").click()
    page.wait_for_url("**/")
    assert page.faults == []


def test_each_scanner_and_site_is_looked_at(browser: Browser) -> None:
    page = browser.page("/watch")
    links = [link.get_attribute("href") for link in page.locator("section[aria-labelledby=drift] tbody a").all()]
    assert len(links) >= 2
    for link in links:
        follow(page, page.locator(f'a[href="{link}"]'))
        assert page.locator("tr.chosen a").get_attribute("href") == link
    assert page.faults == []


def test_the_page_works_without_scripts(browser: Browser) -> None:
    context = browser.chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(browser.address("/"))
    page.get_by_label("web.token").fill(TOKEN)
    follow(page, page.get_by_role("button", name="Enter"))
    follow(page, page.get_by_role("link", name="Done").first)
    follow(page, page.locator("tbody a.state").first)
    follow(page, page.get_by_role("link", name="Replay"))
    follow(page, page.get_by_role("link", name="Back"))
    assert "Every image" in page.inner_text("main")
    context.close()


def test_a_study_is_uploaded_and_followed_to_its_page(browser: Browser, tmp_path: Path) -> None:
    study = make_study(9, seed=3, when=datetime(2026, 11, 24, 9, tzinfo=UTC))
    files = [tmp_path / "letter.txt"]
    files[0].write_text("not DICOM")
    for ds in study.instances:
        files.append(tmp_path / f"{ds.SOPInstanceUID}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    page = browser.page("/")
    page.get_by_role("link", name="Upload").click()
    page.wait_for_url("**/upload")
    page.get_by_label("Choose files").set_input_files(files)
    page.wait_for_function("() => document.querySelector('[data-told]').innerText.startsWith('All')")
    assert f"All {len(files)} files done, 1 not taken." in page.inner_text("[data-told]")
    assert "letter.txt: no DICOM object" in page.inner_text("[data-faults]")
    shot(page, tmp_path, "upload-done")
    page.get_by_role("link", name=study.study_instance_uid).click()
    page.wait_for_selector(".state.s-done", timeout=120_000)
    assert [fault for fault in page.faults if "415" not in fault] == []  # the browser's own line about the letter
