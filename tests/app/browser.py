"""A headless Chromium driven over its DevTools protocol: real clicks, keys, uploads, screenshots.

Nothing but the page's own server can be reached: every other name resolves to nothing.
"""

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Seconds to wait for what must come; a busy machine is slow.
PATIENCE = 240.0


class Browser:
    """One page in a browser of its own."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 1000) -> None:
        from websockets.sync.client import connect

        assert CHROMIUM is not None
        self._process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
             f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"ws://\S+", line):
                break
        self._socket = connect(found[0], max_size=None)  # type: ignore[index]
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def send(self, method: str, **params: Any) -> Any:
        """Call one method of the protocol; events that arrive meanwhile are noted."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))

    def open(self, url: str) -> None:
        """Go to a page."""
        self.send("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        done = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true, and return it."""
        end = time.monotonic() + PATIENCE
        while not (value := self.js(expression)):
            assert time.monotonic() < end, f"never true: {expression}\n{self.text()[-2000:]}"
            time.sleep(0.05)
        return value

    def text(self, selector: str = "body") -> str:
        """Text that a reader sees in an element."""
        return str(self.js(f"(document.querySelector({selector!r}) || {{}}).innerText || ''"))

    def upload(self, selector: str, path: Path, until: str) -> None:
        """Choose a file in a file input, again if the page did not listen yet, until it shows."""
        end = time.monotonic() + PATIENCE
        while not self.js(until):
            assert time.monotonic() < end, f"never true: {until}\n{self.text()[-2000:]}"
            root = self.send("DOM.getDocument")["root"]["nodeId"]
            node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
            if node:
                self.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
            again = time.monotonic() + 15.0
            while not self.js(until) and time.monotonic() < again:
                time.sleep(0.05)

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element of a selector that contains a text."""
        where = self.wait(
            f"(() => {{ for (const e of document.querySelectorAll({selector!r}))"
            f" if (e.innerText.includes({text!r})) {{ e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect();"
            " if (b.width) return [b.x + b.width / 2, b.y + b.height / 2] } return null })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left",
                clickCount=1,
            )  # fmt: skip

    def press(self, selector: str, key: str, code: int, times: int = 1) -> None:
        """Press a key on an element, e.g. an arrow on a slider."""
        self.wait(f"(e => e && (e.focus(), true))(document.querySelector({selector!r}))")
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.send(
                    "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                    windowsVirtualKeyCode=code,
                )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
