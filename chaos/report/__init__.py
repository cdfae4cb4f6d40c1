"""What a run leaves for its readers: a program (JSON, JUnit), a pull request (Markdown), an SRE (HTML, terminal).

Everything is made from ``Report`` and the evidence folders, so ``judge`` makes it again from a stored run.
"""

import os
from pathlib import Path

import msgspec

from chaos.report.junit import junit
from chaos.report.page import page
from chaos.report.schema import validate
from chaos.report.summary import summary
from chaos.report.terminal import closing_line, print_report
from chaos.result import Report

__all__ = ["closing_line", "print_report", "write_reports"]


def write_reports(run_folder: Path, report: Report) -> None:
    """Write ``report.json``, ``junit.xml``, ``summary.md`` and ``report.html`` into the run's folder.

    ``report.json`` comes first and each file appears whole or not at all.

    Raises:
        InvalidReportError: the report does not meet its own schema; nothing is written.
    """
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    validate(encoded)
    _write(run_folder / "report.json", encoded)
    _write(run_folder / "junit.xml", junit(report))
    _write(run_folder / "summary.md", summary(report).encode())
    _write(run_folder / "report.html", page(report, run_folder).encode())


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    os.replace(beside, path)  # noqa: PTH105 - atomic on every platform
