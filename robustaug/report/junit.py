"""The gates of a run as JUnit XML, which continuous integration shows as tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from robustaug import atomic
from robustaug.evaluate.gates import GateResult, Verdict

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


def write_junit(path: Path, run: str, gates: Mapping[str, Sequence[GateResult]]) -> None:
    """Write one suite a model, one test a gate; what is inconclusive is neither passed nor failed: skipped.

    Args:
        run: names the whole.
        gates: by model.
    """
    every = [result.verdict for results in gates.values() for result in results]
    root = ElementTree.Element("testsuites", _counts(run, every))
    for model, results in gates.items():
        suite = ElementTree.SubElement(root, "testsuite", _counts(model, [result.verdict for result in results]))
        for result in results:
            case = ElementTree.SubElement(
                suite, "testcase", {"classname": _text(f"{run}.{model}"), "name": _text(result.name), "time": "0"}
            )
            if result.verdict is not Verdict.PASS:
                what = "failure" if result.verdict is Verdict.FAIL else "skipped"
                ElementTree.SubElement(case, what, {"message": _text(result.message)})
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    atomic.write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _counts(name: str, verdicts: Sequence[Verdict]) -> dict[str, str]:
    failed, skipped = (str(verdicts.count(kind)) for kind in (Verdict.FAIL, Verdict.INCONCLUSIVE))
    return {"name": _text(name), "tests": str(len(verdicts)), "failures": failed, "skipped": skipped, "errors": "0"}


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
