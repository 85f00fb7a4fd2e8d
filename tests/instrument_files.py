"""Tiny files as instruments and their software write them."""

import struct

import h5py
import numpy as np
import pydicom
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from scipy.io import savemat

RNG = np.random.default_rng(5)
VIEWS, ROWS, DETECTORS = 6, 3, 9
COUNTS = RNG.integers(900, 5000, (VIEWS, ROWS, DETECTORS)).astype(np.uint16)
FLAT = RNG.integers(5000, 5100, (4, ROWS, DETECTORS)).astype(np.uint16)
DARK = RNG.integers(90, 110, (2, ROWS, DETECTORS)).astype(np.uint16)
ANGLES_DEG = np.arange(VIEWS) * 30.0
LINE_INTEGRALS = RNG.uniform(0.1, 1.0, (VIEWS, DETECTORS))


def save_dxchange(path, *, white=FLAT, dark=DARK, data=COUNTS, theta=ANGLES_DEG, units="degrees"):
    dark = None if white is None else dark
    with h5py.File(path, "w") as file:
        group = file.create_group("exchange")
        for name, values in (("data", data), ("data_white", white), ("data_dark", dark)):
            if values is not None:
                group[name] = values
        if theta is not None:
            group["theta"] = theta
            if units:
                group["theta"].attrs["units"] = units
    return path


def save_nxtomo(path, entry="entry", *, units="deg", pixel_units="um", rows=slice(None)):
    """Dark and flat before the views, a flat and an invalid frame among them."""
    key = [2, 1, 1, 0, 0, 0, 3, 0, 0, 0, 1, 2]
    frames = iter((DARK[0], *FLAT[:2], *COUNTS[:3], 0 * DARK[0], *COUNTS[3:], FLAT[2], DARK[1]))
    angles = np.zeros(len(key))
    angles[np.equal(key, 0)] = ANGLES_DEG if units.startswith("deg") else np.deg2rad(ANGLES_DEG)
    with h5py.File(path, "a") as file:
        detector = file.create_group(f"{entry}/instrument/detector")
        detector["data"] = np.stack(list(frames))[:, rows]
        detector["image_key"] = np.array(key)
        detector["x_pixel_size"] = 6.5
        if pixel_units:
            detector["x_pixel_size"].attrs["units"] = pixel_units
        file[f"{entry}/sample/rotation_angle"] = angles
        file[f"{entry}/sample/rotation_angle"].attrs["units"] = units
        file[f"{entry}/data/data"] = detector["data"]  # a hard link, as the definition asks for
        file[f"{entry}/data/image_key"] = detector["image_key"]
    return path


def htc_record(views=VIEWS, **changed):
    parameters = {
        "geometryType": "Cone",
        "distanceSourceOrigin": 50.0,
        "distanceSourceDetector": 60.0,
        "distanceUnit": "mm",
        "angles": ANGLES_DEG[:views],
        "pixelSize": 0.2,
        "pixelSizePost": 0.8,
    }
    return {"type": "2d", "sinogram": LINE_INTEGRALS[:views], "parameters": parameters | changed}


def save_mat(path, **variables):
    savemat(path, variables, do_compression=True)
    return path


def save_mat73(path, **variables):
    """The layout of MATLAB's HDF5 files: transposed arrays, texts as numbers, a block in front."""

    def add(group, name, value):
        if isinstance(value, dict):
            inner = group.create_group(name)
            inner.attrs["MATLAB_class"] = np.bytes_("struct")
            for key, entry in value.items():
                add(inner, key, entry)
            return
        text = isinstance(value, str)
        codes = np.array([[ord(c)] for c in value], np.uint16) if text else np.atleast_2d(value).T
        group[name] = codes
        group[name].attrs["MATLAB_class"] = np.bytes_("char" if text else "double")

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            add(file, name, value)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM")
    return path


def save_tiffs(folder, *, flats=True, **settings):
    """One file per view, numbered without leading zeros, flats and darks beside them."""
    folder.mkdir()
    for view, image in enumerate(COUNTS):
        tifffile.imwrite(folder / f"view_{2 * view + 1}.tif", image, **settings)
    if flats:
        (folder / "darks").mkdir()
        for number, image in enumerate(FLAT):
            tifffile.imwrite(folder / f"Flat{number}.TIF", image)
        for number, image in enumerate(DARK):
            tifffile.imwrite(folder / "darks" / f"{number}.tiff", image)
    return folder


def save_dicom(path, hounsfield, *, packed=False, **changed):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = CTImageStorage, "1.2.3", "CT"
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
    dataset.PhotometricInterpretation, dataset.PixelSpacing = "MONOCHROME2", [0.7, 0.7]
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024
    dataset.PixelData = ((hounsfield + 1024) / 2).astype("<u2").tobytes()
    for key, value in changed.items():
        setattr(dataset, key, value)
    if packed:
        dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path
