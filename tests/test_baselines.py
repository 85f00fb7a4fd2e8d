"""Every baseline answers as the main path does; what each claims is a law here."""

import pytest
import torch

from pdip.baselines import gaussian
from pdip.errors import InputError


def test_a_gaussian_adds_the_floor_of_the_main_path():
    image = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    root = torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()
    found = gaussian(image, root @ root.mT, image_scale=2.0)
    floor = torch.eye(12, dtype=torch.float64) * 1e-4
    torch.testing.assert_close(found.covariance(), root @ root.mT + floor, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.std().double().reshape(-1) ** 2,
                               found.covariance().diagonal(), rtol=1e-6, atol=0)  # fmt: skip


def test_a_gaussian_of_variances_is_that_of_their_diagonal_matrix():
    image, variance = torch.zeros(2, 3), torch.arange(1.0, 7.0)
    assert torch.equal(
        gaussian(image, variance, 1.0).covariance(),
        gaussian(image, torch.diag(variance), 1.0).covariance(),
    )


@pytest.mark.parametrize("covariance", [torch.eye(5), torch.full((6,), torch.nan)])
def test_a_gaussian_refuses_what_is_no_covariance_of_the_image(covariance):
    with pytest.raises(InputError):
        gaussian(torch.zeros(2, 3), covariance, 1.0)
