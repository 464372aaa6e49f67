"""Settings of the action-unit networks, and what building them does to the process."""
import os

import torch.backends.cudnn as cudnn
import yaml
from yacs.config import CfgNode as CN

CONFIG_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'config', 'OpenGraphAU.yaml')


def get_config():
    with open(CONFIG_PATH, 'r') as f:
        cfg = CN(yaml.safe_load(f))
    cfg.gpu_ids = os.environ['CUDA_VISIBLE_DEVICES']  # KeyError unless main has set it
    return cfg


def set_env(cfg):
    # seed = 0: random.seed, np.random.seed and torch.manual_seed are switched off
    cudnn.benchmark = False
    cudnn.deterministic = True
    os.environ['CUDA_VISIBLE_DEVICES'] = cfg.gpu_ids
