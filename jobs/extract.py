"""``ptec extract`` for spark-submit: the training extract.

spark-submit --properties-file conf/spark-defaults.conf jobs/extract.py --config ptec.yaml
"""

from jobs.cli import main

if __name__ == "__main__":
    main("extract")
