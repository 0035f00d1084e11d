"""``ptec drift`` for spark-submit: the drift of the last runs.

spark-submit --properties-file conf/spark-defaults.conf jobs/drift.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("drift")
