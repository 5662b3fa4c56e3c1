"""From a click log to batches: the log, its encoding, samples, negatives, stored scores."""
