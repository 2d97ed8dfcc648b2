"""A headless Chromium that is spoken to over a pipe: it opens pages of a server, types, clicks, and takes pictures."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Where a Chromium is: what CHROMIUM says, else the first that is found."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class LiveBrowser:
    """One page in a browser.

    Attributes:
        said: What the page wrote on its console, what it threw, and what its policy has blocked.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._numbers, self._buffer = read, write, itertools.count(1), b""
        self.said: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log"):
            self.call(f"{part}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the page's."""
        return self._call(method, self._session, **parameters)

    def open(
        self,
        address: str,
        *,
        width: int = 1000,
        height: int = 900,
        dark: bool = False,
        ready: str = "document.body?.dataset.ready",
    ) -> None:
        """Open a page in a window of some size, and wait until a script says that it is ready."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href === {json.dumps(address)} && ({ready})")

    def run(self, script: str) -> Any:
        """The value of a script, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", found))
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30.0) -> None:
        """Wait until a script gives something that counts as true."""
        waiting = f"""new Promise((done, fail) => {{
          const end = Date.now() + {1000 * seconds};
          const look = () => ({script}) ? done() : Date.now() > end ? fail(new Error("it never was")) : setTimeout(look, 20);
          look();
        }})"""
        self.run(waiting)

    def picture(self, *, whole: bool = True) -> bytes:
        """The page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if whole else {}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        return base64.b64decode(found["data"])

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        number = next(self._numbers)
        about = {} if session is None else {"sessionId": session}
        message = {"id": number, "method": method, "params": parameters, **about}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                self.said.append(json.dumps(answer["params"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 2**16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def live_browser() -> Iterator[LiveBrowser]:
    """A browser, which is ended afterwards."""
    to_read, from_us = os.pipe()  # the browser reads its commands as file 3 and writes its answers to file 4
    to_us, to_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars"
        chromium = f'"{find_browser()}" {options} --remote-debugging-pipe --user-data-dir="{Path(folder) / "profile"}"'
        command = ["bash", "-c", f"exec 3<&{to_read} 4>&{to_write}; exec {chromium} about:blank"]
        with subprocess.Popen(command, pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL) as process:
            os.close(to_read)
            os.close(to_write)
            try:
                yield LiveBrowser(to_us, from_us)
            finally:
                process.terminate()
                process.wait(30)
                os.close(to_us)
                os.close(from_us)
