"""Default configuration of the project (yacs). The yml of a run is the only source of overrides."""
import argparse
import os

from yacs.config import CfgNode as CN

cfg = CN()

abs_deca_dir = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
cfg.deca_dir = abs_deca_dir
cfg.device = 'cuda:1'
cfg.device_id = '0,1'

cfg.pretrained_modelpath = ''
cfg.pretrained_modelpath_224 = './data/deca_model.tar'
cfg.emotion_checkpoint = './data/dataloader_idx_0=1.27607644.ckpt'
# single-image parent model; nothing reads this key
cfg.model_path_HJ = '/home/cine/Documents/HJCode/GANE_code/Training/testGATE30/model.tar'
cfg.output_dir = ''
cfg.rasterizer_type = 'pytorch3d'

# ---------------------------------------------------------------------------- #
# Options for the face model
# ---------------------------------------------------------------------------- #
cfg.model = CN()
cfg.model.topology_path = './data/head_template.obj'
cfg.model.dense_template_path = './data/texture_data_256.npy'
cfg.model.fixed_displacement_path = './data/fixed_displacement_256.npy'
cfg.model.flame_model_path = './data/generic_model.pkl'
cfg.model.flame_lmk_embedding_path = './data/landmark_embedding.npy'
cfg.model.mp_lmk_embedding_path = './data/mediapipe_landmark_embedding.npz'
cfg.model.flame_mask_path = './data/FLAME_masks.pkl'
cfg.model.face_mask_path = './data/uv_face_mask.png'
cfg.model.face_eye_mask_path = './data/uv_face_eye_mask.png'
cfg.model.mean_tex_path = './data/mean_texture.jpg'
cfg.model.tex_path = './data/FLAME_albedo_from_BFM.npz'
cfg.model.lightprobe_normal_path = './data/lightprobe_normal_images.npy'
cfg.model.lightprobe_albedo_path = './data/lightprobe_albedo_images.npy'
cfg.model.flame_tex_path = os.path.join(cfg.deca_dir, 'data', 'FLAME_texture.npz')
cfg.model.BalanceAlb_tex_path = os.path.join(cfg.deca_dir, 'data', 'BalanceAlb_model.npz')
cfg.model.tex_type = 'FLAME'  # BFM, FLAME, BalanceAlb, albedoMM
cfg.model.uv_size = 256
cfg.model.image_size = 224
cfg.model.param_list = ['shape', 'tex', 'exp', 'pose', 'cam', 'light']
cfg.model.param_list_part = ['tex', 'exp', 'jaw_pose', 'light']
cfg.model.param_list_OnlyE = ['tex', 'exp', 'light']
cfg.model.param_list_EandJT = ['tex', 'exp', 'jaw_pose', 'light']
cfg.model.n_shape = 100
cfg.model.n_tex = 50
cfg.model.n_exp = 50
cfg.model.n_cam = 3
cfg.model.n_pose = 6
cfg.model.n_jaw_pose = 3
cfg.model.n_light = 27
cfg.model.use_tex = True
cfg.model.jaw_type = 'aa'  # aa: axis angle, euler: euler angles
cfg.model.fr_model_path = './data/resnet50_ft_weight.pkl'
cfg.model.extract_tex = True
cfg.model.n_detail = 128
cfg.model.max_z = 0.01

# ---------------------------------------------------------------------------- #
# Options for the dataset
# ---------------------------------------------------------------------------- #
cfg.dataset = CN()
cfg.dataset.training_data = ['selfDataset']
cfg.dataset.mediapipePath = './data/mediapipe_landmark_embedding.npz'
cfg.dataset.batch_size = 1
cfg.dataset.K = 7
cfg.dataset.isSingle = False
cfg.dataset.num_workers = 3
cfg.dataset.image_size = 224
cfg.dataset.scale_min = 1.4
cfg.dataset.scale_max = 1.8
cfg.dataset.trans_scale = 0.
cfg.dataset.lmksize = 68

# ---------------------------------------------------------------------------- #
# Options for training
# ---------------------------------------------------------------------------- #
cfg.train = CN()
cfg.train.train_detail = False
cfg.train.max_epochs = 500
cfg.train.max_steps = 1000000
cfg.train.lr = 1e-4
cfg.train.log_dir = 'logs'
cfg.train.log_steps = 10
cfg.train.vis_dir = 'train_images'
cfg.train.vis_steps = 200
cfg.train.vis_au = False
cfg.train.stepLR_steps = 10000
cfg.train.write_summary = True
cfg.train.checkpoint_steps = 500
cfg.train.eval_steps = 5000
cfg.train.resume = False

# ---------------------------------------------------------------------------- #
# Options for the losses
# ---------------------------------------------------------------------------- #
cfg.loss = CN()
cfg.loss.lmk = 1.0
cfg.loss.useWlmk = True
cfg.loss.lmk_mp = 1.0
cfg.loss.eyed = 0.06
cfg.loss.relative_d = 0.5
cfg.loss.lipd = 1.0
cfg.loss.photo = 0.2
cfg.loss.useSeg = True
cfg.loss.expression = 0.
cfg.loss.AUFLoss = 0.
cfg.loss.mainAU = 0.5
cfg.loss.subAU = 0.5
cfg.loss.weightedAU = False
cfg.loss.focalAU = True
cfg.loss.relaL = 1e-4
cfg.loss.reg_exp = 1e-4
cfg.loss.reg_shape = 0.
cfg.loss.reg_tex = 0.
cfg.loss.reg_pose = 1e-5
cfg.loss.reg_cam = 1e-5
cfg.loss.reg_light = 0.
cfg.loss.reg_jaw_pose = 0.8
cfg.loss.use_gender_prior = False


def get_cfg_defaults():
    """A copy of the defaults."""
    return cfg.clone()


def update_cfg(cfg, cfg_file):
    """Merge a yml into cfg; an unknown key raises KeyError."""
    cfg.merge_from_file(cfg_file)
    return cfg.clone()


def parse_args(cfg_name=None):
    """--cfg and --mode; without --cfg, cfg_name is used."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg', type=str, help='cfg file path')
    parser.add_argument('--mode', type=str, default='train', help='deca mode')
    args = parser.parse_args()
    print(args, end='\n\n')

    cfg = get_cfg_defaults()
    cfg.cfg_file = None
    cfg.mode = args.mode
    cfg_file = args.cfg if args.cfg is not None else cfg_name
    if cfg_file is not None:
        cfg = update_cfg(cfg, cfg_file)
        cfg.cfg_file = cfg_file
        cfg.exp_name = os.path.basename(cfg_file).split('.')[0]
    return cfg
