"""The command that shows files in a browser, from outside."""

import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
from commands import Run, failed, picture, succeeded

import uqdm


def test_what_cannot_be_shown_ends_the_command(run: Run) -> None:
    failed(run("view", "none.uqdm"), 1, "no such file")
    Path("empty").mkdir()
    failed(run("view", "empty"), 1, "holds no files")
    picture("a.png")
    failed(run("view", "a.png", "--no-browser"), 1, "a.png")
    failed(run("view"), 2, "Missing argument")
    failed(run("view", "a.uqdm", "--port", "99999"), 2, "port")
    succeeded(run("compress", "a.png"))
    failed(run("view", "a.uqdm", "--original", "gone.png"), 1, "gone.png is no file")
    failed(run("view", "a.uqdm", "--max-pixels", "5"), 1, "max_pixels")
    failed(run("view", "http://127.0.0.1:9/a.uqdm"), 1, "cannot be fetched")


def test_it_opens_a_browser_and_serves_until_it_is_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("a.png")
    succeeded(run("compress", "a.png"))
    Path("browser").write_text('#!/bin/sh\necho "$1" > opened.new\nmv opened.new opened\nsleep 2\n')
    Path("browser").chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{Path.cwd()}/browser %s")  # one that does not end
    command = [sys.executable, "-m", "uqdm", "view", "a.uqdm", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url), process.stderr and process.stderr.read()
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"<title>uqdm view</title>" in page.read()
        for _ in range(2000):
            if Path("opened").exists():
                break
            time.sleep(0.01)
        assert Path("opened").read_text().strip() == url
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in complaints


def test_the_page_is_part_of_the_package() -> None:
    source = Path(uqdm.__file__).parent
    packaged = tomllib.loads((source.parent.parent / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    assert "view/page.html" in packaged["uqdm"]
    assert (source / "view" / "page.html").is_file()
