"""Ways of splitting a message: in two at every byte, and byte by byte."""

SHORT = 400  # bytes; in the middle of a longer message, not every split is tried
STEP = 997  # bytes between those that are tried


def splits(data):
    """All splits into two pieces."""
    if len(data) <= SHORT:
        places = range(1, len(data))
    else:
        half = SHORT // 2
        places = [*range(1, half), *range(half, len(data) - half, STEP), *range(len(data) - half, len(data))]
    return [[data[:at], data[at:]] for at in places]


def by_bytes(data):
    return [data[at : at + 1] for at in range(len(data))]


def by_pieces(data):
    """Byte by byte; the middle of a long message in one piece."""
    if len(data) <= SHORT:
        return by_bytes(data)
    half = SHORT // 2
    return [*by_bytes(data[:half]), data[half:-half], *by_bytes(data[-half:])]
