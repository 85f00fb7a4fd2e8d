"""Laws of the ray transform: every engine on every geometry of cases.py."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import ENGINES, GEOMETRIES
from dense_ray import dense_ray
from torch.func import jvp, vjp, vmap

from pdip.errors import InputError
from pdip.ray import adjoint_mismatch, ray_transform
from pdip.scan import ImageGrid, ParallelBeam

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU")
PAIRS = [
    pytest.param(
        engine,
        name,
        id=f"{label}-{name}",
        marks=[pytest.mark.gpu, NO_GPU] if engine.device == "cuda" else [],
    )
    for label, engine in ENGINES.items()
    for name in GEOMETRIES
    if name not in engine.refused
]
REFUSED = [
    pytest.param(engine, name, id=f"{label}-{name}")
    for label, engine in ENGINES.items()
    for name in engine.refused
]


def build(case, name, dtype=torch.float64):
    if case.package is not None:
        pytest.importorskip(case.package)
    keywords = {"projector": case.projector, "device": case.device, "dtype": dtype}
    return ray_transform(*GEOMETRIES[name], engine=case.engine, **keywords)


def normal(case, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(case.device)


def relative(value, truth):
    return float(torch.linalg.vector_norm(value - truth) / torch.linalg.vector_norm(truth))


def assert_same(value, truth, case):
    """Equal to rounding: of float64, or of float32 where the engine computes in that."""
    assert value.shape == truth.shape
    rounding = case.adjoint if case.rounding is None else case.rounding
    assert relative(value.double(), truth.double()) <= rounding


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_matrix_is_the_dense_truth(case, name):
    truth = torch.from_numpy(dense_ray(*GEOMETRIES[name], case.weights or case.projector))
    assert relative(build(case, name).dense().cpu(), truth) < case.truth


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_dot_test_to_rounding(case, name):
    generator = torch.Generator(case.device).manual_seed(3)
    assert adjoint_mismatch(build(case, name), generator) <= case.adjoint


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_forward_and_adjoint_are_the_matrix_and_its_transpose(case, name):
    ray = build(case, name)
    matrix = ray.dense()
    image, sinogram = normal(case, *ray.domain_shape), normal(case, *ray.range_shape, seed=1)
    assert_same(ray.forward(image).flatten(), matrix @ image.flatten(), case)
    transposed = matrix.T @ sinogram.flatten()
    assert relative(ray.adjoint(sinogram).flatten(), transposed) <= (case.transpose or case.adjoint)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_linear(case, name):
    ray = build(case, name)
    first, second = normal(case, 2, *ray.domain_shape)
    assert_same(ray(2 * first - 3 * second), 2 * ray(first) - 3 * ray(second), case)
    first, second = normal(case, 2, *ray.range_shape)
    assert_same(ray.T(2 * first - 3 * second), 2 * ray.T(first) - 3 * ray.T(second), case)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_leading_batch_axes_are_a_loop(case, name):
    ray = build(case, name)
    for apply, shape in [(ray.forward, ray.domain_shape), (ray.adjoint, ray.range_shape)]:
        batch = normal(case, 2, 3, *shape)
        assert_same(apply(batch), torch.stack([torch.stack([*map(apply, b)]) for b in batch]), case)
        assert apply(batch[:0]).shape == (0, 3, *apply(batch[0, 0]).shape)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_gradient_is_the_adjoint(case, name):
    ray = build(case, name)
    for apply, transpose, shape in both_ways(ray):
        values = normal(case, 2, *shape).requires_grad_()
        output = apply(values)
        weights = normal(case, *output.shape, seed=1)
        (gradient,) = torch.autograd.grad((output * weights).sum(), values)
        assert_same(gradient, transpose(weights), case)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_second_derivative_of_a_square_is_the_normal_operator(case, name):
    ray = build(case, name)
    for apply, transpose, shape in both_ways(ray):
        values, direction = normal(case, *shape).requires_grad_(), normal(case, *shape, seed=1)
        (gradient,) = torch.autograd.grad(
            0.5 * apply(values).square().sum(), values, create_graph=True
        )
        (product,) = torch.autograd.grad((gradient * direction).sum(), values)
        assert_same(product, transpose(apply(direction)), case)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_jvp_is_the_map_and_vjp_its_transpose(case, name):
    ray = build(case, name)
    for apply, transpose, shape in both_ways(ray):
        values, tangent = normal(case, *shape), normal(case, *shape, seed=1)
        output, derivative = jvp(apply, (values,), (tangent,))
        assert_same(output, apply(values), case)
        assert_same(derivative, apply(tangent), case)
        output, pull_back = vjp(apply, values)
        cotangent = normal(case, *output.shape, seed=2)
        assert_same(pull_back(cotangent)[0], transpose(cotangent), case)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_vmap_is_a_loop_over_any_axis(case, name):
    ray = build(case, name)
    for apply, _, shape in both_ways(ray):
        batch = normal(case, 3, 2, *shape)
        assert_same(vmap(apply)(batch), apply(batch), case)
        assert_same(vmap(apply, in_dims=3)(batch.movedim(0, 3)), apply(batch), case)
        assert_same(vmap(vmap(apply))(batch), apply(batch), case)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_vmap_of_vjp_and_of_jvp(case, name):
    ray = build(case, name)
    for apply, transpose, shape in both_ways(ray):
        values = normal(case, *shape)
        _, pull_back = vjp(apply, values)
        cotangents = normal(case, 3, *apply(values).shape, seed=1)
        assert_same(vmap(pull_back)(cotangents)[0], transpose(cotangents), case)
        tangents = normal(case, 3, *shape, seed=2)
        push = vmap(lambda t, f=apply, v=values: jvp(f, (v,), (t,))[1])
        assert_same(push(tangents), apply(tangents), case)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_hessian_vector_product_forward_over_reverse(case, name):
    ray = build(case, name)
    for apply, transpose, shape in both_ways(ray):
        values, directions = normal(case, *shape), normal(case, 2, *shape, seed=1)
        gradient = torch.func.grad(lambda v, f=apply: 0.5 * f(v).square().sum())
        product = vmap(lambda d, g=gradient, v=values: jvp(g, (v,), (d,))[1])
        assert_same(product(directions), transpose(apply(directions)), case)


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_single_precision_agrees_with_double(case, name):
    double, single = build(case, name), build(case, name, torch.float32)
    image, sinogram = normal(case, *double.domain_shape), normal(case, *double.range_shape, seed=1)
    projected, backprojected = single.forward(image.float()), single.adjoint(sinogram.float())
    assert projected.dtype == backprojected.dtype == torch.float32
    assert relative(projected.double(), double.forward(image)) < case.single
    assert relative(backprojected.double(), double.adjoint(sinogram)) < case.single


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_converted_transform_is_the_one_built_in_that_precision(case, name):
    single = build(case, name).to(dtype=torch.float32)
    built = build(case, name, torch.float32)
    assert single.dtype == torch.float32
    assert relative(single.dense(), built.dense()) < 1e-6


@pytest.mark.parametrize("name", GEOMETRIES)
def test_engines_agree(name):
    diffct = build(ENGINES["diffct"], name).dense()
    line = build(ENGINES["matrix line"], name).dense()
    odl = build(ENGINES["odl"], name).dense()
    linear = build(ENGINES["matrix linear"], name).dense()
    assert relative(diffct, line) < 3e-5
    assert relative(odl, linear) < 3e-5


@pytest.mark.parametrize(("case", "name"), REFUSED)
def test_what_an_engine_cannot_do_is_refused(case, name):
    with pytest.raises(InputError, match="use .*'(line|matrix)'"):
        build(case, name)


@pytest.mark.slow
def test_odl_refuses_a_shift_that_its_backend_would_ignore():
    pytest.importorskip("odl")
    geometry = ParallelBeam((0.0, 40.0), 8, 0.5, 0.1)
    with pytest.raises(InputError, match="half pitches"):
        ray_transform(geometry, ImageGrid((4, 4)), engine="odl")


@pytest.mark.slow
def test_odl_leaves_print_options_alone():
    pytest.importorskip("odl")
    program = (
        "import numpy as np; before = np.get_printoptions()\n"
        "from pdip.ray import ray_transform; from pdip.scan import ImageGrid, ParallelBeam\n"
        "ray_transform(ParallelBeam((0.0,), 3), ImageGrid((2, 2)), engine='odl')\n"
        "assert np.get_printoptions() == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def both_ways(ray):
    """(map, its transpose, shape of its input) for A and for Aᵀ."""
    yield ray.forward, ray.adjoint, ray.domain_shape
    yield ray.T.forward, ray.T.adjoint, ray.T.domain_shape


GEOMETRY, GRID = GEOMETRIES["parallel shifted"]


def test_auto_is_the_matrix_and_says_why():
    ray = ray_transform(GEOMETRY, GRID)
    assert ray.engine_name == "matrix"
    assert "matrix" in ray.engine_reason and "adjoint" in ray.engine_reason
    assert ray.dtype == torch.float32 and ray.device == torch.device("cpu")
    fan = ray_transform(*GEOMETRIES["fan"])
    assert "projector 'linear' is line_fanflat here" in fan.engine_reason


def test_shapes_and_the_transpose_of_the_transpose():
    ray = ray_transform(GEOMETRY, GRID)
    assert ray.domain_shape == (6, 9) and ray.range_shape == (4, 12)
    assert ray.T.domain_shape == (4, 12) and ray.T.range_shape == (6, 9)
    assert ray.T.T is ray
    assert ray.geometry is GEOMETRY and ray.grid is GRID


def test_matrix_engine_exposes_its_sparse_matrix():
    ray = ray_transform(GEOMETRY, GRID, dtype=torch.float64)
    assert ray.engine.matrix.layout == torch.sparse_csr
    assert torch.equal(ray.engine.matrix.to_dense(), ray.dense())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "radon"}, "engine 'radon' is unknown; expected one of: auto, matrix"),
        ({"projector": "joseph"}, "projector 'joseph' is unknown"),
        ({"dtype": torch.float16}, "expected torch.float32 or torch.float64"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ray_transform(GEOMETRY, GRID, **settings)


def test_wrong_tensors_are_refused():
    ray = ray_transform(GEOMETRY, GRID)
    with pytest.raises(InputError, match=r"expects its last two axes to be \(6, 9\)$"):
        ray.forward(torch.zeros(6, 8))
    with pytest.raises(InputError, match="was it transposed"):
        ray.adjoint(torch.zeros(12, 4))
    with pytest.raises(InputError, match="image is torch.float64"):
        ray.forward(torch.zeros(6, 9, dtype=torch.float64))


@pytest.mark.parametrize(("engine", "projector"), [("odl", "linear"), ("diffct", "line")])
def test_missing_package_is_named_with_its_install_line(monkeypatch, engine, projector):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(InputError, match=f"run: pip install '{engine}>="):
        ray_transform(GEOMETRY, GRID, engine=engine, projector=projector)


def test_adjoint_mismatch_sees_a_wrong_adjoint():
    ray = ray_transform(GEOMETRY, GRID, dtype=torch.float64)
    ray.engine.transposed = ray.engine.transposed * 1.001
    mismatch = adjoint_mismatch(ray, torch.Generator().manual_seed(0))
    assert 1e-6 < mismatch < 1e-2


def test_geometry_of_the_dense_truth_is_the_one_of_the_scan():
    """dense_ray and scan.geometry each state the convention once; they must not drift apart."""
    from dense_ray import detector_centres_mm, ray_lines

    for geometry, _ in GEOMETRIES.values():
        normals, offsets = geometry.ray_lines()
        point, direction = ray_lines(geometry, detector_centres_mm(geometry))
        across = np.stack([np.cos(normals), np.sin(normals)], axis=-1)
        np.testing.assert_allclose((point * across).sum(-1), offsets, atol=1e-12)
        np.testing.assert_allclose((direction * across).sum(-1), 0, atol=1e-12)
