"""dmtl: offline logit distillation for recommendation retrieval."""

__version__ = "0.1.0"
