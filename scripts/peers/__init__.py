"""Other libraries' MMoE and DSSM on the bench's log, each called as its own documentation calls it.

`python -m peers NAME LOG mmoe` (with `scripts` on PYTHONPATH, in an environment that has `requirements.txt`) reads LOG,
trains, scores the day after, and prints one line of JSON. `rows` is what all share, `day` a whole day's work with one
of them. Each library has a file: its name on PyPI is `DISTRIBUTION`, and `mmoe` and `dssm`, where it has them, give a
`Training`.
"""
