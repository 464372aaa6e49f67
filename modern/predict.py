"""Applying a model to a folder of frames: codes, meshes and pictures of every frame but the first and the last.

Axes: W windows of three frames, each giving its centre frame; V vertices.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from modern.clip import CENTRE, FRAMES
from modern.codes import FlameCodes
from modern.data.clip_folder import ClipFolder, load_images
from modern.model import CoarseModel, over_photograph
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
    tensors = {name: torch.cat([row[name] for row in rows]).cpu().contiguous() for name in rows[0]}
    write_file(out / "prediction.safetensors", lambda part: save_file(tensors, part))
    centres = clip.frames[CENTRE : CENTRE + clip.windows]
    write_text(out / "frames.json", json.dumps([str(path) for path in centres], indent=1))
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
