"""A real Chromium that looks at a real agent, for the tests of the pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess

TOKEN = "a-token-of-the-test-alone"
UNBLINDED = "another-token-of-the-test"
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Browser:
    """One Chromium, and the agent that it looks at."""

    chromium: Any
    agent: AgentProcess
    studies: list[str]

    def page(self, path: str, *, scheme: str = "light", width: int = 1280, token: str = TOKEN) -> Any:
        page = self.stranger(scheme=scheme, width=width)
        page.goto(self.address("/login"))
        page.get_by_label("web.token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_url("**/")
        page.goto(self.address(path))
        return page

    def stranger(self, *, scheme: str = "light", width: int = 1280) -> Any:
        """Open a page without a session; what its console complains of is kept in `faults`."""
        context = self.chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        page = context.new_page()
        page.faults = []
        page.on("console", lambda message: message.type == "error" and page.faults.append(message.text))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        return page

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.agent.web_port}{path}"


def modules() -> tuple[Any, Path]:
    """Playwright and axe from the `browser` extra; where they are missing, as with any peer."""
    try:
        import axe_playwright_python
        from playwright import sync_api
    except ImportError:
        message = "Playwright or axe is missing (pip install '.[browser]')"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return sync_api, Path(axe_playwright_python.__file__).parent / "axe.min.js"


@contextmanager
def chromium(executable: Path) -> Iterator[Any]:
    sync_api, _ = modules()
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(executable), args=["--no-sandbox"])
        yield running
        running.close()


def follow(page: Any, link: Any) -> None:
    """Click what leads to another page and wait until that one is there: `click` itself may return before."""
    with page.expect_navigation():
        link.click()


def axe_says(page: Any) -> list[tuple[str, str, list[str]]]:
    """What axe finds wrong with a page: rule, impact, elements."""
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    _, axe = modules()
    page.evaluate(axe.read_text())
    found = page.evaluate(
        "tags => axe.run({runOnly: {type: 'tag', values: tags}}).then(told => told.violations)", AXE_TAGS
    )
    return [(fault["id"], fault["impact"], [node["html"][:120] for node in fault["nodes"][:3]]) for fault in found]


def shot(page: Any, tmp_path: Path, name: str) -> None:
    """Keep a picture of the page where somebody can look at it: TEST_SCREENSHOTS names the folder."""
    folder = Path(os.environ.get("TEST_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
