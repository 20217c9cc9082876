"""The scenarios of ``faults.py``: what is done to an engine, and what is seen then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import misdeeds
import psutil
from misdeeds import ANSWER, RESULT_NBYTES
from scene import LOOK_S, Finding, Scene, joined, kill
from victims.base import Victim

GOODS = 6
RETRIES = 5
TIMEOUT_S = 1.0
MEMORY_MB, CLAIM_MB = 500, 200
AFTERMATH_S = 5.0  # for what should end with its client
DAEMON_S = 12.0  # for daemons: Ray looks for them every 10 s


def _held(victim: Victim, scene: Scene, of: Callable[[Victim, int], int], pinned: bool = False) -> Finding:
    """Kill a process under a function that runs, and see whether it runs again."""
    victim.start()
    work = victim.begin([scene.step("held", misdeeds.held_once, pinned=pinned)])
    killed = kill(of(victim, scene.begun("held")))
    ending = scene.ending(work, "held", killed)
    marks = scene.marks("held")
    figures = {"after_s": ending.after_s, "attempts": len(marks)}
    if ending.value != ANSWER:
        words = joined(ending.words, ending.naming(function="held", node=victim.node_pattern))
        return Finding(words, figures, ending.told)
    return Finding(
        "right; runs again after {again_s}, {attempts} attempts", figures | {"again_s": marks[1].time - killed}
    )


def process_killed(victim: Victim, scene: Scene) -> Finding:
    return _held(victim, scene, lambda _, pid: pid)


def node_killed(victim: Victim, scene: Scene) -> Finding:
    return _held(victim, scene, lambda victim, pid: victim.head_of(pid))


def pinned_killed(victim: Victim, scene: Scene) -> Finding:
    return _held(victim, scene, lambda victim, pid: victim.head_of(pid), pinned=True)


def holder_killed(victim: Victim, scene: Scene) -> Finding:
    """Kill the node that has the only copy of a result, while the other one is busy with what is needed beside it."""
    victim.start()
    work = victim.begin(
        [
            scene.step("make", misdeeds.make),
            scene.step("gate", misdeeds.gate),
            scene.step("use", misdeeds.use, parents=("make", "gate")),
        ]
    )
    busy = victim.head_of(scene.begun("gate"))
    holder = victim.head_of(scene.begun("make"))
    if holder == busy or not scene.happens(lambda: work.done("make")):
        raise RuntimeError("both functions on one node: nothing to be seen")
    killed = kill(holder)
    (scene.here / "open").touch()
    ending = scene.ending(work, "use", killed)
    again = sum(len(scene.marks(name)) for name in ("make", "gate", "use")) - 3
    figures = {"after_s": ending.after_s, "again": again}
    if ending.value != RESULT_NBYTES + ANSWER:
        return Finding(ending.words, figures, ending.told)
    return Finding("right after {after_s}, {again} ran again", figures)


def segfault(victim: Victim, scene: Scene) -> Finding:
    victim.start()
    goods = [f"good{i}" for i in range(GOODS)]
    began = time.monotonic()
    bad = scene.step("crash", misdeeds.crash)
    work = victim.begin([bad, *(scene.step(name, misdeeds.brief) for name in goods)])
    ending = scene.ending(work, "crash", began)
    well = sum(scene.ending(work, name, began).value == ANSWER for name in goods)
    figures = {"after_s": ending.after_s, "deaths": len(scene.marks("crash"))}
    named = ending.naming(function="crash", node=victim.node_pattern, signal="SIGSEGV|signal 11")
    words = joined(ending.words, "{deaths} deaths", named, f"{well} of {GOODS} others finish")
    return Finding(words, figures, ending.told)


def _cancelled(victim: Victim, scene: Scene, code: Callable[[Path], None]) -> Finding:
    """Cancel what runs on the first node, and see when something else runs there."""
    victim.start()
    work = victim.begin([scene.step("busy", code, pinned=True), scene.step("next", misdeeds.brief, pinned=True)])
    pid = scene.begun("busy")
    cancelled = time.monotonic()
    work.cancel("busy")
    if scene.happens(lambda: scene.marks("brief")):
        return Finding("free after {free_s}", {"free_s": scene.marks("brief")[0].time - cancelled})
    if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        return Finding("goes on")
    return Finding("ends, but nothing else runs there")


def retries(victim: Victim, scene: Scene) -> Finding:
    victim.start()
    began = time.monotonic()
    work = victim.begin([scene.step("fail", misdeeds.fail, retries=RETRIES)])
    ending = scene.ending(work, "fail", began)
    figures = {"after_s": ending.after_s, "attempts": len(scene.marks("fail"))}
    return Finding(joined("{attempts} attempts", ending.words), figures, ending.told)


def timeout(victim: Victim, scene: Scene) -> Finding:
    if not victim.timeouts:
        return Finding("no such option")
    victim.start()
    work = victim.begin([scene.step("nap", misdeeds.nap, timeout_s=TIMEOUT_S, retries=0)])
    scene.begun("busy")
    ending = scene.ending(work, "nap", scene.marks("busy")[0].time)
    return Finding(ending.words, {"after_s": ending.after_s}, ending.told)


def memory(victim: Victim, scene: Scene) -> Finding:
    """One of two functions on a node takes far too much."""
    victim.start(nodes=1, cpus=2, memory_mb=MEMORY_MB)
    work = victim.begin(
        [
            scene.step("glut", misdeeds.glut, memory_mb=CLAIM_MB),
            scene.step("gate", misdeeds.gate, memory_mb=CLAIM_MB),
        ]
    )
    scene.begun("glut")
    scene.begun("gate")
    (scene.here / "eat").touch()
    ending = scene.ending(work, "glut", time.monotonic())
    (scene.here / "open").touch()
    scene.ending(work, "gate", time.monotonic())
    figures = {"after_s": ending.after_s, "attempts": len(scene.marks("glut"))}
    if ending.done and ending.error is None:
        return Finding("nobody ends it", figures)
    fate = "goes on" if len(scene.marks("gate")) == 1 else "is ended too"
    named = ending.naming(function="glut", amount=r"\d ?[MG]i?B")
    words = joined(ending.words, "attempts: {attempts}", named, f"what runs beside it {fate}")
    return Finding(words, figures, ending.told)


def _daemon(victim: Victim, scene: Scene, end: Callable[[int], object]) -> Finding:
    """Let a function start a daemon, then end what ran it."""
    victim.start()
    work = victim.begin([scene.step("daemon", misdeeds.start_daemon)])
    ending = scene.ending(work, "daemon", time.monotonic())
    daemon = psutil.Process(ending.value)
    end(scene.begun("daemon"))
    ended = time.monotonic()
    if scene.happens(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE, DAEMON_S):
        return Finding("gone after {gone_s}", {"gone_s": time.monotonic() - ended})
    return Finding("left")


def daemon_orphaned(victim: Victim, scene: Scene) -> Finding:
    return _daemon(victim, scene, kill)


def daemon_killed(victim: Victim, scene: Scene) -> Finding:
    return _daemon(victim, scene, lambda pid: kill(victim.head_of(pid)))


def daemon_closed(victim: Victim, scene: Scene) -> Finding:
    return _daemon(victim, scene, lambda _: victim.close())


def client_killed(_: Victim, scene: Scene) -> Finding:
    """Kill the process that started it all, as a notebook's kernel is killed."""
    script = Path(__file__).with_name("fault.py")
    client = subprocess.Popen([sys.executable, str(script), scene.engine, "client", str(scene.here)])
    scene.begun("gate", times=2)
    before = len(psutil.Process().children(recursive=True)) - 1
    client.kill()
    client.wait()
    _reap(AFTERMATH_S)
    left = psutil.Process().children(recursive=True)
    told = ", ".join(sorted(process.name() for process in left))
    return Finding("{left} of {before} left", {"left": len(left), "before": before}, told)


def _reap(seconds: float) -> None:
    """Do what init does for orphans: some look whether their parent's number is still there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(LOOK_S)


def be_client(victim: Victim, scene: Scene) -> None:
    """Keep both nodes busy until somebody kills this process."""
    victim.start()
    work = victim.begin([scene.step("gate", misdeeds.gate), scene.step("gate2", misdeeds.gate)])
    scene.happens(lambda: work.done("gate"), seconds=600)


SCENARIOS: dict[str, tuple[str, Callable[[Victim, Scene], Finding]]] = {
    "process-killed": ("SIGKILL of the process that runs a function", process_killed),
    "node-killed": ("SIGKILL of the node that runs a function", node_killed),
    "holder-killed": ("SIGKILL of the only node that has a result", holder_killed),
    "pinned-killed": ("SIGKILL of the node that a function is pinned to", pinned_killed),
    "segfault": ("a function that segfaults each time", segfault),
    "cancel-loop": ("cancel of a loop in Python", partial(_cancelled, code=misdeeds.spin)),
    "cancel-sleep": ("cancel of `time.sleep(600)`", partial(_cancelled, code=misdeeds.nap)),
    "cancel-deaf": ("cancel of a computation in C", partial(_cancelled, code=misdeeds.deaf)),
    "retries": ("5 retries on two nodes", retries),
    "timeout": ("a time limit of 1 s for a function", timeout),
    "memory": ("a function that takes 2.5 GB where it may not", memory),
    "daemon-orphaned": ("a daemon of a function, when its process is killed", daemon_orphaned),
    "daemon-killed": ("a daemon of a function, when its node is killed", daemon_killed),
    "daemon-closed": ("a daemon of a function, when the cluster is closed", daemon_closed),
    "client-killed": ("processes 5 s after SIGKILL of the client", client_killed),
}
