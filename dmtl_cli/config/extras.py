"""Libraries that only some installations have, and the extras that bring them."""

from __future__ import annotations

import importlib.util

from dmtl_cli.config.errors import Exit, UserError

_EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "fastapi": "serve",
    "uvicorn": "serve",
    "faiss": "index",
    "fastavro": "avro",
    "deltalake": "delta",
    "pyiceberg": "iceberg",
    "vl_convert": "report",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "matplotlib": "plot",
    "implicit": "baselines",
}
"""by the module"""


def has(module: str) -> bool:
    """Whether a library is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None


def install(module: str) -> str:
    """What installs a library, in dmtl's clone as no public index has dmtl; "" where no extra brings it."""
    extra = _EXTRAS.get(module)
    return f"in dmtl's clone, pip install -e '.[{extra}]'" if extra else ""


def require(module: str, what: str, code: Exit = Exit.CONFIG) -> None:
    """Refuses what needs a library that is not installed.

    Args:
        what: needs it, as `data.format: delta`.

    Raises:
        UserError: `code`; 78 where a key of the config is what needs it.
    """
    if not has(module):
        raise UserError(f"{what} needs {module}, which is not installed", install(module), code)
