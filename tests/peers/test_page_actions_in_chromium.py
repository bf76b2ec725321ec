"""What people do on the page of a prospective, blinded department: enter, look, release, decide, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from tests.peers.chromium import TOKEN, UNBLINDED, Browser, axe_says, chromium, follow, modules, shot
from tests.support.agent_process import AgentProcess

pytestmark = [pytest.mark.peers, pytest.mark.acceptance]

WHEN = datetime(2026, 11, 25, 9, tzinfo=UTC)
WITHHELD, CANCELED, HELD = range(3)
"""Places in `Browser.studies`."""


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, peer_tool: Callable[[str], Path], free_port: Callable[[], int]
) -> Iterator[Browser]:
    """An agent with two withheld studies, and one whose images name two patients."""
    modules()
    executable = peer_tool("chromium")
    settings = {
        "AGENT_WEB__TOKEN": TOKEN,
        "AGENT_WEB__UNBLINDED_TOKEN": UNBLINDED,
        "AGENT_WEB__PATIENT": "initials",
        "AGENT_RESULTS__BLINDED": "true",
    }
    home = tmp_path_factory.mktemp("blinded") / "agent"
    agent = AgentProcess(home, dicom_port=free_port(), web_port=free_port(), settings=settings)
    agent.token = TOKEN
    made = [make_study(number, seed=11, when=WHEN) for number in (7, 8, 9)]
    made[HELD].instances[0].add_new("PatientID", "LO", "SOMEBODY-ELSE")
    try:
        agent.start()
        for study in made:
            send_study(study.instances, host="127.0.0.1", port=agent.dicom_port)
        with chromium(executable) as running:
            yield Browser(running, agent, [study.study_instance_uid for study in made])
    finally:
        agent.stop()


def test_a_link_leads_to_its_study_once_the_token_is_entered(browser: Browser) -> None:
    page, path = browser.stranger(), f"/studies/{browser.studies[WITHHELD]}"
    page.goto(browser.address(path))
    page.get_by_label("web.token").fill("not the token of this agent")
    follow(page, page.get_by_role("button", name="Enter"))
    assert "That is not the token" in page.inner_text("[role=alert]")
    page.get_by_label("web.token").fill(TOKEN)
    page.get_by_role("button", name="Enter").click()
    page.wait_for_url(f"**{path}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_withheld_study_shows_nothing_to_a_reader(browser: Browser, tmp_path: Path, scheme: str) -> None:
    page = browser.page(f"/studies/{browser.studies[WITHHELD]}", scheme=scheme)
    page.wait_for_selector(".state.s-withheld", timeout=120_000)
    text = page.inner_text("main")
    assert "WITHHELD" in text
    assert not any(word in text for word in ("fat fraction", "PDFF", "Views used", "heatmap", "better frames"))
    assert page.get_by_role("link", name="Release").count() == 0
    assert axe_says(page) == []
    shot(page, tmp_path, f"withheld-{scheme}")
    assert page.faults == []


def test_a_held_study_says_what_to_do_and_a_retry_does_it(browser: Browser, tmp_path: Path) -> None:
    uid = browser.studies[HELD]
    page = browser.page("/")
    page.wait_for_selector(".state.s-held", timeout=120_000)
    follow(page, page.get_by_role("link", name="Held").first)
    assert page.url.endswith("state=held")
    page.locator(".state.s-held").click()
    page.wait_for_url(f"**/studies/{uid}")
    assert "before a person decides" in page.inner_text("main")
    assert axe_says(page) == []
    follow(page, page.get_by_role("link", name="Retry"))
    shot(page, tmp_path, "held-retry")
    follow(page, page.get_by_role("link", name="Back"))
    assert page.locator(".state.s-held").count() == 1
    follow(page, page.get_by_role("link", name="Retry"))
    follow(page, page.get_by_role("button", name="Retry"))
    page.wait_for_selector(".state.s-withheld", timeout=120_000)
    assert page.faults == []


def test_a_cancel_is_asked_and_done(browser: Browser, tmp_path: Path) -> None:
    uid = browser.studies[CANCELED]
    page = browser.page(f"/studies/{uid}")
    page.wait_for_selector(".state.s-withheld", timeout=120_000)
    follow(page, page.get_by_role("link", name="Cancel"))
    shot(page, tmp_path, "cancel-confirm")
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(f"**/studies/{uid}")
    assert "by an operator" in page.inner_text("[data-live=state]")
    shot(page, tmp_path, "canceled")


def test_a_release_by_keyboard_is_seen_by_everybody(browser: Browser, tmp_path: Path) -> None:
    uid = browser.studies[WITHHELD]
    reader = browser.page(f"/studies/{uid}")
    page = browser.page(f"/studies/{uid}", token=UNBLINDED)
    assert "fat fraction, estimated" in page.inner_text("main")
    assert axe_says(page) == []
    shot(page, tmp_path, "unblinded")
    page.get_by_role("link", name="Release").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/release")
    shot(page, tmp_path, "release-confirm")
    page.get_by_role("button", name="Release").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{uid}")
    reader.wait_for_selector(".state.s-done", timeout=120_000)
    reader.wait_for_selector("text=fat fraction, estimated")
    shot(reader, tmp_path, "released")
    assert page.faults == reader.faults == []


def test_a_new_study_comes_onto_the_worklist_without_a_reload(browser: Browser) -> None:
    page = browser.page("/")
    page.evaluate("window.stays = true")
    study = make_study(10, seed=12, when=WHEN)
    send_study(study.instances, host="127.0.0.1", port=browser.agent.dicom_port)
    page.wait_for_selector(f'a[href="/studies/{study.study_instance_uid}"]', timeout=30_000)
    assert page.evaluate("window.stays") is True
