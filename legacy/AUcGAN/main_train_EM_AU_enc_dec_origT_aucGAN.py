"""Train the detail GAN: displacement maps conditioned on action units."""
import os
import shutil
import sys

import numpy as np
import torch.backends.cudnn as cudnn
import yaml

sys.path.insert(0, os.path.abspath(os.path.dirname(__file__)))
np.random.seed(0)


def main(cfg):
    from decalib.deca_EM_AU_enc_dec_origT_aucGAN import DECA
    from decalib.trainer_EM_AU_enc_dec_origT_aucGAN import Trainer

    os.makedirs(os.path.join(cfg.output_dir, cfg.train.log_dir), exist_ok=True)
    os.makedirs(os.path.join(cfg.output_dir, cfg.train.vis_dir), exist_ok=True)
    with open(os.path.join(cfg.output_dir, cfg.train.log_dir, 'full_config.yaml'), 'w') as f:
        yaml.dump(cfg, f, default_flow_style=False)
    shutil.copy(cfg.cfg_file, os.path.join(cfg.output_dir, 'config.yaml'))

    cudnn.benchmark = True  # building the action-unit networks turns this round
    cfg.rasterizer_type = 'pytorch3d'
    device = 'cuda'
    deca = DECA(cfg, device)
    trainer = Trainer(model=deca, config=cfg, device=device)
    trainer.fit()


if __name__ == '__main__':
    from decalib.utils.config import parse_args

    os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
    cfg = parse_args(cfg_name='configs/release_version/deca_detail_aucGAN.yml')
    if cfg.cfg_file is not None:
        print(cfg.cfg_file)
    cfg.exp_name = cfg.cfg_file.split('/')[-1].split('.')[0]
    main(cfg)
