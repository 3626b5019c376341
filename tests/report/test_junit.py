from xml.etree import ElementTree

from robustaug.evaluate.gates import check_gates
from robustaug.evaluate.statistics import Interval
from robustaug.report.junit import write_junit


def test_gates_are_tests_and_what_is_open_is_skipped(tmp_path):
    limits = {"min_clean_accuracy": 0.9, "min_robust_accuracy": 0.4, "max_ece": 0.1}
    figures = {"clean_accuracy": 0.95, "robust_accuracy": 0.3, "ece": 0.11}
    results = check_gates(limits, figures, {"ece": Interval(0.11, 0.08, 0.14)})
    write_junit(tmp_path / "gates.xml", "quickstart", {"robust": results, "bare": []})
    root = ElementTree.parse(tmp_path / "gates.xml").getroot()
    counts = {"tests": "3", "failures": "1", "skipped": "1", "errors": "0"}
    assert root.tag == "testsuites"
    assert root.attrib == {"name": "quickstart"} | counts
    first, second = root
    assert first.attrib == {"name": "robust"} | counts
    assert (second.attrib["name"], second.attrib["tests"]) == ("bare", "0")
    assert [case.attrib["name"] for case in first] == [*limits]
    assert [[child.tag for child in case] for case in first] == [[], ["failure"], ["skipped"]]
    assert first[1][0].attrib["message"] == "min_robust_accuracy: robust_accuracy 0.3 is below 0.4"


def test_names_are_escaped_and_what_xml_cannot_hold_is_replaced(tmp_path):
    results = check_gates({"min_clean_accuracy": 0.9}, {"clean_accuracy": 0.5}, {})
    write_junit(tmp_path / "gates.xml", "a\x00b", {'<m "&\x1b>': results})
    root = ElementTree.parse(tmp_path / "gates.xml").getroot()
    assert root.attrib["name"] == "a\ufffdb"
    assert root[0].attrib["name"] == '<m "&\ufffd>'
