"""Functions, the DAG they form, what makes it valid, and what an edit changes."""

from handoff_lab.graph.dag import DAG
from handoff_lab.graph.decorator import function
from handoff_lab.graph.functions import Function
from handoff_lab.graph.references import Argument, Collocated, collocated
from handoff_lab.graph.wfformat import from_wfformat

__all__ = ["DAG", "Argument", "Collocated", "Function", "collocated", "from_wfformat", "function"]
