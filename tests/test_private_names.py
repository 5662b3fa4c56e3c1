"""Names of torch that it does not promise to keep: each stands in one function, was seen on the versions named here,
and does what that function says."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dmtl_cli.nn.kernels.products import relu_backward_
from dmtl_cli.nn.precision import has_bf16

CPU = torch.device("cpu")
SEEN = {"2.13"}
"""minor versions of torch on which the private names were looked at"""
NAMES = {
    "torch.ops.mkldnn._is_mkldnn_bf16_supported": "dmtl_cli/nn/precision.py has_bf16",
    "torch.ops.mkldnn._linear_pointwise": "dmtl_cli/nn/kernels/products.py _onednn",
    "torch.ops.aten.threshold_backward": "dmtl_cli/nn/kernels/products.py relu_backward_",
}
"""private names, and the one function that calls each"""
AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
"""what a processor has from which on oneDNN has kernels for bfloat16, as Linux names it"""
FASTER = {"avx512_bf16", "amx_bf16"}
"""of those processors the ones that multiply bfloat16 themselves"""
ROOT = Path(__file__).parents[1]


def test_the_private_names_were_seen_on_this_torch() -> None:
    minor = ".".join(torch.__version__.split(".")[:2])
    where = "; ".join(f"{name} in {function}" for name, function in NAMES.items())
    assert minor in SEEN, (
        f"torch {minor} is new here (seen: {', '.join(sorted(SEEN))}). Look whether it has a public name by now for "
        f"{where}. If the tests of this file pass and it has none, add {minor} to SEEN."
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_stands_in_one_function(name: str) -> None:
    code = {p.relative_to(ROOT).as_posix(): p.read_text() for p in (ROOT / "dmtl_cli").rglob("*.py")}
    call = re.compile(rf"(?<!`){re.escape(name)}\b")  # in backquotes it is only spoken of
    assert {f: len(call.findall(text)) for f, text in code.items() if call.search(text)} == {NAMES[name].split()[0]: 1}


def cpu_flags() -> set[str]:
    """What Linux says that the processor has; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    found = re.search(r"^flags\s*:(.*)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return set(found[1].split()) if found else set()


on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or not cpu_flags() or "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="the flags are those that Linux names on x86, and oneDNN is not told to use fewer",
)


@on_x86
def test_bfloat16_is_where_the_processor_says_so() -> None:
    there, flags = torch.backends.mkldnn.is_available(), cpu_flags()
    assert has_bf16(CPU) == (there and flags >= AVX512)
    assert has_bf16(CPU) or not (there and flags & FASTER), "a processor that has it is not refused"


@on_x86
def test_without_its_instructions_there_is_no_bfloat16() -> None:
    """oneDNN told to do with AVX2 is what a processor without AVX-512 is."""
    program = "import torch; from dmtl_cli.nn.precision import has_bf16; print(has_bf16(torch.device('cpu')))"
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=env)
    assert (run.returncode, run.stdout) == (0, "False\n"), run.stderr


def test_without_onednn_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert has_bf16(CPU) is False


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_gradient_of_a_relu(kind: torch.dtype) -> None:
    """g where x > 0, else 0: in place, into a part of a larger tensor, and from an output of another stride."""
    torch.manual_seed(0)
    x, whole = torch.randn(9, 6).to(kind), torch.randn(9, 14).to(kind)
    x[0] = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-30, torch.inf]).to(kind)
    before, gradient = whole.clone(), whole[:, 4:10]
    relu_backward_(gradient, torch.cat([x, x], 1).relu()[:, 6:])
    assert torch.equal(gradient, torch.where(x > 0, before[:, 4:10], 0))
    assert torch.equal(whole[:, :4], before[:, :4]) and torch.equal(whole[:, 10:], before[:, 10:])


def test_the_gradient_of_a_relu_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(50, 7, requires_grad=True), torch.randn(50, 7)
    out = x.relu()
    out.backward(gradient)
    relu_backward_(gradient, out.detach())
    assert x.grad is not None and torch.equal(x.grad, gradient)
