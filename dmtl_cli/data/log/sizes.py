"""How many rows a day's events are cut into: constants that reading and the score table share."""

BLOCK = 65_536
"""rows of a record batch in the spool, at most"""
POOL = 8
"""full record batches that are shuffled together; POOL * BLOCK rows are what a bucket should have"""
MERGE = 1_000_000
"""values that are collected before they are merged into the distinct ones"""
