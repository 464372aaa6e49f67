import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file

from modern import __main__ as cli
from modern.build_detail import fresh_networks, load_pretrained
from modern.checkpoint import CheckpointError
from modern.checkpoint_adam import legacy_parameters
from modern.checkpoint_detail import PARTS, beside, read_detail_tar
from modern.checkpoint_transfer import export_detail, import_detail
from modern.config_detail import DetailConfig, DetailTrainConfig
from modern.train.files import write_text
from modern.weight_table import TABLES
from tests.modern.conftest import CONFORMANCE
from tests.modern.detail_files import KEYS, adam_state, legacy_content, legacy_tar, small_networks
from tests.modern.test_checkpoint import _Attack

RECORDED = json.loads((CONFORMANCE / "detail" / "keys.json").read_text())
WEIGHTS = ("E_flame", "E_detail", "D_detail", "AUNet")


@pytest.fixture
def small(monkeypatch):
    """Import and export with stand-in networks."""
    monkeypatch.setattr("modern.checkpoint_transfer.fresh_networks", lambda config: small_networks())


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def read(tar):
    return torch.load(tar, weights_only=True)


@pytest.fixture(scope="module")
def real():
    return fresh_networks(DetailConfig())


@pytest.mark.parametrize("name", PARTS)
def test_every_recorded_key_of_a_network_is_known(name, real):
    table, state = TABLES[name], real[name].state_dict()
    renamed = {key: table.modern(key) for key in RECORDED["state_dict_keys"][name]}
    kept = {here: key for key, here in renamed.items() if here is not None}
    assert kept.keys() == state.keys()
    shapes = {here: tuple(RECORDED["state_dict_keys"][name][key][0]) for here, key in kept.items()}
    assert shapes == {here: tuple(value.shape) for here, value in state.items()}
    dropped = [key for key, here in renamed.items() if here is None]
    assert dropped == (["l1.weight", "l1.bias"] if name == "D" else [])


def test_optimizers_count_through_parameters_as_legacy_does(real):
    expected = {
        "G": [f"{name}/{key}" for name in ("E_detail", "D_detail") for key in RECORDED["state_dict_keys"][name]],
        "D": [f"D/{key}" for key in RECORDED["state_dict_keys"]["D"]],
    }
    assert {key: legacy_parameters(key, real) for key in expected} == expected
    assert (len(expected["G"]), len(expected["D"])) == (36, 12)


def test_the_stand_in_file_has_the_recorded_shape():
    content = legacy_content(small_networks())
    assert list(content) == RECORDED["model.tar"]["keys"] == KEYS
    assert sorted(content["D"]["state"]) == list(range(2, 12))
    assert sorted(content["G"]["state"]) == list(range(36))


def test_a_file_without_discriminator_is_refused_unless_one_is_to_begin_anew(tmp_path, small):
    tar = legacy_tar(tmp_path)
    message = r"model\.tar: holds no discriminator weights .*pass --fresh-discriminator"
    with pytest.raises(CheckpointError, match=message):
        import_detail(tar, tmp_path / "out", DetailConfig())
    assert not (tmp_path / "out").exists()
    notes = import_detail(tar, tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    assert any("DISCRIMINATOR IS FRESHLY INITIALISED" in note for note in notes)
    assert any(note.startswith("G: optimizer state of 36 parameters") for note in notes)
    assert any(note.startswith("D: optimizer state of 10 parameters") for note in notes)
    assert any(note.startswith("ACG: not in the file") for note in notes)
    assert any(note.startswith("emoca: 1 tensors") for note in notes)
    assert json.loads((tmp_path / "out" / "import.json").read_text())["notes"] == notes[1:]


def test_what_is_imported_is_what_the_file_holds(tmp_path, small):
    tar = legacy_tar(tmp_path)
    content, out = read(tar), tmp_path / "out"
    import_detail(tar, out, DetailConfig(), fresh_discriminator=True)
    networks = small_networks(seed=5)
    optimizers = {
        "optimizer_generator": torch.optim.Adam(
            [*networks["E_detail"].parameters(), *networks["D_detail"].parameters()]
        ),
        "optimizer_discriminator": torch.optim.Adam(networks["D"].parameters()),
    }
    load_pretrained(out, networks, None, optimizers)
    for name in WEIGHTS:
        state = {TABLES[name].legacy(key): value for key, value in networks[name].state_dict().items()}
        assert same(state, content[name])
    assert same(networks["D"].state_dict(), small_networks()["D"].state_dict())  # fresh
    assert same(optimizers["optimizer_generator"].state_dict()["state"], content["G"]["state"])
    moved = {
        index + 2: entries for index, entries in optimizers["optimizer_discriminator"].state_dict()["state"].items()
    }
    assert same(moved, content["D"]["state"])
    assert json.loads((out / "import.json").read_text())["updates"] == 500  # saved after the update of step 499


def test_there_and_back_gives_the_file_again(tmp_path, small):
    tar, back = legacy_tar(tmp_path), tmp_path / "back.tar"
    import_detail(tar, tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["data"]["batch_size"] = 2
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    notes = export_detail(tmp_path / "out", back)
    assert list(read(back)) == KEYS
    assert same(read(back), read(tar))
    assert any("legacy keeps no discriminator weights" in note and "back.beside.safetensors" in note for note in notes)
    assert any("legacy fails to restore them when it resumes" in note for note in notes)
    held = load_file(beside(back))
    fresh = {f"D/{TABLES['D'].legacy(key)}": value for key, value in small_networks()["D"].state_dict().items()}
    assert same(held, fresh)


def exported(tmp_path):
    import_detail(legacy_tar(tmp_path), tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    export_detail(tmp_path / "out", tmp_path / "back.tar")
    return tmp_path / "back.tar"


def test_an_exported_pair_needs_no_fresh_discriminator(tmp_path, small):
    notes = import_detail(exported(tmp_path), tmp_path / "again", DetailConfig())
    assert "D: discriminator weights from back.beside.safetensors" in notes
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert same(first, again)


def test_a_second_file_of_another_export_is_refused(tmp_path, small):
    back = exported(tmp_path)
    torch.save({**read(back), "global_step": 3}, back)
    with pytest.raises(CheckpointError, match=r"back\.beside\.safetensors: belongs to another back\.tar; restore"):
        import_detail(back, tmp_path / "again", DetailConfig())
    beside(back).write_bytes(beside(back).read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"back\.beside\.safetensors: cannot be read .*move it away"):
        import_detail(back, tmp_path / "again", DetailConfig())
    beside(back).unlink()
    with pytest.raises(CheckpointError, match="holds no discriminator weights"):
        import_detail(back, tmp_path / "again", DetailConfig())


def test_weights_under_the_key_of_the_discriminator_are_taken_and_the_dead_layer_is_named(tmp_path, small):
    networks = small_networks(seed=9)
    weights = {TABLES["D"].legacy(key): value for key, value in networks["D"].state_dict().items()}
    tar = legacy_tar(tmp_path, D={"l1.weight": torch.zeros(1), "l1.bias": torch.zeros(1), **weights})
    networks = small_networks()
    found = read_detail_tar(tar, networks)
    assert same(networks["D"].state_dict(), small_networks(seed=9)["D"].state_dict())
    assert "D: l1.weight, l1.bias dropped, a layer that is never called" in found.notes
    assert "D: no optimizer state in the file; Adam begins anew" in found.notes


def test_other_settings_of_adam_are_said(tmp_path, small):
    config = DetailConfig(train=DetailTrainConfig(lr_generator=1e-3))
    notes = import_detail(legacy_tar(tmp_path), tmp_path / "out", config, fresh_discriminator=True)
    assert "G: the file was trained with lr 5e-06; the configuration's 0.001 is used" in notes


def _without(content, network, key):
    return {name: value for name, value in content[network].items() if name != key}


CONTENT = legacy_content(small_networks(seed=7))
_D_STATE = CONTENT["D"]["state"]
BAD = {
    "no network": ({"E_detail": None}, r"model\.tar: lacks E_detail"),
    "unknown entry": ({"AUEncoder": {}}, r"does not know what to do with AUEncoder"),
    "coarse fork": ({"E_detail": None, "BiViT": {}}, r"file of the coarse fork, choose --pipeline coarse"),
    "no state dict": ({"AUNet": [1]}, r"AUNet is not a state dict"),
    "no step": ({"global_step": "last"}, r"global_step is 'last', expected a count"),
    "missing key": ({"E_detail": _without(CONTENT, "E_detail", "conv3.bias")}, r"E_detail lacks conv3\.bias"),
    "unknown key": ({"D_detail": {**CONTENT["D_detail"], "x": torch.zeros(1)}}, r"D_detail has no entry 'x'"),
    "wrong shape": (
        {"E_detail": {**CONTENT["E_detail"], "conv1.bias": torch.zeros(9)}},
        r"E_detail has other shapes at conv1\.bias",
    ),
    "other optimizer": ({"G": adam_state([torch.zeros(1)], 1e-3)}, r"optimizer G does not count through 36"),
    "other moments": (
        {"D": {**CONTENT["D"], "state": {**_D_STATE, 5: {**_D_STATE[5], "exp_avg": torch.zeros(9)}}}},
        r"optimizer D, D/model\.2\.bias: exp_avg has shape \(9,\), expected \(2,\)",
    ),
    "other entries": (
        {"D": {**CONTENT["D"], "state": {5: {"momentum_buffer": torch.zeros(2)}}}},
        r"holds momentum_buffer, expected Adam's three entries",
    ),
    "stray state": ({"D": {**CONTENT["D"], "state": {12: _D_STATE[5]}}}, r"has state for parameter 12 of 12"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_refused(tmp_path, small, case):
    changes, message = BAD[case]
    with pytest.raises(CheckpointError, match=message):
        import_detail(legacy_tar(tmp_path, **changes), tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    assert not (tmp_path / "out").exists()


def test_an_empty_optimizer_state_begins_anew(tmp_path, small):
    """What legacy writes soon after it resumed."""
    tar = legacy_tar(tmp_path, G={**CONTENT["G"], "state": {}})
    notes = import_detail(tar, tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    assert "G: optimizer state of 0 parameters; Adam begins anew" in notes


def test_a_pickle_that_would_run_code_is_refused(tmp_path, small):
    tar = legacy_tar(tmp_path, G=_Attack(tmp_path / "ran"))
    with pytest.raises(CheckpointError, match=r"model\.tar: refused"):
        import_detail(tar, tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_another_model_is_refused(tmp_path, small):
    import_detail(legacy_tar(tmp_path), tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    networks = small_networks()
    networks["D"].convolutions[0] = torch.nn.Conv2d(1, 9, 1)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: 2 entries differ from the model's"):
        load_pretrained(tmp_path / "out", networks)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_pretrained(tmp_path / "out", small_networks())
    with pytest.raises(CheckpointError, match="no usable configuration"):
        export_detail(tmp_path / "out", tmp_path / "back.tar")


def run_cli(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["modern", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_the_command_line_imports_and_exports(tmp_path, small, monkeypatch, capsys):
    tar, yml = legacy_tar(tmp_path), tmp_path / "run.yml"
    write_text(yml, "dataset:\n  batch_size: 2\n")
    options = ("--pipeline", "detail", "--config", yml)
    code, _, err = run_cli(monkeypatch, capsys, "import", tar, tmp_path / "out", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert "--fresh-discriminator" in err
    code, out, _ = run_cli(monkeypatch, capsys, "import", tar, tmp_path / "out", *options, "--fresh-discriminator")
    assert code == 0
    assert "after 500 steps" in out
    assert "FRESHLY INITIALISED" in out
    back = tmp_path / "back.tar"
    code, out, _ = run_cli(monkeypatch, capsys, "export", tmp_path / "out", back, "--pipeline", "detail")
    assert code == 0
    assert same(read(back), read(tar))
    code, _, err = run_cli(monkeypatch, capsys, "export", tmp_path / "out", back, "--pipeline", "detail")
    assert (code, "back.tar exists already" in err) == (2, True)
    back.unlink()
    code, _, err = run_cli(monkeypatch, capsys, "export", tmp_path / "out", back, "--pipeline", "detail")
    assert (code, "back.beside.safetensors exists already" in err) == (2, True)
    code, _, err = run_cli(monkeypatch, capsys, "import", tar, tmp_path / "x", "--config", yml, "--fresh-discriminator")
    assert (code, "the coarse pipeline has none" in err) == (2, True)


def test_an_export_that_fails_leaves_no_file_that_looks_complete(tmp_path, small, monkeypatch):
    import_detail(legacy_tar(tmp_path), tmp_path / "out", DetailConfig(), fresh_discriminator=True)

    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr("modern.checkpoint_detail.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        export_detail(tmp_path / "out", tmp_path / "back.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.tar", "out"]


@pytest.mark.parametrize("damage", ["truncated", "absent", "attack", "text"])
def test_unusable_files_end_in_one_line_and_exit_code_2(tmp_path, small, monkeypatch, capsys, damage):
    tar, yml = legacy_tar(tmp_path), tmp_path / "run.yml"
    write_text(yml, "")
    if damage == "truncated":
        tar.write_bytes(tar.read_bytes()[:-200])
    elif damage == "absent":
        tar.unlink()
    elif damage == "attack":
        legacy_tar(tmp_path, emoca=_Attack(tmp_path / "ran"))
    else:
        tar.write_text("weights")
    arguments = ("import", tar, tmp_path / "out", "--pipeline", "detail", "--config", yml, "--fresh-discriminator")
    code, _, err = run_cli(monkeypatch, capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: ")
    assert "model.tar" in err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()
