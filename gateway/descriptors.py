"""Descriptors: an open stream holds two, so a process takes as many as the system lets it have."""

import resource

import structlog

log = structlog.get_logger("gateway")

WANTED = 16_384  # 8,000 calls at the same time
MOST = 1 << 20  # where the system sets no limit


def raise_descriptor_limit() -> int:
    """Move this process's own limit of open files up to the hard one: how many it may open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def take_descriptors() -> None:
    """The same for a gateway, which says so where they are few: only who starts the process can allow it more."""
    most = raise_descriptor_limit()
    if most < WANTED:
        log.warning("few_descriptors", limit=most, wanted=WANTED, hint="raise the hard limit (ulimit -Hn)")
