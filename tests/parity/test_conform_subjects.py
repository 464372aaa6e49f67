"""The repository's own subjects against recorded vectors. The bundled folders: `nox -s conform`."""

from pathlib import Path

import pytest

from parity.conform import check_folder
from parity.conform_print import print_report
from tests.parity.test_conform import record

pytestmark = pytest.mark.long


def agrees(folder: Path, subject: str) -> None:
    """All vectors agree, but for bounds below the rounding of the processor that runs this."""
    report = check_folder(folder, subject)
    print_report(report)
    assert report.exit_code == 0 or report.only_undecided


def test_both_subjects_meet_a_folder_recorded_from_legacy_on_other_weights_inputs_and_head(tmp_path):
    from parity.legacy_subject import build_legacy

    names = lambda name: not name.startswith(("alt_", "step_dropout"))  # noqa: E731
    agrees(record(tmp_path / "other", "held-back/", build_legacy, names), "both")
