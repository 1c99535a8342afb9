"""Names of pieces and stations: two words for a number, so that a list stays readable."""

ADJECTIVES = ("Amber", "Autumn", "Bright", "Copper", "Distant", "Early", "Frozen", "Gentle",
              "Hidden", "Ivory", "Lunar", "Misty", "Northern", "Quiet", "Silver", "Wandering")
NOUNS = ("Bay", "Bell", "Bridge", "Dawn", "Ember", "Field", "Forest", "Harbour",
         "Island", "Lantern", "Meadow", "Orbit", "River", "Shore", "Tide", "Valley")


def piece_name(number: int) -> str:
    """The name of a seed or a station; 256 successive numbers have different names."""
    noun, adjective = divmod(167 * number % 256, 16)  # 167 is odd: a permutation
    return f"{ADJECTIVES[adjective]} {NOUNS[noun]}"
