"""Applying a model to a folder of frames: codes, meshes and pictures.

Axes: W windows of three frames, each giving its centre frame; N images; V vertices; S texels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from modern.clip import CENTRE, FRAMES
from modern.codes import FlameCodes
from modern.data.clip_folder import ClipFolder, load_images
from modern.data.frames import DataError
from modern.detail.model import DetailModel, pasted
from modern.model import CoarseModel, over_photograph
from modern.train.detail_pictures import resized, signed_colours
from modern.train.files import write_file, write_text
from modern.train.pictures import stack, tile, write_picture


def predict_clip(model: CoarseModel, folder: Path, out: Path) -> int:
    """Write what the model says about a clip.

    Files in `out`: `prediction.safetensors` (codes shape, tex, exp, pose, cam, light, and `vertices` [W,V,3] in metres;
    one row per window), `frames.json` (the image of each row) and `pictures/` (photograph, and below it the same with
    the rendered face laid over it).

    Args:
        model: on its device.
        folder: a clip, as `ClipFolder.find` accepts it; only its images are read.
        out: created if missing; files of the same names are replaced.

    Returns:
        Number of windows.

    Raises:
        DataError: if the images cannot be used.
    """
    clip, size = ClipFolder.find(folder), model.renderer.image_size
    rows: list[dict[str, Tensor]] = []
    for start in range(clip.windows):
        frames = clip.frames[start : start + FRAMES]
        prediction = model.predict(load_images(frames, size).to(model.uv_face_eye_mask.device))
        rows.append({**codes_by_name(prediction.encoding.codes), "vertices": prediction.decoding.mesh.vertices_BV3})
        photograph = prediction.encoding.image_B3HW
        shown = stack([tile(photograph[0]), tile(over_photograph(prediction.decoding, photograph)[0])])
        write_picture(out / "pictures" / f"{frames[CENTRE].stem}.jpg", shown)
    return _write(out, rows, clip.frames[CENTRE : CENTRE + clip.windows])


def predict_detail(model: DetailModel, folder: Path, out: Path) -> int:
    """Write what the detail model says about each image of a folder.

    Files as of `predict_clip`, with a row per image, and two tensors more: `detail` [N,128] and the displacement map
    `uv_z` [N,1,S,S]. Pictures show photograph, detailed head over it, and displacement.

    Args:
        model: on its device.
        folder: as `ClipFolder.find` accepts it; only its images are read.
        out: created if missing; files of the same names are replaced.

    Returns:
        Number of images.

    Raises:
        DataError: if the images cannot be used.
    """
    clip = ClipFolder.find(folder)
    if not clip.files:
        raise DataError(f"{clip.images}: no images; expected png or jpg files")
    rows: list[dict[str, Tensor]] = []
    for path in clip.files:
        image = load_images([path]).to(model.grid_faces.device)
        prediction = model.predict(image)
        codes, decoding = prediction.encoding.codes, prediction.decoding
        row = {**codes_by_name(codes.flame), "detail": codes.detail_B128.flatten(1), "uv_z": decoding.uv_z_B1SS}
        head = decoding.surface.head
        rows.append(row if head is None else {**row, "vertices": head.mesh.vertices_BV3})
        over = pasted(decoding.picture_B3HW, image, decoding.surface.alpha_images_B1HW)
        displacement = resized(signed_colours(decoding.uv_z_B1SS), image.shape[-1])
        shown = stack([tile(each[0]) for each in (image, over, displacement)])
        write_picture(out / "pictures" / f"{path.stem}.jpg", shown)
    return _write(out, rows, clip.files)


def _write(out: Path, rows: list[dict[str, Tensor]], images: Sequence[Path]) -> int:
    tensors = {name: torch.cat([row[name] for row in rows]).cpu().contiguous() for name in rows[0]}
    write_file(out / "prediction.safetensors", lambda part: save_file(tensors, part))
    write_text(out / "frames.json", json.dumps([str(path) for path in images], indent=1))
    return len(rows)


def codes_by_name(codes: FlameCodes) -> dict[str, Tensor]:
    """Codes under the names the files use."""
    return {
        "shape": codes.shape_B100,
        "tex": codes.tex_B50,
        "exp": codes.exp_B50,
        "pose": codes.pose_B6,
        "cam": codes.cam_B3,
        "light": codes.light_B93,
    }
