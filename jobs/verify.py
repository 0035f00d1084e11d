"""``ptec verify`` for spark-submit: the check of batches.

spark-submit --properties-file conf/spark-defaults.conf jobs/verify.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("verify")
