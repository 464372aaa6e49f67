"""Train BiViT on MEAD and Aff-Wild2. (mid March 2024; reads the yml of OnlyE2)"""
import os
import shutil
import sys

import torch.backends.cudnn as cudnn
import yaml

sys.path.insert(0, os.path.abspath(os.path.dirname(__file__)))


def main(cfg):
    from decalib.gatfarec_Video_OnlyExpress import DECA
    from decalib.trainer_Video_OnlyExpress import Trainer

    os.makedirs(os.path.join(cfg.output_dir, cfg.train.log_dir), exist_ok=True)
    os.makedirs(os.path.join(cfg.output_dir, cfg.train.vis_dir), exist_ok=True)
    with open(os.path.join(cfg.output_dir, cfg.train.log_dir, 'full_config.yaml'), 'w') as f:
        yaml.dump(cfg, f, default_flow_style=False)
    shutil.copy(cfg.cfg_file, os.path.join(cfg.output_dir, 'config.yaml'))

    cudnn.benchmark = True
    cudnn.deterministic = False
    # torch.backends.cudnn.enabled = True
    # np.random.seed(0), torch.manual_seed(0): not set

    cfg.rasterizer_type = 'pytorch3d'
    device = 'cuda:1'
    mymodel = DECA(cfg, device)
    trainer = Trainer(model=mymodel, config=cfg, device=device)
    trainer.fit()


if __name__ == '__main__':
    from decalib.utils.config import parse_args

    os.environ["CUDA_VISIBLE_DEVICES"] = "3,2"
    cfg = parse_args(cfg_name='configs/release_version/deca_pretrain_video_OnlyE2.yml')
    # cfg = parse_args(cfg_name='configs/release_version/deca_detail.yml')
    if cfg.cfg_file is not None:
        print(cfg.cfg_file)
    cfg.exp_name = cfg.cfg_file.split('/')[-1].split('.')[0]
    main(cfg)
