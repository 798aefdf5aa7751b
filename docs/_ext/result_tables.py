"""Sphinx directive that turns the benchmarks' result files into tables.

``.. result-tables:: FOLDER`` reads every ``*.csv`` in a folder (relative to the documentation) and
makes one table of each. A file has one row a run. Its columns are told apart by name:

- ``seed`` counts the runs;
- ``paper`` or ``paper_<measure>`` hold the published figure, the same in every run of a group;
- the columns in ``MEASURES``, and every ``<measure>`` that has a ``paper_<measure>``, are averaged;
- the columns in ``SILENT`` are left out: runs that differ in nothing else are averaged;
- all others (``dataset``, ``method``, ...) say what was run; rows that agree in them are a group.

Lines that start with ``#`` become the text above the table: how the file was made.

``.. result-pivot:: FILE`` with ``:down: method :across: dataset :measure: roc_auc``, an option a line,
sets one file out in two directions, with the published figures in brackets. ``:where: dataset=mnist``
takes the rows with that value, and ``:where: dataset=mnist, beta=0.05`` those with both.
``.. result-table:: FILE`` shows a file as it would be on the results page, without title and text, and
has the option ``:where:`` too.
"""

import csv
import re
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

_log = logging.getLogger(__name__)

MEASURES = (
    "precision",
    "recall",
    "f1",
    "f1_lowest",
    "f1_highest",
    "jump",
    "rows_at_threshold",
    "largest_weight",
    "roc_auc",
    "average_precision",
    "auc",
    "log_likelihood",
    "bound",
    "gap",
    "kl",
    "reconstruction",
    "likelihood_auc",
    "seconds",
    "reconstruction_error",
    "code_variance",
    "distance_variance",
    "similarity_variance",
    "penalty",
    "error_normal",
    "error_anomalies",
    "found",
    "seen",
    "unseen",
    "fit_seconds",
    "score_seconds",
    "scoring_seconds",
    "bare_seconds",
    "network_seconds",
    "map_seconds",
    "placing_seconds",
    "new_placing_seconds",
    "opentsne_seconds",
    "opentsne_new_seconds",
    "all_rows_seconds",
    "one_seconds",
    "sixteen_seconds",
)
SILENT = ("seed", "note", "normal_class", "known_classes", "curve")


def read_results(path):
    """Return the comment lines of a result file, and its rows as dicts."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
    return comments, list(csv.DictReader(line for line in lines if line and line[0] != "#"))


def summarise(rows):
    """Summarise the runs of each group as header and cells of a table.

    Examples
    --------
    >>> runs = [{"dataset": "a", "seed": "0", "f1": "0.4", "paper_f1": "0.6"},
    ...         {"dataset": "a", "seed": "1", "f1": "0.6", "paper_f1": "0.6"}]
    >>> summarise(runs)
    (['dataset', 'runs', 'f1', 'f1, paper'], [['a', '2', '0.500 ± 0.141', '0.600']])
    """
    columns = list(rows[0]) if rows else []
    published = {column for column in columns if column == "paper" or column.startswith("paper_")}
    measures = [
        column
        for column in columns
        if column in MEASURES or (f"paper_{column}" in published and column not in published)
    ]
    keys = [c for c in columns if c not in (*measures, *published, *SILENT)]

    header = [*keys, "runs"]
    for measure in measures:
        header.append(measure.replace("_", " "))
        if f"paper_{measure}" in published:
            header.append(f"{measure.replace('_', ' ')}, paper")
    if "paper" in published:
        header.append("paper")

    def key_of(row):
        return tuple(row[key] for key in keys)

    order = {key: position for position, key in reversed(list(enumerate(map(key_of, rows))))}
    table = []
    for key, group in groupby(sorted(rows, key=lambda row: order[key_of(row)]), key=key_of):
        group = list(group)
        cells = [*key, str(len(group))]
        for measure in measures:
            cells.append(_mean_and_spread([row[measure] for row in group]))
            if f"paper_{measure}" in published:
                cells.append(_figure(group[0][f"paper_{measure}"]))
        if "paper" in published:
            cells.append(_figure(group[0]["paper"]))
        table.append(cells)
    return header, table


def _mean_and_spread(cells):
    values = [float(cell) for cell in cells if cell not in ("", None)]
    if not values:
        return "–"
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def _figure(cell):
    try:
        return f"{float(cell):.3f}"
    except (TypeError, ValueError):
        return cell or "–"


def to_rst(path):
    """Return the lines of a section that shows one result file."""
    comments, rows = read_results(path)
    title = Path(path).stem.replace("_", " ")
    lines = [title, "-" * len(title), "", *comments, ""]
    if not rows:
        return [*lines, "This file has no runs yet.", ""]
    return [*lines, *_list_table(*summarise(rows))]


def select(rows, where):
    """Return the rows that have the given values.

    Examples
    --------
    >>> runs = [{"dataset": "a", "beta": "1"}, {"dataset": "a", "beta": "2"}, {"dataset": "b", "beta": "1"}]
    >>> select(runs, "dataset=a, beta=1")
    [{'dataset': 'a', 'beta': '1'}]
    >>> select([{"method": "A, means", "beta": "1"}], "method=A, means, beta=1")
    [{'method': 'A, means', 'beta': '1'}]
    """
    # A value may hold a comma: "method=AnoDM, means, beta=0.05".
    pairs = re.split(r",\s*(?=\w+=)", where.strip())
    wanted = [pair.split("=", 1) for pair in pairs if pair]
    return [row for row in rows if all(row[name] == value for name, value in wanted)]


def pivot(rows, down, across, measure):
    """Set runs out in two directions: header and cells, with the paper's figure in brackets.

    Where a cell holds runs with several published figures, their mean stands in the brackets.

    Examples
    --------
    >>> runs = [{"method": "m", "dataset": "a", "f1": "0.4", "paper_f1": "0.6"},
    ...         {"method": "m", "dataset": "a", "f1": "0.6", "paper_f1": "0.6"},
    ...         {"method": "n", "dataset": "b", "f1": "0.1", "paper_f1": ""}]
    >>> pivot(runs, "method", "dataset", "f1")
    (['method', 'a', 'b'], [['m', '0.500 ± 0.141 (0.600)', '–'], ['n', '–', '0.100']])
    """
    names = list(dict.fromkeys(row[down] for row in rows))
    columns = sorted({row[across] for row in rows})
    table = []
    for name in names:
        cells = [name]
        for column in columns:
            runs = [row for row in rows if row[down] == name and row[across] == column]
            cell = _mean_and_spread([row[measure] for row in runs])
            paper = _published([row.get(f"paper_{measure}") for row in runs])
            cells.append(f"{cell} ({_figure(paper)})" if paper else cell)
        table.append(cells)
    return [down, *columns], table


def _published(cells):
    """The published figure of some runs, or the mean of theirs; None where not all have one.

    Examples
    --------
    >>> _published(["0.5", "0.7"]), _published(["0.5", "0.5"]), _published(["0.5", ""])
    (0.6, '0.5', None)
    """
    if not cells or not all(cells):
        return None
    return cells[0] if len(set(cells)) == 1 else mean(float(cell) for cell in cells)


def _list_table(header, table):
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in [header, *table]:
        for position, cell in enumerate(cells):
            lines.append(f"   {'*' if position == 0 else ' '} - {cell}")
    return [*lines, ""]


class ResultTable(SphinxDirective):
    """One result file."""

    required_arguments = 1
    option_spec = {"where": directives.unchanged}  # noqa: RUF012

    def run(self):
        path = Path(self.env.srcdir, self.arguments[0]).resolve()
        self.env.note_dependency(str(path))
        rows = read_results(path)[1] if path.exists() else []
        rows = select(rows, self.options.get("where", ""))
        if not rows:
            # Most likely a path or a condition that was mistyped: a strict build stops at it.
            _log.warning("no runs in %s", self.arguments[0], location=self.get_location())
            return [nodes.paragraph(text="There are no runs yet.")]
        lines = _list_table(*self.arranged(rows))
        section = nodes.Element()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, source=str(path)), self.content_offset, section)
        return section.children

    def arranged(self, rows):
        """Header and cells."""
        return summarise(rows)


class ResultPivot(ResultTable):
    """One result file, set out in two directions."""

    _directions = ("down", "across", "measure")
    option_spec = {  # noqa: RUF012
        **ResultTable.option_spec,
        **dict.fromkeys(_directions, directives.unchanged_required),
    }

    def arranged(self, rows):
        return pivot(rows, *(self.options[name] for name in self._directions))


class ResultTables(SphinxDirective):
    """Tables of all result files in a folder."""

    required_arguments = 1

    def run(self):
        folder = Path(self.env.srcdir, self.arguments[0]).resolve()
        paths = sorted(folder.glob("*.csv"))
        lines = []
        for path in paths:
            self.env.note_dependency(str(path))
            lines += to_rst(path)
        if not paths:
            lines = ["There are no result files yet."]
        section = nodes.Element()
        section.document = self.state.document
        self.state.nested_parse(
            StringList(lines, source=str(folder)), self.content_offset, section, match_titles=True
        )
        return section.children


def setup(app):
    app.add_directive("result-tables", ResultTables)
    app.add_directive("result-table", ResultTable)
    app.add_directive("result-pivot", ResultPivot)
    return {"parallel_read_safe": True, "version": "1"}
