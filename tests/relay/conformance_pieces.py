"""How a message is cut into pieces: in two at every byte, and byte by byte."""

SHORT = 400  # bytes; of a longer message, not every byte between its two ends is tried
STEP = 997  # bytes between those that are


def splits(data):
    """In two pieces, in every way."""
    if len(data) <= SHORT:
        places = range(1, len(data))
    else:
        half = SHORT // 2
        places = [*range(1, half), *range(half, len(data) - half, STEP), *range(len(data) - half, len(data))]
    return [[data[:at], data[at:]] for at in places]


def by_bytes(data):
    return [data[at : at + 1] for at in range(len(data))]


def by_pieces(data):
    """By bytes; what is between the two ends of a long message in one piece."""
    if len(data) <= SHORT:
        return by_bytes(data)
    half = SHORT // 2
    return [*by_bytes(data[:half]), data[half:-half], *by_bytes(data[-half:])]
