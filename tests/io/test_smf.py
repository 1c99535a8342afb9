import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqwave.io import smf

NOTE = b"\0\x90\x3c\x40\x60\x80\x3c\0"


def chunk(body, kind=b"MTrk"):
    return kind + struct.pack(">I", len(body)) + body


def song(*bodies, form=1, tracks=None, division=96):
    count = len(bodies) if tracks is None else tracks
    return chunk(struct.pack(">HHH", form, count, division), b"MThd") + b"".join(map(chunk, bodies))


def test_events_are_read_with_running_status_and_others_are_skipped():
    body = (b"\0\xff\x51\x03\x07\xa1\x20"  # a tempo
            b"\x81\0\x90\x3c\x40" b"\0\xff\x01\x02hi" b"\x0a\x3e\x40"  # text within running status
            b"\0\xf0\x03\x7e\x7f\xf7" b"\0\xf2\x05\x06" b"\0\xf3\x05" b"\0\xf1\x05" b"\0\xf6"  # sysex, system messages
            b"\0\xc0\x05" b"\0\xe0\0\x40"  # program, bend
            b"\x05\xb0\x07\x64" b"\0\x40\x7f" b"\0\x80\x3c\0" b"\x01\xff\x2f\0" b"\0\x90\x40\x40")
    file = smf.parse(song(body) + chunk(b"odd", b"XFIH"))
    assert file == ([([(0, smf.TEMPO, 500_000, 0), (128, 0x90, 60, 64), (138, 0x90, 62, 64), (143, 0xB0, 64, 127),
                       (143, 0x80, 60, 0)], 144)], 96, 0)


@pytest.mark.parametrize("division, rate", [(0xE728, 25 * 40), (0xE350, 30000 / 1001 * 80), (0xE204, 30 * 4)])
def test_smpte_divisions_are_ticks_per_second(division, rate):
    assert smf.parse(song(NOTE, division=division))[1:] == (0, pytest.approx(rate))


@pytest.mark.parametrize("data, words", [
    (b"", "does not begin with MThd"), (b"MThd", "ends too early"), (song(NOTE)[:-1], "a track of it ends too early"),
    (song(NOTE, tracks=2), "has 1 of its 2 tracks"), (song(NOTE, form=2), "independent songs"),
    (song(NOTE, division=0), "division is 0"), (song(NOTE, division=0xE700), "division is 0"),
    (song(b"\0\x3c\x40"), "damaged"), (song(b"\0\x90\x3c\xff"), "damaged"), (song(b"\0\xf0\x05\0"), "ends too early"),
    (song(b"\x80" * 5), "more than four bytes"), (song(b"\0\x90\x3c\x40" + b"\0\x3c\x40" * smf.MOST_NOTES), "100,000 notes"),
    (song(b"\0\xff\x01\0" * (smf.MOST_BYTES // 4)), "larger than 2 MB")])
def test_damaged_and_endless_files_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        smf.parse(data)


PEDAL, RELEASE, SILENCE, TEMPO = b"\0\xb0\x40\x7f", b"\0\x80\x3c\0", b"\0\xb0\x7b\0", b"\0\xff\x51\3\7\xa1\x20"


@pytest.mark.parametrize("bodies", [
    [PEDAL + b"\0\x40\x7f" * 666_000], [PEDAL + b"\1\x40\0\1\x40\x7f" * 333_000], [RELEASE + b"\0\x3c\0" * 666_000],
    [SILENCE + b"\0\x7b\0" * 666_000], [TEMPO * 200_000, PEDAL * 100_001], [PEDAL + b"\0\x40\x7f" * 60_000] * 6])
def test_the_events_of_all_tracks_together_are_limited(bodies, monkeypatch):
    """A file of pedal messages alone ends where the limit is, not where the file is."""
    data, events = song(*bodies), []
    assert len(data) < smf.MOST_BYTES
    monkeypatch.setattr(smf, "Event", lambda *values: events.append(values) or values)
    with pytest.raises(ValueError, match="^it has more than 300,000 events of notes, pedal and tempo$"):
        smf.parse(data)
    assert len(events) == smf.MOST_EVENTS + 1


def test_as_many_events_as_are_allowed_are_read():
    assert sum(len(track.events) for track in smf.parse(song(TEMPO * 200_000, PEDAL * 100_000)).tracks) == smf.MOST_EVENTS


@given(st.lists(st.binary(max_size=40) | st.sampled_from([NOTE, b"\0\xb0\x40\x7f", b"\0\xff\x51\x03\x01\0\0", b"\0\xff\x59\x7f"])),
       st.integers(0, 2), st.integers(0, 0xFFFF))
def test_any_bytes_are_a_file_or_refused(parts, form, division):
    for data in (song(*parts, form=form, division=division), song(b"".join(parts), division=division), b"".join(parts)):
        try:
            file = smf.parse(data)
        except ValueError as e:
            assert 0 < len(str(e)) < 60 and "\n" not in str(e)
        else:
            assert (file.ticks_per_quarter > 0) != (file.ticks_per_second > 0)
            for events, end in file.tracks:
                ticks = [event.tick for event in events]
                assert ticks == sorted(ticks) and max(ticks, default=0) <= end
