"""Finished stages kept in a run's folder, so that an interrupted run goes on where it stopped."""

from dataclasses import asdict, replace

import torch

from pdip.dip import DIPFit, UNet
from pdip.evidence import EvidenceFit
from pdip.linearised.measurement import Compression
from pdip.run_directory import RunDirectory
from pdip.stages import StageCost

COMPRESSION = ("basis", "index", "weights", "rows")


class DirectoryCheckpoints:
    """The ``checkpoints`` of :func:`pdip.reconstruct` that keep the stages in a folder.

    Args:
        directory: the folder, begun.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory

    def save_fit(self, name: str, fit: DIPFit, cost: StageCost) -> None:
        """Keep a finished fit with all its restarts."""
        tensors, records = {}, []
        for number, restart in enumerate(fit.restarts):
            tensors[f"{number}.image"] = restart.image
            tensors[f"{number}.network_input"] = restart.network_input
            for key, value in restart.params.items():
                tensors[f"{number}.params.{key}"] = value
            records.append(
                {
                    "network": restart.network.settings,
                    "noise_std": restart.noise_std,
                    "tv_weight": restart.tv_weight,
                    "stop_reason": restart.stop_reason,
                    "history": restart.history,
                    "assumptions": restart.assumptions,
                }
            )
        record = {"cost": asdict(cost), "restarts": records}
        self.directory.write_tensors(f"{name}.safetensors", tensors, record)

    def load_fit(self, name: str, ray) -> tuple[DIPFit, StageCost] | None:
        """The fit that was kept, in the precision and on the device of ``ray``, or None."""
        if not self.directory.holds(f"{name}.safetensors"):
            return None
        tensors, record = self.directory.read_tensors(f"{name}.safetensors")
        place = {"dtype": ray.dtype, "device": ray.device}
        tensors = {key: value.to(**place) for key, value in tensors.items()}
        fits = []
        for number, restart in enumerate(record["restarts"]):
            prefix = f"{number}.params."
            fits.append(
                DIPFit(
                    image=tensors[f"{number}.image"],
                    network=UNet(**restart.pop("network")).to(**place),
                    network_input=tensors[f"{number}.network_input"],
                    params={
                        key.removeprefix(prefix): value
                        for key, value in tensors.items()
                        if key.startswith(prefix)
                    },
                    assumptions=tuple(restart.pop("assumptions")),
                    **restart,
                )
            )
        return replace(fits[0], alternatives=tuple(fits[1:])), StageCost(**record["cost"])

    def save_evidence(self, fits: tuple[EvidenceFit, ...], cost: StageCost) -> None:
        """Keep the hyperparameters of every restart."""
        tensors, records = {}, []
        for number, fit in enumerate(fits):
            tensors[f"{number}.log_hyperparameters"] = fit.model.log_hyperparameters
            tensors[f"{number}.slope"] = fit.model.slope
            compression = fit.model.measurement.compression
            if compression is not None:
                for name in COMPRESSION:
                    tensors[f"{number}.compression.{name}"] = getattr(compression, name)
            records.append(
                {
                    "left_outside": None if compression is None else compression.left_outside,
                    "log_evidence": fit.log_evidence,
                    "converged": fit.converged,
                    "gradient_norm": fit.gradient_norm,
                    "num_evaluations": fit.num_evaluations,
                    "standard_error": fit.standard_error,
                    "worst_residual": fit.worst_residual,
                    "history": fit.history,
                }
            )
        record = {"cost": asdict(cost), "restarts": records}
        self.directory.write_tensors("evidence.safetensors", tensors, record)

    def load_evidence(self, models) -> tuple[tuple[EvidenceFit, ...], StageCost] | None:
        """The models at the hyperparameters that were kept, or None."""
        if not self.directory.holds("evidence.safetensors"):
            return None
        tensors, record = self.directory.read_tensors("evidence.safetensors")
        fits = []
        for number, (model, found) in enumerate(zip(models, record["restarts"], strict=True)):
            slope = tensors[f"{number}.slope"].to(model.slope)
            if not torch.equal(slope, model.slope):
                model = model.with_slope(slope)
            left_outside = found.pop("left_outside", None)
            if left_outside is not None:
                stored = [tensors[f"{number}.compression.{name}"] for name in COMPRESSION]
                model = model.compressed(
                    Compression(*(t.to(model.image.device) for t in stored), left_outside)
                )
            best = tensors[f"{number}.log_hyperparameters"].to(model.log_hyperparameters)
            fits.append(EvidenceFit(model=model.at(best), **found))
        return tuple(fits), StageCost(**record["cost"])
