"""Firefox, driven by the Marionette protocol that every Firefox speaks: playwright needs a build of its own."""

import contextlib
import json
import shutil
import socket
import subprocess
import time

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
PREFERENCES = {"marionette.port": 0, "media.autoplay.default": 0, "browser.shell.checkDefaultBrowser": False,
               "datareporting.policy.dataSubmissionEnabled": False, "app.update.enabled": False, "media.cubeb.backend": "alsa"}


class Firefox:
    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), 60)
        self.reader, self.number = self.connection.makefile("rb"), 0
        self._read()
        self.call("WebDriver:NewSession", capabilities={})

    def _read(self):
        length = b""
        while not length.endswith(b":"):
            length += self.reader.read(1)
        return json.loads(self.reader.read(int(length[:-1])))

    def call(self, command, **values):
        self.number += 1
        message = json.dumps([0, self.number, command, values]).encode()
        self.connection.sendall(b"%d:%b" % (len(message), message))
        _, _, error, result = self._read()
        assert not error, error
        return result

    def run(self, script, *arguments):
        """The value that the body of a function returns, in the page."""
        return self.call("WebDriver:ExecuteScript", script=script, args=list(arguments), sandbox=None)["value"]

    def until(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.1)

    def click(self, selector):
        found = self.call("WebDriver:FindElement", using="css selector", value=selector)["value"]
        self.call("WebDriver:ElementClick", id=next(iter(found.values())))


@contextlib.contextmanager
def firefox(folder):
    """A Firefox without a window, with a new profile in a folder."""
    profile, port = folder / "profile", folder / "profile" / "MarionetteActivePort"
    profile.mkdir()
    (folder / ".asoundrc").write_text("pcm.!default { type null }\nctl.!default { type null }\n")
    (profile / "user.js").write_text("".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()))
    line = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}) as process:
        try:
            end = time.monotonic() + 60
            while not port.exists() or not port.read_text():
                assert process.poll() is None and time.monotonic() < end, "Firefox did not start"
                time.sleep(0.1)
            browser = Firefox(int(port.read_text()))
            yield browser
            browser.call("Marionette:Quit", flags=["eForceQuit"])
            browser.connection.close()
            process.wait(60)
        finally:
            process.kill()
