"""Results as JUnit XML: one test case per row, per structural finding and per registered discrepancy.

Not the same -> failure; missing or error -> error; unstable or not exercised -> skipped. The verdict word leads every
message.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as Xml

from parity.files import write_atomically
from parity.schema import Results
from parity.verdict import SAME, Verdict

_OUTCOMES = {
    Verdict.DRIFT: "failure",
    Verdict.MISSING: "error",
    Verdict.ERROR: "error",
    Verdict.UNSTABLE: "skipped",
    Verdict.NOT_EXERCISED: "skipped",
}
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(results: Results, path: Path) -> None:
    """Write atomically, in the form that CI servers read."""
    duration = f"{sum(results.timings.values()):.1f}"
    suite = Xml.Element("testsuite", name="parity", timestamp=results.created, time=duration)
    for row in results.rows:
        _case(suite, f"parity.{row.stage}", row.id, row.verdict, row.reason, row.repeat)
    for finding in results.structure:
        _case(suite, "parity.structure", f"structure/{finding.name}", finding.verdict, finding.detail)
    for item in results.known:
        _case(suite, "parity.known", f"known/{item.id}", item.verdict, item.reason)
    outcomes = Counter(child.tag for case in suite for child in case)
    suite.set("tests", str(len(suite)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(outcomes[tag]))
    root = Xml.Element("testsuites", name=_clean(results.answer))
    root.append(suite)
    Xml.indent(root)
    write_atomically(path, Xml.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _case(suite: Xml.Element, group: str, name: str, verdict: Verdict, reason: str, repeat: str = "") -> None:
    case = Xml.SubElement(suite, "testcase", classname=group, name=_clean(name))
    message = _clean(f"{verdict}: {reason}")
    if verdict in SAME:
        Xml.SubElement(case, "system-out").text = message
        return
    outcome = Xml.SubElement(case, _OUTCOMES[verdict], message=message)
    outcome.text = _clean(f"{message}\nrepeat: {repeat}" if repeat else message)


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return _FORBIDDEN.sub("?", text)
