"""DECA on three frames: frozen encoder and action units, BiViT for texture, expression and light, decoding."""
import copy
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from skimage.io import imread

from .models.encoders import ResnetEncoder
from .models.FLAME import FLAME, FLAMETex
from .models.OpenGraphAU.conf import get_config
from .models.OpenGraphAU.model.ANFL import AFG
from .models.OpenGraphAU.utils import load_state_dict
from .models.vitVideo_Sequence_Cross import ViTEncoderSeque
from .utils import util
from .utils.config import cfg
from .utils.renderer3 import SRenderY, set_rasterizer
from .utils.rotation_converter import batch_euler2axis


class DECA(nn.Module):
    def __init__(self, config=None, device='cuda:1'):
        super(DECA, self).__init__()
        if config is None:
            self.cfg = cfg
        else:
            self.cfg = config
        self.device = device
        self.image_size = self.cfg.dataset.image_size
        self.uv_size = self.cfg.model.uv_size
        self._create_model(self.cfg.model)
        self._setup_renderer(self.cfg.model)

    def _setup_renderer(self, model_cfg):
        set_rasterizer(self.cfg.rasterizer_type)
        self.render = SRenderY(self.image_size, obj_filename=model_cfg.topology_path, uv_size=model_cfg.uv_size,
                               rasterizer_type=self.cfg.rasterizer_type,
                               flame_mask_path=model_cfg.flame_mask_path).to(self.device)
        mask = imread(model_cfg.face_eye_mask_path).astype(np.float32) / 255.
        mask = torch.from_numpy(mask[:, :, 0])[None, None, :, :].contiguous()
        self.uv_face_eye_mask = F.interpolate(mask, [model_cfg.uv_size, model_cfg.uv_size]).to(self.device)
        # everything below is needed on disk and used by nothing on the training path
        mask = imread(model_cfg.face_mask_path).astype(np.float32) / 255.
        mask = torch.from_numpy(mask[:, :, 0])[None, None, :, :].contiguous()
        self.uv_face_mask = F.interpolate(mask, [model_cfg.uv_size, model_cfg.uv_size]).to(self.device)
        fixed_dis = np.load(model_cfg.fixed_displacement_path)
        self.fixed_uv_dis = torch.tensor(fixed_dis).float().to(self.device)
        mean_texture = imread(model_cfg.mean_tex_path).astype(np.float32) / 255.
        mean_texture = torch.from_numpy(mean_texture.transpose(2, 0, 1))[None, :, :, :].contiguous()
        self.mean_texture = F.interpolate(mean_texture, [model_cfg.uv_size, model_cfg.uv_size]).to(self.device)
        self.dense_template = np.load(model_cfg.dense_template_path, allow_pickle=True, encoding='latin1').item()
        self.lightprobe_normal_images = np.load(model_cfg.lightprobe_normal_path)
        self.lightprobe_albedo_images = np.load(model_cfg.lightprobe_albedo_path)

    def _create_model(self, model_cfg):
        self.n_param = model_cfg.n_shape + model_cfg.n_tex + model_cfg.n_exp + model_cfg.n_pose + model_cfg.n_cam \
            + model_cfg.n_light
        self.n_param_OnlyE = model_cfg.n_tex + model_cfg.n_exp + model_cfg.n_light
        self.param_dict = {i: model_cfg.get('n_' + i) for i in model_cfg.param_list}
        self.param_dict_OnlyE = {i: model_cfg.get('n_' + i) for i in model_cfg.param_list_OnlyE}

        self.E_flame = ResnetEncoder(outsize=self.n_param).to(self.device)
        conf = get_config()
        self.AUNet = AFG(num_main_classes=conf.num_main_classes, num_sub_classes=conf.num_sub_classes,
                         backbone=conf.arc, neighbor_num=conf.neighbor_num, metric=conf.metric)
        self.AUNet = load_state_dict(self.AUNet, conf.resume).to(self.device)
        self.BiViT = ViTEncoderSeque(num_features=self.n_param_OnlyE).to(self.device)
        self.flame = FLAME(model_cfg).to(self.device)
        if model_cfg.use_tex:
            self.flametex = FLAMETex(model_cfg).to(self.device)

        if os.path.exists(self.cfg.pretrained_modelpath):
            print(f'trained model found. load {self.cfg.pretrained_modelpath}')
            checkpoint = torch.load(self.cfg.pretrained_modelpath, map_location='cpu')
            util.copy_state_dict(self.E_flame.state_dict(), checkpoint['E_flame'])
            util.copy_state_dict(self.BiViT.state_dict(), checkpoint['BiViT'])
        elif os.path.exists(self.cfg.pretrained_modelpath_224):
            print(f'trained model found. load {self.cfg.pretrained_modelpath_224}')
            checkpoint = torch.load(self.cfg.pretrained_modelpath_224, map_location='cpu')
            util.copy_state_dict(self.E_flame.state_dict(), checkpoint['E_flame'])
        else:
            print(f'please check model path: {self.cfg.pretrained_modelpath_224}')
            exit()
        self.E_flame.eval()
        self.AUNet.eval()

    def decompose_code(self, code, num_dict):
        """Consecutive slices of code [B,D] by num_dict; light as [B,9,3]. The slices are views."""
        code_dict = {}
        start = 0
        for key in num_dict:
            end = start + int(num_dict[key])
            code_dict[key] = code[:, start:end]
            start = end
            if key == 'light':
                code_dict[key] = code_dict[key].reshape(code_dict[key].shape[0], 9, 3)
        return code_dict

    def decompose_code_part(self, code, num_dict):
        """num_dict: ['tex', 'exp', 'jaw_pose', 'light'] (jaw_pose is not in the list any more)."""
        code_dict = {}
        start = 0
        for key in num_dict:
            end = start + int(num_dict[key])
            code_dict[key] = code[:, start:end]
            start = end
            if key == 'light':
                code_dict[key] = code_dict[key].reshape(code_dict[key].shape[0], 9, 3)
        return code_dict

    def displacement2normal(self, uv_z, coarse_verts, coarse_normals):
        """Displacement map [B,1,S,S] on a mesh -> normal map [B,3,S,S]. Only uv_z carries gradient."""
        batch_size = uv_z.shape[0]
        uv_coarse_vertices = self.render.world2uv(coarse_verts).detach()
        uv_coarse_normals = self.render.world2uv(coarse_normals).detach()
        uv_z = uv_z * self.uv_face_eye_mask
        uv_detail_vertices = uv_coarse_vertices + uv_z * uv_coarse_normals \
            + self.fixed_uv_dis[None, None, :, :] * uv_coarse_normals.detach()
        dense_vertices = uv_detail_vertices.permute(0, 2, 3, 1).reshape([batch_size, -1, 3])
        uv_detail_normals = util.vertex_normals(dense_vertices, self.render.dense_faces.expand(batch_size, -1, -1))
        uv_detail_normals = uv_detail_normals.reshape(
            [batch_size, uv_coarse_vertices.shape[2], uv_coarse_vertices.shape[3], 3]).permute(0, 3, 1, 2)
        return uv_detail_normals * self.uv_face_eye_mask + uv_coarse_normals * (1. - self.uv_face_eye_mask)

    def visofp(self, normals):
        """Visibility of the 68 points: 1 where the transformed normal [B,V,3] points to the viewer, [B,68,1]."""
        normals68 = util.face_vertices(normals, self.flame.faces_tensor[None].expand(normals.shape[0], -1, -1))
        normals68 = normals68[:, self.flame.full_lmk_faces_idx[0]]
        normals68 = (normals68 * self.flame.full_lmk_bary_coords[..., None]).sum(2)
        return (normals68[:, :, 2:] < 0.1).float()

    def encode(self, images_224):
        """images_224 [3,3,224,224] RGB in [0,1] -> (codes of DECA, our codes), both of the centre frame."""
        with torch.no_grad():
            parameters_224, global_feature = self.E_flame(images_224)
            _, afn = self.AUNet(images_224, use_gnn=False)
        # feats = torch.concat([afn, global_feature], dim=1)
        parameters_ours = self.BiViT(afn, global_feature)
        if parameters_ours.shape[0] != 1:
            parameters_ours = parameters_ours[None]

        codedict = self.decompose_code(parameters_224[1:2], self.param_dict)
        codedict['images'] = images_224[1:2]
        codedict_our = self.decompose_code_part(parameters_ours, self.param_dict_OnlyE)
        codedict_our['images'] = images_224[1:2]
        codedict_our['shape'] = codedict['shape']
        # codedict_our['tex'] = codedict['tex']
        codedict_our['cam'] = codedict['cam']
        codedict_our['pose'] = copy.deepcopy(codedict['pose'])
        # codedict_our['pose'][:, 3:] = codedict_our['jaw_pose']
        if self.cfg.model.jaw_type == 'euler':
            for codes in (codedict, codedict_our):
                codes['euler_jaw_pose'] = codes['pose'][:, 3:].clone()
                codes['pose'][:, 3:] = batch_euler2axis(codes['euler_jaw_pose'])
        return codedict, codedict_our

    def decode(self, codedict, codedict_old, rendering=True, iddict=None, vis_lmk=True, vis_au=False, return_vis=True,
               use_detail=False, use_gnn=False):
        """Codes to mesh, landmarks and pictures -> opdict, with return_vis also visdict."""
        images = codedict['images']
        verts, landmarks2d, landmarks3d, mp_landmark = self.flame(
            shape_params=codedict['shape'], expression_params=codedict['exp'], pose_params=codedict['pose'])
        verts_old, _, _, _ = self.flame(
            shape_params=codedict_old['shape'], expression_params=codedict_old['exp'],
            pose_params=codedict_old['pose'])
        landmarks3d_world = landmarks3d.clone()
        albedo = self.flametex(codedict['tex'])

        # y and z point the other way in image space
        landmarks2d = util.batch_orth_proj(landmarks2d, codedict['cam'])[:, :, :2]
        landmarks2d[:, :, 1:] = -landmarks2d[:, :, 1:]
        landmarks3d = util.batch_orth_proj(landmarks3d, codedict['cam'])
        landmarks3d[:, :, 1:] = -landmarks3d[:, :, 1:]
        mp_landmark = util.batch_orth_proj(mp_landmark, codedict['cam'])[:, :, :2]
        mp_landmark[:, :, 1:] = -mp_landmark[:, :, 1:]
        trans_verts = util.batch_orth_proj(verts, codedict['cam'])
        trans_verts[:, :, 1:] = -trans_verts[:, :, 1:]
        trans_verts_old = util.batch_orth_proj(verts_old, codedict_old['cam'])
        trans_verts_old[:, :, 1:] = -trans_verts_old[:, :, 1:]

        opdict = {
            'verts': verts,
            'trans_verts': trans_verts,
            'verts_old': verts_old,
            'trans_verts_old': trans_verts_old,
            'landmarks2d': landmarks2d,
            'landmarks3d': landmarks3d,
            'mp_landmark': mp_landmark,
            'landmarks3d_world': landmarks3d_world,
        }

        h, w = self.image_size, self.image_size
        if rendering:
            ops = self.render(verts, trans_verts, albedo, codedict['light'], h=h, w=w)
            opdict['grid'] = ops['grid']
            opdict['rendered_images'] = ops['images']
            opdict['alpha_images'] = ops['alpha_images']
            opdict['normal_images'] = ops['normal_images']
            opdict['v_colors'] = ops['v_colors']
        if self.cfg.model.use_tex:
            opdict['albedo'] = albedo

        if vis_lmk:
            landmarks3d_vis = self.visofp(ops['transformed_normals'])
            landmarks3d = torch.cat([landmarks3d, landmarks3d_vis], dim=2)
            opdict['landmarks3d'] = landmarks3d

        if return_vis:
            shape_images_full, shape_images = self.render.render_shape(verts, trans_verts, h=h, w=w, images=images)
            shape_images_full_old, shape_images_old = self.render.render_shape(
                verts_old, trans_verts_old, h=h, w=w, images=images)
            v_colors = ops['v_colors']
            visdict = {
                'inputs': images,
                'shape_images_old': shape_images_old,
                'shape_images_full_old': shape_images_full_old,
                'shape_images': shape_images,
                'shape_images_full': shape_images_full,
                'render_images': images * (1. - v_colors) + ops['images'] * v_colors,
            }
            return opdict, visdict
        return opdict

    def visualize(self, visdict, size=224, dim=2):
        """Pictures side by side (dim 2) or below each other (dim 1), uint8 BGR."""
        assert dim == 1 or dim == 2
        grids = {}
        for key in visdict:
            _, _, h, w = visdict[key].shape
            if dim == 2:
                new_h, new_w = size, int(w * size / h)
            else:
                new_h, new_w = int(h * size / w), size
            grids[key] = torchvision.utils.make_grid(
                F.interpolate(visdict[key], [new_h, new_w]).detach().cpu())
        grid = torch.cat(list(grids.values()), dim)
        grid_image = (grid.numpy().transpose(1, 2, 0).copy() * 255)[:, :, [2, 1, 0]]
        return np.minimum(np.maximum(grid_image, 0), 255).astype(np.uint8)

    def save_obj(self, filename, opdict):
        """Needs uv_texture_gt and uv_detail_normals, which decode does not write."""
        i = 0
        vertices = opdict['verts'][i].detach().cpu().numpy()
        faces = self.render.faces[0].cpu().numpy()
        texture = util.tensor2image(opdict['uv_texture_gt'][i])
        uvcoords = self.render.raw_uvcoords[0].cpu().numpy()
        uvfaces = self.render.uvfaces[0].cpu().numpy()
        normal_map = util.tensor2image(opdict['uv_detail_normals'][i] * 0.5 + 0.5)
        util.write_obj(filename, vertices, faces, texture=texture, uvcoords=uvcoords, uvfaces=uvfaces,
                       normal_map=normal_map)

    def model_dict(self):
        """What is saved. The action-unit net is not."""
        return {
            'E_flame': self.E_flame.state_dict(),
            'BiViT': self.BiViT.state_dict(),
        }
