"""Training of the detail stage: E_detail and D_detail against D."""
import os
from datetime import datetime

import cv2
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from loguru import logger
from torch.utils.data import DataLoader
from torchvision import transforms
from tqdm import tqdm

from .datasets import build_datasets
from .models.OpenGraphAU.conf import get_config
from .models.OpenGraphAU.model.MEFL import MEFARG
from .models.OpenGraphAU.utils import load_state_dict
from .utils import lossfunc_AU_enc_dec_origT_adv as lossfunc
from .utils import util
from .utils.config import cfg

torch.backends.cudnn.benchmark = True


class ConditionalDiscriminator(nn.Module):
    """Same layers as the one in decoders_AU_dec_aucGAN, for a condition that is a picture already. Not in use."""

    def __init__(self):
        super(ConditionalDiscriminator, self).__init__()
        self.model = nn.Sequential(
            nn.Conv2d(6, 64, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.InstanceNorm2d(128),
            nn.LeakyReLU(0.2),
            nn.Conv2d(128, 256, 3, stride=2, padding=1),
            nn.InstanceNorm2d(256),
            nn.LeakyReLU(0.2),
            nn.Conv2d(256, 512, 3, stride=1, padding=1),
            nn.InstanceNorm2d(512),
            nn.LeakyReLU(0.2),
            nn.Conv2d(512, 1, 3, stride=1, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, img, condition):
        return self.model(torch.cat([img, condition], dim=1))


class Trainer(object):
    def __init__(self, model, config=None, device='cuda'):
        if config is None:
            self.cfg = cfg
        else:
            self.cfg = config
        self.device = device
        self.batch_size = self.cfg.dataset.batch_size
        self.image_size = self.cfg.dataset.image_size
        self.uv_size = self.cfg.model.uv_size
        self.K = self.cfg.dataset.K
        self.train_detail = self.cfg.train.train_detail

        # one draw for the whole batch; what comes out is not used for training
        self.transform = transforms.Compose([
            transforms.RandomHorizontalFlip(p=0.5),
            transforms.RandomRotation(90),
            transforms.ColorJitter(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
            transforms.GaussianBlur(kernel_size=3),
        ])

        self.deca = model.to(self.device)
        auconf = get_config()
        self.ACG = MEFARG(num_main_classes=auconf.num_main_classes, num_sub_classes=auconf.num_sub_classes,
                          backbone=auconf.arc)
        self.ACG = load_state_dict(self.ACG, auconf.resume).to(self.device)

        self.configure_optimizers()
        self.load_checkpoint()

        if self.train_detail:
            self.mrf_loss = lossfunc.IDMRFLoss()
            self.adversarial_loss = nn.BCELoss()
            self.au_feature_loss = lossfunc.AU_Feature_Loss()
            self.face_attr_mask = util.load_local_mask(image_size=self.uv_size, mode='bbx')
        else:
            self.id_loss = lossfunc.VGGFace2Loss(pretrained_model=self.cfg.model.fr_model_path)

        logger.add(os.path.join(self.cfg.output_dir, self.cfg.train.log_dir, 'train.log'))
        if self.cfg.train.write_summary:
            from torch.utils.tensorboard import SummaryWriter
            self.writer = SummaryWriter(log_dir=os.path.join(self.cfg.output_dir, self.cfg.train.log_dir))

    def configure_optimizers(self):
        self.optimizer_G = torch.optim.Adam(
            list(self.deca.E_detail.parameters()) +
            list(self.deca.D_detail.parameters()),
            lr=5e-6, betas=(0.5, 0.999))
        self.optimizer_D = torch.optim.Adam(
            self.deca.D.parameters(),
            lr=1e-4, betas=(0.5, 0.999))

    def load_checkpoint(self):
        model_dict = self.deca.model_dict()
        if self.cfg.train.resume and os.path.exists(os.path.join(self.cfg.output_dir, 'model.tar')):
            checkpoint = torch.load(os.path.join(self.cfg.output_dir, 'model.tar'), map_location='cpu')
            for key in model_dict.keys():
                if key in checkpoint.keys():
                    util.copy_state_dict(model_dict[key], checkpoint[key])
            util.copy_state_dict(self.optimizer_G.state_dict(), checkpoint['G'])
            util.copy_state_dict(self.optimizer_D.state_dict(), checkpoint['D'])
            self.global_step = checkpoint['global_step']
            logger.info(f"resume training from {os.path.join(self.cfg.output_dir, 'model.tar')}")
            logger.info(f'training start from step {self.global_step}')
        elif os.path.exists(self.cfg.pretrained_modelpath):
            checkpoint = torch.load(self.cfg.pretrained_modelpath, map_location='cpu')
            util.copy_state_dict(model_dict['E_flame'], checkpoint['E_flame'])
            self.global_step = 0
        else:
            logger.info('model path not found, start training from scratch')
            self.global_step = 0

    def training_step(self, batch, batch_nb, training_type='coarse'):
        """One batch -> (weighted losses with their sum, opdict, final_image, codedict). No backward pass here."""
        self.deca.train()
        if self.train_detail:
            self.deca.E_flame.eval()
        images = batch['image_224'].to(self.device)
        images = images.view(-1, images.shape[-3], images.shape[-2], images.shape[-1])
        lmk = batch['landmark'].to(self.device)
        lmk = lmk.view(-1, lmk.shape[-2], lmk.shape[-1])
        masks = batch['mask'].to(self.device)
        masks = masks.view(-1, images.shape[-2], images.shape[-1])

        codedict = self.deca.encode(images, batch, use_detail=self.train_detail)
        batch_size = images.shape[0]

        if not self.train_detail:
            print('coarse training is not part of this trainer')
        else:
            shapecode = codedict['shape']
            expcode = codedict['exp']
            posecode = codedict['pose']
            texcode = codedict['tex']
            lightcode = codedict['light']
            cam = codedict['cam']

            # ---------------- geometry
            verts, landmarks2d, landmarks3d = self.deca.flame(
                shape_params=shapecode, expression_params=expcode, pose_params=posecode)
            landmarks2d = util.batch_orth_proj(landmarks2d, cam)[:, :, :2]
            landmarks2d[:, :, 1:] = -landmarks2d[:, :, 1:]
            predicted_landmarks = util.batch_orth_proj(landmarks2d, cam)[:, :, :2]
            predicted_landmarks[:, :, 1:] = -predicted_landmarks[:, :, 1:]
            trans_verts = util.batch_orth_proj(verts, cam)
            trans_verts[:, :, 1:] = -trans_verts[:, :, 1:]
            albedo = self.deca.flametex(texcode)

            # ---------------- coarse rendering
            ops = self.deca.render(verts, trans_verts, albedo, lightcode)
            mask_face_eye = F.grid_sample(self.deca.uv_face_eye_mask.expand(batch_size, -1, -1, -1),
                                          ops['grid'].detach(), align_corners=False)
            predicted_images = ops['images'] * mask_face_eye * ops['alpha_images']
            masks = masks[:, None, :, :]

            x, afn, _ = self.deca.AUNet(images, use_gnn=True)
            codedict['AU_features'] = x
            codedict['afn'] = afn

            # ---------------- ground truth in texture space
            uv_pverts = self.deca.render.world2uv(trans_verts)
            uv_gt = F.grid_sample(torch.cat([images, masks], dim=1), uv_pverts.permute(0, 2, 3, 1)[:, :, :, :2],
                                  mode='bilinear', align_corners=False)
            uv_texture_gt = uv_gt[:, :3, :, :].detach()
            uv_mask_gt = uv_gt[:, 3:, :, :].detach()
            # what is turned away from the viewer does not count
            normals = util.vertex_normals(trans_verts, self.deca.render.faces.expand(batch_size, -1, -1))
            uv_pnorm = self.deca.render.world2uv(normals)
            uv_mask = (uv_pnorm[:, [-1], :, :] < -0.05).float().detach()
            uv_vis_mask = uv_mask_gt * uv_mask * self.deca.uv_face_eye_mask

            cond_img = self.transform(images.cpu())  # for the picture only

            # ---------------- displacement
            detailcode = self.deca.E_detail(images)
            uv_z = self.deca.D_detail(torch.cat([posecode[:, 3:, None, None], expcode[:, :, None, None], detailcode],
                                                dim=1), afn)
            uv_detail_normals = self.deca.displacement2normal(uv_z, verts, ops['normals'])
            uv_shading = self.deca.render.add_SHlight(uv_detail_normals, lightcode.detach())
            uv_texture = albedo.detach() * uv_shading
            predicted_detail_images = F.grid_sample(uv_texture, ops['grid'].detach(), align_corners=False)
            detail_normal_images = F.grid_sample(uv_detail_normals, ops['grid'].detach(), align_corners=False)
            shape_detail_images = self.deca.render.render_shape(
                verts, trans_verts, images=images, detail_normal_images=detail_normal_images)

            final_image = predicted_detail_images * masks + images * (1. - masks)

            # ---------------- patch of the face
            ti = self.face_attr_mask[0]
            uv_texture_patch = F.interpolate(
                uv_texture[:, :, ti[0]:ti[1], ti[2]:ti[3]], [self.uv_size, self.uv_size],
                mode='bilinear', align_corners=False)
            uv_texture_gt_patch = F.interpolate(
                uv_texture_gt[:, :, ti[0]:ti[1], ti[2]:ti[3]], [self.uv_size, self.uv_size],
                mode='bilinear', align_corners=False)
            uv_vis_mask_patch = F.interpolate(
                uv_vis_mask[:, :, ti[0]:ti[1], ti[2]:ti[3]], [self.uv_size, self.uv_size],
                mode='bilinear', align_corners=False)

            # ---------------- losses
            losses = {}
            losses['photo_detail'] = (uv_texture_patch * uv_vis_mask_patch
                                      - uv_texture_gt_patch * uv_vis_mask_patch).abs().mean() * self.cfg.loss.photo_D
            # losses['photo_detail_mrf'] = self.mrf_loss(uv_texture_patch * uv_vis_mask_patch,
            #                                            uv_texture_gt_patch * uv_vis_mask_patch) \
            #     * self.cfg.loss.photo_D * self.cfg.loss.mrf
            losses['z_reg'] = torch.mean(uv_z.abs()) * self.cfg.loss.reg_z
            losses['z_diff'] = lossfunc.shading_smooth_loss(uv_shading) * self.cfg.loss.reg_diff
            if self.cfg.loss.reg_sym > 0.:
                nonvis_mask = 1 - util.binary_erosion(uv_vis_mask)
                losses['z_sym'] = (nonvis_mask * (uv_z - torch.flip(uv_z, [-1]).detach()).abs()).sum() \
                    * self.cfg.loss.reg_sym

            _, au_input, _ = self.ACG(images)
            _, au_target, _ = self.ACG(final_image)
            losses['au_feature_loss'] = nn.BCEWithLogitsLoss()(au_input, au_target)
            # losses['au_feature_loss'] = self.au_feature_loss(au_target, au_input)[0] * self.cfg.loss.AU_feature

            all_loss = 0.
            losses_key = losses.keys()
            for key in losses_key:
                all_loss = all_loss + losses[key]
            losses['all_loss'] = all_loss

            opdict = {
                'verts': verts,
                'trans_verts': trans_verts,
                'landmarks2d': landmarks2d,
                'augmented_images': cond_img,
                'predicted_deatil_shape': shape_detail_images,
                'predicted_images': predicted_images,
                'predicted_detail_images': final_image,
                'images': images,
                'lmk': lmk,
            }
            return losses, opdict, final_image, codedict

    def discriminator_step(self, cond_img, images_gt, final_image, losses, codedict):
        """Update D, then E_detail and D_detail -> (D_loss, G_loss)."""
        real_label = 1.0
        fake_label = 0.0
        # ---------------- D
        self.optimizer_D.zero_grad()
        cond_img = codedict['afn']
        output_real = self.deca.D(images_gt, cond_img)
        d_loss_real = self.adversarial_loss(output_real, torch.full_like(output_real, 0.9))
        output_fake = self.deca.D(final_image, cond_img)
        d_loss_fake = self.adversarial_loss(output_fake, torch.full_like(output_fake, 0.1))
        D_loss = d_loss_real + d_loss_fake
        D_loss.backward(retain_graph=True)
        self.optimizer_D.step()

        # ---------------- E_detail and D_detail
        self.deca.E_detail.zero_grad()
        self.deca.D_detail.zero_grad()
        output = self.deca.D(final_image, cond_img)
        adv_loss = self.adversarial_loss(output, torch.full_like(output, real_label))
        content_loss = losses['photo_detail'] + losses['z_reg'] + losses['z_diff'] + losses['z_sym'] \
            + losses['au_feature_loss']
        G_loss = adv_loss + content_loss
        G_loss.backward(retain_graph=True)
        self.optimizer_G.step()
        return D_loss, G_loss

    def generator_step(self, cond_img, final_image, losses):
        """Left from before D moved into DECA; nothing calls it."""
        self.optimizer_G.zero_grad()
        output = self.D(final_image, cond_img)
        G_loss = self.adversarial_loss(output, torch.full_like(output, 1.0)) + losses['all_loss']
        G_loss.backward()
        self.optimizer_G.step()
        return G_loss

    def prepare_data(self):
        self.train_dataset = build_datasets.build_train(self.cfg.dataset)
        logger.info('---- training data numbers: ', len(self.train_dataset))
        self.train_dataloader = DataLoader(self.train_dataset, batch_size=self.batch_size, shuffle=False,
                                           num_workers=self.cfg.dataset.num_workers,
                                           pin_memory=True,
                                           drop_last=True)
        self.train_iter = iter(self.train_dataloader)

    def _checkpoint(self):
        model_dict = self.deca.model_dict()
        model_dict['G'] = self.optimizer_G.state_dict()
        model_dict['D'] = self.optimizer_D.state_dict()
        model_dict['global_step'] = self.global_step
        model_dict['batch_size'] = self.batch_size
        return model_dict

    def _visualize(self, opdict):
        visind = list(range(min(8, opdict['images'].shape[0])))
        visdict = {
            'inputs': opdict['images'][visind],
            'augmented_images': opdict['augmented_images'][visind],
            'landmarks2d_gt': util.tensor_vis_landmarks(opdict['images'][visind], opdict['lmk'][visind]),
            'landmarks2d': util.tensor_vis_landmarks(opdict['images'][visind], opdict['landmarks2d'][visind]),
            'predicted_images': opdict['predicted_images'][visind],
            'predicted_detail_images': opdict['predicted_detail_images'][visind],
            'predicted_deatil_shape': opdict['predicted_deatil_shape'][visind],
        }
        savepath = os.path.join(self.cfg.output_dir, self.cfg.train.vis_dir, f'{self.global_step:06}.jpg')
        grid_image = self.deca.visualize(visdict, size=224, dim=1)
        cv2.imwrite(savepath, grid_image)
        self.writer.add_image('train_images', np.ascontiguousarray(grid_image[:, :, ::-1]), self.global_step,
                              dataformats='HWC')

    def fit(self):
        self.prepare_data()
        iters_every_epoch = int(len(self.train_dataset) / self.batch_size)
        start_epoch = self.global_step // iters_every_epoch
        for epoch in range(start_epoch, self.cfg.train.max_epochs):
            for step in tqdm(range(iters_every_epoch), desc=f'Epoch[{epoch + 1}/{self.cfg.train.max_epochs}]'):
                if epoch * iters_every_epoch + step < self.global_step:
                    continue
                try:
                    batch = next(self.train_iter)
                except:
                    self.train_iter = iter(self.train_dataloader)
                    batch = next(self.train_iter)
                losses, opdict, final_image, codedict = self.training_step(batch, step)
                images_gt = opdict['images']
                cond_img = self.transform(images_gt.cpu()).to(self.device)
                D_loss, G_loss = self.discriminator_step(cond_img, images_gt, final_image, losses, codedict)

                if self.global_step % self.cfg.train.log_steps == 0:
                    loss_info = f"ExpName: {self.cfg.exp_name} \nEpoch: {epoch}, Iter: {step}/{iters_every_epoch}, " \
                                f"Time: {datetime.now().strftime('%Y-%m-%d-%H:%M:%S')} \n"
                    for k, v in losses.items():
                        loss_info = loss_info + f'{k}: {v:.4f}, '
                        if self.cfg.train.write_summary:
                            self.writer.add_scalar('train_loss/' + k, v, global_step=self.global_step)
                    loss_info = loss_info + f'D_loss: {D_loss:.4f}, G_loss: {G_loss:.4f}, '
                    logger.info(loss_info)

                if self.global_step % self.cfg.train.vis_steps == 0:
                    self._visualize(opdict)

                if self.global_step > 0 and self.global_step % self.cfg.train.checkpoint_steps == 0:
                    torch.save(self._checkpoint(), os.path.join(self.cfg.output_dir, 'model.tar'))
                    if self.global_step % self.cfg.train.checkpoint_steps * 10 == 0:
                        os.makedirs(os.path.join(self.cfg.output_dir, 'models'), exist_ok=True)
                        torch.save(self._checkpoint(),
                                   os.path.join(self.cfg.output_dir, 'models', f'{self.global_step:08}.tar'))

                self.global_step += 1
                if self.global_step > self.cfg.train.max_steps:
                    break
