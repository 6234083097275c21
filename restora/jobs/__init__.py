"""Jobs: files in, files out, with a manifest that lets any run be continued."""

from restora.jobs.estimate import Estimate, estimate
from restora.jobs.inputs import Item, assign, expand
from restora.jobs.manifest import Manifest, Record
from restora.jobs.run import Output, Summary, run_job

__all__ = ["Estimate", "Item", "Manifest", "Output", "Record", "Summary", "assign", "estimate", "expand", "run_job"]
