"""``ptec errors`` for spark-submit: companies without a score.

spark-submit --properties-file conf/spark-defaults.conf jobs/errors.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("errors")
