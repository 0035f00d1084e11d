"""``ptec estimate`` for spark-submit: the estimate of the next run.

spark-submit --properties-file conf/spark-defaults.conf jobs/estimate.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("estimate")
