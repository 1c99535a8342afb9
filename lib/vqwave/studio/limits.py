"""The limits of a studio. docs/studio.md lists them; each has an error message of one line."""

STREAMS = 8
"""Takes that are made at the same time."""
IDLE_SECONDS = 120.0
"""When all streams are in use, a take that nobody has read from for this long is ended."""
LONGEST_TAKE = 4 * 3600.0
LONGEST_FINISH = 20 * 60.0
"""Seconds of a take that is normalized or looped, since the whole take is then in memory."""
MOST_CHANGES = 12_000
"""Changes that a take remembers: a change in every block for more than an hour."""
LONGEST_LABEL = 1000
"""Characters of a mixture of labels."""
PAST = 8.0
"""Seconds that *hold* and *freeze* can repeat."""
PASSAGE = 10.0
"""Seconds before the playhead from which "continue from here" continues."""
LARGEST_SEED = 2**53 - 1
"""The largest integer that JavaScript represents exactly."""

LONGEST_RECORDING = 30 * 60.0
LONGEST_EXCERPT = 60.0
"""Seconds of a recording that the page plays."""
LONGEST_COMPARISON = 60.0
UPLOAD_BYTES = 200 * 2**20
"""Of one recording."""
UPLOADS_AT_ONCE = 4
UPLOADS_BYTES = 2 * 2**30
"""Of all recordings."""
RECORDINGS_KEPT = 200

TAPES_BYTES = 2 * 2**30
"""Disk space of all takes with their wav and flac copies."""
TAKES_KEPT = 200
COMPARISONS_KEPT = 8
COMPARISONS_AT_ONCE = 2
MODELS_KEPT = 3

CONNECTIONS = 256
"""Open connections; one address may hold half of them."""
HEADER_SECONDS = 10.0
"""Within this time a client must send the whole header of a request."""
STALL_SECONDS = 20.0
STALL_BYTES = 16 * 2**10
"""A request body that brings fewer bytes in `STALL_SECONDS` is dropped."""
REQUEST_BYTES = 2 * 2**20
"""Of a request that is no recording, and of a link: enough for the changes of a long take."""
REFUSED_BYTES = 1 << 20
"""Bytes of a refused request that are read before it is answered."""
