"""Hand-written forward and backward passes, each with a plain autograd version. Imports nn.layers and runs."""
