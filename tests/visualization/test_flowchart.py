import re

import pytest

from handoff_lab import DAG, Function, collocated
from handoff_lab.visualization import mermaid


def test_a_dag_as_mermaid():
    dag = DAG("d").add(
        Function("path", type="input"),
        Function("scale", lambda: 2, type="inline"),
        Function("load", max, ["path", "gone"], node="alpha"),
        Function("blur", max, ["load", "scale"], node=collocated("load")),
    )
    assert mermaid(dag).splitlines() == [
        "flowchart TD",
        '    n0(["path"])',
        '    n1("scale")',
        '    n2["load<br/>on alpha"]',
        '    n3["blur"]',
        "    n0 --> n2",
        '    n4["gone #40;missing#41;"]',
        "    n4 --> n2",
        "    n2 --> n3",
        "    n1 -.-> n3",
        "    n2 -.- n3",
    ]


@pytest.mark.parametrize(
    "id", ['"] --> x["', "<script>alert(1)</script>", "end", "a;b%%c", "#quot;", "```", "{{}}", "a\nb"]
)
def test_an_id_cannot_break_out(id):
    lines = mermaid(DAG("d").add(Function(id, max))).splitlines()
    assert len(lines) == 2
    inside = re.fullmatch(r' {4}n0\["(.*)"\]', lines[1])[1]
    shown = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), inside)
    assert shown == id.replace("\n", " ")
    assert not set(inside) & set('"<>[]{}`%')
