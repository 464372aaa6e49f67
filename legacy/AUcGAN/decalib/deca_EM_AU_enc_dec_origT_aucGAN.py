"""DECA with expression from EMOCA, action-unit features, and a conditional GAN for the displacement map."""
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from gdl_apps.EMOCA.utils.load import load_model
from skimage.io import imread

from .models.decoders_AU_dec_aucGAN import ConditionalDiscriminator, Generator3
from .models.encoders_au import AUEncoder
from .models.encoders_enc import Encoder, ResnetEncoder
from .models.FLAME import FLAME, FLAMETex
from .models.OpenGraphAU.conf import get_config, set_env
from .models.OpenGraphAU.model.ANFL import AFG
from .models.OpenGraphAU.utils import load_state_dict
from .utils import util
from .utils.config import cfg
from .utils.renderer import SRenderY, set_rasterizer

EMOCA_PATH = '/emoca/assets/EMOCA/models'  # absolute; the original's value is not on record

torch.backends.cudnn.benchmark = True


class DECA(nn.Module):
    def __init__(self, config=None, device='cuda'):
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
                               rasterizer_type=self.cfg.rasterizer_type).to(self.device)
        mask = imread(model_cfg.face_eye_mask_path).astype(np.float32) / 255.
        mask = torch.from_numpy(mask[:, :, 0])[None, None, :, :].contiguous()
        self.uv_face_eye_mask = F.interpolate(mask, [model_cfg.uv_size, model_cfg.uv_size]).to(self.device)
        mask = imread(model_cfg.face_mask_path).astype(np.float32) / 255.
        mask = torch.from_numpy(mask[:, :, 0])[None, None, :, :].contiguous()
        self.uv_face_mask = F.interpolate(mask, [model_cfg.uv_size, model_cfg.uv_size]).to(self.device)
        fixed_dis = np.load(model_cfg.fixed_displacement_path)
        self.fixed_uv_dis = torch.tensor(fixed_dis).float().to(self.device)
        mean_texture = imread(model_cfg.mean_tex_path).astype(np.float32) / 255.
        mean_texture = torch.from_numpy(mean_texture.transpose(2, 0, 1))[None, :, :, :].contiguous()
        self.mean_texture = F.interpolate(mean_texture, [model_cfg.uv_size, model_cfg.uv_size]).to(self.device)
        self.dense_template = np.load(model_cfg.dense_template_path, allow_pickle=True, encoding='latin1').item()

    def _create_model(self, model_cfg):
        self.n_param = model_cfg.n_shape + model_cfg.n_tex + model_cfg.n_exp + model_cfg.n_pose + model_cfg.n_cam \
            + model_cfg.n_light
        self.n_detail = model_cfg.n_detail
        self.n_cond = model_cfg.n_exp + 3  # expression and jaw pose
        self.num_list = [model_cfg.n_shape, model_cfg.n_tex, model_cfg.n_exp, model_cfg.n_pose, model_cfg.n_cam,
                         model_cfg.n_light]
        self.param_dict = {i: model_cfg.get('n_' + i) for i in model_cfg.param_list}

        auconf = get_config()
        set_env(auconf)
        # encoders
        self.E_flame = ResnetEncoder(outsize=self.n_param).to(self.device)
        self.E_detail = Encoder().to(self.device)
        self.AUNet = AFG(num_main_classes=auconf.num_main_classes, num_sub_classes=auconf.num_sub_classes,
                         backbone=auconf.arc, neighbor_num=auconf.neighbor_num, metric=auconf.metric)
        self.AUNet = load_state_dict(self.AUNet, auconf.resume).to(self.device)
        # self.AUEncoder = AUEncoder().to(self.device)
        # self.TDC = TDC(nfeat=512, nhid=256, noutput=128, dropout=0., alpha=0.2, nheads=4, batchsize=1,
        #                detail_dim=2048, au_dim=512).to(self.device)
        self.emoca, _ = load_model(EMOCA_PATH, 'EMOCA_v2_lr_mse_20', 'detail')
        self.emoca.to(self.device)
        # decoders
        self.flame = FLAME(model_cfg).to(self.device)
        if model_cfg.use_tex:
            self.flametex = FLAMETex(model_cfg).to(self.device)
        self.D_detail = Generator3(latent_dim=self.n_detail + self.n_cond, out_channels=1,
                                   out_scale=model_cfg.max_z, sample_mode='bilinear').to(self.device)
        self.D = ConditionalDiscriminator().to(self.device)

        model_path = self.cfg.pretrained_modelpath
        if os.path.exists(model_path):
            print(f'trained model found. load {model_path}')
            checkpoint = torch.load(model_path, map_location='cpu')
            self.checkpoint = checkpoint
            util.copy_state_dict(self.E_flame.state_dict(), checkpoint['E_flame'])
            # util.copy_state_dict(self.E_detail.state_dict(), checkpoint['E_detail'])
            # util.copy_state_dict(self.D_detail.state_dict(), checkpoint['D_detail'])
        else:
            print(f'please check model path: {model_path}')
        self.E_flame.eval()
        self.AUNet.eval()
        self.emoca.eval()

    def decompose_code(self, code, num_dict):
        """Consecutive slices of code [B,236] by num_dict; light as [B,9,3]. The slices are views."""
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
        """uv_z [B,1,256,256] on a mesh -> normal map [B,3,256,256]. Only uv_z carries gradient."""
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
        uv_detail_normals = uv_detail_normals * self.uv_face_eye_mask + uv_coarse_normals * (1. - self.uv_face_eye_mask)
        return uv_detail_normals

    def visofp(self, normals):
        """Visibility of the 68 points: 1 where the transformed normal [B,V,3] points to the viewer, [B,68,1]."""
        normals68 = util.face_vertices(normals, self.flame.faces_tensor[None].expand(normals.shape[0], -1, -1))
        normals68 = normals68[:, self.flame.full_lmk_faces_idx[0]]
        normals68 = (normals68 * self.flame.full_lmk_bary_coords[..., None]).sum(2)
        return (normals68[:, :, 2:] < 0.1).float()

    def encode(self, images, batch, use_detail=True):
        """images [B,3,224,224] RGB in [0,1], batch as EMOCA wants it -> codedict."""
        if use_detail:
            try:
                # first version, without EMOCA
                raise Exception('use EMOCA')
            except:
                with torch.no_grad():
                    parameters = self.E_flame(images)
                codedict = self.decompose_code(parameters, self.param_dict)
                _, exp = self.emoca.encode(batch=batch, training=False)
                codedict['exp'] = exp
                codedict['detailcode'] = self.E_detail(images)
                codedict['images'] = images
                x, afn, _ = self.AUNet(images, use_gnn=True)
                codedict['AU_features'] = x
                codedict['afn'] = afn
                # codedict['AU'] = self.AUEncoder(afn)
        # without detail nothing has been encoded
        return codedict

    def decode(self, codedict, rendering=True, iddict=None, vis_lmk=True, return_vis=True, use_detail=True,
               render_orig=False, original_image=None, tform=None):
        """Still written for other names than encode's."""
        images = codedict['images']
        verts, landmarks2d, landmarks3d = self.flame(
            shape_params=codedict['shapecode'], expression_params=codedict['expcode'],
            pose_params=codedict['posecode'])
        if self.cfg.model.use_tex:
            albedo = self.flametex(codedict['texcode'])
        else:
            albedo = torch.zeros([images.shape[0], 3, self.uv_size, self.uv_size], device=images.device)
        landmarks3d_world = landmarks3d.clone()

        # y and z point the other way in image space
        landmarks2d = util.batch_orth_proj(landmarks2d, codedict['cam'])[:, :, :2]
        landmarks2d[:, :, 1:] = -landmarks2d[:, :, 1:]
        landmarks3d = util.batch_orth_proj(landmarks3d, codedict['cam'])
        landmarks3d[:, :, 1:] = -landmarks3d[:, :, 1:]
        trans_verts = util.batch_orth_proj(verts, codedict['cam'])
        trans_verts[:, :, 1:] = -trans_verts[:, :, 1:]
        opdict = {
            'verts': verts,
            'trans_verts': trans_verts,
            'landmarks2d': landmarks2d,
            'landmarks3d': landmarks3d,
            'landmarks3d_world': landmarks3d_world,
        }

        h, w = self.image_size, self.image_size
        if rendering:
            ops = self.render(verts, trans_verts, albedo, h=h, w=w)
            opdict['grid'] = ops['grid']
            opdict['rendered_images'] = ops['images']
            opdict['alpha_images'] = ops['alpha_images']
            opdict['normal_images'] = ops['normal_images']
        if self.cfg.model.use_tex:
            opdict['albedo'] = albedo

        if use_detail:
            uv_z = self.D_detail(torch.cat([codedict['posecode'][:, 3:], codedict['expcode'], codedict['detailcode']],
                                           dim=1), codedict['afn'])
            if iddict is not None:
                uv_z = self.D_detail(torch.cat([iddict['posecode'][:, 3:], iddict['expcode'], codedict['detail']],
                                               dim=1))
            uv_detail_normals = self.displacement2normal(uv_z, verts, ops['normals'])
            uv_shading = self.render.add_SHlight(uv_detail_normals, codedict['light'])
            opdict['uv_texture'] = albedo * uv_shading
            opdict['uv_detail_normals'] = uv_detail_normals
            opdict['displacement_map'] = uv_z + self.fixed_uv_dis[None, None, :, :]

        if vis_lmk:
            landmarks3d_vis = self.visofp(ops['transformed_normals'])
            landmarks3d = torch.cat([landmarks3d, landmarks3d_vis], dim=2)
            opdict['landmarks3d'] = landmarks3d

        if return_vis:
            _, _, grid, _ = self.render.render_shape(verts, trans_verts, h=h, w=w, images=images, return_grid=True)
            detail_normal_images = F.grid_sample(uv_detail_normals, grid, align_corners=False)
            shape_detail_images = self.render.render_shape(
                verts, trans_verts, h=h, w=w, images=images, detail_normal_images=detail_normal_images)
            return opdict, shape_detail_images
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
        """Needs uv_texture_gt, which decode does not write."""
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
        return {
            'E_flame': self.E_flame.state_dict(),
            'E_detail': self.E_detail.state_dict(),
            'D_detail': self.D_detail.state_dict(),
            'emoca': self.emoca.state_dict(),
            'D': self.D.state_dict(),
            'AUNet': self.AUNet.state_dict(),
            # 'AUEncoder': self.AUEncoder.state_dict(),
        }
