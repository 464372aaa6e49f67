"""Training of BiViT."""
import os
from datetime import datetime

import cv2
import torch
import torch.nn.functional as F
from loguru import logger
from torch.utils.data import DataLoader
from tqdm import tqdm

from .datasets import build_datasets_video
from .models.expression_loss import ExpressionLossNet
from .models.OpenGraphAU.conf import get_config
from .models.OpenGraphAU.model.MEFL import MEFARG
from .models.OpenGraphAU.utils import load_state_dict
from .utils import lossfuncN as lossfunc
from .utils import util
from .utils.config import cfg

torch.backends.cudnn.benchmark = True


class Trainer(object):
    def __init__(self, model, config=None, device='cuda:1'):
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

        self.mymodel = model.to(self.device)
        self.expression_net = ExpressionLossNet().to(self.device)
        self._load_expression_net()
        conf = get_config()
        self.AU_net = MEFARG(num_main_classes=conf.num_main_classes, num_sub_classes=conf.num_sub_classes,
                             backbone=conf.arc)
        self.AU_net = load_state_dict(self.AU_net, conf.resume).to(self.device)
        self.AU_net.eval()

        self.configure_optimizers()
        self.load_checkpoint()

        logger.add(os.path.join(self.cfg.output_dir, self.cfg.train.log_dir, 'train.log'))
        if self.cfg.train.write_summary:
            from torch.utils.tensorboard import SummaryWriter
            self.writer = SummaryWriter(log_dir=os.path.join(self.cfg.output_dir, self.cfg.train.log_dir))

    def _load_expression_net(self):
        checkpoint = torch.load(self.cfg.emotion_checkpoint, map_location='cpu')['state_dict']
        checkpoint['linear.0.weight'] = checkpoint['linear.weight']
        checkpoint['linear.0.bias'] = checkpoint['linear.bias']
        self.expression_net.load_state_dict(checkpoint, strict=False)
        self.expression_net.eval()

    def configure_optimizers(self):
        self.opt = torch.optim.Adam(
            # list(self.mymodel.GATE.parameters()) +
            self.mymodel.BiViT.parameters(),
            # self.mymodel.ViT_LC.parameters(),
            # list(self.mymodel.FTD.parameters()),
            lr=self.cfg.train.lr,
            amsgrad=False)

    def load_checkpoint(self):
        model_dict = self.mymodel.model_dict()
        if self.cfg.train.resume and os.path.exists(os.path.join(self.cfg.output_dir, 'model.tar')):
            checkpoint = torch.load(os.path.join(self.cfg.output_dir, 'model.tar'), map_location='cpu')
            for key in model_dict.keys():
                if key in checkpoint.keys():
                    util.copy_state_dict(model_dict[key], checkpoint[key])
            util.copy_state_dict(self.opt.state_dict(), checkpoint['opt'])  # restores nothing
            self.global_step = checkpoint['global_step']
            logger.info(f"resume training from {os.path.join(self.cfg.output_dir, 'model.tar')}")
            logger.info(f'training start from step {self.global_step}')
        else:
            logger.info('model path not found, start training from scratch')
            self.global_step = 0
        # after the resume: pretrained weights win over resumed ones
        if os.path.exists(self.cfg.pretrained_modelpath):
            checkpoint = torch.load(self.cfg.pretrained_modelpath, map_location='cpu')
            for key in model_dict.keys():
                if key in checkpoint.keys():
                    util.copy_state_dict(model_dict[key], checkpoint[key])

    def training_step(self, batch, batch_nb, training_type='coarse'):
        """One clip -> (weighted losses with their sum, opdict). No backward pass here."""
        self.mymodel.eval()
        self.mymodel.BiViT.train()
        images = batch['image_224'].to(self.device)
        images = images.view(-1, images.shape[-3], images.shape[-2], images.shape[-1])
        lmk = batch['landmark'].to(self.device)
        lmk = lmk.view(-1, lmk.shape[-2], lmk.shape[-1])
        lmk_dense = batch['landmark_dense'].to(self.device)
        lmk_dense = lmk_dense.view(-1, lmk_dense.shape[-2], lmk_dense.shape[-1])
        masks = batch['mask'].to(self.device)
        masks = masks.view(-1, masks.shape[-3], masks.shape[-2], masks.shape[-1])

        codedict_old, codedict = self.mymodel.encode(images)

        images = images[1:2]
        lmk = lmk[1:2]
        lmk_dense = lmk_dense[1:2]
        masks = masks[1:2]
        batch_size = images.shape[0]

        if not self.train_detail:
            opdict = self.mymodel.decode(codedict, codedict_old, vis_lmk=False, return_vis=False)
            opdict['images'] = images
            opdict['lmk'] = lmk
            opdict['lmk_dense'] = lmk_dense

            if self.cfg.loss.photo > 0.:
                mask_face_eye = F.grid_sample(self.mymodel.uv_face_eye_mask.expand(batch_size, -1, -1, -1),
                                              opdict['grid'].detach(), align_corners=False)
                predicted_images = opdict['rendered_images'] * mask_face_eye * opdict['alpha_images']
                opdict['predicted_images'] = predicted_images
            opdict['faces_gt'] = images
            opdict['faces_pred'] = opdict['rendered_images']

            losses = {}
            if self.cfg.loss.AUFLoss > 0.:
                _, afn_gt = self.mymodel.AUNet(opdict['faces_gt'], use_gnn=False)
                _, afn_pred = self.mymodel.AUNet(opdict['faces_pred'], use_gnn=False)
                losses['AUFLoss'] = F.mse_loss(afn_gt, afn_pred) * self.cfg.loss.expression

            if self.cfg.loss.weightedAU:
                _, au_gt, _ = self.AU_net(opdict['faces_gt'])
                _, au_pred, _ = self.AU_net(opdict['faces_pred'])
                opdict['au_img'], opdict['au_rend'] = au_gt, au_pred
                losses['au_lmk_loss'] = lossfunc.weighted_au_landmark_loss(
                    opdict['mp_landmark'], lmk_dense, au_gt) * self.cfg.loss.mainAU
                losses['au_loss'] = F.mse_loss(au_gt, au_pred)
            elif self.cfg.loss.focalAU:
                _, au_gt, _ = self.AU_net(opdict['faces_gt'])
                _, au_pred, _ = self.AU_net(opdict['faces_pred'])
                opdict['au_img'], opdict['au_rend'] = au_gt, au_pred
                losses['au_lmk_loss'] = lossfunc.weighted_au_landmark_loss(
                    opdict['mp_landmark'], lmk_dense, au_gt) * self.cfg.loss.mainAU
                losses['au_dist_loss'] = lossfunc.related_au_landmark_loss(
                    opdict['landmarks2d'], lmk) * self.cfg.loss.subAU
                losses['au_loss'] = F.mse_loss(au_gt, au_pred)

            if self.cfg.loss.lmk_mp > 0.:
                losses['landmark_dense_loss'] = lossfunc.weighted_landmark_loss(
                    opdict['mp_landmark'], lmk_dense) * self.cfg.loss.lmk_mp
            if self.cfg.loss.eyed > 0.:
                losses['eye_distance'] = lossfunc.eyed_loss(opdict['mp_landmark'], lmk_dense) * self.cfg.loss.eyed
            if self.cfg.loss.lipd > 0.:
                losses['lip_distance'] = lossfunc.lipd_loss(opdict['mp_landmark'], lmk_dense) * self.cfg.loss.lipd
            if self.cfg.loss.lmk:
                losses['landmark'] = lossfunc.landmark_HRNet_loss(opdict['landmarks2d'], lmk) * self.cfg.loss.lmk
            if self.cfg.loss.relaL > 0.:
                losses['relative_landmark'] = lossfunc.relative_landmark_loss(
                    opdict['landmarks2d'], lmk) * self.cfg.loss.relaL

            if self.cfg.loss.photo > 0.:
                if self.cfg.loss.useSeg:
                    masks = masks[:, None, :, :]  # 5-D from here on; harmless for one picture
                else:
                    masks = mask_face_eye * opdict['alpha_images']
                losses['photometric_texture'] = (masks * (predicted_images - images).abs()).mean() \
                    * self.cfg.loss.photo

            if self.cfg.loss.expression > 0.:
                with torch.no_grad():
                    emotion_gt = self.expression_net(opdict['faces_gt'])
                emotion_pred = self.expression_net(opdict['faces_pred'])
                losses['expression'] = F.mse_loss(emotion_pred, emotion_gt) * self.cfg.loss.expression

            if self.cfg.loss.reg_shape > 0.:
                losses['shape_reg_self'] = (torch.sum(codedict['shape'] ** 2) / 2) * self.cfg.loss.reg_shape
            losses['expression_reg_self'] = (torch.sum(codedict['exp'] ** 2) / 2) * self.cfg.loss.reg_exp
            losses['tex_reg'] = (torch.sum(codedict['tex'] ** 2) / 2) * self.cfg.loss.reg_tex
            losses['light_reg'] = ((torch.mean(codedict['light'], dim=2)[:, :, None]
                                    - codedict['light']) ** 2).mean() * self.cfg.loss.reg_light
            losses['jaw_pose_reg_self'] = (torch.sum(codedict['pose'][:, 3:] ** 2) / 2) * self.cfg.loss.reg_jaw_pose
            if self.cfg.model.jaw_type == 'euler':
                losses['reg_jawpose_roll'] = (torch.sum(codedict['euler_jaw_pose'][:, -1] ** 2) / 2) * 100.
                losses['reg_jawpose_close'] = (torch.sum(
                    F.relu(-codedict['euler_jaw_pose'][:, 0]) ** 2) / 2) * 10.

            all_loss = 0.
            losses_key = losses.keys()
            for key in losses_key:
                all_loss = all_loss + losses[key]
            losses['all_loss'] = all_loss
            return losses, opdict

    def prepare_data(self):
        self.train_dataset = build_datasets_video.build_train(self.cfg.dataset)
        logger.info('---- training data numbers: ', len(self.train_dataset))
        self.train_dataloader = DataLoader(self.train_dataset, batch_size=self.batch_size, shuffle=True,
                                           num_workers=self.cfg.dataset.num_workers,
                                           pin_memory=True,
                                           drop_last=True)
        self.train_iter = iter(self.train_dataloader)

    def _checkpoint(self):
        model_dict = self.mymodel.model_dict()
        model_dict['opt'] = self.opt.state_dict()
        model_dict['global_step'] = self.global_step
        model_dict['batch_size'] = self.batch_size
        return model_dict

    def _visualize(self, opdict):
        visind = list(range(self.batch_size * self.K))
        images = opdict['images'][visind]
        shape_full_old, shape_old = self.mymodel.render.render_shape(
            opdict['verts_old'][visind], opdict['trans_verts_old'][visind], images=images)
        shape_full, shape = self.mymodel.render.render_shape(
            opdict['verts'][visind], opdict['trans_verts'][visind], images=images)
        if self.cfg.train.vis_au:
            visdict = {
                'inputs': images,
                'shape_images': shape,
                'au_img': self._au_bars(opdict['au_img'][visind]),
                'au_rend': self._au_bars(opdict['au_rend'][visind]),
                'rendered_images': opdict['rendered_images'][visind],
            }
        else:
            visdict = {
                'inputs': images,
                'shape_images_old': shape_old,
                'shape_images_full_old': shape_full_old,
                'landmarks_dens_gt': util.tensor_vis_landmarks(images, opdict['lmk_dense'][visind]),
                'landmarks_dens': util.tensor_vis_landmarks(images, opdict['mp_landmark'][visind]),
                'shape_images': shape,
                'shape_images_full': shape_full,
                'rendered_images': opdict['rendered_images'][visind],
            }
        savepath = os.path.join(self.cfg.output_dir, self.cfg.train.vis_dir, f'{self.global_step:06}.jpg')
        grid_image = self.mymodel.visualize(visdict, size=224, dim=1)
        cv2.imwrite(savepath, grid_image)

    def _au_bars(self, au):
        """One column per action unit, as a picture [B,3,224,224]."""
        bars = au.detach().cpu()[:, None, None, :].expand(-1, 3, 224, -1)
        return F.interpolate(bars, [224, 224])

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
                losses, opdict = self.training_step(batch, step)
                last_step = step == iters_every_epoch - 1

                if self.global_step % self.cfg.train.log_steps == 0:
                    loss_info = f"ExpName: {self.cfg.exp_name} \nEpoch: {epoch}, Iter: {step}/{iters_every_epoch}, " \
                                f"Time: {datetime.now().strftime('%Y-%m-%d-%H:%M:%S')} \n"
                    for k, v in losses.items():
                        loss_info = loss_info + f'{k}: {v:.4f}, '
                        if self.cfg.train.write_summary:
                            self.writer.add_scalar('train_loss/' + k, v, global_step=self.global_step)
                    logger.info(loss_info)
                    if self.global_step % self.cfg.train.vis_steps == 0 or last_step:
                        self._visualize(opdict)

                if (self.global_step > 0 and self.global_step % self.cfg.train.checkpoint_steps == 0) or last_step:
                    torch.save(self._checkpoint(), os.path.join(self.cfg.output_dir, 'model.tar'))
                    if last_step:
                        os.makedirs(os.path.join(self.cfg.output_dir, 'models'), exist_ok=True)
                        torch.save(self._checkpoint(),
                                   os.path.join(self.cfg.output_dir, 'models', f'{self.global_step:08}.tar'))

                all_loss = losses['all_loss']
                self.opt.zero_grad()
                all_loss.backward()
                self.opt.step()
                self.global_step += 1
                if self.global_step > self.cfg.train.max_steps:
                    break
