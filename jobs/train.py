"""``ptec train`` for spark-submit, when executors train together.

spark-submit --properties-file conf/spark-defaults.conf jobs/train.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("train")
