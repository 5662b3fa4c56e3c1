"""One file a stage; stages meet only through published directories."""
