"""The limits of a studio. docs/studio.md lists them."""

# Takes
STREAMS = 8  # takes that are generated at the same time
IDLE_SECONDS = 120.0  # a take that nobody reads for this long may be ended for another
LONGEST_TAKE = 4 * 3600.0
LONGEST_FINISH = 20 * 60.0  # seconds of a take that is normalized or looped, in memory
MOST_CHANGES = 12_000  # changes that a take remembers: 20 a second for ten minutes
UNASKED = 10.0  # seconds of a playing take that are generated without another request
LONGEST_TEXT = 1000  # characters of a label, a name or an id
PAST = 8.0  # seconds that *hold* and *freeze* can repeat
STATE_SECONDS, STATES_KEPT = 4.0, 32  # of a take, so that an edit is heard soon
TAKES_EDITED = 4  # the newest takes whose states are kept
LARGEST_SEED = 2**53 - 1  # the largest integer that JavaScript represents exactly

# Recordings
LONGEST_RECORDING = 30 * 60.0
LONGEST_EXCERPT = 60.0  # seconds of a recording that the page plays
LONGEST_COMPARISON = 60.0
UPLOAD_BYTES = 200 * 2**20  # of one recording
UPLOADS_AT_ONCE = 4
UPLOADS_BYTES = 2 * 2**30  # of all recordings
RECORDINGS_KEPT = 200

# What is kept
TAPES_BYTES = 2 * 2**30  # of all takes with their wav and flac copies
TAKES_KEPT = 200
COMPARISONS_AT_ONCE = 2
MODELS_KEPT = 3
SCORES_KEPT = 8

# Connections
CONNECTIONS = 256  # one address may hold half of them
HEADER_SECONDS = 10.0  # within which a client must send the header of a request
STALL_SECONDS = 20.0
STALL_BYTES = 16 * 2**10  # a request body that is slower than this in STALL_SECONDS is dropped
DRAIN_SECONDS = 30.0  # after a response, for a client that still sends its request
REQUEST_BYTES = 2 * 2**20  # of a request without a recording, and of a link
