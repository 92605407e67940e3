"""A headless Chromium that the machine has, for tests that look at pages as people do. Nothing is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = (390, 844)
DESKTOP = (1280, 800)

# Each text with the colours that it is seen in, the contrast that WCAG AA asks for, and the one that there is.
CONTRAST = """() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    seen += 1;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(behind(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = parseInt(style.fontWeight) >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < needed) poor.push([walker.currentNode.textContent.trim().slice(0, 40), ratio]);
  }
  return {seen, poor};
}"""

# Controls that nobody who hears the page could tell apart, and those whose aria-describedby leads nowhere.
UNNAMED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button')]
  .filter(e => e.checkVisibility())
  .filter(e => !((e.labels && [...e.labels].some(l => l.textContent.trim())) || e.textContent.trim())
    || (e.getAttribute('aria-describedby') || '').split(' ').some(id => id && !document.getElementById(id)))
  .map(e => e.outerHTML)"""

OUTLINE = """() => {
  const style = getComputedStyle(document.activeElement);
  return [style.outlineStyle, parseFloat(style.outlineWidth)];
}"""

# Controls that are lower than a fingertip; of a radio button or checkbox its label is touched.
TOO_SMALL = """() => [...document.querySelectorAll('button, select, textarea, input')]
  .filter(e => !['hidden', 'radio', 'checkbox'].includes(e.type))
  .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 44)
  .map(e => e.outerHTML)"""

SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


@asynccontextmanager
async def visitor(
    browser: Browser, size: tuple[int, int] = PHONE, scheme: str = "light", *, scripts: bool = True
) -> AsyncIterator[tuple[Page, list[str]]]:
    """A new visitor's page, and what its console complains of."""
    context: BrowserContext = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page, complaints
    await context.close()
