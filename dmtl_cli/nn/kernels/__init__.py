"""Forward and backward passes written by hand, each beside plain autograd. Imports nn.layers alone."""
