"""Batches that are fitted at the same time; run apart, as what is feared is that they never end."""

import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import numpy as np
    from pipeline.fit.config import FitConfig, Search
    from pipeline.fit.fitter import Fitter
    from pipeline.physics.instrument import load_instrument
    from pipeline.physics.psf import MoffatPsf

    psf = MoffatPsf(fwhm=0.2, beta=3.0, half_size=8)  # blurs by a Fourier transform
    instrument = load_instrument("hst_acs_f814w").with_changes(psf=psf)
    config = FitConfig(search=Search(more_starts=0, coarse_iterations=2, max_iterations=8))
    fitter = Fitter(config, 32, (instrument,), batch_size=16)
    images = np.random.default_rng(0).normal(size=(16 * 9, 1, 32, 32))
    print(len(fitter.fit(images)))
    """
)


@pytest.mark.slow
def test_fits_through_a_pixelised_psf_end_on_every_core() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == ["144"]
