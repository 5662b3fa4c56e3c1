"""One file per command, top to bottom. `run` and `compare` are made of others; before a chain's first teacher comes
`tune`, and behind a student, as in `refresh`, its `export`. Imports everything but cli and synth."""
