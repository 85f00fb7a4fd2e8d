"""The GPU engines without a GPU: geometry, batches, gates, checks and the automatic choice.

What the projectors compute is emulated from their definitions (tests/emulated_astra.py); the laws
of tests/test_ray_laws.py hold the engines to the dense truth where there is a GPU.
"""

import sys

import astra.experimental
import numpy as np
import pytest
import torch
from cases import GEOMETRIES
from dense_ray import dense_ray, detector_centres_mm, ray_lines
from emulated_astra import EmulatedAstra, emulated_tomosipo
from torch.func import jvp, vjp, vmap

import pdip
from pdip import cuda_selftest
from pdip.errors import ComputationError, InputError
from pdip.ray import adjoint_mismatch, cuda_gate, ray_transform
from pdip.ray.choice import choose_engine, matrix_bytes
from pdip.ray.engine_astra_cuda import AstraCudaEngine, stack_geometry
from pdip.ray.engine_diffct import quiet_launches, traversal
from pdip.ray.engine_matrix import MatrixEngine
from pdip.ray.slab import obliquity, planes_at_once, slab_vectors
from pdip.scan import FanBeam, ImageGrid, ParallelBeam

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
PARALLEL = [name for name in GEOMETRIES if name.startswith("parallel")]
FAN = [name for name in GEOMETRIES if name.startswith("fan")]


@pytest.fixture
def emulated(monkeypatch):
    tomosipo = emulated_tomosipo()
    monkeypatch.setitem(sys.modules, "tomosipo", tomosipo)
    monkeypatch.setitem(sys.modules, "tomosipo.torch_support", tomosipo)
    return EmulatedAstra(monkeypatch)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(value, truth):
    return float((value - truth).norm() / truth.norm())


def cone_geometry(geometry, grid, planes):
    vectors = np.concatenate(slab_vectors(geometry, grid), axis=1)
    return astra.create_proj_geom("cone_vec", planes, geometry.num_detectors, vectors)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_points_of_a_ray_project_to_its_detector_element_in_every_plane(name):
    geometry, grid = GEOMETRIES[name]
    is_fan, planes = name in FAN, 1 if name in FAN else 3
    solid = (cone_geometry if is_fan else stack_geometry)(geometry, grid, planes)
    points, directions = ray_lines(geometry, detector_centres_mm(geometry))
    for view, element, plane in np.ndindex(*geometry.shape, planes):
        z = (plane - (planes - 1) / 2) * grid.pixel_mm
        for along in (-3.0, 4.5):
            x, y = points[view, element] + along * directions[view, element]
            seen = astra.experimental.projectPoint(solid, x, -y, z, view)
            assert seen == pytest.approx((element, plane), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["astra_cuda", "tomosipo"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_projection_is_joseph_s_in_the_place_and_unit_of_the_scan(emulated, engine, name):
    ray = ray_transform(*GEOMETRIES[name], engine=engine)
    truth = torch.from_numpy(dense_ray(*GEOMETRIES[name], "joseph"))
    assert relative(ray.dense().double(), truth) < 1e-6
    assert not emulated.alive


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_tomosipo_and_astra_backproject_alike(emulated, name):
    """In a fan beam the first by three cones, the second by ASTRA's own fan."""
    sinogram = normal(2, *GEOMETRIES[name][0].shape)
    cone, flat = (ray_transform(*GEOMETRIES[name], engine=e) for e in ("tomosipo", "astra_cuda"))
    assert relative(cone.adjoint(sinogram), flat.adjoint(sinogram)) < 1e-5


class UpsideDown(AstraCudaEngine):
    def forward(self, images):
        return super().forward(images.flip(-2))


class HalfADetectorOff(AstraCudaEngine):
    def adjoint(self, sinograms):
        return super().adjoint((sinograms + sinograms.roll(1, -1)) / 2)


class WithoutObliquity(AstraCudaEngine):
    def __init__(self, *args):
        super().__init__(*args)
        self.ray_weights = torch.ones_like(self.ray_weights)


@pytest.mark.slow
def test_self_test_passes_for_the_engine_and_fails_for_a_mirrored_one(emulated, capsys):
    assert cuda_selftest.main("cpu") == 0
    distance, what = cuda_selftest.worst_distance(UpsideDown)
    assert distance > 10 * cuda_selftest.TOLERANCE and what.startswith("projection of a")
    distance, what = cuda_selftest.worst_distance(HalfADetectorOff)
    assert distance > 1.5 * cuda_selftest.TOLERANCE and what.startswith("backprojection of a")


def test_obliquity_makes_a_wide_fan_s_backprojection_count_all_rays(emulated):
    geometry, grid = FanBeam([0.0], 61, 0.5, 30.0, 0.0), ImageGrid((3, 24), 1.0)
    exact = MatrixEngine.build(geometry, grid, projector="line", device=CPU, dtype=torch.float32)
    ones = torch.ones(1, *geometry.shape)
    engines = [
        kind(geometry, grid, CPU, torch.float32) for kind in (AstraCudaEngine, WithoutObliquity)
    ]
    corrected, plain = (engine.adjoint(ones)[0, 1].sum() for engine in engines)
    truth = exact.adjoint(ones)[0, 1].sum()
    assert abs(corrected / truth - 1) < 2e-3 < 1e-2 < abs(plain / truth - 1)
    assert obliquity(geometry)[30] == 1 and obliquity(ParallelBeam([0.0], 4)).tolist() == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("engine", ["astra_cuda", "tomosipo"])
@pytest.mark.parametrize("name", ["parallel shifted", "fan shifted"])
def test_batches_are_loops_in_any_precision_and_layout(emulated, engine, name, dtype):
    ray = ray_transform(*GEOMETRIES[name], engine=engine, dtype=dtype)
    for apply, shape in [(ray.forward, ray.domain_shape), (ray.adjoint, ray.range_shape)]:
        batch = normal(*shape, 3, 2).to(dtype).movedim((-2, -1), (0, 1))
        loop = torch.stack([torch.stack([*map(apply, row)]) for row in batch])
        assert relative(apply(batch.requires_grad_()).detach(), loop) < 1e-6
        assert apply(batch).dtype == dtype
        assert apply(batch[:0]).shape == (0, 2, *apply(batch[0, 0]).shape)


@pytest.mark.parametrize("engine", ["astra_cuda", "tomosipo"])
def test_engines_detach_what_they_share_through_dlpack(emulated, engine):
    ray = ray_transform(*GEOMETRIES["parallel"], engine=engine)
    ray.engine.forward(normal(2, *ray.domain_shape).requires_grad_())
    ray.engine.adjoint(normal(2, *ray.range_shape).requires_grad_())


def test_parallel_images_go_in_one_call_and_fan_images_one_by_one(emulated, monkeypatch):
    for name, calls in [("parallel", ["FP (4, 8, 8)", "FP (1, 8, 8)"]), ("fan", ["FP (8, 8)"] * 5)]:
        ray = ray_transform(*GEOMETRIES[name], engine="astra_cuda")
        monkeypatch.setattr("pdip.ray.slab.CALL_BYTES", 4 * 4 * 8 * 8)
        emulated.calls.clear()
        ray.forward(normal(5, 8, 8))
        assert emulated.calls == calls


def test_planes_of_one_call_are_bounded_by_textures_and_memory():
    views = ParallelBeam(np.arange(60.0), 560)
    assert [planes_at_once(views, ImageGrid((n, n))) for n in (64, 512, 16384)] == [1024, 256, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parallel", "fan"])
def test_gradients_and_tangents_use_the_pair_of_projection_and_backprojection(emulated, name):
    ray = ray_transform(*GEOMETRIES[name], engine="astra_cuda")
    images, sinograms = normal(2, *ray.domain_shape), normal(2, *ray.range_shape, seed=1)
    for apply, back, values, cotangents in [
        (ray.forward, ray.adjoint, images, sinograms),
        (ray.adjoint, ray.forward, sinograms, images),
    ]:
        pulled = vmap(vjp(apply, values[0])[1])(cotangents)[0]
        assert relative(pulled, back(cotangents)) < 1e-6
        pushed = vmap(lambda t, f=apply, v=values: jvp(f, (v[0],), (t,))[1])(values)
        assert relative(pushed, apply(values)) < 1e-6


def test_mismatch_of_an_inexact_pair_is_measured_and_said(emulated):
    ray = ray_transform(*GEOMETRIES["parallel"], engine="astra_cuda")
    mismatch = adjoint_mismatch(ray, torch.Generator().manual_seed(0))
    assert 1e-3 < mismatch < 0.15
    said = f"forward and back projection are adjoint to {mismatch:.0e}"
    assert ray.engine_reason == f"engine 'astra_cuda' was asked for; {said}"
    exact = ray_transform(*GEOMETRIES["parallel"], engine="matrix")
    assert "back projection" not in exact.engine_reason


@pytest.mark.parametrize("engine", ["astra_cuda", "tomosipo"])
@pytest.mark.parametrize("name", ["parallel", "fan"])
def test_a_projector_that_does_not_write_is_an_error(emulated, monkeypatch, engine, name):
    """ASTRA 2.5 neither raises nor writes when a 3-D projection fails."""
    ray = ray_transform(*GEOMETRIES[name], engine=engine)
    monkeypatch.setattr("emulated_astra.run", lambda *args, **keywords: None)
    for apply, shape in [(ray.forward, ray.domain_shape), (ray.adjoint, ray.range_shape)]:
        with pytest.raises(ComputationError, match=f"'{engine}' left .* unwritten"):
            apply(normal(*shape))


@pytest.mark.skipif(astra.use_cuda(), reason="this machine has a GPU")
def test_astra_itself_leaves_a_fan_unwritten_without_a_gpu():
    engine = AstraCudaEngine(*GEOMETRIES["fan"], CPU, torch.float32)
    with pytest.raises(ComputationError, match="88 of 88 values"):
        engine.forward(normal(2, 8, 8))


def test_nan_of_the_input_passes_through(emulated):
    ray = ray_transform(*GEOMETRIES["parallel"], engine="astra_cuda")
    image = normal(*ray.domain_shape)
    image[3, 3] = torch.nan
    assert bool(ray.forward(image).isnan().any())


@pytest.mark.skipif(astra.use_cuda(), reason="this machine has a GPU")
def test_without_a_gpu_the_engine_is_refused_in_a_sentence():
    with pytest.raises(InputError) as error:
        ray_transform(*GEOMETRIES["fan"], engine="astra_cuda")
    assert str(error.value) == (
        "ray engine 'astra_cuda' cannot be used: ASTRA finds no CUDA GPU on this machine; use "
        "engine 'matrix'"
    )


def test_tomosipo_is_gated_too(emulated, monkeypatch):
    monkeypatch.setattr(cuda_gate, "astra_cuda_fault", lambda device: "there is a reason")
    with pytest.raises(InputError, match="'tomosipo' cannot be used: there is a reason; use"):
        ray_transform(*GEOMETRIES["fan"], engine="tomosipo")
    monkeypatch.setitem(sys.modules, "tomosipo", None)
    with pytest.raises(InputError, match=r"pip install 'git\+https://github.com/cicwi/tomosipo"):
        ray_transform(*GEOMETRIES["fan"], engine="tomosipo")


@pytest.mark.parametrize("engine", ["astra_cuda", "tomosipo"])
@pytest.mark.parametrize("projector", ["line", "strip"])
def test_other_projectors_are_refused(emulated, engine, projector):
    with pytest.raises(InputError, match=f"'{engine}' has no projector '{projector}'; use 'lin"):
        ray_transform(*GEOMETRIES["fan"], engine=engine, projector=projector)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("", None),
        ("import os; os.kill(os.getpid(), 8)", "its self-test was killed by SIGFPE"),
        ("import sys; sys.exit('first\\nit is off')", "its self-test failed (it is off)"),
        ("raise SystemExit(1)", "its self-test failed (no message)"),
        ("import time; time.sleep(60)", "its self-test did not end within 1 s"),
    ],
)
def test_self_test_survives_the_death_of_its_process(monkeypatch, program, fault):
    monkeypatch.setattr(cuda_gate, "SELF_TEST_SECONDS", 1 if "sleep" in program else 60)
    assert cuda_gate.self_test_fault((sys.executable, "-c", program)) == fault


def test_self_test_runs_once_per_process_and_only_with_a_gpu(monkeypatch):
    commands = []
    monkeypatch.setattr(cuda_gate, "self_test_fault", commands.append)
    monkeypatch.setattr(astra, "use_cuda", lambda: False)
    cuda_gate.astra_cuda_fault.cache_clear()
    assert "no CUDA GPU" in cuda_gate.astra_cuda_fault(GPU) and not commands
    cuda_gate.astra_cuda_fault.cache_clear()
    monkeypatch.setattr(astra, "use_cuda", lambda: True)
    assert cuda_gate.astra_cuda_fault(GPU) is None and cuda_gate.astra_cuda_fault(GPU) is None
    assert [command[1:] for command in commands] == [("-m", "pdip.cuda_selftest", "cuda:0")]
    cuda_gate.astra_cuda_fault.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(astra.use_cuda(), reason="this machine has a GPU")
def test_the_real_self_test_finds_this_machine_without_a_gpu():
    """A 3-D CUDA projector kills the process here; the parent lives to say so."""
    fault = cuda_gate.self_test_fault((*cuda_gate.SELF_TEST, "cpu"))
    assert fault == "its self-test was killed by SIGFPE"


def auto(monkeypatch, memory, name="parallel", projector="linear", fault=None):
    monkeypatch.setattr("pdip.ray.choice.gpu_memory_bytes", lambda device: memory)
    monkeypatch.setattr("pdip.ray.choice.astra_cuda_fault", lambda device: fault)
    keywords = {"projector": projector, "device": GPU, "dtype": torch.float32}
    return choose_engine("auto", *GEOMETRIES[name], **keywords)


def test_auto_on_a_gpu_is_the_exact_matrix_while_it_is_small(monkeypatch):
    engine, reason = auto(monkeypatch, memory=10**9)
    assert engine == "matrix"
    assert reason == (
        "engine 'matrix' was chosen because its adjoint is exact and its 1.13e-05 GB are within "
        "25% of the GPU's 1 GB"
    )


def test_auto_on_a_gpu_is_astra_beyond_and_diffct_where_astra_fails(monkeypatch):
    engine, reason = auto(monkeypatch, memory=10**4)
    assert engine == "astra_cuda" and "over 25% of the GPU's 1e-05 GB" in reason
    engine, reason = auto(monkeypatch, memory=10**4, name="fan", fault="its self-test failed (x)")
    assert engine == "diffct"
    assert reason.endswith("engine 'astra_cuda' is out: its self-test failed (x)")
    engine, reason = auto(monkeypatch, memory=10**4, projector="line")
    assert engine == "diffct" and "it has no projector 'line'" in reason


def test_auto_on_a_gpu_falls_back_to_a_large_matrix_and_names_both_faults(monkeypatch):
    engine, reason = auto(monkeypatch, memory=10**4, fault="no luck")
    assert engine == "matrix" and "although" in reason
    assert "engine 'astra_cuda' is out: no luck; engine 'diffct' is out: it has no" in reason
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    engine, reason = auto(monkeypatch, memory=10**4, name="fan", fault="no luck")
    assert engine == "matrix" and reason.endswith("the package diffct is not installed")


@pytest.mark.parametrize("projector", ["linear", "line", "strip"])
@pytest.mark.parametrize("name", ["parallel", "parallel shifted", "fan"])
def test_the_estimate_of_the_matrix_is_a_close_upper_bound(name, projector):
    geometry, grid = GEOMETRIES[name]
    keywords = {"projector": projector, "dtype": torch.float64}
    engine = MatrixEngine.build(geometry, grid, device=CPU, **keywords)
    bound = matrix_bytes(geometry, grid, **keywords)
    stored = 2 * 12 * engine.matrix.values().numel()
    assert stored <= bound < 4.5 * stored


def test_diffct_computes_in_its_own_kernels_for_single_precision_on_a_gpu():
    assert traversal(GPU, torch.float32) == {"backend": "numba", "precision": "fast"}
    assert traversal(GPU, torch.float64) == {"backend": "torch", "precision": "float64"}
    assert traversal(CPU, torch.float32) == {"backend": "torch", "precision": "float32"}
    with quiet_launches():
        import warnings

        warnings.warn(
            "Grid size 4 will likely result in GPU under-utilization due to low", stacklevel=1
        )


@pytest.mark.slow
def test_engine_and_reason_are_on_the_line_of_the_ray_stage():
    class Lines(pdip.stages.Observer):
        said: dict[str, str] = {}

        def finished(self, stage, sentence):
            self.said[stage] = sentence

    geometry, grid = GEOMETRIES["parallel"]
    scan = pdip.Scan(torch.rand(geometry.shape), geometry, grid)
    settings = {"network": {"scales": 2, "channels": 4}, "dip": {"max_steps": 3, "restarts": 1}}
    pdip.reconstruct(scan, settings, observer=Lines())
    assert Lines.said["ray"].endswith(
        "pixels of 1 mm; engine 'matrix' was chosen because it runs on cpu and its adjoint is "
        "exact in every precision"
    )
