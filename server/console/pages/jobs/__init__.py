"""The pages of adaptive jobs: all of them, one of them, and the start of a new one."""

from server.console.pages.jobs.listing import JOBS
from server.console.pages.jobs.one import JOB
from server.console.pages.jobs.starting import NEW_JOB

# In this order: the address of a new job would fit that of a job too.
JOB_PAGES = (JOBS, NEW_JOB, JOB)
