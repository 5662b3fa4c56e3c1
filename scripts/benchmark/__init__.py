"""What `scripts/bench.py` is made of.

`sizes` and `log`: what is learned. `processes`: how a run starts its processes. `inside`: what is measured in a process
of its own, with the models of `plain` beside dmtl's. `limits`: what the machine can do. `peers`: other libraries, whose
scripts are in `scripts/peers`. `works`: what is measured, in rounds. `tables`: what is shown of it.
"""
