"""Firefox without a window, driven by its own remote protocol (Marionette): nothing beside Firefox is needed."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
PREFERENCES = {
    "marionette.port": 0,
    # A microphone that hums, given without a question.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.download.useDownloadDir": True,
    "browser.download.folderList": 2,
}

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Firefox:
    """A Firefox with a profile of its own in `folder`, where downloads go too. Use as a context."""

    def __init__(self, folder: Path):
        self.folder, self.profile, self.count = folder, folder / "profile", 0

    def __enter__(self):
        self.profile.mkdir(parents=True)
        values = PREFERENCES | {"browser.download.dir": str(self.folder)}
        (self.profile / "user.js").write_text(
            "".join(f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in values.items()))
        environment = os.environ | {"HOME": str(self.folder)} | self.loudspeaker()
        line = [PROGRAM, "--headless", "--marionette", "--remote-allow-system-access", "--no-remote",
                "--profile", str(self.profile)]
        with open(self.folder / "firefox.log", "w") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
        try:
            self.connect()
        except BaseException:
            self.end()
            raise
        return self

    def loudspeaker(self):
        """Firefox's clock of sound stands still without a device: the environment of one that nobody hears, where there
        is PulseAudio."""
        self.others = []
        if not (program := shutil.which("pulseaudio")):
            return {}
        place = self.folder / "sound"
        line = [program, "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--load=module-null-sink",
                f"--load=module-native-protocol-unix socket={place} auth-anonymous=1"]
        environment = os.environ | {"HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        with open(self.folder / "pulse.log", "w") as log:
            self.others.append(subprocess.Popen(line, stdout=log, stderr=log, env=environment))
        return {"PULSE_SERVER": f"unix:{place}"}

    def connect(self, patience=180.0):
        """Wait for the port that Firefox writes into its profile, and begin a session."""
        told, until = self.profile / "MarionetteActivePort", time.monotonic() + patience
        while not (told.exists() and told.read_text()):
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "firefox.log").read_text()
            time.sleep(0.1)
        self.socket = socket.create_connection(("127.0.0.1", int(told.read_text())), timeout=patience)
        self.read()
        self.ask("WebDriver:NewSession", capabilities={"alwaysMatch": {"unhandledPromptBehavior": "accept"}})

    def __exit__(self, *_):
        self.socket.close()
        self.end()

    def end(self):
        for process in (self.process, *self.others):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def read(self):
        """A message: its length in digits, a colon, JSON."""
        size = b""
        while not size.endswith(b":"):
            size += self.receive(1)
        return json.loads(self.receive(int(size[:-1])))

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "Firefox closed the connection"
            data += part
        return data

    def ask(self, name, **given):
        """The answer to a command; AssertionError with Firefox's words where it fails."""
        self.count += 1
        text = json.dumps([0, self.count, name, given]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self.read()
        assert error is None, f"{name}: {error['error']}: {error['message']}"
        return result

    def open(self, url, width=1400, height=900):
        self.ask("WebDriver:SetWindowRect", width=width, height=height)
        self.ask("WebDriver:Navigate", url=url)

    def run(self, script, *arguments):
        """What `script`, the body of a function, returns in the page."""
        return self.ask("WebDriver:ExecuteScript", script=script, args=list(arguments), sandbox=None)["value"]

    def until(self, condition, patience=120.0):
        """Wait for an expression of the page to be true; its value."""
        end = time.monotonic() + patience
        while not (found := self.run(f"return {condition}")):
            assert time.monotonic() < end, f"{condition}; the page says: {self.run('return document.body.innerText')}"
            time.sleep(0.1)
        return found

    def find(self, css):
        return self.ask("WebDriver:FindElement", using="css selector", value=css)["value"][ELEMENT]

    def click(self, css):
        self.ask("WebDriver:ElementClick", id=self.find(css))

    def keys(self, css, text):
        self.ask("WebDriver:ElementSendKeys", id=self.find(css), text=text)

    def errors(self, url):
        """What the console says of pages under `url`: errors, and warnings that name one of them."""
        self.ask("Marionette:SetContext", value="chrome")
        try:
            return self.run("""
                return Services.console.getMessageArray()
                    .filter((one) => one instanceof Ci.nsIScriptError && one.sourceName?.startsWith(arguments[0]))
                    .filter((one) => !(one.flags & Ci.nsIScriptError.warningFlag))
                    .map((one) => `${one.sourceName}:${one.lineNumber}: ${one.errorMessage}`)""", url)
        finally:
            self.ask("Marionette:SetContext", value="content")
