"""report.html: the figures of a run, where they come from, and where the model fails, in one file."""

from bcd.reports.run.page import report_page
from bcd.reports.run.results import Results, read_results

__all__ = ["Results", "read_results", "report_page"]
