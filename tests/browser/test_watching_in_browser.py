"""The live view stays true: a second view, a page that is loaded again, a page without a kernel."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import pytest

from .view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import WebSocketRoute

    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.browser]

SETUP = """
import threading, time
import handoff_lab as hl

cluster = hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}})
dag = hl.DAG("letters").add(
    hl.Function("a", lambda: "a", node="alpha"),
    hl.Function("b", lambda a: a + "b", args=["a"], node="beta"),
    hl.Function("long", lambda a: __import__("time").sleep(300), args=["a"], node="alpha"),
    hl.Function("end", lambda b, long: b, args=["b", "long"]),
)
run = cluster.submit(dag)
run.watch()
"""
SO_FAR = {"a": ("done", "alpha"), "b": ("done", "beta"), "long": ("running", "alpha")}
IN_THE_END = SO_FAR | {"long": ("cancelled", "alpha")}


def shown(view: View) -> dict[str, tuple[str, str]]:
    return {id: shape for id, shape in view.shapes().items() if id != "end"}


def test_views_and_reloads_show_the_same(lab: Lab) -> None:
    notebook = lab.new([SETUP, "widget = hl.DAGWidget(run)\nwidget", "run.cancel()"])
    notebook.run(0)
    first = notebook.view(0)
    first.wait_functions(b="done", long="running")
    notebook.run(1)
    second = notebook.view(1)
    second.wait_functions(b="done", long="running")
    assert shown(first) == shown(second) == SO_FAR
    notebook.save()

    lab.reload()
    notebook.ready()
    again = notebook.view(0)
    again.wait_functions(b="done", long="running")
    assert shown(again) == SO_FAR
    notebook.run(2)
    for cell in (0, 1):
        view = notebook.view(cell)
        view.wait("cancelled")
        view.wait_functions(long="cancelled")
        assert shown(view) == IN_THE_END
    notebook.save()

    lab.reload()
    notebook.ready()
    final = notebook.view(0)
    final.wait("cancelled")
    assert shown(final) == IN_THE_END


def test_until_its_model_is_back_from_the_kernel_the_picture_is_shown(lab: Lab) -> None:
    notebook = lab.new([SETUP])
    notebook.run(0)
    notebook.view(0).wait_functions(b="done", long="running")
    notebook.save()
    held: list[Callable[[], None]] = []
    released = Event()

    def hold_models(socket: WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            about_a_model = b"comm_msg" in (message if isinstance(message, bytes) else message.encode())
            if about_a_model and not released.is_set():
                held.append(lambda: socket.send(message))
            else:
                socket.send(message)

        socket.connect_to_server().on_message(pass_on)

    lab.page.route_web_socket(lambda url: "/channels" in url, hold_models)
    lab.reload()
    notebook.ready()
    notebook.outputs(0).locator("img").wait_for()
    lab.page.wait_for_timeout(2500)  # ipywidgets looks for a model for 2 s, then says that there is none
    assert notebook.outputs(0).locator("img").is_visible()
    assert "widget" not in notebook.text(0)
    released.set()
    for send in held:
        send()
    view = notebook.view(0)
    view.wait_functions(b="done", long="running")
    assert shown(view) == SO_FAR


def test_a_second_view_of_the_same_output(lab: Lab) -> None:
    notebook = lab.new([SETUP, "run.cancel()"])
    notebook.run(0)
    notebook.view(0).wait_functions(b="done", long="running")
    notebook.cell(0).click()
    lab.command("notebook:create-output-view")
    other = View(lab.page.locator(".jp-LinkedOutputView"))
    other.wait_functions(b="done", long="running")
    assert shown(other) == SO_FAR
    lab.screenshot("two-views")
    notebook.run(1)
    other.wait("cancelled")
    other.wait_functions(long="cancelled")
    assert shown(other) == IN_THE_END


def test_without_a_kernel_the_last_state_is_shown(lab: Lab) -> None:
    cancel = "run.cancel()\ntry:\n    run.wait()\nexcept hl.RunCancelledError:\n    pass"
    notebook = lab.new([SETUP, cancel])
    lab.command("@jupyter-widgets/jupyterlab-manager:saveWidgetState")
    notebook.run(0)
    notebook.view(0).wait_functions(b="done", long="running")
    notebook.run(1)
    view = notebook.view(0)
    view.wait("cancelled")
    view.wait_functions(long="cancelled")
    saved = notebook.save()
    assert "widgets" in saved.metadata
    lab.leave()
    lab.server.end_kernels(lab.name)
    view = lab.open_path(notebook.path).view(0)
    view.wait("cancelled")
    assert shown(view) == IN_THE_END
    assert "no kernel" in view.part("header").inner_text()
    assert view.button("cancel").get_attribute("aria-disabled") == "true"
    lab.screenshot("no-kernel")
