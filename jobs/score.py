"""``ptec score`` for spark-submit: the nightly job.

spark-submit --properties-file conf/spark-defaults.conf jobs/score.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("score")
