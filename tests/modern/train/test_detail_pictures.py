from types import SimpleNamespace

import torch

from modern.clip import Identity
from modern.train.detail_pictures import detail_picture, resized, signed_colours


def test_a_signed_map_is_white_at_zero_blue_below_and_orange_above() -> None:
    map_B1SS = torch.tensor([-0.02, 0.0, 0.02, 0.01]).view(1, 1, 2, 2)
    colours = signed_colours(map_B1SS)[0].permute(1, 2, 0).reshape(4, 3)
    assert torch.allclose(colours[0], torch.tensor([0.0, 0.27, 0.69]))
    assert torch.equal(colours[1], torch.ones(3))
    assert torch.allclose(colours[2], torch.tensor([0.84, 0.37, 0.0]))
    assert torch.allclose(colours[3], (1 + colours[2]) / 2)
    assert torch.equal(signed_colours(torch.zeros(1, 1, 2, 2)), torch.ones(1, 3, 2, 2))
    assert resized(signed_colours(map_B1SS), 8).shape == (1, 3, 8, 8)


def test_a_picture_has_seven_tiles_of_the_photographs_size() -> None:
    size, texels, batch = 16, 8, 2
    image = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    sample = Identity(
        image_K3HW=image,
        landmark_K683=torch.zeros(batch, 68, 3),
        landmark_dense_K1053=torch.zeros(batch, 105, 3),
        mask_KHW=torch.zeros(batch, size, size),
    )
    maps = {name: torch.rand(batch, 3, texels, texels) for name in ("albedo", "normals", "shading", "texture")}
    surface = SimpleNamespace(
        albedo_B3SS=maps["albedo"],
        uv_normals_B3SS=maps["normals"],
        grid_BHW2=torch.zeros(batch, size, size, 2),
        alpha_images_B1HW=torch.ones(batch, 1, size, size),
    )
    output = SimpleNamespace(
        encoding=SimpleNamespace(codes=SimpleNamespace(flame=SimpleNamespace(light_B93=torch.rand(batch, 9, 3)))),
        decoding=SimpleNamespace(
            surface=surface, uv_shading_B3SS=maps["shading"], uv_z_B1SS=torch.zeros(batch, 1, texels, texels)
        ),
        final_image_B3HW=image,
        observation=SimpleNamespace(texture_B3SS=maps["texture"], visible_B1SS=torch.zeros(batch, 1, texels, texels)),
    )
    picture = detail_picture(sample, output)
    assert picture.shape == (7 * size, size, 3)
    assert (picture[:size] == picture[size : 2 * size]).all()  # nothing is pasted outside the mask
    assert (picture[5 * size : 6 * size] == 255).all()  # no displacement
    assert (picture[6 * size :] == 0).all()  # nothing is seen
