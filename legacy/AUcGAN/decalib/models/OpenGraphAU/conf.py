"""Settings of the action-unit networks, and what they do to the process."""
import os
import random

import numpy as np
import torch
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
    # everything drawn before this call is forgotten, everything after it starts from 0
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    cudnn.benchmark = False
    cudnn.deterministic = True
    os.environ['CUDA_VISIBLE_DEVICES'] = cfg.gpu_ids
