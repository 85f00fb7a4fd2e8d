"""The linear Gaussian model by its definition in dense float64 algebra: the truth of five rooms.

Nothing here uses patterns, Gram bases or products with J: the Jacobian is taken entry by entry,
the prior covariance weight by weight, and everything else is a product or inverse of matrices.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch.func import functional_call, jacrev

from pdip.dip import DIPFit
from pdip.linearised import linearise, unet_prior
from pdip.ray import ray_transform
from pdip.scan import Scan


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative(value, truth):
    return float(torch.linalg.vector_norm(value - truth) / torch.linalg.vector_norm(truth))


def network_fit(network, shape, noise_std=0.3):
    """A float64 fit record around the network's own weights, with contrast in its image."""
    network = copy.deepcopy(network).double()
    params = {name: value.detach().clone() for name, value in network.named_parameters()}
    params["body.out.weight"] *= 6
    network_input = normal(*shape, seed=5).abs()
    image = functional_call(network, params, (network_input,)).detach()
    return DIPFit(image, network, network_input, params, noise_std, 0.1, "given", {})


def build(case):
    """The model, its scan and its dense truth for one of ``cases.MODELS``."""
    ray = ray_transform(case.geometry, case.grid, engine="matrix", dtype=torch.float64)
    fit = network_fit(case.network, case.grid.shape)
    sinogram = ray.forward(fit.image) + 0.4 * normal(*ray.range_shape, seed=1)
    weights = None
    if case.weighted:
        weights = 0.5 + normal(*ray.range_shape, seed=2).abs()
        weights[1, 3:6] = 0
    scan = Scan(sinogram, case.geometry, case.grid, weights)
    prior = unet_prior(fit.network, biases=case.biases, norms=case.norms, variance=case.variance)
    prior = prior.at(prior.log_hyperparameters + 0.3 * normal(len(prior.names), seed=3))
    model = linearise(fit, ray, prior, activation=case.activation, nugget_std=case.nugget_std)
    return model, scan, DenseModel.of(model, scan)


def dense_jacobian(network, network_input, params, names):
    """``∂h/∂θ`` with θ flattened in the order of ``names``: (pixels, params)."""

    def body(point):
        values = {name.removeprefix("body."): v for name, v in {**params, **point}.items()}
        return functional_call(network.body, values, (network_input,)).flatten()

    blocks = jacrev(body)({name: params[name] for name in names})
    return torch.cat([blocks[name].flatten(1) for name in names], dim=1).detach()


def dense_prior_covariance(prior, tensors):
    """Σ entry by entry: two weights covary when they lie in the same filter of a filter group."""
    values = dict(zip(prior.names, prior.log_hyperparameters.exp().tolist(), strict=True))
    blocks = []
    for group in prior.groups:
        variance = values[f"{group.name}.log_variance"]
        lengthscale = values.get(f"{group.name}.log_lengthscale")
        for name in group.parameters:
            count = tensors[name].numel()
            if lengthscale is None:
                blocks.append(variance * torch.eye(count).double())
                continue
            index = torch.arange(count)
            filter_, row, column = index // 9, index % 9 // 3, index % 3
            squares = [(part[:, None] - part).double() ** 2 for part in (row, column)]
            decay = torch.exp(-(squares[0] + squares[1]).sqrt() / lengthscale)
            blocks.append(variance * decay * (filter_[:, None] == filter_))
    return torch.block_diag(*blocks)


@dataclass(frozen=True)
class DenseModel:
    """All matrices of a model, rays of weight 0 left out."""

    jacobian: torch.Tensor
    covariance: torch.Tensor
    slope: torch.Tensor
    params: torch.Tensor
    image: torch.Tensor
    pre_activation: torch.Tensor
    ray: torch.Tensor
    sinogram: torch.Tensor
    noise: torch.Tensor
    nugget: float

    @classmethod
    def of(cls, model, scan):
        names, params = model.prior.parameters, model.jacobian.params
        network, network_input = model.jacobian.network, model.jacobian.network_input
        values = {name.removeprefix("body."): value for name, value in params.items()}
        h = functional_call(network.body, values, (network_input,)).detach()
        with torch.enable_grad():
            point = h.clone().requires_grad_()
            image = network.image(point)
            (slope,) = torch.autograd.grad(image.sum(), point)
        weights = torch.ones_like(scan.sinogram) if scan.weights is None else scan.weights
        used = weights.flatten() > 0
        return cls(
            jacobian=dense_jacobian(network, network_input, params, names),
            covariance=dense_prior_covariance(model.prior, params),
            slope=slope.flatten(),
            params=torch.cat([params[name].flatten() for name in names]),
            image=image.detach().flatten(),
            pre_activation=h.flatten(),
            ray=model.ray.dense()[used],
            sinogram=scan.sinogram.flatten()[used],
            noise=float(model.noise_variance) / weights.flatten()[used],
            nugget=float(model.nugget_variance),
        )

    def at(self, **values):
        return replace(self, **values)

    @property
    def latent(self):
        """Prior covariance of h."""
        return self.jacobian @ self.covariance @ self.jacobian.T

    @property
    def prior_image(self):
        """Prior covariance of x."""
        eye = torch.eye(len(self.image)).double()
        return self.slope[:, None] * self.latent * self.slope + self.nugget * eye

    @property
    def prior_mean(self):
        return self.image - self.slope * (self.jacobian @ self.params)

    @property
    def sinogram_covariance(self):
        """K."""
        return self.ray @ self.prior_image @ self.ray.T + torch.diag(self.noise)

    @property
    def residual(self):
        """Of the linear model at zero weights."""
        return self.sinogram - self.ray @ self.prior_mean

    @property
    def gain(self):
        """``Kxy K⁻¹`` of the image."""
        cross = self.prior_image @ self.ray.T
        return torch.linalg.solve(self.sinogram_covariance, cross.T).T

    @property
    def posterior_mean(self):
        return self.prior_mean + self.gain @ self.residual

    @property
    def posterior_covariance(self):
        return self.prior_image - self.gain @ self.ray @ self.prior_image

    def draw(self, count, seed=0):
        """Images and sinograms of the model itself: (count, pixels) and (count, rays)."""
        root = torch.linalg.cholesky(self.covariance)
        weights = normal(count, len(root), seed=seed) @ root.T
        images = self.prior_mean + self.slope * (weights @ self.jacobian.T)
        images = images + self.nugget**0.5 * normal(*images.shape, seed=seed + 1)
        clean = images @ self.ray.T
        return images, clean + self.noise.sqrt() * normal(*clean.shape, seed=seed + 2)
