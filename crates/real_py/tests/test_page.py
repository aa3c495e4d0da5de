"""The live page of `real serve` in headless Chromium, light and dark; skipped, by name, where there is none."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import RIGHT, UNTYPED, WRONG, own_task
from test_doors import Server

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
# Numbers of Chromium's own for `prefers-color-scheme`.
SCHEMES = {"dark": 0, "light": 1}


@unittest.skipIf(CHROMIUM is None, "no Chromium")
class Page(unittest.TestCase):
    def browse(self, url, scheme, *arguments):
        with tempfile.TemporaryDirectory() as profile:
            command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1000"]
            command += [f"--user-data-dir={profile}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"]
            command += ["--virtual-time-budget=2500", *arguments, url]
            return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)

    def test_the_page_shows_what_was_judged(self):
        completions = [{"task_id": "<b>add</b>", "sample": n, "completion": text} for n, text in enumerate([RIGHT, RIGHT, WRONG, UNTYPED, "?"])]
        # Where the pictures are kept, to be looked at.
        folder = pathlib.Path(os.environ.get("REAL_PICTURES") or self.temporary.name)
        pictures = {}
        with Server() as server:
            server.post("/v1/score", {"tasks": [own_task("<b>add</b>")], "completions": completions})
            for scheme in SCHEMES:
                page = self.browse(server.url, scheme, "--dump-dom")
                self.assertIn("running · up", page)
                self.assertIn("<b>2</b>", page, "two that are right and clean")
                self.assertIn("5 since the start", page)
                self.assertIn("&lt;b&gt;add&lt;/b&gt;", page, "a task's name is text")
                picture = folder / f"page-{scheme}.png"
                self.browse(server.url, scheme, f"--screenshot={picture}")
                pictures[scheme] = picture.read_bytes()
        self.assertNotEqual(pictures["light"], pictures["dark"])


if CHROMIUM is None:
    print("skipped: the live page: there is no chromium", file=sys.stderr)

if __name__ == "__main__":
    unittest.main()
