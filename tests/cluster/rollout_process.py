"""A rollout in a process of its own, which a test can kill: rollout_process.py JSON"""

import json
import sys
from pathlib import Path

from local_doors import LocalDoors

from serving.kubernetes.api import connect
from serving.rollout.kserve.rollout import rollout
from serving.settings import ServingConfig

given = json.loads(sys.argv[1])
config, cluster = ServingConfig.model_validate(given["config"]), connect()
rollout(
    Path(given["version_dir"]),
    Path(given["registry"]),
    config,
    lambda line: print(line, flush=True),
    cluster=cluster,
    doors=LocalDoors(cluster, config.kubernetes.namespace, given["doors"]),
)
