"""``ptec recalibrate`` for spark-submit: new calibration or thresholds."""

from jobs.cli import main

if __name__ == "__main__":
    main("recalibrate")
