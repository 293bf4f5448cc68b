"""`verify`: the input folded once more with the pure rules, and all that the worker wrote held against it.

For each partition, in offset order, the session rules say what every topic must hold: the enriched sessions per
key, byte for byte, with headers and timestamps; the rejected records with their reasons; the ledger's ranges and
counts; the stored rows and the position record. A record that is not what the input says, or is not there, is a
difference, and is named. It reads committed records without a consumer group and changes nothing, so it may run
beside workers under load.

installation.py   all partitions, one after another        partition.py   the steps of one, while workers run
fold.py           the rules over the input                reading.py     Kafka
outputs.py, dead_letters.py, changelog.py, ledger_walk.py: one comparison each, pure
findings.py       what a comparison finds                 recall.py, describe.py, report.py   how it is told
"""

from worker.operate.verify.installation import run
from worker.operate.verify.report import Report

__all__ = ["Report", "run"]
