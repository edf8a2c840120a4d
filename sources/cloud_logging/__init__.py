"""Google Cloud Logging as a source: sweeps over the time of receipt are the truth, a tail on top of them is a hint.

The service has no position to go on from, lists entries by the time they carry, and shows an entry some seconds, sometimes
minutes after it was received. So a log is swept by the time of receipt, in windows, twice: soon after a window has ended, and
again when ``overlap_s`` have passed, for what was shown late. Reads are paced to stay below the quota, and wait where it is
used up.

Guarantees: every entry that the service lists within the overlap comes out at least once; an entry that comes out again is the
same call, by its log, time and insert id, whether it came by a sweep, the tail or a sink. A tail is cut, or suppresses entries:
nothing relies on it.
"""

from sources.cloud_logging.entries import as_json
from sources.cloud_logging.seen import SEEN
from sources.cloud_logging.settings import LoggingSettings, is_address, parse
from sources.cloud_logging.sweeping import first_look, hang_up, probe, read, refused, second_look
from sources.cloud_logging.tailing import Tail

__all__ = [
    "SEEN",
    "LoggingSettings",
    "Tail",
    "as_json",
    "first_look",
    "hang_up",
    "is_address",
    "parse",
    "probe",
    "read",
    "refused",
    "second_look",
]
