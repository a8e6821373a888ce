"""Run by a test: a kernel writes where no memory is, then everything says so and nothing crashes.

argument: a folder with the artifacts of `tiny_cuda`.
"""

import sys
from pathlib import Path

import numpy as np

import tilewright.runtime
from tilewright.runtime import ExecutionError


def main(folder: str) -> None:
    path = Path(folder) / "False.tw"
    session, other = tilewright.runtime.load(path), tilewright.runtime.load(path)
    feeds = {"x": np.zeros((300, 64), np.float32)}
    session.run(None, feeds)
    model = session._native.model
    right = list(model.addresses)
    session._native._runner.addresses[2] = 16  # the weight
    said = []
    for one in (session, session, other):
        try:
            one.run(None, feeds)
        except ExecutionError as error:
            said.append(str(error))
    assert right == model.addresses
    hint = "  try: start a new process; nothing that uses the GPU works in this one"
    first = (
        f"{path}: a kernel failed and the process has lost its CUDA context\n"
        "  cuStreamSynchronize says: CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was "
        f"encountered\n{hint}"
    )
    later = (
        f"{path}: the process has lost its CUDA context\n"
        f"  an earlier run ended with CUDA_ERROR_ILLEGAL_ADDRESS\n{hint}"
    )
    assert said == [first, later, later], said
    session.close()


main(sys.argv[1])
