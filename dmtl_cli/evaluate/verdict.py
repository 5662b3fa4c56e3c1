"""Whether a difference of two means is more than chance; without numpy, for the lines that `status` prints."""

SURE = 2.0  # standard errors, beyond which a difference is called one


def verdict(by: float, error: float) -> str:
    """`better` or `worse`; nothing where a difference is within twice its standard error."""
    return ("better" if by > 0 else "worse") if abs(by) > SURE * error else ""
