"""A browser driven over the DevTools protocol through pipes: JSON messages, each terminated by a zero byte.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 120.0
SIZES = [(1280, 800), (375, 740)]
"""Window sizes in CSS pixels: a desktop and a phone."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    """Return the browser's path: the variable GEOSEG_CHROMIUM, or the first one found on the PATH."""
    return os.environ.get("GEOSEG_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    def __init__(self, writing: int, reading: int) -> None:
        self._writing, self._reading, self._rest = writing, reading, b""
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._writing, content) :]
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._events.append(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._reading, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has gone")
            self._rest += piece
        line, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(line))

    def events(self, session: str, method: str) -> list[dict[str, Any]]:
        told = [event for event in self._events if event.get("sessionId") == session]
        return [event["params"] for event in told if event.get("method") == method]


class Tab:
    """One page, with its requests and errors."""

    def __init__(self, browser: Browser, path: Path, width: int, height: int) -> None:
        self.browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        self.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.size(width, height)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=path.absolute().as_uri())
        self.until("document.documentElement?.dataset.ready === 'yes'")
        self.settle()

    def close(self) -> None:
        """Close the page; an open page keeps drawing, and every frame takes time."""
        self.browser.send("Target.closeTarget", targetId=self._target)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **parameters)

    def size(self, width: int, height: int, ratio: float = 1) -> None:
        """Set the window's size in CSS pixels and the number of screen pixels per CSS pixel."""
        told = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **told)

    def run(self, program: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.03)

    def settle(self) -> None:
        """Wait until all tiles are loaded and faded in and the next frame is drawn."""
        self.until("!document.querySelector('.leaflet-tile:not(.leaflet-tile-loaded)')")
        self.until(
            "[...document.querySelectorAll('.leaflet-tile')].every((tile) => getComputedStyle(tile).opacity === '1')"
        )
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def picture(self, path: Path | None = None) -> bytes:
        content = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(content)
        return content

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first place, move to the others and release; a single place is clicked."""
        self._mouse("mouseMoved", places[0], held=False)
        self._mouse("mousePressed", places[0], held=True)
        for place in places[1:]:
            self._mouse("mouseMoved", place, held=True)
        self._mouse("mouseReleased", places[-1], held=False)

    def hover(self, place: tuple[float, float]) -> None:
        self._mouse("mouseMoved", place, held=False)

    def _mouse(self, kind: str, place: tuple[float, float], *, held: bool) -> None:
        button = "none" if kind == "mouseMoved" and not held else "left"
        event = {"type": kind, "x": place[0], "y": place[1], "button": button, "buttons": int(held), "clickCount": 1}
        self.send("Input.dispatchMouseEvent", **event)

    def events(self, method: str) -> list[dict[str, Any]]:
        return self.browser.events(self.session, method)

    def complaints(self) -> list[str]:
        thrown = [event["exceptionDetails"]["text"] for event in self.events("Runtime.exceptionThrown")]
        logged = [event["entry"]["text"] for event in self.events("Log.entryAdded")]
        said = [str(event["args"]) for event in self.events("Runtime.consoleAPICalled")]
        return thrown + logged + said

    def requests(self) -> list[str]:
        """Return every requested address except the page itself and its embedded data."""
        asked = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith(("file:", "data:"))]


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    """Run a headless browser inside the block."""
    to_browser, writing = os.pipe()
    reading, from_browser = os.pipe()
    # The protocol's pipes must be descriptors 3 and 4 of the browser; either may be taken by the other pipe.
    command = (
        "import os, sys; high = [os.dup2(int(pipe), 60 + i) for i, pipe in enumerate(sys.argv[1:3])]; "
        "[os.dup2(pipe, 3 + i) for i, pipe in enumerate(high)]; os.closerange(5, 64); "
        "os.execv(sys.argv[3], sys.argv[3:])"
    )
    flags = [
        "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--force-color-profile=srgb",
        "--js-flags=--no-opt", f"--user-data-dir={folder}",  # a page lives for a second: no need to optimize its code
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", command, str(to_browser), str(from_browser), program, *flags],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(to_browser)
        os.close(from_browser)
        browser = Browser(writing, reading)
        try:
            yield browser
        finally:
            try:
                browser.send("Browser.close")
                process.wait(timeout=10)
            except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
                process.kill()
            os.close(writing)
            os.close(reading)
