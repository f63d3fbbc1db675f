"""What of this folder is run where."""

import os

# It installs everything on a real cluster, by `scripts/test-kubernetes`; elsewhere it is not there to be skipped.
collect_ignore = [] if os.environ.get("TEST_KUBERNETES") else ["test_cluster.py", "test_cluster_production.py"]
