"""The page that a mail's link opens, in the real browser: signing in, and the file saved under its name."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from dispatcher.reports.pdf import find_browser
from tests.support.processes import Api, eventually, token
from tests.support.report_queue import new_people, ready


class Tab:
    """A page of a browser, as DevTools drive it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._asked = socket, 0

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._asked:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def run(self, script: str) -> Any:
        """What a script on the page gives."""
        return self.do("Runtime.evaluate", expression=script)["result"].get("value")

    def says(self, text: str) -> None:
        """Wait until the page shows these words."""
        eventually(lambda: text in self.run("String(document.body?.innerText)"), f"the page says {text}", seconds=20)


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    program = find_browser()
    assert program is not None
    command = [str(program), "--headless", "--no-sandbox", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen([*command, f"--user-data-dir={folder}"], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        port = next(
            found[1] for line in process.stderr if (found := re.search(r"listening on ws://[^:]+:(\d+)/", line))
        )
        tabs = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        with connect(address, proxy=None) as socket:
            yield Tab(socket)
    finally:
        process.kill()
        process.wait()


def test_signing_in_and_saving_the_file(api: Api, tmp_path: Path) -> None:
    people, content, name = new_people(), b"a,b\r\n" * 1000, "Übersicht „März“.csv"
    id_ = ready(people, content, name)
    saved = tmp_path / "saved"
    saved.mkdir()
    with browser(tmp_path / "profile") as tab:
        tab.do("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        tab.do("Page.navigate", url=f"{api.url}/reports/{id_}")
        tab.says("Sign in to open this report.")
        sign_in(tab, "wrong")
        tab.says("The token is not valid")
        sign_in(tab, token(people.ids["interviewer"]))
        tab.says("you are interviewer")
        sign_in(tab, token(people.ids["recruiter"]))
        tab.says("5 KB")
        assert tab.run("document.title") == "Report"
        assert tab.run("location.href") == f"{api.url}/reports/{id_}", "no token in an address"
        tab.run("document.getElementById('get').requestSubmit()")
        eventually(lambda: [file.read_bytes() for file in saved.iterdir()] == [content], "the file is saved")
        assert [file.name for file in saved.iterdir()] == [name]
        tab.do("Page.reload")
        tab.says("5 KB")  # the tab stays signed in


def sign_in(tab: Tab, given: str) -> None:
    tab.run(f"document.getElementById('token').value = {json.dumps(given)}")
    tab.run("document.getElementById('sign-in').requestSubmit()")
