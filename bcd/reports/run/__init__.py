"""report.html: the figures of a run, their provenance, and the failures of the model, in one file."""

from bcd.reports.run.page import report_page
from bcd.reports.run.results import Results, read_results

__all__ = ["Results", "read_results", "report_page"]
