"""Firefox, driven by the Marionette protocol that every Firefox speaks: playwright needs a build of its own."""

import contextlib
import json
import shutil
import socket
import subprocess
import time

FIREFOX, PULSEAUDIO = map(shutil.which, ("firefox-esr", "pulseaudio"))
PREFERENCES = {"marionette.port": 0, "browser.shell.checkDefaultBrowser": False, "browser.startup.page": 0,
               "browser.startup.homepage_override.mstone": "ignore", "app.normandy.enabled": False, "app.update.enabled": False,
               "datareporting.policy.dataSubmissionEnabled": False, "services.settings.server": "data:,"}


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
def loudspeaker(folder):
    """A PulseAudio server whose one loudspeaker nobody hears; without one, Firefox plays no sound. Returns its address."""
    socket = folder / "pulseaudio"
    modules = ["-L", "module-null-sink", "-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
    line = [PULSEAUDIO, "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", *modules]
    environment = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            wait(process, socket.exists)
            yield f"unix:{socket}"
        finally:
            process.kill()


def wait(process, condition):
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end, f"{process.args[0]} did not start"
        time.sleep(0.1)


@contextlib.contextmanager
def firefox(folder):
    profile, port = folder / "profile", folder / "profile" / "MarionetteActivePort"
    profile.mkdir()
    (profile / "user.js").write_text("".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()))
    line = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
    with loudspeaker(folder) as address:
        environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "PULSE_SERVER": address}
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
            try:
                wait(process, lambda: port.exists() and port.read_text())
                browser = Firefox(int(port.read_text()))
                with browser.connection, browser.reader:
                    yield browser
                    browser.call("Marionette:Quit", flags=["eForceQuit"])
                process.wait(60)
            finally:
                process.kill()
