"""Sites whose rows data choose: calibrated by what they read, left alone where that is nothing."""

import numpy as np
import onnx
import pytest
from support.expert_models import EXPERTS, expert_samples, gathered_rows

from tilewright.backends import reference
from tilewright.compiler.driver import run_passes
from tilewright.compiler.formats import named
from tilewright.compiler.frontend.load import load_onnx
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.quantization.sites import sites


def calibrated(model, samples):
    graph = run_passes(load_onnx(model, {}), PIPELINES["default"])
    return calibrate(
        graph,
        [{"x": x} for x in samples],
        lambda g: lambda feeds: dict(zip(g.output_names, reference.run(g, feeds), strict=True)),
    )


def test_gains_are_of_the_rows_that_chose_an_expert():
    samples = expert_samples(8)
    found = calibrated(gathered_rows(), samples)
    rows = [found.inputs[s.name].rows for s in found.sites.values() if s.constant[:2] == "up"]
    assert len(rows) == EXPERTS
    assert sum(rows) == 2 * samples.shape[0] * samples.shape[1]
    for site in found.sites.values():
        (square,) = found.squares(*site.key, "w4-g32")
        assert 0 < square < 0.05
        codes = found.encoded(*site.key, "w4-g32")
        assert named("w4-g32").decode(codes).shape == (site.k, site.n)


def test_an_expert_that_no_sample_chooses_is_offered_no_format():
    model = gathered_rows()
    router = next(i for i in model.graph.initializer if i.name == "router")
    w = onnx.numpy_helper.to_array(router).copy()
    w[:, 2] = 0
    w[0, 2] = -1e3  # and x[0] is positive below
    router.CopyFrom(onnx.numpy_helper.from_array(w, "router"))
    samples = expert_samples(4)
    samples[:, :, 0] = np.abs(samples[:, :, 0]) + 1
    found = calibrated(model, samples)
    offered = {site.constant: found.formats(*site.key) for site in sites(found.graph)}
    assert offered["up2"] == offered["down2"] == frozenset()
    assert all("w4-g32" in offered[f"{kind}{e}"] for kind in ("up", "down") for e in (0, 1, 3))
    assert found.squares(*next(k for k in found.sites if k[1] == "up2"), "bf16") == pytest.approx(
        (0,)
    )
