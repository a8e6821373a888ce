"""What is said where no choice keeps a contract."""

from math import inf

import pytest

from tilewright.compiler.errors import UserError
from tilewright.compiler.options import Options
from tilewright.passes.quantization.agreement import Agreement, agree
from tilewright.passes.quantization.terms import Terms
from tilewright.passes.selection.problem import InfeasibleError


class Calibrated:
    """Of a graph of one output."""

    norms = (1.0,)


class Refusing:
    """A workshop in which no choice is possible."""

    def __init__(self, tight: InfeasibleError) -> None:
        self.tight = tight

    def build(self, terms: Terms) -> None:
        raise self.tight


@pytest.mark.parametrize(
    ("tight", "found"),
    [
        (InfeasibleError(None), "no choice of kernels is possible"),
        (
            InfeasibleError("error of output 0", 4.0),
            "the choice of least error is predicted to make 0.04",
        ),
        (
            InfeasibleError("error of output 0", 9.0, "memory"),
            "the choice that is small enough is predicted to make 0.06",
        ),
        (InfeasibleError("memory", 12345), "at least 12,345 bytes of weights are needed"),
        (
            InfeasibleError("memory and error of output 0", inf),
            "no choice keeps both the error and the size",
        ),
    ],
)
def test_why_there_is_no_choice(tight, found) -> None:
    made = Agreement(Terms(Calibrated(), 0.02), 0.02, None, None, "ONNX Runtime")
    with pytest.raises(UserError) as refusal:
        agree(made, Options(max_error=0.02, calibrate="x"), Refusing(tight))
    assert str(refusal.value) == f"max-error 0.02: cannot be kept\n  {found}"
