import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.node import report
from handoff_lab.node.options import NodeOptions, parse_options
from handoff_lab.node.report import capabilities_of, gpus_of, slots_of
from handoff_lab.resources import Resources, probe_machine
from handoff_lab.resources.devices import Device

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
amounts = st.dictionaries(words, st.floats(0, 1e6), max_size=3).map(Resources)


@given(
    st.builds(
        NodeOptions,
        words.map(Path),
        words,
        amounts,
        st.none() | amounts,
        st.dictionaries(words, st.text(max_size=8), max_size=3),
        st.none() | words,
        st.none() | words.map(Path),
        st.none() | words,
        st.none() | st.integers(0, 99),
    )
)
def test_a_command_line_is_read_back(options: NodeOptions) -> None:
    assert parse_options(options.command_line()) == options


def test_amounts_by_hand() -> None:
    line = "--join f --name n --cpu 4 --memory 2GiB --gpu 1 --resource fpga=2 --label rack=7 --label note=a=b"
    options = parse_options(line.split())
    assert options.resources == {"cpu": 4, "memory": 2147.483648, "gpu": 1, "fpga": 2}
    assert options.labels == {"rack": "7", "note": "a=b"}


@pytest.mark.parametrize(
    "line",
    [
        "--name n",
        "--join f --resource fpga",
        "--join f --resource =2",
        "--join f --resource fpga=two",
        "--join f --cpu -1",
        "--join f --memory lots",
        "--join f --capabilities [1]",
        "--join f --capabilities {",
        "--join f --label rack",
        "--join f --host 10.0.0.1 --behind-nat",
    ],
)
def test_what_makes_no_sense_ends_with_a_usage_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(line.split())
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_given_amounts_stand_over_those_of_the_machine() -> None:
    capabilities = capabilities_of(NodeOptions(Path("f"), "n", Resources({"cpu": 99, "fpga": 2})))
    assert capabilities == {**probe_machine(), "cpu": 99, "fpga": 2}


def test_all_that_a_node_has_can_be_said() -> None:
    assert capabilities_of(NodeOptions(Path("f"), "n", capabilities=Resources({"gpu": 1}))) == {"gpu": 1}


@pytest.mark.parametrize(
    ("cpu", "slots"), [({}, 1), ({"cpu": 0}, 1), ({"cpu": 0.5}, 1), ({"cpu": 2.5}, 2), ({"cpu": 8}, 8)]
)
def test_slots_are_whole_cpus(cpu: dict[str, float], slots: int) -> None:
    assert slots_of(cpu) == slots


def test_part_of_the_gpus_comes_with_its_part_of_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Resources({"cpu": 2, "gpu": 4, "gpu_memory": 64_000})
    monkeypatch.setattr(report, "probe_machine", lambda: found)
    assert capabilities_of(parse_options(["--join", "f", "--gpu", "1"])) == {"cpu": 2, "gpu": 1, "gpu_memory": 16_000}
    given = parse_options(["--join", "f", "--gpu", "1", "--resource", "gpu_memory=8GB"])
    assert capabilities_of(given) == {"cpu": 2, "gpu": 1, "gpu_memory": 8000}
    assert capabilities_of(parse_options(["--join", "f", "--gpu", "8"]))["gpu_memory"] == 64_000


@pytest.mark.parametrize(("gpus", "handed_out"), [(0, 0), (0.5, 2), (2, 2), (3, 0)])
def test_more_gpus_than_can_be_seen_are_only_counted(
    gpus: float, handed_out: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(report, "find_gpus", lambda: (Device("0"), Device("1")))
    assert len(gpus_of({"gpu": gpus})) == handed_out
    assert ("offers 3 GPUs and sees 2" in caplog.text) == (gpus == 3)


def test_without_nvml_a_node_hands_out_what_it_was_told_to_see(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(report, "why_only_counted", lambda: "functions see all of them")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-a")
    assert gpus_of({"gpu": 2}) == (Device("2"), Device("GPU-a"))
    assert not caplog.records
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus_of({"gpu": 2}) == ()
    assert "it offers 2 GPUs, and functions see all of them" in caplog.text


@pytest.mark.parametrize("text", ["{", "", "[1]", "4"])
def test_capabilities_that_are_no_json_object_are_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--join", "F", "--capabilities", text])
    assert "must be a JSON object such as" in capsys.readouterr().err
