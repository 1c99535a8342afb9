"""The tempo and the beats of a score, shared with other programs: OSC needs the package python-osc,
Ableton Link the package aalink, whose licence is the GPL.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from ..errors import UserError
from .score import BEATS_PER_BAR

CHANGE = 0.05
"""The smallest change of tempo that counts, in beats per minute."""


class Beats:
    """Tells partners, `Osc` and `Link`, each beat of a stream's score when it is heard.
    follow_tempo: called with a tempo that a partner has set.
    """

    def __init__(self, stream, partners, follow_tempo: Callable[[float], None]):
        self.stream, self.partners, self.follow_tempo = stream, partners, follow_tempo
        self._beats: dict[int, int] = {}  # {sample: place in the bar}
        self._heard, self._tempo = -1.0, 0.0

    def follow(self, blocks):
        """Yield the blocks, after reading the score's beats in each."""
        for block in blocks:
            beats = zip(self.stream.beats.tolist(), self.stream.places.tolist(), strict=True)
            for at in [*self._beats]:
                if at > self.stream.position:  # it may have been composed again
                    del self._beats[at]
            self._beats |= {at: place for at, place in beats if at > self._heard}
            self._tempo = self.stream.tempo
            yield block

    def send(self, sample: float, paused: bool = False):
        """Tell the beats up to this sample, and follow partners."""
        heard, self._heard = sorted(at for at in [*self._beats] if at <= sample), sample
        places = [*map(self._beats.pop, heard)]
        for partner in self.partners:
            for place in places:
                partner.tell(self._tempo, place)
            if tempo := partner.heard():
                self.follow_tempo(tempo)

    def close(self):
        """Leave the partners."""
        for partner in self.partners:
            partner.close()


def partners(args) -> list:
    """The partners that the options --osc and --link name."""
    return [*([Osc(args.osc)] if args.osc else []), *([Link()] if args.link else [])]


class Osc:
    """Sends /vqwave/tempo (beats per minute) and /vqwave/beat (0 to 3) at each beat to
    "host:port", and receives /vqwave/tempo at the next port.
    """

    def __init__(self, address: str):
        try:
            from pythonosc import dispatcher, osc_message_builder, osc_server
        except ImportError as e:
            raise UserError("OSC needs python-osc: pip install python-osc") from e
        handlers, (host, _, port) = dispatcher.Dispatcher(), address.rpartition(":")
        handlers.map("/vqwave/tempo", lambda _, tempo: setattr(self, "_tempo", float(tempo)))
        try:
            self._partner, self._tempo = (host or "127.0.0.1", int(port)), 0.0
            self._server = osc_server.ThreadingOSCUDPServer(("127.0.0.1", int(port) + 1), handlers)
        except (OSError, ValueError, OverflowError) as e:
            raise UserError(f"--osc {address}: must be HOST:PORT, with the next port free "
                            f"({e})") from e
        self._builder = osc_message_builder.OscMessageBuilder
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def tell(self, tempo: float, place: int):
        for name, value in (("tempo", float(tempo)), ("beat", place)):
            message = self._builder(f"/vqwave/{name}")
            message.add_arg(value)
            with contextlib.suppress(OSError):  # nobody listens
                self._server.socket.sendto(message.build().dgram, self._partner)

    def heard(self) -> float:
        """The tempo that was received since the last call; 0: none."""
        tempo, self._tempo = self._tempo, 0.0
        return tempo

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Link:
    """A session of Ableton Link, with the score's tempo and bars."""

    def __init__(self):
        try:
            import aalink
        except ImportError as e:
            raise UserError("Ableton Link needs aalink: pip install aalink (licence: GPL)") from e
        loop, self._told = asyncio.new_event_loop(), 0.0
        threading.Thread(target=loop.run_forever, daemon=True).start()

        async def join():
            return aalink.Link(120.0)

        self._link = asyncio.run_coroutine_threadsafe(join(), loop).result()
        self._link.quantum, self._link.enabled = BEATS_PER_BAR, True

    def tell(self, tempo: float, place: int):
        if abs(tempo - self._told) > CHANGE:
            self._link.tempo = self._told = tempo
        if not place:  # with peers, the session's next bar is awaited
            self._link.request_beat(0.0)

    def heard(self) -> float:
        """The tempo of the session since a peer has changed it; 0: nobody has."""
        changed = self._told and abs(self._link.tempo - self._told) > CHANGE
        self._told = self._link.tempo if changed else self._told
        return self._told if changed else 0.0

    def close(self):
        self._link.enabled = False
