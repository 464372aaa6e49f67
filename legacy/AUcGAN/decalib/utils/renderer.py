"""Renderer of the face mesh: rasterisation by pytorch3d, spherical-harmonics shading."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import util


def set_rasterizer(type='pytorch3d'):
    """Bring in the rasteriser; only pytorch3d's can be trained through."""
    if type == 'pytorch3d':
        global Meshes, rasterize_meshes
        from pytorch3d.renderer.mesh import rasterize_meshes
        from pytorch3d.structures import Meshes
    else:
        raise NotImplementedError(type)


class Pytorch3dRasterizer(nn.Module):
    """Nearest face at each pixel and its interpolated attributes. No culling, no blur."""

    def __init__(self, image_size=224):
        super().__init__()
        self.raster_settings = util.dict2obj({
            'image_size': image_size,
            'blur_radius': 0.0,
            'faces_per_pixel': 1,
            'bin_size': None,
            'max_faces_per_bin': None,
            'perspective_correct': False,
        })

    def forward(self, vertices, faces, attributes=None, h=None, w=None):
        """vertices [B,V,3] image space, faces [B,F,3], attributes [B,F,3,D] -> [B,D+1,H,W]; the last is the hit mask."""
        fixed_vertices = vertices.clone()
        fixed_vertices[..., :2] = -fixed_vertices[..., :2]
        settings = self.raster_settings
        if h is None and w is None:
            image_size = settings.image_size
        else:
            image_size = [h, w]
            if h > w:
                fixed_vertices[..., 1] = fixed_vertices[..., 1] * h / w
            else:
                fixed_vertices[..., 0] = fixed_vertices[..., 0] * w / h

        meshes_screen = Meshes(verts=fixed_vertices.float(), faces=faces.long())
        pix_to_face, zbuf, bary_coords, dists = rasterize_meshes(
            meshes_screen,
            image_size=image_size,
            blur_radius=settings.blur_radius,
            faces_per_pixel=settings.faces_per_pixel,
            bin_size=settings.bin_size,
            max_faces_per_bin=settings.max_faces_per_bin,
            perspective_correct=settings.perspective_correct,
        )
        vismask = (pix_to_face > -1).float()
        D = attributes.shape[-1]
        attributes = attributes.clone()
        attributes = attributes.view(attributes.shape[0] * attributes.shape[1], 3, attributes.shape[-1])
        N, H, W, K, _ = bary_coords.shape
        mask = pix_to_face == -1
        pix_to_face = pix_to_face.clone()
        pix_to_face[mask] = 0
        idx = pix_to_face.view(N * H * W * K, 1, 1).expand(N * H * W * K, 3, D)
        pixel_face_vals = attributes.gather(0, idx).view(N, H, W, K, 3, D)
        pixel_vals = (bary_coords[..., None] * pixel_face_vals).sum(dim=-2)
        pixel_vals[mask] = 0  # background
        pixel_vals = pixel_vals[:, :, :, 0].permute(0, 3, 1, 2)
        return torch.cat([pixel_vals, vismask[:, :, :, 0][:, None, :, :]], dim=1)


class SRenderY(nn.Module):
    def __init__(self, image_size, obj_filename, uv_size=256, rasterizer_type='pytorch3d'):
        super(SRenderY, self).__init__()
        self.image_size = image_size
        self.uv_size = uv_size
        set_rasterizer(rasterizer_type)
        self.rasterizer = Pytorch3dRasterizer(image_size)
        self.uv_rasterizer = Pytorch3dRasterizer(uv_size)

        verts, uvcoords, faces, uvfaces = util.load_obj(obj_filename)
        uvcoords, faces, uvfaces = uvcoords[None, ...], faces[None, ...], uvfaces[None, ...]
        dense_triangles = util.generate_triangles(uv_size, uv_size)
        self.register_buffer('dense_faces', torch.from_numpy(dense_triangles).long()[None, :, :])
        self.register_buffer('faces', faces)
        self.register_buffer('raw_uvcoords', uvcoords)
        uvcoords = torch.cat([uvcoords, uvcoords[:, :, 0:1] * 0. + 1.], -1)  # [1,U,3], third = 1
        uvcoords = uvcoords * 2 - 1
        uvcoords[..., 1] = -uvcoords[..., 1]
        face_uvcoords = util.face_vertices(uvcoords, uvfaces)
        self.register_buffer('uvcoords', uvcoords)
        self.register_buffer('uvfaces', uvfaces)
        self.register_buffer('face_uvcoords', face_uvcoords)
        colors = torch.tensor([180, 180, 180])[None, None, :].repeat(1, faces.max() + 1, 1).float() / 255.
        self.register_buffer('face_colors', util.face_vertices(colors, faces))

        pi = np.pi
        constant_factor = torch.tensor([
            1 / np.sqrt(4 * pi),
            (2 * pi / 3) * np.sqrt(3 / (4 * pi)), (2 * pi / 3) * np.sqrt(3 / (4 * pi)),
            (2 * pi / 3) * np.sqrt(3 / (4 * pi)),
            (pi / 4) * 3 * np.sqrt(5 / (12 * pi)), (pi / 4) * 3 * np.sqrt(5 / (12 * pi)),
            (pi / 4) * 3 * np.sqrt(5 / (12 * pi)),
            (pi / 4) * (3 / 2) * np.sqrt(5 / (12 * pi)),
            (pi / 4) * (1 / 2) * np.sqrt(5 / (4 * pi))]).float()
        self.register_buffer('constant_factor', constant_factor)

    def forward(self, vertices, transformed_vertices, albedos, lights=None, h=None, w=None, light_type='point',
                background=None):
        """vertices, transformed_vertices [B,V,3], albedos [B,3,S,S], lights [B,9,3] -> dict of pictures.

        Moves transformed_vertices by +10 in z, in place.
        """
        batch_size = vertices.shape[0]
        transformed_vertices[:, :, 2] = transformed_vertices[:, :, 2] + 10
        faces = self.faces.expand(batch_size, -1, -1)
        face_vertices = util.face_vertices(vertices, faces)
        normals = util.vertex_normals(vertices, faces)
        face_normals = util.face_vertices(normals, faces)
        transformed_normals = util.vertex_normals(transformed_vertices, faces)
        transformed_face_normals = util.face_vertices(transformed_normals, faces)
        attributes = torch.cat([
            self.face_uvcoords.expand(batch_size, -1, -1, -1),
            transformed_face_normals.detach(),
            face_vertices.detach(),
            face_normals], -1)
        rendering = self.rasterizer(transformed_vertices, faces, attributes, h, w)

        alpha_images = rendering[:, -1, :, :][:, None, :, :].detach()
        uvcoords_images = rendering[:, :3, :, :]
        grid = uvcoords_images.permute(0, 2, 3, 1)[:, :, :, :2]
        albedo_images = F.grid_sample(albedos, grid, align_corners=False)
        transformed_normal_map = rendering[:, 3:6, :, :].detach()
        pos_mask = (transformed_normal_map[:, 2:, :, :] < -0.05).float()

        normal_images = rendering[:, 9:12, :, :]
        if lights is not None:
            if lights.shape[1] == 9:
                shading_images = self.add_SHlight(normal_images, lights)
            else:
                vertice_images = rendering[:, 6:9, :, :].detach()
                add_light = self.add_pointlight if light_type == 'point' else self.add_directionlight
                source = vertice_images if light_type == 'point' else None
                shading = add_light(source, normal_images.permute(0, 2, 3, 1).reshape([batch_size, -1, 3]), lights)
                shading_images = shading.reshape(
                    [batch_size, albedo_images.shape[2], albedo_images.shape[3], 3]).permute(0, 3, 1, 2)
            images = albedo_images * shading_images
        else:
            images = albedo_images
            shading_images = images.detach() * 0.

        if background is not None:
            images = images * alpha_images + background * (1. - alpha_images)
            albedo_images = albedo_images * alpha_images + background * (1. - alpha_images)
        else:
            images = images * alpha_images
            albedo_images = albedo_images * alpha_images
        return {
            'images': images,
            'albedo_images': albedo_images,
            'alpha_images': alpha_images,
            'pos_mask': pos_mask,
            'shading_images': shading_images,
            'grid': grid,
            'normals': normals,
            'normal_images': normal_images * alpha_images,
            'transformed_normals': transformed_normals,
        }

    def add_SHlight(self, normal_images, sh_coeff):
        """normal_images [B,3,H,W], sh_coeff [B,9,3] -> shading [B,3,H,W]."""
        N = normal_images
        sh = torch.stack([
            N[:, 0] * 0. + 1.,
            N[:, 0],
            N[:, 1],
            N[:, 2],
            N[:, 0] * N[:, 1],
            N[:, 0] * N[:, 2],
            N[:, 1] * N[:, 2],
            N[:, 0] ** 2 - N[:, 1] ** 2,
            3 * (N[:, 2] ** 2) - 1,
        ], 1)
        sh = sh * self.constant_factor[None, :, None, None]
        return torch.sum(sh_coeff[:, :, :, None, None] * sh[:, :, None, :, :], 1)

    def add_pointlight(self, vertices, normals, lights):
        """normals [B,P,3], lights [B,L,6] = position and intensity; vertices as picture [B,3,H,W] -> [B,P,3]."""
        points = vertices.permute(0, 2, 3, 1).reshape(normals.shape)
        light_positions = lights[:, :, :3]
        light_intensities = lights[:, :, 3:]
        directions_to_lights = F.normalize(light_positions[:, :, None, :] - points[:, None, :, :], dim=3)
        normals_dot_lights = (normals[:, None, :, :] * directions_to_lights).sum(dim=3)
        shading = normals_dot_lights[:, :, :, None] * light_intensities[:, :, None, :]
        return shading.mean(1)

    def add_directionlight(self, _, normals, lights):
        """normals [B,P,3], lights [B,L,6] = direction and intensity -> [B,P,3]."""
        light_direction = lights[:, :, :3]
        light_intensities = lights[:, :, 3:]
        directions_to_lights = F.normalize(light_direction[:, :, None, :].expand(-1, -1, normals.shape[1], -1), dim=3)
        normals_dot_lights = torch.clamp((normals[:, None, :, :] * directions_to_lights).sum(dim=3), 0., 1.)
        shading = normals_dot_lights[:, :, :, None] * light_intensities[:, :, None, :]
        return shading.mean(1)

    def render_shape(self, vertices, transformed_vertices, colors=None, images=None, detail_normal_images=None,
                     lights=None, return_grid=False, uv_detail_normals=None, h=None, w=None):
        """Grey mesh under five directional lights -> picture [B,3,H,W] over images or black.

        Moves transformed_vertices by +10 in z, in place, once more.
        """
        batch_size = vertices.shape[0]
        if lights is None:
            light_positions = torch.tensor([
                [-1, 1, 1], [1, 1, 1], [-1, -1, 1], [1, -1, 1], [0, 0, 1]])[None, :, :].expand(batch_size, -1, -1).float()
            light_intensities = torch.ones_like(light_positions).float() * 1.7
            lights = torch.cat((light_positions, light_intensities), 2).to(vertices.device)
        transformed_vertices[:, :, 2] = transformed_vertices[:, :, 2] + 10

        faces = self.faces.expand(batch_size, -1, -1)
        face_vertices = util.face_vertices(vertices, faces)
        normals = util.vertex_normals(vertices, faces)
        face_normals = util.face_vertices(normals, faces)
        transformed_normals = util.vertex_normals(transformed_vertices, faces)
        transformed_face_normals = util.face_vertices(transformed_normals, faces)
        if colors is None:
            colors = self.face_colors.expand(batch_size, -1, -1, -1)
        attributes = torch.cat([
            colors,
            transformed_face_normals.detach(),
            face_vertices.detach(),
            face_normals,
            self.face_uvcoords.expand(batch_size, -1, -1, -1)], -1)
        rendering = self.rasterizer(transformed_vertices, faces, attributes, h, w)

        alpha_images = rendering[:, -1, :, :][:, None, :, :].detach()
        albedo_images = rendering[:, :3, :, :]
        transformed_normal_map = rendering[:, 3:6, :, :].detach()
        pos_mask = (transformed_normal_map[:, 2:, :, :] < 0.15).float()
        normal_images = rendering[:, 9:12, :, :].detach()
        if detail_normal_images is not None:
            normal_images = detail_normal_images

        shading = self.add_directionlight(None, normal_images.permute(0, 2, 3, 1).reshape([batch_size, -1, 3]), lights)
        shading_images = shading.reshape(
            [batch_size, albedo_images.shape[2], albedo_images.shape[3], 3]).permute(0, 3, 1, 2).contiguous()
        shaded_images = albedo_images * shading_images

        alpha_images = alpha_images * pos_mask
        if images is None:
            images = torch.zeros_like(shaded_images)
        shape_images = shaded_images * alpha_images + images * (1. - alpha_images)
        if return_grid:
            grid = rendering[:, 12:15, :, :].permute(0, 2, 3, 1)[:, :, :, :2]
            return shape_images, normal_images, grid, alpha_images
        return shape_images

    def render_depth(self, transformed_vertices):
        """transformed_vertices [B,V,3] -> nearness [B,1,H,W] in 0..1, 0 off the mesh. Changes its input."""
        batch_size = transformed_vertices.shape[0]
        transformed_vertices[:, :, 2] = transformed_vertices[:, :, 2] - transformed_vertices[:, :, 2].min()
        z = -transformed_vertices[:, :, 2:].repeat(1, 1, 3)
        z = z - z.min()
        z = z / z.max()
        faces = self.faces.expand(batch_size, -1, -1)
        attributes = util.face_vertices(z, faces)
        transformed_vertices[:, :, 2] = transformed_vertices[:, :, 2] + 10
        rendering = self.rasterizer(transformed_vertices, faces, attributes)
        alpha_images = rendering[:, -1, :, :][:, None, :, :].detach()
        return rendering[:, :1, :, :] * alpha_images

    def render_colors(self, transformed_vertices, colors, h=None, w=None):
        """Per-vertex colors [B,V,3] -> picture [B,3,H,W]. No shift of its own."""
        batch_size = colors.shape[0]
        faces = self.faces.expand(batch_size, -1, -1)
        attributes = util.face_vertices(colors, faces)
        rendering = self.rasterizer(transformed_vertices, faces, attributes, h=h, w=w)
        alpha_images = rendering[:, [-1], :, :].detach()
        return rendering[:, :3, :, :] * alpha_images

    def world2uv(self, vertices):
        """Per-vertex vectors [B,V,3] -> texture space [B,3,uv_size,uv_size]."""
        batch_size = vertices.shape[0]
        face_vertices = util.face_vertices(vertices, self.faces.expand(batch_size, -1, -1))
        return self.uv_rasterizer(self.uvcoords.expand(batch_size, -1, -1),
                                  self.uvfaces.expand(batch_size, -1, -1), face_vertices)[:, :3]
