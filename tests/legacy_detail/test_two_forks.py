"""Both forks call their package decalib; one process can hold both."""

import sys

from parity.legacy_build import import_legacy
from parity.legacy_detail_build import PACKAGE, TREE, import_legacy_detail


def test_each_fork_gets_its_own_modules():
    coarse, detail = import_legacy("utils.config"), import_legacy_detail("utils.config")
    assert coarse is import_legacy("utils.config")
    assert detail is import_legacy_detail("utils.config")
    assert "AU_sequence" in coarse.__file__
    assert "AUcGAN" in detail.__file__
    assert "lmk_mp" in coarse.cfg.loss
    assert "lmk_mp" not in detail.cfg.loss


def test_no_module_of_one_fork_is_seen_by_the_other():
    import_legacy("gatfarec_Video_OnlyExpress")
    import_legacy_detail("trainer_EM_AU_enc_dec_origT_aucGAN")
    import_legacy_detail("deca_EM_AU_enc_dec_origT_aucGAN")
    files = {name: str(getattr(module, "__file__", "")) for name, module in list(sys.modules.items())}
    assert all("AUcGAN" in file for name, file in files.items() if name.startswith(f"{PACKAGE}."))
    assert not any("AUcGAN" in file for name, file in files.items() if name.split(".")[0] == "decalib")
    assert str(TREE) not in sys.path


def test_emoca_is_not_faked_beyond_the_import():
    import_legacy_detail("deca_EM_AU_enc_dec_origT_aucGAN")
    assert not any(name.split(".")[0] == "gdl_apps" for name in sys.modules)
