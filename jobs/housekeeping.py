"""``ptec housekeeping`` for spark-submit: removal of old rows and files.

spark-submit --properties-file conf/spark-defaults.conf jobs/housekeeping.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("housekeeping")
