"""Jobs: files in, files out, with a manifest that lets any run be continued."""

from restora.jobs.estimate import Estimate, estimate
from restora.jobs.inputs import Item, assign, expand
from restora.jobs.manifest import Manifest, Record
from restora.jobs.run import Output, Summary, part, run_job
from restora.jobs.team import Crew

__all__ = [
    "Crew",
    "Estimate",
    "Item",
    "Manifest",
    "Output",
    "Record",
    "Summary",
    "assign",
    "estimate",
    "expand",
    "part",
    "run_job",
]
