"""``ptec recalibrate`` for spark-submit: new calibration or thresholds.

spark-submit --properties-file conf/spark-defaults.conf jobs/recalibrate.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("recalibrate")
