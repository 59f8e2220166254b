"""Which image sizes fit, and what becomes of the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.models._resized import Resized
from pipeline.models._shapes import MAX_PAD, MAX_RESAMPLE, ImageSizes, fitted_size
from pipeline.models.base import MODELS, build_model


def test_size_rules_read_as_a_sentence():
    assert str(ImageSizes(16, multiple_of=8)) == "multiples of 8 from 16 pixels up"
    assert str(ImageSizes(33)) == "any size from 33 pixels up"
    assert str(ImageSizes(224, maximum=224)) == "224 pixels"
    assert str(ImageSizes(33, 8, remainder=1)) == "multiples of 8 plus 1 from 33 pixels up"
    assert str(ImageSizes(224, 224, also=(56, 112))) == (
        "56, 112, multiples of 224 from 224 pixels up"
    )


@given(
    minimum=st.integers(1, 60),
    step=st.integers(1, 40),
    extra=st.integers(0, 60),
    size=st.integers(1, 200),
)
def test_examples_and_neighbours_agree_with_membership(minimum, step, extra, size):
    sizes = ImageSizes(minimum, step, maximum=minimum + extra, remainder=minimum % step)
    inside = [s for s in range(1, 200) if s in sizes]
    assert list(sizes.examples(500)) == inside
    assert sizes.next_from(size) == min((s for s in inside if s >= size), default=None)
    assert sizes.largest_to(size) == max((s for s in inside if s <= size), default=None)


@given(step=st.integers(1, 64), size=st.integers(8, 300))
def test_a_fitted_size_is_taken_and_near(step, size):
    sizes = ImageSizes(step, step)
    padded = fitted_size(sizes, size, "pad")
    assert padded is None or (padded in sizes and size <= padded <= MAX_PAD * size)
    resampled = fitted_size(sizes, size, "resample")
    assert resampled is None or (resampled in sizes and resampled <= MAX_RESAMPLE * size)
    assert fitted_size(sizes, size, "exact") in (size, None)
    if size in sizes:
        assert padded == resampled == size


class Pixels(torch.nn.Module):
    n_features, channels_last, map_channels, is_fitted = 1, False, 0, False

    def forward(self, image):
        return image


def test_padding_keeps_the_pixels_and_repeats_the_border():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    padded = Resized(Pixels(), 5, "pad")(image)
    torch.testing.assert_close(padded[..., 1:4, 1:4], image)
    assert padded[0, 0, 0, 0] == image[0, 0, 0, 0] and padded[0, 0, 4, 4] == image[0, 0, 2, 2]


@pytest.mark.parametrize("size", [33, 47, 96])
def test_resampling_commutes_with_quarter_turns_and_keeps_the_mean(size):
    image = torch.randn(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    resample = Resized(Pixels(), size, "resample")
    torch.testing.assert_close(resample(image).rot90(1, (2, 3)), resample(image.rot90(1, (2, 3))))
    assert abs(float(resample(image).mean() - image.mean())) < 0.01


def test_a_size_beyond_the_rule_is_refused_with_the_sizes_and_the_rule():
    vit = MODELS.config({"kind": "vit", "variant": "mini", "patch": 16})
    with pytest.raises(ConfigError, match=r"20x20.*multiples of 16 from 32.*'fit: pad'") as found:
        build_model(vit, 1, 20)
    assert "'fit: resample' would" in str(found.value)
    assert build_model(vit.with_changes(fit="resample"), 1, 20).n_features == 32


def test_the_seeds_crossformer_takes_small_images_by_resampling():
    with torch.device("meta"):
        model = build_model(MODELS.config("crossformer"), 1, 64)
    assert model.size == 224 and model.resamples
